"""The numbers of the first page, read in two short transactions: how things stand, and what was counted over time.

All of it comes from kept counts, roll-ups, small tables and the heads of indexes: with millions of rows it costs the
same.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isinf
from time import monotonic
from uuid import UUID

from sqlalchemy.orm import Session

from receiptsvc.domain.problems import Kind
from receiptsvc.domain.statuses import FINAL, Status
from receiptsvc.domain.times import describe_delay, describe_duration
from receiptsvc.store.access import sessions
from receiptsvc.store.core.models import Heartbeat, LastVerification
from receiptsvc.store.health import heartbeats, last_verification, minutes, problems
from receiptsvc.store.health.minutes import MINUTE, Answers, Sums
from receiptsvc.store.inbox import counters
from receiptsvc.store.messages import hourly_counts
from receiptsvc.store.outbound import next_due
from receiptsvc.store.outbound.next_due import Waiting
from receiptsvc.store.queries import statistics
from receiptsvc.store.queries.statistics import By, Line, Statistics, StatisticsCache
from receiptsvc.web.http.readiness import Facts, ReadinessProbe
from receiptsvc.web.ops import charts
from receiptsvc.web.ops.charts import Bar, Chart, Scale

_ANSWERS_WINDOW = 10 * MINUTE  # of the time to answer: at a receipt a minute there are some

_READING_MS = (25, 50, 100, 250)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_DAYS = 30
_PIECE = 3 * _DAY  # of the month that is read at once: after a start nothing of it is kept in memory yet

_BY_MINUTE = Scale(row="%H:%M", tick="%H:%M", has_tick=lambda at: at.minute % 15 == 0)
_BY_HOUR = Scale(row="%d %b %H:%M", tick="%H:%M", has_tick=lambda at: at.hour % 6 == 0)
_BY_DAY = Scale(row="%d %b", tick="%d %b", has_tick=lambda at: at.weekday() == 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Numbers:
    """How things stand. `open_sessions`: those that have not ended, of those that were asked about.

    `problems`: as `problems.find_single` has them. `seconds`: how long it took to read.
    """

    facts: Facts
    sums: Sums
    waiting: Waiting
    web: Sequence[Heartbeat]
    verified: LastVerification | None
    asked_sessions: frozenset[UUID]
    open_sessions: frozenset[UUID]
    problems: Mapping[Kind, UUID]
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """What was counted over time. `kept`: the sums of the last hour's minutes; `day`: the sum of the last 24 hours."""

    at: datetime
    kept: Sequence[Sums]
    day: Line
    charts: Sequence[Chart]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """How fast things go, from what had been counted at other times. None: that is not known yet.

    `receipts`, `taken`: a minute, over a `stretch` that goes back to a minute that is over. `refused`: callbacks.
    """

    stretch: str
    receipts: float | None
    taken: float | None
    answers_since: datetime | None
    answers: Answers | None
    refused_since: datetime | None
    refused: int | None


def read_numbers(session: Session, now: datetime, readiness: ReadinessProbe, session_ids: Collection[UUID]) -> Numbers:
    """Read how things stand."""
    began = monotonic()
    facts = readiness.read(session, now)
    return Numbers(
        facts=facts,
        sums=minutes.measure(session, now),
        waiting=next_due.count_waiting(session, now),
        web=heartbeats.find_alive(session, heartbeats.WEB, now),
        verified=last_verification.read(session),
        asked_sessions=frozenset(session_ids),
        open_sessions=frozenset(sessions.find_open(session, session_ids, now)),
        problems=problems.find_single(session),
        seconds=monotonic() - began,
    )


def read_minutes(session: Session, now: datetime) -> Sequence[Sums]:
    """Read the sums that were kept in the last hour, and those of the minute before."""
    return minutes.read(session, now - 61 * MINUTE)


def read_day(session: Session, now: datetime, cache: StatisticsCache) -> Statistics:
    """Read the last 24 hours, this one included."""
    end = hourly_counts.hour_of(now) + _HOUR
    return statistics.read(session, end - 24 * _HOUR, end, By.HOUR, cache=cache)


