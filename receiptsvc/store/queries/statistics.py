"""What the hourly counts say of a time. Nothing is written, and no message is looked at.

Most of what is asked for was over long ago. So what an hour or a day adds up to is kept in memory, and each question
looks in the database only whether it still stands: whoever moves a count notes that beside it (`rollups.CHANGES`).
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

MAX_COUNTS = 1_000_000  # rows of the hourly counts that are added up for one question

_MAX_KEPT = 4_000  # lines of some 2 kB each
_KEPT_SECONDS = 900  # at least; nothing but us notes what it changes: not a release before this, nor a hand

_SHARES = (0.5, 0.95, 0.99)
_HOUR = timedelta(hours=1)

Word = TypeVar("Word", bound=StrEnum)


class By(StrEnum):
    """How long a time each line of a statistic is about."""

    HOUR = "hour"
    DAY = "day"

    @property
    def length(self) -> timedelta:
        """The time itself."""
        return _HOUR if self is By.HOUR else 24 * _HOUR


class TooMuch(Exception):
    """There are more counts in this time than are read for one question."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Delays:
    """From a message's first offer to its delivery, in seconds. Each is the end of a class: up to a tenth too long."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Line:
    """What was counted of one hour or day, or of all of them. Only words that occur are there.

    It is the same object as long as nothing has changed.
    """

    start: datetime
    statuses: Mapping[Status, int]  # messages accepted in this time, by their status now
    delays: Delays | None  # of those that are delivered
    effects: Mapping[Effect, int]  # receipts that came in this time


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistics:
    """Lines in the order of time, those left out of which there is nothing, and their sum."""

    lines: Sequence[Line]
    total: Line


class _Key(NamedTuple):
    originator: str | None
    by: By
    start: datetime


_Sum: TypeAlias = int  # of each kind and word of _PLACES, side by side in one long number, so that sums add up at once


class _Kept(NamedTuple):
    changes: int  # how often the counts had changed when they were added up
    until: float  # by the clock of this process
    sum: _Sum
    line: Line


class Memory:
    """What was added up before, for the next question. Threads share it."""

    def __init__(self) -> None:
        self._kept: dict[_Key, _Kept] = {}

    def find(self, key: _Key, changes: int) -> _Kept | None:
        """What still stands after so many changes."""
        kept = self._kept.get(key)
        return kept if kept is not None and kept.changes == changes and monotonic() < kept.until else None

    def keep(self, key: _Key, kept: _Kept) -> None:
        """Keep it, in the place of what is there longest."""
        for old in list(self._kept)[: max(0, len(self._kept) + 1 - _MAX_KEPT)]:
            self._kept.pop(old, None)  # another thread may have been quicker
        self._kept[key] = kept


def read(
    session: Session,
    since: datetime,
    until: datetime,
    by: By,
    *,
    originator: str | None = None,
    memory: Memory | None = None,
) -> Statistics:
    """The counts of [since, until), both at the beginning of an hour; with `by` day, of a day.

    `originator`: only its messages, and then no receipts, of which no originator is counted; empty: the account's own.
    The `session` must see one snapshot. Raises TooMuch.
    """
    memory = memory if memory is not None else Memory()
    changes = _changes(session, since, until, by)
    keys = [_Key(originator, by, since + by.length * place) for place in range((until - since) // by.length)]
    found = {key: memory.find(key, changes.get(key.start, 0)) for key in keys}
    missing = [key.start for key, kept in found.items() if kept is None]
    if missing:
        sums = dict(_added_up(session, missing, by, originator))
        for start in missing:
            key, total = _Key(originator, by, start), sums.get(start, 0)
            lasts = _KEPT_SECONDS * (1 + random.random())  # noqa: S311 - so that not all ends at once
            kept = _Kept(changes.get(start, 0), monotonic() + lasts, total, _line(start, total))
            memory.keep(key, kept)
            found[key] = kept
    there = [kept for kept in found.values() if kept is not None and kept.sum]
    return Statistics(lines=[kept.line for kept in there], total=_line(since, sum(kept.sum for kept in there)))


def _changes(session: Session, since: datetime, until: datetime, by: By) -> dict[datetime, int]:
    """How often the counts of each hour or day were changed; what is not there never was."""
    begin = _start(session, HourlyCount.hour, by)
    noted = (
        select(begin, func.sum(HourlyCount.value))
        .where(text("kind = 'changes'"))  # as its index has it, word by word
        .where(HourlyCount.hour >= since, HourlyCount.hour < until)
        .group_by(begin)
    )
    return {start: int(times) for start, times in session.execute(noted)}


def _start(session: Session, hour: SQLColumnExpression[datetime], by: By) -> SQLColumnExpression[datetime]:
    """The beginning of the line in which an hour lies."""
    if by is By.HOUR:
        return hour
    if is_sqlite(session):
        return func.strftime("%Y-%m-%d 00:00:00.000000", hour, type_=UtcDateTime())
    return func.date_trunc("day", hour, "UTC", type_=UtcDateTime())


def _added_up(
    session: Session, starts: Sequence[datetime], by: By, originator: str | None
) -> Iterator[tuple[datetime, _Sum]]:
    """What the counts add up to, of those of these hours or days that have any. Raises TooMuch."""
    kinds = _KINDS if originator is None else (hourly_counts.MESSAGES, hourly_counts.DELAYS)
    # Hour by hour, since many that still stand, or of other originators, may be between.
    hours = [start + _HOUR * place for start in starts for place in range(by.length // _HOUR)]
    kept: Select[*tuple[Any, ...]] = (
        select(HourlyCount.hour, HourlyCount.kind, HourlyCount.label, HourlyCount.value)
        .where(bulk.among(session, HourlyCount.hour, hours), HourlyCount.kind.in_(kinds))
        .limit(MAX_COUNTS + 1)
    )
    if originator is not None:
        kept = kept.where(HourlyCount.originator == originator)
    rows = 0
    for start, read_rows, *counted in session.execute(_summed(session, kept, by)):
        rows += read_rows
        if rows > MAX_COUNTS:
            raise TooMuch
        yield start, _packed(counted)


def _summed(session: Session, kept: Select[*tuple[Any, ...]], by: By) -> Select[*tuple[Any, ...]]:
    """By time: how many counts were read, and what they add up to, as JSON of word and count for each kind."""
    counts = kept.subquery()
    start = _start(session, counts.c.hour, by)
    words = (
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
    gather = func.json_group_object if is_sqlite(session) else func.json_object_agg
    told = [gather(words.c.label, words.c.value, type_=JSON()).filter(words.c.kind == kind) for kind in _KINDS]
    return select(words.c.start, func.sum(words.c.rows), *told).group_by(words.c.start)


_KINDS = (hourly_counts.MESSAGES, hourly_counts.DELAYS, hourly_counts.RECEIPTS)
_CLASSES = hourly_counts.delay_classes()
_PLACES: Mapping[tuple[str, str], int] = {
    key: place
    for place, key in enumerate(
        [
            *((hourly_counts.MESSAGES, status.value) for status in Status),
            *((hourly_counts.DELAYS, word) for word in _CLASSES),
            *((hourly_counts.RECEIPTS, effect.value) for effect in Effect),
        ]
    )
}


def _packed(counted: Sequence[Mapping[str, int] | None]) -> _Sum:
    """Counts of each kind, as one number; a word that a newer release counts is left out."""
    counts = array("Q", bytes(8 * len(_PLACES)))
    for kind, words in zip(_KINDS, counted, strict=True):
        for word, count in (words or {}).items():
            place = _PLACES.get((kind, word))
            if place is not None and count > 0:  # one that a message has moved away from stays behind as a zero
                counts[place] = int(count)
    return int.from_bytes(counts.tobytes(), sys.byteorder)


def _line(start: datetime, total: _Sum) -> Line:
    counts = array("Q", total.to_bytes(8 * len(_PLACES), sys.byteorder))
    delays = [(word, counts[_PLACES[hourly_counts.DELAYS, word]]) for word in _CLASSES] if total else []
    return Line(
        start=start.astimezone(UTC),
        statuses=_of(hourly_counts.MESSAGES, Status, counts),
        delays=_percentiles([(word, count) for word, count in delays if count]),
        effects=_of(hourly_counts.RECEIPTS, Effect, counts),
    )


def _of(kind: str, words: type[Word], counts: Sequence[int]) -> dict[Word, int]:
    found = {word: counts[_PLACES[kind, word.value]] for word in words}
    return {word: count for word, count in found.items() if count}


def _percentiles(classes: Sequence[tuple[str, int]]) -> Delays | None:
    """Of delays counted by class, the shortest first."""
    if not classes:
        return None
    total = sum(count for _, count in classes)
    needed = [ceil(share * total) for share in _SHARES]
    found: list[float] = []
    passed = 0
    for word, count in classes:
        passed += count
        while len(found) < len(needed) and passed >= needed[len(found)]:
            found.append(round(hourly_counts.longest_delay(word), 3))
    return Delays(p50=found[0], p95=found[1], p99=found[2])
