"""What the kept counts added up to at the beginning of each minute of the last two hours.

Rates and the chart of the last hour are differences of them. Nothing here is written where receipts are kept or worked
on: the first web process that comes to it copies the sums once a minute (`keep`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from math import ceil

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from receiptsvc.domain.statuses import Status
from receiptsvc.store.core import bulk
from receiptsvc.store.core.models import Minute
from receiptsvc.store.inbox import counters
from receiptsvc.store.messages import hourly_counts

MINUTE = timedelta(minutes=1)

_KEPT_FOR = timedelta(hours=2)
_HOURS = 4  # by whose counts of reports a minute is known; what waited longer for a worker is not in it


@dataclass(frozen=True, kw_only=True, slots=True)
class Sums:
    """What had been counted by a time: the counters of the ledger, and reports by hour and status."""

    at: datetime
    totals: Mapping[str, int]
    reports: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """How long the answers to callbacks took: how many there were, and the end of the class that holds the 99th in 100.

    `p99`: in seconds, infinite beyond the longest class; None: there was no answer.
    """

    count: int
    p99: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Growth:
    """By how much a counter has grown. `first_at`: a time shortly before that; `last_at`: one shortly after it."""

    count: int
    first_at: datetime
    last_at: datetime


def measure(session: Session, now: datetime) -> Sums:
    """What has been counted by now. Call it in a transaction that reads one snapshot."""
    hours = [hourly_counts.hour_of(now - timedelta(hours=back)) for back in range(_HOURS)]
    reports = hourly_counts.read_reports(session, hours)
    return Sums(
        at=now,
        totals=counters.read_totals(session),
        reports={hour.isoformat(): dict(counts) for hour, counts in reports.items()},
    )


def keep(session: Session, now: datetime) -> bool:
    """Keep the sums of this minute, unless that was done; whether it was now. What is older than two hours goes."""
    minute = minute_of(now)
    if session.get(Minute, minute) is not None:
        return False
    sums = measure(session, now)
    statement = bulk.upsert(session, Minute).values(
        minute=minute, read_at=sums.at, totals=dict(sums.totals), reports=dict(sums.reports)
    )
    session.execute(statement.on_conflict_do_nothing(index_elements=["minute"]))
    session.execute(delete(Minute).where(Minute.minute < minute - _KEPT_FOR))
    return True


def read(session: Session, since: datetime) -> Sequence[Sums]:
    """The sums that were kept from the minute of this time on, the first one first."""
    query = select(Minute.read_at, Minute.totals, Minute.reports).where(Minute.minute >= minute_of(since))
    rows = session.execute(query.order_by(Minute.minute))
    return [Sums(at=at, totals=totals, reports=reports) for at, totals, reports in rows]


def find_growth(session: Session, name: str, total: int, now: datetime, within: timedelta) -> Growth | None:
    """How a counter of the ledger that is at `total` has grown within a time before now; None: not at all."""
    if not total:
        return None  # as a rule, and then the minutes need not be read
    value = func.coalesce(Minute.totals[name].as_integer(), 0)
    query = select(Minute.read_at, value).where(Minute.minute >= minute_of(now - within)).order_by(Minute.minute)
    kept = [(at, int(sofar)) for at, sofar in session.execute(query)]
    if not kept or kept[0][1] >= total:
        return None
    return Growth(
        count=total - kept[0][1],
        first_at=max(at for at, sofar in kept if sofar == kept[0][1]),
        last_at=min((at for at, sofar in kept if sofar == total), default=now),
    )


def count_per_minute(before: Sums, after: Sums, name: str) -> float:
    """How much a counter of the ledger has grown in a minute, between two times that are not the same."""
    grown = after.totals.get(name, 0) - before.totals.get(name, 0)
    return max(0, grown) / ((after.at - before.at) / MINUTE)


def count_changes(before: Sums, after: Sums) -> dict[Status, int]:
    """How many messages came to each status between two times: what was reported, and what the gateway took."""
    counts: Counter[str] = Counter()
    for hour, reported in after.reports.items():
        counts.update(reported)
        counts.subtract(before.reports.get(hour, {}))
    counts[Status.SUBMITTED] = after.totals.get(counters.TAKEN, 0) - before.totals.get(counters.TAKEN, 0)
    return {status: counts[status] for status in Status if counts[status] > 0}  # `rebuild` takes counts back


def measure_answers(before: Sums, after: Sums) -> Answers:
    """How long the answers to callbacks took between two times, in every web process."""
    earlier = counters.answers_in(before.totals)
    classes = sorted(
        (longest, max(0, count - earlier.get(longest, 0)))
        for longest, count in counters.answers_in(after.totals).items()
    )
    passed = list(accumulate(count for _, count in classes))
    total = passed[-1] if passed else 0
    rank = ceil(0.99 * total)
    p99 = next((longest for (longest, _), sofar in zip(classes, passed, strict=True) if sofar >= rank), None)
    return Answers(count=total, p99=p99 if total else None)


def minute_of(at: datetime) -> datetime:
    """The beginning of a minute."""
    return at.replace(second=0, microsecond=0)
