"""Statistics from the hourly counts, and overdue messages.

The statistics are written as JSON here, not by their schema: an answer has up to 744 lines, and most are cached.
"""

import json
from collections import defaultdict
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from flask import Response, current_app

from receiptsvc.domain.statuses import FINAL, Status
from receiptsvc.store.messages import hourly_counts
from receiptsvc.store.queries import overdue, statistics
from receiptsvc.store.queries.overdue import MAX_COUNTED, Age
from receiptsvc.store.queries.statistics import By, Line, StatisticsCache, TooManyCounts
from receiptsvc.web.http import context
from receiptsvc.web.http.auth import requires
from receiptsvc.web.http.endpoints import endpoint, new_blueprint
from receiptsvc.web.http.errors import Problem
from receiptsvc.web.schemas import statistics as schemas

blueprint = new_blueprint("stats", "How many, how fast, and what is overdue.")

_CACHE = "receiptsvc.statistics"
_DEFAULT_LENGTH = {By.HOUR: timedelta(days=1), By.DAY: timedelta(days=30)}
_AGE_BOUNDS = [int(timedelta(hours=hours).total_seconds()) for hours in (6, 24, 72, 168)]  # seconds


@endpoint(blueprint, "GET", "/stats", query=schemas.StatisticsQuery, response=schemas.Statistics, errors=(422, 503))
@requires("read")
def read_statistics(query: dict[str, Any]) -> Response:
    """Read statistics

    Messages by status, their delivery rate and delivery times, and receipts, by hour or day. They come from counts that
    are updated as messages change, not from the messages, so the answer is quick however many there are.
    """
    at, by = context.now(), By(query["by"])
    since, until = _round(query.get("since"), query.get("until"), by)
    only = frozenset(Status(status) for status in query.get("statuses", ()))
    cache: StatisticsCache = current_app.extensions.setdefault(_CACHE, StatisticsCache())
    with context.database().reading() as session:
        try:
            counts = statistics.read(session, since, until, by, originator=query.get("originator"), cache=cache)
        except TooManyCounts:
            errors = {"since": ["Too much was counted since then: give a later time, or an originator."]}
            raise Problem(422, "The query can't be answered at once.", errors=errors) from None
    has_receipts = "originator" not in query
    hours = (until - since) / timedelta(hours=1)
    head = {
        "at": _format_time(at),
        "since": _format_time(since),
        "until": _format_time(until),
        "by": by.value,
        "total": _describe(counts.total, only, hours, has_receipts=has_receipts),
    }
    items = ",".join([_write_item(line, only, by, has_receipts=has_receipts) for line in counts.lines])
    return Response(f'{_to_json(head)[:-1]},"items":[{items}]}}', content_type="application/json")


@endpoint(blueprint, "GET", "/stats/overdue", query=schemas.OverdueQuery, response=schemas.Overdue, errors=(422, 503))
@requires("read")
def read_overdue(query: dict[str, Any]) -> dict[str, Any]:
    """Find what is overdue

    Messages that should have a final receipt by now, by status and age, with examples; and those of them without any
    receipt. Counts are bounded, so that the answer is quick even when everything is overdue.
    """
    older_than, now = query["older_than"], context.now()
    bounds = [older_than, *(bound for bound in _AGE_BOUNDS if bound > older_than)]
    with context.database().reading() as session:
        waiting = overdue.find(session, [now - timedelta(seconds=bound) for bound in bounds])
    ages: dict[Status, list[Age]] = defaultdict(list)
    for age in waiting.ages:
        ages[age.status].append(age)
    return {
        "at": now,
        "older_than": older_than,
        "statuses": [
            {
                "status": status.value,
                "oldest": oldest,
                "ages": [
                    {
                        "older_than_seconds": _seconds(now, age.end),
                        "younger_than_seconds": _seconds(now, age.begin) if age.begin else None,
                        "at_least": age.count,
                        "is_exact": age.count < MAX_COUNTED,
                    }
                    for age in ages[status]
                ],
            }
            for status, oldest in waiting.oldest.items()
        ],
        "without_receipt": {
            "at_least": waiting.silent.count,
            "is_exact": waiting.silent.is_all,
            "examples": waiting.silent.examples,
        },
    }


def _round(since: datetime | None, until: datetime | None, by: By) -> tuple[datetime, datetime]:
    """Extend a range to whole hours or UTC days; fill in its defaults. Raises Problem 422."""
    end = _start_of(until or context.now(), by)
    if until is None or end < until:
        end += by.length
    begin = _start_of(since or end - _DEFAULT_LENGTH[by], by)
    if begin >= end:
        raise _bad_since("Must be earlier than until.")
    if end - begin > timedelta(days=schemas.DAYS_BY[by]):
        longer = f", or {schemas.DAYS_BY[By.DAY]} by day" if by is By.HOUR else ""
        raise _bad_since(f"Must be at most {schemas.DAYS_BY[by]} days before until{longer}.")
    return begin, end


def _bad_since(fault: str) -> Problem:
    return Problem(422, "The query can't be understood.", errors={"since": [fault]})


def _start_of(time: datetime, by: By) -> datetime:
    hour = hourly_counts.hour_of(time)
    return hour if by is By.HOUR else hour.replace(hour=0)


@lru_cache(maxsize=4_000)  # of up to 400 bytes each; successive answers share most lines
def _write_item(line: Line, only: frozenset[Status], by: By, *, has_receipts: bool) -> str:
    hours = by.length / timedelta(hours=1)
    return _to_json({"start": _format_time(line.start), **_describe(line, only, hours, has_receipts=has_receipts)})


def _describe(line: Line, only: frozenset[Status], hours: float, *, has_receipts: bool) -> dict[str, Any]:
    """A line as the schema `Count`. `only`: these statuses alone, empty: all; `hours`: the length of its period."""
    final = sum(count for status, count in line.statuses.items() if status in FINAL)
    statuses = {status.value: count for status, count in line.statuses.items() if not only or status in only}
    delays = line.delays
    return {
        "messages": sum(statuses.values()),
        "statuses": statuses,
        "deliveryRate": round(line.statuses.get(Status.DELIVERED, 0) / final, 4) if final else None,
        "secondsToDelivery": {"p50": delays.p50, "p95": delays.p95, "p99": delays.p99} if delays else None,
        "receipts": {effect.value: count for effect, count in line.effects.items()} if has_receipts else None,
        "receiptsPerHour": round(sum(line.effects.values()) / hours, 2) if has_receipts else None,
    }


def _to_json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _format_time(time: datetime) -> str:
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _seconds(now: datetime, time: datetime) -> int:
    return int((now - time).total_seconds())
