"""ETag inputs: values that differ whenever a message's detail differs, and cost less to read than the detail."""

from typing import TypeAlias
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from receiptsvc.store.core.models import Message
from receiptsvc.store.queries.lookup import MessageDetail

Version: TypeAlias = tuple[object, ...]


_COLUMNS = (
    Message.changed_at,
    Message.status,
    Message.status_at,
    Message.conflict,
    Message.transaction_id,
    Message.transition_count,
)
_ON_THE_WAY = (Message.tries, Message.calling_since, Message.due_at, Message.suspicion)


def find_version(session: Session, message_id: UUID) -> Version | None:
    """The version of a message's detail, by its id; None if there is no such message.

    It leaves out what never changes: all other columns of a message are fixed when it is accepted, and transitions are
    only added.
    """
    row = session.execute(select(*_COLUMNS).where(Message.id == message_id)).one_or_none()
    return tuple(row) if row is not None else None


def find_page_version(session: Session, message_id: UUID) -> Version | None:
    """The same for who also shows what happens to a message while its status stays: tries, and when the next is due."""
    row = session.execute(select(*_COLUMNS, *_ON_THE_WAY).where(Message.id == message_id)).one_or_none()
    return tuple(row) if row is not None else None


def version_of(detail: MessageDetail) -> Version:
    """The version of a detail that has been read."""
    return tuple(getattr(detail.row, column.key) for column in _COLUMNS)


def page_version_of(row: Message) -> Version:
    """The version of a message that has been read, as `find_page_version` finds it."""
    return tuple(getattr(row, column.key) for column in (*_COLUMNS, *_ON_THE_WAY))
