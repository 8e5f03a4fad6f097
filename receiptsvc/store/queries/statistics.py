"""Statistics from the hourly counts; no message is read.

Most requested hours are long over. So the sum of each hour or day is cached in memory, and each request only asks the
database whether it still holds: every change of a count is noted in the same commit (`hourly_counts.CHANGES`).
"""

import random
import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from math import ceil
from time import monotonic
from typing import Any, NamedTuple, TypeAlias, TypeVar

from sqlalchemy import JSON, Select, SQLColumnExpression, func, select, text
from sqlalchemy.orm import Session

from receiptsvc.domain.statuses import Effect, Status
from receiptsvc.store.core import bulk
from receiptsvc.store.core.db import is_sqlite
from receiptsvc.store.core.models import HourlyCount, UtcDateTime
from receiptsvc.store.messages import hourly_counts

MAX_COUNTS = 1_000_000  # rows of hourly counts that one request may add up

_MAX_CACHED = 4_000  # lines of about 2 kB each
_CACHE_SECONDS = 900  # at least; a limit, because changes by older releases or by hand are not noted

_SHARES = (0.5, 0.95, 0.99)
_HOUR = timedelta(hours=1)

Label = TypeVar("Label", bound=StrEnum)


class By(StrEnum):
    """The period of each line of the statistics."""

    HOUR = "hour"
    DAY = "day"

    @property
    def length(self) -> timedelta:
        """Its duration."""
        return _HOUR if self is By.HOUR else 24 * _HOUR


DAYS_BY = {By.HOUR: 31, By.DAY: 366}  # at most, in one answer


class TooManyCounts(Exception):
    """There are more than MAX_COUNTS counts in the requested time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Delays:
    """Seconds from first offer to delivery. Each is the end of its class: up to a tenth too long, never too short."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Line:
    """The counts of one hour or day, or of all of them; only values that occur.

    It stays the same object as long as nothing has changed.
    """

    start: datetime
    statuses: Mapping[Status, int]  # messages accepted in this time, by their present status
    delays: Delays | None  # of those messages that are delivered
    effects: Mapping[Effect, int]  # receipts received in this time


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistics:
    """Lines in the order of time, without empty ones, and their sum."""

    lines: Sequence[Line]
    total: Line


class _Key(NamedTuple):
    originator: str | None
    by: By
    start: datetime


_Sum: TypeAlias = int  # the counts of all of _INDEXES, side by side in one long number: one addition adds all of them


class _CachedSum(NamedTuple):
    changes: int  # how often the counts had changed when they were added up
    expires_at: float  # by `monotonic`
    sum: _Sum
    line: Line


class StatisticsCache:
    """Sums of earlier requests. Thread-safe."""

    def __init__(self) -> None:
        self._sums: dict[_Key, _CachedSum] = {}

    def find(self, key: _Key, changes: int) -> _CachedSum | None:
        """The cached sum, unless the counts have changed again since, or it has expired."""
        cached = self._sums.get(key)
        return cached if cached is not None and cached.changes == changes and monotonic() < cached.expires_at else None

    def put(self, key: _Key, cached: _CachedSum) -> None:
        """Cache a sum, and drop the oldest ones beyond _MAX_CACHED."""
        for old in list(self._sums)[: max(0, len(self._sums) + 1 - _MAX_CACHED)]:
            self._sums.pop(old, None)  # another thread may have dropped it
        self._sums[key] = cached


