"""Overdue messages: those that should have a final report by now. A few bounded ranges of indexes are read."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    Select,
    Text,
    TextClause,
    bindparam,
    cast,
    exists,
    func,
    literal_column,
    select,
    text,
    union_all,
)
from sqlalchemy.orm import InstrumentedAttribute, Session

from receiptsvc.domain.statuses import PROGRESS, Status
from receiptsvc.store.core import bulk
from receiptsvc.store.core.models import OPEN, Message, Transition, UtcDateTime

MAX_COUNTED = 1_000  # messages of one status and age
MAX_OF_SENDERS = 2_500  # messages of one status, scheduled or not, that are counted by originator
EXAMPLES = 5

WITH_THE_GATEWAY = (Status.SUBMITTED, Status.SENT)


@dataclass(frozen=True, kw_only=True, slots=True)
class Age:
    """How many messages of one status wait since [begin, end). The count is exact if it is below MAX_COUNTED."""

    status: Status
    begin: datetime | None  # none: since any earlier time
    end: datetime
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Silent:
    """Messages that the gateway has, or may have, and that got no receipt. `is_all`: whether all were checked."""

    count: int
    is_all: bool
    examples: Sequence[UUID]


@dataclass(frozen=True, kw_only=True, slots=True)
class Overdue:
    """Messages that wait for a final report: by status and age, the oldest of each status, those without receipts."""

    ages: Sequence[Age]
    oldest: Mapping[Status, Sequence[UUID]]
    silent: Silent


class OverdueSender(NamedTuple):
    """Messages of one originator that wait for their final report.

    `originator`: None for the account's own. `first_since`, `last_since`: since when the first and the last of them do.
    """

    originator: str | None
    messages: int
    first_since: datetime
    last_since: datetime
    newest_id: UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class OverdueSenders:
    """Overdue messages by originator, the most first. `is_all`: whether all were counted."""

    items: Sequence[OverdueSender]
    is_all: bool

    @property
    def count(self) -> int:
        """Of all originators."""
        return sum(each.messages for each in self.items)


def find(session: Session, limits: Sequence[datetime]) -> Overdue:
    """Messages without a final report that have waited since before the first of `limits`.

    `limits` go back in time and divide the messages by age. A message waits since its acceptance or its deliverAfter.
    At most MAX_COUNTED messages are counted for one status and age, and as many of each status checked for receipts.
    """
    spans = list(zip([*limits[1:], None], limits, strict=True))
    buckets = [(status, begin, end) for status in PROGRESS for begin, end in spans]
    parameters = {f"limit_{number}": limit for number, limit in enumerate(limits)}
    rows = session.execute(_count_statement(len(limits)), {**parameters, "max_counted": MAX_COUNTED})
    counts = {index: min(unscheduled + scheduled, MAX_COUNTED) for index, unscheduled, scheduled in rows}
    ages = [
        Age(status=status, begin=begin, end=end, count=counts[index])
        for index, (status, begin, end) in enumerate(buckets)
    ]
    occurring = {age.status for age in ages if age.count}
    return Overdue(
        ages=ages,
        oldest={
            status: _find_oldest(session, status, limits[0], EXAMPLES) for status in PROGRESS if status in occurring
        },
        silent=_find_silent(session, limits[0]),
    )


def count_by_originator(
    session: Session, before: datetime, statuses: Sequence[Status] = tuple(PROGRESS)
) -> OverdueSenders:
    """Messages of these statuses that have waited for their final report since before that time, by originator.

    Of each status, scheduled or not, those MAX_OF_SENDERS are counted that have waited for the shortest time.
    """
    ranges = [each for status in statuses for each in _waiting(status, before, Message.id, Message.originator)]
    parts = [
        query.add_columns(literal_column(str(number)).label("part")).order_by(since.desc()).limit(MAX_OF_SENDERS + 1)
        for number, (query, since) in enumerate(ranges)
    ]
    newest = union_all(*(select(part.subquery()) for part in parts)).subquery()
    query = select(
        *(newest.c.part, newest.c.originator),
        *(func.count(), func.min(newest.c.since), func.max(newest.c.since), func.max(cast(newest.c.id, Text))),
    ).group_by(newest.c.part, newest.c.originator)
    counted: Counter[int] = Counter()
    found: dict[str | None, OverdueSender] = {}
    for part, originator, count, first, last, newest_id in session.execute(query):
        counted[part] += count
        sender = OverdueSender(originator, count, first, last, UUID(newest_id))
        found[originator] = _merge(found[originator], sender) if originator in found else sender
    return OverdueSenders(
        items=sorted(found.values(), key=lambda each: (-each.messages, each.originator or "")),
        is_all=max(counted.values(), default=0) <= MAX_OF_SENDERS,
    )


def _merge(one: OverdueSender, other: OverdueSender) -> OverdueSender:
    return OverdueSender(
        one.originator,
        one.messages + other.messages,
        min(one.first_since, other.first_since),
        max(one.last_since, other.last_since),
        max(one.newest_id, other.newest_id),
    )


@cache
def _count_statement(limits: int) -> TextClause:
    """The statement that counts every status and age, as text: building an expression takes longer than its answer."""
    counts = []
    for index, (status, number) in enumerate((status, number) for status in PROGRESS for number in range(limits)):
        parts = []
        for since, condition in (
            ("created_at", "deliver_after IS NULL"),
            ("deliver_after", f"deliver_after IS NOT NULL AND created_at < :limit_{number}"),
        ):
            begin = f" AND {since} >= :limit_{number + 1}" if number + 1 < limits else ""
            parts.append(
                f"(SELECT count(*) FROM (SELECT 1 FROM messages WHERE {OPEN} AND status = '{status.value}' "  # noqa: S608 - our own words
                f"AND {condition} AND {since} < :limit_{number}{begin} LIMIT :max_counted) AS bucket)"
            )
        counts.append(f"SELECT {index}, {', '.join(parts)}")
    times = [bindparam(f"limit_{number}", type_=UtcDateTime()) for number in range(limits)]
    return text(" UNION ALL ".join(counts)).bindparams(*times)


def _find_oldest(session: Session, status: Status, end: datetime, limit: int) -> Sequence[UUID]:
    """Messages of a status that have waited since a time before `end`, the oldest first."""
    parts = [
        query.order_by(since, Message.id).limit(limit).subquery() for query, since in _waiting(status, end, Message.id)
    ]
    merged = union_all(*map(select, parts)).subquery()
    return session.scalars(select(merged.c.id).order_by(merged.c.since, merged.c.id).limit(limit)).all()


def _waiting(
    status: Status, end: datetime, *columns: InstrumentedAttribute[Any]
) -> list[tuple[Select[Any], InstrumentedAttribute[Any]]]:
    """Messages of a status that have waited since a time before `end`, and by which column that is.

    They are in two indexes: by deliverAfter where a message has one, else by acceptance. The indexes' conditions are
    written out literally: SQLite compares them word by word.
    """
    accepted_at, deliver_after = Message.created_at, Message.deliver_after
    is_open = (text(OPEN), Message.status == literal_column(f"'{status.value}'"))
    unscheduled = select(*columns, accepted_at.label("since")).where(
        *is_open, deliver_after.is_(None), accepted_at < end
    )
    scheduled = select(*columns, deliver_after.label("since")).where(
        *is_open, deliver_after.is_not(None), deliver_after < end, accepted_at < end
    )
    return [(unscheduled, accepted_at), (scheduled, deliver_after)]


def _find_silent(session: Session, before: datetime) -> Silent:
    """Messages that the gateway has, or may have, and that got no receipt."""
    by_status = [
        _find_oldest(session, status, before, MAX_COUNTED) for status in (Status.SUBMITTED, Status.SEND_UNKNOWN)
    ]
    if not any(by_status):
        return Silent(count=0, is_all=True, examples=[])
    message_ids = [message_id for of_status in by_status for message_id in of_status]
    has_receipt = exists().where(Transition.message_id == Message.id, Transition.receipt_id.is_not(None))
    silent = session.scalars(
        select(Message.id).where(bulk.among(session, Message.id, message_ids), ~has_receipt).order_by(Message.id)
    ).all()
    is_all = all(len(of_status) < MAX_COUNTED for of_status in by_status)
    return Silent(count=len(silent), is_all=is_all, examples=silent[:EXAMPLES])
