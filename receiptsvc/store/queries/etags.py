"""What tells cheaply whether something is as it was when it was last read."""

from uuid import UUID

from sqlalchemy import func, select, true
from sqlalchemy.orm import Session

from receiptsvc.store.core.models import Message, Transition
from receiptsvc.store.queries.lookup import MessageDetail

Version = tuple[object, ...]


def find(session: Session, message_id: UUID) -> Version | None:
    """The version of a message's story; None: there is no such message. It differs where the story does.

    What is not in it never changes: all else of a message is fixed when it is accepted, and transitions are only added.
    """
    told = select(func.count(), func.max(Transition.id)).where(Transition.message_id == message_id).subquery()
    query = (
        select(Message.changed_at, Message.status, Message.status_at, Message.conflict, Message.transaction_id, told)
        .join(told, true())
        .where(Message.id == message_id)
    )
    row = session.execute(query).one_or_none()
    return tuple(row) if row is not None else None


def of(story: MessageDetail) -> Version:
    """The version of a story that has been read."""
    row, last = story.row, story.transitions[-1].id if story.transitions else None
    return row.changed_at, row.status, row.status_at, row.conflict, row.transaction_id, len(story.transitions), last
