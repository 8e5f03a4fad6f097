"""When conversations were active, noted anew where it is missing or wrong: read from their messages and replies.

A release from before that was noted goes on for a moment after the migration, and accepts messages without a note.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute, Session

from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import ConversationActivity, Message, Reply
from receiptsvc.store.messages import activity

_SLICE = 500

_Found = Collection[UUID]


def repair_activity(database: Database, *, is_applied: bool = False) -> Iterator[UUID]:
    """Conversations of which something else is noted than they say; with `is_applied` each slice is put right.

    In short transactions, so that it can run beside the service, be stopped at any point and begun again. Without
    `is_applied` one of which nothing is noted may be named more than once. Raises StorageUnavailable.
    """
    looks: Sequence[tuple[InstrumentedAttribute[UUID], InstrumentedAttribute[UUID], Callable[..., _Found]]] = (
        (ConversationActivity.id, ConversationActivity.id, _wrong),
        (Message.id, Message.conversation_id, activity.find_missing),
        (Reply.id, Reply.conversation_id, activity.find_missing),
    )
    for key, conversation, look in looks:
        for found in _looked_at(database, key, conversation, look):
            if is_applied:
                with database.transaction() as session:
                    activity.repair(session, found)
                database.rest()
            yield from found


def _looked_at(
    database: Database,
    key: InstrumentedAttribute[UUID],
    conversation: InstrumentedAttribute[UUID],
    look: Callable[[Session, _Found], _Found],
) -> Iterator[_Found]:
    """What `look` finds of a table's conversations, a slice and a snapshot at a time."""
    query = select(key, conversation).order_by(key).limit(_SLICE)
    page = query
    while True:
        with database.reading() as session:
            rows = session.execute(page).all()
            found = look(session, [row[1] for row in rows])
        if found:
            yield sorted(found)
        if len(rows) < _SLICE:
            return
        page = query.where(key > rows[-1][0])


def _wrong(session: Session, conversation_ids: _Found) -> _Found:
    return [one.id for one in activity.find_differences(session, conversation_ids) if one.true is not None]
