"""Which numbers failed most: counted among the newest failed messages of a period, a bounded number of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Text, cast, func, select, union_all
from sqlalchemy.orm import Session

from receiptsvc.domain.statuses import Status
from receiptsvc.store.core.keyset import force_index_order
from receiptsvc.store.core.models import Message

MAX_READ = 10_000  # messages


@dataclass(frozen=True, kw_only=True, slots=True)
class FailingNumber:
    """A recipient with failed messages. `last_at`: when the newest of them was accepted; `last_message_id`: its id."""

    recipient: str
    failures: int
    statuses: Mapping[Status, int]  # that occur
    last_at: datetime
    last_message_id: UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class Failures:
    """The numbers with the most failed messages. `messages`: how many were read, the newest first.

    `is_bounded`: there are more, and those before `counted_since` were not read.
    """

    items: Sequence[FailingNumber]
    messages: int
    is_bounded: bool
    counted_since: datetime | None


def find(
    session: Session,
    since: datetime,
    until: datetime,
    statuses: Sequence[Status],
    *,
    originator: str | None = None,
    limit: int,
    max_read: int | None = None,
) -> Failures:
    """The numbers with the most messages accepted in [since, until) that have one of these statuses now.

    `max_read`: how many messages are read; without it MAX_READ.
    """
    most = max_read or MAX_READ
    force_index_order(session)  # each status is a range of an index, read from its newest end
    of_sender = [Message.originator == originator] if originator is not None else []
    parts = [
        select(Message.recipient, Message.status, Message.created_at, Message.id)
        .where(Message.status == status, *of_sender, Message.created_at >= since, Message.created_at < until)
        .order_by(Message.created_at.desc(), Message.id.desc())
        .limit(most + 1)
        .subquery()
        for status in statuses
    ]
    merged = union_all(*(select(part) for part in parts)).subquery()
    newest = select(merged).order_by(merged.c.created_at.desc()).limit(most + 1).subquery()
    failures = func.count()
    query = (
        select(
            newest.c.recipient,
            failures.label("failures"),
            func.max(newest.c.created_at).label("last_at"),
            func.max(cast(newest.c.id, Text)).label("last_id"),  # ids rise with time
            func.sum(failures).over().label("messages"),
            func.min(func.min(newest.c.created_at)).over().label("counted_since"),
            *(func.count().filter(newest.c.status == status) for status in statuses),
        )
        .group_by(newest.c.recipient)
        .order_by(failures.desc(), newest.c.recipient)
        .limit(limit)
    )
    rows = session.execute(query).all()
    items = []
    for recipient, count, last_at, last_id, _, _, *by_status in rows:
        counts = {status: number for status, number in zip(statuses, by_status, strict=True) if number}
        items.append(
            FailingNumber(
                recipient=recipient,
                failures=count,
                statuses=counts,
                last_at=last_at,
                last_message_id=UUID(last_id),
            )
        )
    messages = int(rows[0].messages) if rows else 0
    return Failures(
        items=items,
        messages=messages,
        is_bounded=messages > most,
        counted_since=rows[0].counted_since if messages > most else None,
    )