def read(
    session: Session,
    since: datetime,
    until: datetime,
    by: By,
    *,
    originator: str | None = None,
    cache: StatisticsCache | None = None,
) -> Statistics:
    """The counts of [since, until), both at the start of an hour; with `by` day, of a day.

    `originator`: only its messages, without receipts, which are not counted by originator; empty: the account's default
    originator. The `session` must read one snapshot. Raises TooManyCounts.
    """
    cache = cache if cache is not None else StatisticsCache()
    changes = _read_changes(session, since, until, by)
    keys = [_Key(originator, by, since + by.length * number) for number in range((until - since) // by.length)]
    sums = {key: cache.find(key, changes.get(key.start, 0)) for key in keys}
    missing = [key.start for key, cached in sums.items() if cached is None]
    if missing:
        new_sums = dict(_add_up(session, missing, by, originator))
        for start in missing:
            key, total = _Key(originator, by, start), new_sums.get(start, 0)
            cache_seconds = _CACHE_SECONDS * (1 + random.random())  # noqa: S311 - so that not all expire at once
            cached = _CachedSum(changes.get(start, 0), monotonic() + cache_seconds, total, _line(start, total))
            cache.put(key, cached)
            sums[key] = cached
    filled = [cached for cached in sums.values() if cached is not None and cached.sum]
    return Statistics(
        lines=[cached.line for cached in filled], total=_line(since, sum(cached.sum for cached in filled))
    )


def _read_changes(session: Session, since: datetime, until: datetime, by: By) -> dict[datetime, int]:
    """How often the counts of each hour or day have changed; without those that never did."""
    start_column = _start(session, HourlyCount.hour, by)
    query = (
        select(start_column, func.sum(HourlyCount.value))
        .where(text("kind = 'changes'"))  # word for word as in its partial index
        .where(HourlyCount.hour >= since, HourlyCount.hour < until)
        .group_by(start_column)
    )
    return {start: int(changes) for start, changes in session.execute(query)}


def _start(session: Session, hour: SQLColumnExpression[datetime], by: By) -> SQLColumnExpression[datetime]:
    """The start of the period that an hour belongs to."""
    if by is By.HOUR:
        return hour
    if is_sqlite(session):
        return func.strftime("%Y-%m-%d 00:00:00.000000", hour, type_=UtcDateTime())
    return func.date_trunc("day", hour, "UTC", type_=UtcDateTime())


def _add_up(
    session: Session, starts: Sequence[datetime], by: By, originator: str | None
) -> Iterator[tuple[datetime, _Sum]]:
    """The sums of those of these hours or days that have counts. Raises TooManyCounts."""
    kinds = _KINDS if originator is None else (hourly_counts.MESSAGES, hourly_counts.DELAYS)
    # A list of hours, not a range: many cached hours, or counts of other originators, may lie between them.
    hours = [start + _HOUR * number for start in starts for number in range(by.length // _HOUR)]
    counts: Select[*tuple[Any, ...]] = (
        select(HourlyCount.hour, HourlyCount.kind, HourlyCount.label, HourlyCount.value)
        .where(bulk.among(session, HourlyCount.hour, hours), HourlyCount.kind.in_(kinds))
        .limit(MAX_COUNTS + 1)
    )
    if originator is not None:
        counts = counts.where(HourlyCount.originator == originator)
    rows = 0
    for start, summed_rows, *by_kind in session.execute(_sum_query(session, counts, by)):
        rows += summed_rows
        if rows > MAX_COUNTS:
            raise TooManyCounts
        yield start, _pack(by_kind)


def _sum_query(session: Session, query: Select[*tuple[Any, ...]], by: By) -> Select[*tuple[Any, ...]]:
    """By period: how many counts were read, and for each kind the sums as a JSON object by label."""
    counts = query.subquery()
    start = _start(session, counts.c.hour, by)
    labels = (
        select(
            start.label("start"),
            counts.c.kind,
            counts.c.label,
            func.sum(counts.c.value).label("value"),
            func.count().label("rows"),
        )
        .group_by(start, counts.c.kind, counts.c.label)
        .subquery()
    )
    to_object = func.json_group_object if is_sqlite(session) else func.json_object_agg
    objects = [to_object(labels.c.label, labels.c.value, type_=JSON()).filter(labels.c.kind == kind) for kind in _KINDS]
    return select(labels.c.start, func.sum(labels.c.rows), *objects).group_by(labels.c.start)


_KINDS = (hourly_counts.MESSAGES, hourly_counts.DELAYS, hourly_counts.RECEIPTS)
_CLASSES = hourly_counts.delay_classes()
_INDEXES: Mapping[tuple[str, str], int] = {  # of each kind and label in a packed sum
    key: index
    for index, key in enumerate(
        [
            *((hourly_counts.MESSAGES, status.value) for status in Status),
            *((hourly_counts.DELAYS, label) for label in _CLASSES),
            *((hourly_counts.RECEIPTS, effect.value) for effect in Effect),
        ]
    )
}


def _pack(by_kind: Sequence[Mapping[str, int] | None]) -> _Sum:
    """Counts by kind and label as one number. Labels of a newer release are left out."""
    counts = array("Q", bytes(8 * len(_INDEXES)))
    for kind, labels in zip(_KINDS, by_kind, strict=True):
        for label, count in (labels or {}).items():
            index = _INDEXES.get((kind, label))
            if index is not None and count > 0:  # zero where every message has moved to another status
                counts[index] = int(count)
    return int.from_bytes(counts.tobytes(), sys.byteorder)


def _line(start: datetime, total: _Sum) -> Line:
    counts = array("Q", total.to_bytes(8 * len(_INDEXES), sys.byteorder))
    delays = [(label, counts[_INDEXES[hourly_counts.DELAYS, label]]) for label in _CLASSES] if total else []
    return Line(
        start=start.astimezone(UTC),
        statuses=_unpack(hourly_counts.MESSAGES, Status, counts),
        delays=_percentiles([(label, count) for label, count in delays if count]),
        effects=_unpack(hourly_counts.RECEIPTS, Effect, counts),
    )


def _unpack(kind: str, labels: type[Label], counts: Sequence[int]) -> dict[Label, int]:
    by_label = {label: counts[_INDEXES[kind, label.value]] for label in labels}
    return {label: count for label, count in by_label.items() if count}


def _percentiles(classes: Sequence[tuple[str, int]]) -> Delays | None:
    """The percentiles of delays that are counted by class, the shortest class first."""
    if not classes:
        return None
    total = sum(count for _, count in classes)
    ranks = [ceil(share * total) for share in _SHARES]
    percentiles: list[float] = []
    passed = 0
    for label, count in classes:
        passed += count
        while len(percentiles) < len(ranks) and passed >= ranks[len(percentiles)]:
            percentiles.append(round(hourly_counts.longest_delay(label), 3))
    return Delays(p50=percentiles[0], p95=percentiles[1], p99=percentiles[2])
