"""Statistics: what the hourly counts say, and what waits too long."""

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

_MEMORY = "receiptsvc.statistics"
_USUAL = {By.HOUR: timedelta(days=1), By.DAY: timedelta(days=30)}
_MARKS = [int(timedelta(hours=hours).total_seconds()) for hours in (6, 24, 72, 168)]  # where ages are divided


@endpoint(blueprint, "GET", "/stats", query=schemas.StatisticsQuery, response=schemas.Statistics, errors=(422, 503))
@requires("read")
def read_statistics(query: dict[str, Any]) -> Response:
    """Read statistics

    Messages by status, their delivery rate and time to delivery, and receipts, by hour or day, from counts that are
    kept as the messages change. No message is looked at, so it is quick however many there are.
    """
    at, by = context.now(), By(query["by"])
    since, until = _whole(query.get("since"), query.get("until"), by)
    only = Status(query["status"]) if "status" in query else None
    memory: StatisticsCache = current_app.extensions.setdefault(_MEMORY, StatisticsCache())
    with context.database().reading() as session:
        try:
            read = statistics.read(session, since, until, by, originator=query.get("originator"), cache=memory)
        except TooManyCounts:
            told = {"since": ["Too much was counted since then: give a later time, or an originator."]}
            raise Problem(422, "The query can't be answered at once.", errors=told) from None
    has_receipts = "originator" not in query
    hours = (until - since) / timedelta(hours=1)
    head = {
        "at": _written(at),
        "since": _written(since),
        "until": _written(until),
        "by": by.value,
        "total": _count(read.total, only, hours, has_receipts=has_receipts),
    }
    items = ",".join([_item(line, only, by, has_receipts=has_receipts) for line in read.lines])
    return Response(f'{_json(head)[:-1]},"items":[{items}]}}', content_type="application/json")


@endpoint(blueprint, "GET", "/stats/overdue", query=schemas.OverdueQuery, response=schemas.Overdue, errors=(422, 503))
@requires("read")
def read_overdue(query: dict[str, Any]) -> dict[str, Any]:
    """Find what is overdue

    Messages that should have had a final receipt by now, by status and age, with some to look at; and those of them of
    which the gateway never said anything. Counts are bounded, so that it stays quick when everything is overdue.
    """
    older_than, now = query["older_than"], context.now()
    seconds = [older_than, *(mark for mark in _MARKS if mark > older_than)]
    with context.database().reading() as session:
        found = overdue.find(session, [now - timedelta(seconds=each) for each in seconds])
    ages: dict[Status, list[Age]] = defaultdict(list)
    for age in found.ages:
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
            for status, oldest in found.oldest.items()
        ],
        "without_receipt": {
            "at_least": found.silent.count,
            "is_exact": found.silent.is_all,
            "examples": found.silent.examples,
        },
    }


def _whole(since: datetime | None, until: datetime | None, by: By) -> tuple[datetime, datetime]:
    """Whole hours or days, those in which the given times lie included. Raises Problem 422."""
    end = _begin(until or context.now(), by)
    if until is None or end < until:
        end += by.length
    begin = _begin(since or end - _USUAL[by], by)
    if begin >= end:
        raise _unclear("Must be earlier than until.")
    if end - begin > timedelta(days=schemas.DAYS_BY[by]):
        longer = f", or {schemas.DAYS_BY[By.DAY]} by day" if by is By.HOUR else ""
        raise _unclear(f"Must be at most {schemas.DAYS_BY[by]} days before until{longer}.")
    return begin, end


def _unclear(fault: str) -> Problem:
    return Problem(422, "The query can't be understood.", errors={"since": [fault]})


def _begin(time: datetime, by: By) -> datetime:
    hour = hourly_counts.hour_of(time)
    return hour if by is By.HOUR else hour.replace(hour=0)


@lru_cache(maxsize=4_000)  # of up to 400 bytes; most lines are those of the question before
def _item(line: Line, only: Status | None, by: By, *, has_receipts: bool) -> str:
    hours = by.length / timedelta(hours=1)
    return _json({"start": _written(line.start), **_count(line, only, hours, has_receipts=has_receipts)})


def _count(line: Line, only: Status | None, hours: float, *, has_receipts: bool) -> dict[str, Any]:
    final = sum(count for status, count in line.statuses.items() if status in FINAL)
    statuses = {status.value: count for status, count in line.statuses.items() if only is None or status is only}
    delays = line.delays
    return {
        "messages": sum(statuses.values()),
        "statuses": statuses,
        "deliveryRate": round(line.statuses.get(Status.DELIVERED, 0) / final, 4) if final else None,
        "secondsToDelivery": {"p50": delays.p50, "p95": delays.p95, "p99": delays.p99} if delays else None,
        "receipts": {effect.value: count for effect, count in line.effects.items()} if has_receipts else None,
        "receiptsPerHour": round(sum(line.effects.values()) / hours, 2) if has_receipts else None,
    }


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _written(time: datetime) -> str:
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _seconds(now: datetime, time: datetime) -> int:
    return int((now - time).total_seconds())