def month_pieces(now: datetime) -> Sequence[tuple[datetime, datetime]]:
    """The last 30 days, today included, in pieces that are read one after the other."""
    end = now.replace(hour=0, minute=0, second=0, microsecond=0) + _DAY
    begin = end - _DAYS * _DAY
    return [(begin + number * _PIECE, begin + (number + 1) * _PIECE) for number in range(_DAYS * _DAY // _PIECE)]


def make_history(now: datetime, kept: Sequence[Sums], day: Statistics, month: Sequence[Line]) -> History:
    """Draw what was read."""
    accepted = "Messages by when they were accepted and by the status that they have now. Times are UTC."
    end = hourly_counts.hour_of(now) + _HOUR
    hours = [end - back * _HOUR for back in range(24, 0, -1)]
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    days = [midnight - back * _DAY for back in range(_DAYS - 1, -1, -1)]
    return History(
        at=now,
        kept=kept,
        day=day.total,
        charts=[
            charts.draw(
                "hour",
                "The last hour, by minute",
                "How many messages came to each status: the gateway took them, or a receipt said so. Times are UTC.",
                _by_minute(kept, now),
                _BY_MINUTE,
            ),
            charts.draw("day", "The last 24 hours, by hour", accepted, _by_start(day.lines, hours), _BY_HOUR),
            charts.draw("month", "The last 30 days, by day", accepted, _by_start(month, days), _BY_DAY),
        ],
    )


def measure_rates(numbers: Numbers, kept: Sequence[Sums]) -> Rates:
    """How fast things go."""
    now, sums = numbers.facts.at, numbers.sums
    minute, window, hour = (_find_before(kept, now - back) for back in (MINUTE, _ANSWERS_WINDOW, _HOUR))
    window = window or minute  # the service has not run for so long
    hour = hour or window
    return Rates(
        stretch=_describe_stretch(now - minute.at) if minute else "",
        receipts=minutes.count_per_minute(minute, sums, counters.RECEIVED) if minute else None,
        taken=minutes.count_per_minute(minute, sums, counters.TAKEN) if minute else None,
        answers_since=window.at if window else None,
        answers=minutes.measure_answers(window, sums) if window else None,
        refused_since=hour.at if hour else None,
        refused=sums.totals.get(counters.REFUSED, 0) - hour.totals.get(counters.REFUSED, 0) if hour else None,
    )


def describe_p99(answers: Answers) -> str:
    """The 99th answer in 100 in words: it took no longer than this."""
    if answers.p99 is None:
        return "none was answered"
    if isinf(answers.p99):
        return "longer than 10 s"
    return f"{answers.p99 * 1000:g} ms" if answers.p99 < 1 else describe_delay(answers.p99)


def describe_reading(seconds: float) -> str:
    """How long a reading took, in few words that seldom change: what changes is sent to every page."""
    return next((f"{most} ms" for most in _READING_MS if seconds * 1000 <= most), f"{seconds:.1f} s")


def delivery_rate(line: Line) -> tuple[float | None, int]:
    """The share of delivered ones among the messages that have ended, and how many have."""
    ended = sum(count for status, count in line.statuses.items() if status in FINAL)
    return (line.statuses.get(Status.DELIVERED, 0) / ended if ended else None), ended


def count_versions(processes: Sequence[Heartbeat]) -> Sequence[tuple[str, int]]:
    """How many processes run each release, the newest first."""
    return sorted(Counter(process.version or "unknown" for process in processes).items(), reverse=True)


def _describe_stretch(length: timedelta) -> str:
    """How long ago a kept minute is, in words that seldom change; it can be longer if no web process ran."""
    return "one to two minutes" if length <= 2.5 * MINUTE else describe_duration(length.total_seconds())


def _find_before(kept: Sequence[Sums], at: datetime) -> Sums | None:
    """The newest sums of a time or before it; if all are newer, None."""
    return next((sums for sums in reversed(kept) if sums.at <= at), None)


def _by_minute(kept: Sequence[Sums], now: datetime) -> Sequence[Bar]:
    """What was counted in each of the last 60 whole minutes. A minute is known if both its ends are."""
    known = {minutes.minute_of(sums.at): sums for sums in kept}
    end = minutes.minute_of(now)
    bars = []
    for start in (end - back * MINUTE for back in range(60, 0, -1)):
        before, after = known.get(start), known.get(start + MINUTE)
        bars.append(Bar(start, minutes.count_changes(before, after) if before and after else None))
    return bars


def _by_start(lines: Sequence[Line], starts: Sequence[datetime]) -> Sequence[Bar]:
    found = {line.start: line.statuses for line in lines}
    return [Bar(start, found.get(start, {})) for start in starts]
