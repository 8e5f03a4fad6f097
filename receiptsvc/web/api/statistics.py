"""Statistics from the hourly counts, and overdue messages.

The statistics are written as JSON here, not by their schema: an answer has up to 744 lines, and most are cached.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from flask import Response, current_app

from receiptsvc.domain import numbers
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.domain.statuses import FINAL, Status
from receiptsvc.store.core.models import Message
from receiptsvc.store.core.paging import Page
from receiptsvc.store.inbox import receipts
from receiptsvc.store.queries import breakdowns, failed_messages, failures, overdue, statistics
from receiptsvc.store.queries.breakdowns import Group
from receiptsvc.store.queries.contacts import TimeCursor
from receiptsvc.store.queries.failed_messages import FailedFilter
from receiptsvc.store.queries.overdue import MAX_COUNTED, Age
from receiptsvc.store.queries.statistics import By, Line, StatisticsCache, TooManyCounts
from receiptsvc.web.answers import periods
from receiptsvc.web.http import context
from receiptsvc.web.http.auth import requires
from receiptsvc.web.http.endpoints import endpoint, new_blueprint
from receiptsvc.web.schemas import statistics as schemas
from receiptsvc.web.schemas.base import in_body

blueprint = new_blueprint("stats", "How many, how fast, and what is overdue.")

_CACHE = "receiptsvc.statistics"
_AGE_BOUNDS = [int(timedelta(hours=hours).total_seconds()) for hours in (6, 24, 72, 168)]  # seconds


@endpoint(blueprint, "GET", "/stats", query=schemas.StatisticsQuery, response=schemas.Statistics, errors=(422, 503))
@requires("read")
def read_statistics(query: dict[str, Any]) -> Response:
    """Read statistics

    Messages by status, their delivery rate and delivery times, and receipts, by hour or day. They come from counts that
    are updated as messages change, not from the messages, so the answer is quick however many there are.
    """
    at, by = context.now(), By(query["by"])
    since, until = periods.round_out(query.get("since"), query.get("until"), by, at)
    only = frozenset(Status(status) for status in query.get("statuses", ()))
    cache: StatisticsCache = current_app.extensions.setdefault(_CACHE, StatisticsCache())
    with context.database().reading() as session:
        try:
            counts = statistics.read(session, since, until, by, originator=query.get("originator"), cache=cache)
        except TooManyCounts:
            raise periods.too_many("Too much was counted since then: give a later time, or an originator.") from None
        has_receipts = "originator" not in query
        unmatched, is_bounded = (
            receipts.count_unmatched(session, since, until) if has_receipts else (Counter[datetime](), False)
        )
    hours = (until - since) / timedelta(hours=1)
    head = {
        "at": _format_time(at),
        "since": _format_time(since),
        "until": _format_time(until),
        "by": by.value,
        "total": _describe(counts.total, only, hours, unmatched.total() if has_receipts else None),
        "unmatchedIsBounded": is_bounded,
    }
    by_start = _sum_by_start(unmatched, by)
    none = 0 if has_receipts else None
    if by_start:
        lines = _with_empty(counts.lines, by_start)
        items = [_write_item(line, only, by, by_start[line.start]) for line in lines]
    else:
        items = [_write_item(line, only, by, none) for line in counts.lines]
    return Response(f'{_to_json(head)[:-1]},"items":[{",".join(items)}]}}', content_type="application/json")


@endpoint(
    blueprint, "GET", "/stats/failures", query=schemas.FailuresQuery, response=schemas.Failures, errors=(422, 503)
)
@requires("read")
def read_failures(query: dict[str, Any]) -> dict[str, Any]:
    """Find the numbers that failed most

    Counted among the newest failed messages of the period. If there are more than are read at once, `isBounded` is
    true, and `countedSince` says how far back they go: ask again with `until` at that time for the rest.
    """
    at = context.now()
    until = query.get("until") or at
    since = query.get("since") or until - timedelta(days=1)
    if since >= until:
        raise periods.bad_since("Must be earlier than until.")
    statuses = [Status(status) for status in query["statuses"]]
    with context.database().reading() as session:
        found = failures.find(session, since, until, statuses, originator=query.get("originator"), limit=query["limit"])
    return {"row": found, "at": at, "since": since, "until": until}


@endpoint(
    blueprint,
    "GET",
    "/stats/failures/messages",
    query=schemas.FailedQuery,
    response=schemas.FailedPage,
    errors=(422, 503),
    by_post=("/stats/failures/messages", in_body(schemas.FailedQuery)),
)
@requires("read")
def list_failed_messages(query: dict[str, Any]) -> Page[Message, TimeCursor]:
    """List the failed messages of a group

    Those of a line of a breakdown: by sender, country, prefix, code or reason, or by several of them, the newest first.
    No index has most of it, so they are looked for among the failed messages of the period, some hundred for each
    page: continue with `nextCursor` until it is null. They are found by the time of their acceptance, while codes and
    reasons are counted by that of the report.
    """
    limit, cursor, until = query.pop("limit"), query.pop("cursor", None), query.pop("until", None) or context.now()
    since = query.pop("since", None) or until - timedelta(days=1)
    if since >= until:
        raise periods.bad_since("Must be earlier than until.")
    where = FailedFilter(since=since, until=until, **query)
    with context.database().reading() as session:
        return failed_messages.list_failed(session, where, limit=limit, after=cursor)


@endpoint(
    blueprint, "GET", "/stats/breakdown", query=schemas.BreakdownQuery, response=schemas.Breakdown, errors=(422, 503)
)
@requires("read")
def read_breakdown(query: dict[str, Any]) -> dict[str, Any]:
    """Break statistics down

    Final messages by sender or country, failed ones by the first digits of their numbers, receipts by the gateway's
    code, or reports of failure by class of reason. They come from hourly counts, so the answer is quick however many
    there are; duplicate receipts are left out. Only failed messages are counted by prefix.

    By code and by reason it is reports that are counted, not messages: one that was reported as failed, and delivered
    after all, is among the failures, and one with two reports of failure is there twice. There is no filter by sender,
    and no country with reason. For both at once export the transitions and the messages, and join them by `messageId`.
    """
    at, by = context.now(), breakdowns.By(query["by"])
    since, until = periods.round_out(query.get("since"), query.get("until"), By.HOUR, at)
    with context.database().reading() as session:
        try:
            found = breakdowns.read(session, since, until, by, limit=query["limit"])
        except TooManyCounts:
            raise periods.too_many("Too much was counted since then: give a later time.") from None
    items = [_describe_group(group, by) for group in found.items]
    return {"row": found, "at": at, "since": since, "until": until, "by": by.value, "items": items}


def _describe_group(group: Group, by: breakdowns.By) -> dict[str, Any]:
    key = group.key
    has_rate = by in {breakdowns.By.COUNTRY, breakdowns.By.ORIGINATOR}
    return {
        "row": group,
        **key._asdict(),
        "countries": numbers.countries_of(key.calling_code) if key.calling_code is not None else None,
        "delivery_rate": round(group.statuses.get(Status.DELIVERED, 0) / group.count, 4) if has_rate else None,
    }


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


def _sum_by_start(hours: Counter[datetime], by: By) -> Counter[datetime]:
    """Counts by hour, added up by the beginning of their hour or UTC day."""
    sums: Counter[datetime] = Counter()
    for hour, count in hours.items():
        sums[periods.start_of(hour, by)] += count
    return sums


def _with_empty(lines: Sequence[Line], starts: Counter[datetime]) -> Sequence[Line]:
    """The lines, and empty ones for these beginnings that have none, in the order of time."""
    missing = starts.keys() - {line.start for line in lines} if starts else ()
    if not missing:
        return lines
    empty = (Line(start=start, statuses={}, delays=None, effects={}) for start in missing)
    return sorted([*lines, *empty], key=lambda line: line.start)


@lru_cache(maxsize=4_000)  # of up to 400 bytes each; successive answers share most lines
def _write_item(line: Line, only: frozenset[Status], by: By, unmatched: int | None) -> str:
    hours = by.length / timedelta(hours=1)
    return _to_json({"start": _format_time(line.start), **_describe(line, only, hours, unmatched)})


def _describe(line: Line, only: frozenset[Status], hours: float, unmatched: int | None) -> dict[str, Any]:
    """A line as the schema `Count`. `only`: these statuses alone, empty: all; `hours`: the length of its period.

    `unmatched`: receipts that fit no message; None: receipts are not told.
    """
    final = sum(count for status, count in line.statuses.items() if status in FINAL)
    statuses = {status.value: count for status, count in line.statuses.items() if not only or status in only}
    delays = line.delays
    receipts: dict[str, int] | None = None
    if unmatched is not None:
        receipts = {effect.value: count for effect, count in line.effects.items()}
        receipts |= {ReceiptOutcome.UNMATCHED.value: unmatched} if unmatched else {}
    return {
        "messages": sum(statuses.values()),
        "statuses": statuses,
        "deliveryRate": round(line.statuses.get(Status.DELIVERED, 0) / final, 4) if final else None,
        "secondsToDelivery": {"p50": delays.p50, "p95": delays.p95, "p99": delays.p99} if delays else None,
        "receipts": receipts,
        "receiptsPerHour": round(sum(receipts.values()) / hours, 2) if receipts is not None else None,
    }


def _to_json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _format_time(time: datetime) -> str:
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _seconds(now: datetime, time: datetime) -> int:
    return int((now - time).total_seconds())
