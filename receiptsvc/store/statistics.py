"""What the hourly counts say of a time, and which messages wait too long for their last receipt. Nothing is written.

No message and no transition is scanned: the first reads `store.rollups` alone, the second a few bounded pieces of two
partial indexes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from math import ceil
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import (
    JSON,
    ColumnElement,
    Select,
    TextClause,
    bindparam,
    exists,
    func,
    literal_column,
    select,
    text,
    union_all,
)
from sqlalchemy.orm import Session

from receiptsvc.domain.statuses import PROGRESS, Effect, Status
from receiptsvc.store import bulk, rollups
from receiptsvc.store.models import OPEN, Message, Rollup, Transition, UtcDateTime

MOST_COUNTS = 1_000_000  # rows of the hourly counts for one question
MOST_COUNTED = 1_000  # messages of one status and age
EXAMPLES = 5

_SHARES = (0.5, 0.95, 0.99)
_HOUR = timedelta(hours=1)

Word = TypeVar("Word", bound=StrEnum)


class By(StrEnum):
    """How long a time each line of a statistic is about."""

    HOUR = "hour"
    DAY = "day"


class TooMuch(Exception):
    """There are more counts in this time than are read for one question."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Delays:
    """From a message's first offer to its delivery, in seconds. Each is the end of a class: up to a tenth too long."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """What was counted of one hour or day, or of all of them. Only words that occur are there."""

    start: datetime
    statuses: Mapping[Status, int]  # messages accepted in this time, by their status now
    delays: Delays | None  # of those that are delivered
    effects: Mapping[Effect, int]  # receipts that came in this time


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistics:
    """Lines in the order of time, those left out of which there is nothing, and their sum."""

    lines: Sequence[Line]
    total: Line


@dataclass(frozen=True, kw_only=True, slots=True)
class Age:
    """Messages of one status that have waited for so long: at least so many, and exactly so if fewer than the most."""

    status: Status
    begin: datetime | None  # none: whatever is older
    end: datetime
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Silent:
    """Messages that were, or may have been, given to the gateway, and of which no receipt came, among those looked at.

    `is_all`: nobody was left to be looked at.
    """

    count: int
    is_all: bool
    examples: Sequence[UUID]


@dataclass(frozen=True, kw_only=True, slots=True)
class Overdue:
    """What waits for a final report: by status and age, the oldest of each status, and what got no receipt at all."""

    ages: Sequence[Age]
    oldest: Mapping[Status, Sequence[UUID]]
    silent: Silent


def read(session: Session, since: datetime, until: datetime, by: By, *, originator: str | None = None) -> Statistics:
    """The counts of [since, until), both at the beginning of an hour; with `by` day, of a day.

    `originator`: only its messages, and then no receipts, of which no originator is counted; empty: the account's own.
    Raises TooMuch.
    """
    kept: Select[*tuple[Any, ...]] = select(Rollup.hour, Rollup.kind, Rollup.word, Rollup.value)
    if originator is None:
        kept = kept.where(Rollup.hour >= since, Rollup.hour < until)
    else:  # hour by hour, since many originators may stand between
        hours = [since + _HOUR * place for place in range((until - since) // _HOUR)]
        of_messages = Rollup.kind.in_([rollups.MESSAGES, rollups.DELAYS])
        kept = kept.where(bulk.among(session, Rollup.hour, hours), of_messages, Rollup.originator == originator)
    lines: list[Line] = []
    statuses: dict[str, int] = {}
    delays: dict[str, int] = {}
    effects: dict[str, int] = {}
    rows = 0
    for start, read_rows, *counted in session.execute(_summed(session, kept.limit(MOST_COUNTS + 1), by)):
        rows += read_rows
        if rows > MOST_COUNTS:
            raise TooMuch
        words = [_positive(each) for each in counted]
        for total, more in zip((statuses, delays, effects), words, strict=True):
            for word, count in more.items():
                total[word] = total.get(word, 0) + count
        if any(words):
            lines.append(_line(start, *words))
    return Statistics(lines=lines, total=_line(since, statuses, delays, effects))


def _summed(session: Session, kept: Select[*tuple[Any, ...]], by: By) -> Select[*tuple[Any, ...]]:
    """By time: how many counts were read, and what they add up to, as JSON of word and count for each kind."""
    on_sqlite = session.get_bind().dialect.name == "sqlite"
    counts = kept.subquery()
    start: ColumnElement[datetime] = counts.c.hour
    if by is By.DAY and on_sqlite:
        start = func.strftime("%Y-%m-%d 00:00:00.000000", counts.c.hour, type_=UtcDateTime())
    elif by is By.DAY:
        start = func.date_trunc("day", counts.c.hour, "UTC", type_=UtcDateTime())
    words = (
        select(
            start.label("start"),
            counts.c.kind,
            counts.c.word,
            func.sum(counts.c.value).label("value"),
            func.count().label("rows"),
        )
        .group_by(start, counts.c.kind, counts.c.word)
        .subquery()
    )
    gather = func.json_group_object if on_sqlite else func.json_object_agg
    kinds = (rollups.MESSAGES, rollups.DELAYS, rollups.RECEIPTS)
    told = [gather(words.c.word, words.c.value, type_=JSON()).filter(words.c.kind == kind) for kind in kinds]
    return select(words.c.start, func.sum(words.c.rows), *told).group_by(words.c.start).order_by(words.c.start)


def _positive(counted: Mapping[str, int] | None) -> dict[str, int]:
    """Counts that are there: one that a message has moved away from stays behind as a zero."""
    return {word: int(count) for word, count in (counted or {}).items() if count > 0}


def _line(start: datetime, statuses: Mapping[str, int], delays: Mapping[str, int], effects: Mapping[str, int]) -> Line:
    return Line(
        start=start,
        statuses=_in_order(Status, statuses),
        delays=_percentiles(delays),
        effects=_in_order(Effect, effects),
    )


def _in_order(words: type[Word], counts: Mapping[str, int]) -> dict[Word, int]:
    return {word: counts[word] for word in words if word in counts}


def _percentiles(classes: Mapping[str, int]) -> Delays | None:
    """Of delays counted by class."""
    if not classes:
        return None
    needed = [ceil(share * sum(classes.values())) for share in _SHARES]
    found: list[float] = []
    passed = 0
    for word in sorted(classes):
        passed += classes[word]
        while len(found) < len(needed) and passed >= needed[len(found)]:
            found.append(round(rollups.longest_delay(word), 3))
    return Delays(p50=found[0], p95=found[1], p99=found[2])


def find_overdue(session: Session, marks: Sequence[datetime]) -> Overdue:
    """Messages without a final report that should have one. `marks`: what is older than the first is overdue.

    Marks go back in time, and divide what is overdue by age: that of a message begins when it was accepted, or with its
    deliverAfter. At most MOST_COUNTED are counted of one status and age, and looked at for silence in all.
    """
    spans = list(zip([*marks[1:], None], marks, strict=True))
    pieces = [(status, begin, end) for status in PROGRESS for begin, end in spans]
    given = {f"mark_{number}": mark for number, mark in enumerate(marks)}
    rows = session.execute(_counting(len(marks)), {**given, "most": MOST_COUNTED})
    counted = {place: min(at_once + later, MOST_COUNTED) for place, at_once, later in rows}
    ages = [
        Age(status=status, begin=begin, end=end, count=counted[place])
        for place, (status, begin, end) in enumerate(pieces)
    ]
    there = {age.status for age in ages if age.count}
    return Overdue(
        ages=ages,
        oldest={status: _oldest(session, status, marks[0], EXAMPLES) for status in PROGRESS if status in there},
        silent=_silent(session, marks[0]),
    )


@cache
def _counting(marks: int) -> TextClause:
    """What counts every status and age between so many marks, written out: as an expression it takes longer to make
    than to answer.
    """
    counts = []
    for place, (status, number) in enumerate((status, number) for status in PROGRESS for number in range(marks)):
        parts = []
        for since, condition in (
            ("created_at", "deliver_after IS NULL"),
            ("deliver_after", f"deliver_after IS NOT NULL AND created_at < :mark_{number}"),
        ):
            begin = f" AND {since} >= :mark_{number + 1}" if number + 1 < marks else ""
            parts.append(
                f"(SELECT count(*) FROM (SELECT 1 FROM messages WHERE {OPEN} AND status = '{status.value}' "  # noqa: S608 - our own words
                f"AND {condition} AND {since} < :mark_{number}{begin} LIMIT :most) AS piece)"
            )
        counts.append(f"SELECT {place}, {', '.join(parts)}")
    moments = [bindparam(f"mark_{number}", type_=UtcDateTime()) for number in range(marks)]
    return text(" UNION ALL ".join(counts)).bindparams(*moments)


def _oldest(session: Session, status: Status, end: datetime, most: int) -> Sequence[UUID]:
    """Messages of a status that should have been on their way since a time before `end`, the oldest first.

    Two indexes, since a message is in one by its deliverAfter and in the other by its acceptance. Their conditions are
    written out as they stand there: SQLite compares them word by word.
    """
    accepted_at, deliver_after = Message.created_at, Message.deliver_after
    at_once = select(Message.id, accepted_at.label("since")).where(deliver_after.is_(None), accepted_at < end)
    later = select(Message.id, deliver_after.label("since")).where(
        deliver_after.is_not(None), deliver_after < end, accepted_at < end
    )
    parts = [
        part.where(text(OPEN), Message.status == literal_column(f"'{status.value}'"))
        .order_by(since, Message.id)
        .limit(most)
        .subquery()
        for part, since in ((at_once, accepted_at), (later, deliver_after))
    ]
    both = union_all(*map(select, parts)).subquery()
    return session.scalars(select(both.c.id).order_by(both.c.since, both.c.id).limit(most)).all()


def _silent(session: Session, before: datetime) -> Silent:
    """What was, or may have been, taken by the gateway, and has no receipt."""
    oldest = [_oldest(session, status, before, MOST_COUNTED) for status in (Status.SUBMITTED, Status.SEND_UNKNOWN)]
    if not any(oldest):
        return Silent(count=0, is_all=True, examples=[])
    receipt = exists().where(Transition.message_id == Message.id, Transition.receipt_id.is_not(None))
    silent = session.scalars(
        select(Message.id)
        .where(bulk.among(session, Message.id, [one for some in oldest for one in some]), ~receipt)
        .order_by(Message.id)
    ).all()
    is_all = all(len(some) < MOST_COUNTED for some in oldest)
    return Silent(count=len(silent), is_all=is_all, examples=silent[:EXAMPLES])
