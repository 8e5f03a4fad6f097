"""Messages that belong together, added up by status: chosen ones exactly, those of a clientRef prefix to a bound."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, select
from sqlalchemy.orm import Session

from receiptsvc.domain.statuses import FINAL, Status
from receiptsvc.store.core import bulk, prefixes
from receiptsvc.store.core.models import Message

MAX_COUNTED = 10_000  # messages


@dataclass(frozen=True, kw_only=True, slots=True)
class RollUp:
    """How many messages have which status, in rank order; when the first and the last of them were accepted.

    `changed_at`: when one of them last changed. `looked_to`: the clientRef up to which they were counted; None: there
    are no more.
    """

    statuses: Mapping[Status, int]
    first_at: datetime | None
    last_at: datetime | None
    changed_at: datetime | None
    looked_to: str | None = None

    @property
    def count(self) -> int:
        """Of any status."""
        return sum(self.statuses.values())

    @property
    def final(self) -> int:
        """Those that have their final status."""
        return sum(count for status, count in self.statuses.items() if status in FINAL)


def roll_up(session: Session, message_ids: Collection[UUID]) -> RollUp:
    """Add these messages up, at most MAX_COUNTED."""
    if not message_ids:
        return _join([])
    query = select(
        Message.status,
        func.count(),
        func.min(Message.created_at),
        func.max(Message.created_at),
        func.max(Message.changed_at),
    )
    ours = bulk.among(session, Message.id, message_ids)
    return _join(session.execute(query.where(ours).group_by(Message.status)).all())


def roll_up_prefix(session: Session, prefix: str) -> RollUp:
    """Add up the first MAX_COUNTED messages whose clientRef begins so, in the order of the clientRefs."""
    first = (
        select(Message.status, Message.created_at, Message.changed_at, Message.client_ref)
        .where(Message.client_ref.is_not(None), prefixes.begins_with(Message.client_ref, prefix))
        .order_by(Message.client_ref, Message.created_at, Message.id)
        .limit(MAX_COUNTED)
        .subquery()
    )
    query = select(
        first.c.status,
        func.count(),
        func.min(first.c.created_at),
        func.max(first.c.created_at),
        func.max(first.c.changed_at),
        func.max(first.c.client_ref),
    )
    rows = session.execute(query.group_by(first.c.status)).all()
    is_cut = sum(row[1] for row in rows) >= MAX_COUNTED
    return _join(rows, looked_to=max((row[5] for row in rows), default=None) if is_cut else None)


def find_request(session: Session, message_id: UUID, limit: int) -> Sequence[UUID]:
    """The messages of one request, by one of them: they were accepted at one moment and by one API key.

    At most `limit`; none if there is no such message.
    """
    message = session.get(Message, message_id)
    if message is None:
        return ()
    together = (
        Message.status.in_([status.value for status in Status]),  # the index has it before the time
        Message.created_at == message.created_at,
        Message.created_by == message.created_by,
        Message.origin == message.origin,
    )
    return session.scalars(select(Message.id).where(*together).order_by(Message.id).limit(limit)).all()


def _join(rows: Sequence[Row[*tuple[Any, ...]]], looked_to: str | None = None) -> RollUp:
    counts = {row[0]: row[1] for row in rows}
    return RollUp(
        statuses={status: counts[status.value] for status in Status if status.value in counts},
        first_at=min((row[2] for row in rows), default=None),
        last_at=max((row[3] for row in rows), default=None),
        changed_at=max((row[4] for row in rows), default=None),
        looked_to=looked_to,
    )
