"""Which messages wait too long for their last report. Nothing is written; a few bounded pieces of indexes are read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from uuid import UUID

from sqlalchemy import TextClause, bindparam, exists, literal_column, select, text, union_all
from sqlalchemy.orm import Session

from receiptsvc.domain.statuses import PROGRESS, Status
from receiptsvc.store.core import bulk
from receiptsvc.store.core.models import OPEN, Message, Transition, UtcDateTime

MAX_COUNTED = 1_000  # messages of one status and age
EXAMPLES = 5


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


def find(session: Session, marks: Sequence[datetime]) -> Overdue:
    """Messages without a final report that should have one. `marks`: what is older than the first is overdue.

    Marks go back in time, and divide what is overdue by age: that of a message begins when it was accepted, or with its
    deliverAfter. At most MAX_COUNTED are counted of one status and age, and looked at for silence in all.
    """
    spans = list(zip([*marks[1:], None], marks, strict=True))
    pieces = [(status, begin, end) for status in PROGRESS for begin, end in spans]
    given = {f"mark_{number}": mark for number, mark in enumerate(marks)}
    rows = session.execute(_counting(len(marks)), {**given, "most": MAX_COUNTED})
    counted = {place: min(at_once + later, MAX_COUNTED) for place, at_once, later in rows}
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
    oldest = [_oldest(session, status, before, MAX_COUNTED) for status in (Status.SUBMITTED, Status.SEND_UNKNOWN)]
    if not any(oldest):
        return Silent(count=0, is_all=True, examples=[])
    receipt = exists().where(Transition.message_id == Message.id, Transition.receipt_id.is_not(None))
    silent = session.scalars(
        select(Message.id)
        .where(bulk.among(session, Message.id, [one for some in oldest for one in some]), ~receipt)
        .order_by(Message.id)
    ).all()
    is_all = all(len(some) < MAX_COUNTED for some in oldest)
    return Silent(count=len(silent), is_all=is_all, examples=silent[:EXAMPLES])
