"""ETag inputs: values that differ whenever a message's detail differs, and cost less to read than the detail."""

from typing import TypeAlias
from uuid import UUID

from sqlalchemy import func, select, true
from sqlalchemy.orm import Session

from receiptsvc.store.core.models import Message, Transition
from receiptsvc.store.queries.lookup import MessageDetail

Version: TypeAlias = tuple[object, ...]


def find_version(session: Session, message_id: UUID) -> Version | None:
    """The version of a message's detail, by its id; None if there is no such message.

    It leaves out what never changes: all other columns of a message are fixed when it is accepted, and transitions are
    only added.
    """
    count = select(func.count(), func.max(Transition.id)).where(Transition.message_id == message_id).subquery()
    query = (
        select(Message.changed_at, Message.status, Message.status_at, Message.conflict, Message.transaction_id, count)
        .join(count, true())
        .where(Message.id == message_id)
    )
    row = session.execute(query).one_or_none()
    return tuple(row) if row is not None else None


def version_of(detail: MessageDetail) -> Version:
    """The version of a detail that has been read."""
    row, last = detail.row, detail.transitions[-1].id if detail.transitions else None
    return row.changed_at, row.status, row.status_at, row.conflict, row.transaction_id, len(detail.transitions), last
