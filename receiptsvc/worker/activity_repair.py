"""Repairs the activity rows of conversations where they are missing or wrong, from their messages and replies.

While a migration is applied, the previous release still accepts messages for a moment and writes no activity for them.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TypeAlias
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute, Session

from receiptsvc.store.core import slices
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import ConversationActivity, Message, Reply
from receiptsvc.store.core.paging import Page
from receiptsvc.store.messages import activity

_SLICE = 500

_Ids: TypeAlias = Collection[UUID]


def repair_activity(database: Database, *, is_applied: bool = False) -> Iterator[UUID]:
    """Conversations whose activity row is missing or wrong; with `is_applied` each slice is corrected.

    In short transactions, so that it can run beside the service, and be stopped at any point and started again.
    Without `is_applied` a conversation whose row is missing may be yielded more than once. Raises StorageUnavailable.
    """
    checks: Sequence[tuple[InstrumentedAttribute[UUID], InstrumentedAttribute[UUID], Callable[..., _Ids]]] = (
        (ConversationActivity.id, ConversationActivity.id, _find_wrong),
        (Message.id, Message.conversation_id, activity.find_missing),
        (Reply.id, Reply.conversation_id, activity.find_missing),
    )
    for key, conversation, find in checks:
        for conversation_ids in _find_in_slices(database, key, conversation, find):
            if is_applied:
                with database.transaction() as session:
                    activity.repair(session, conversation_ids)
                database.let_others_write()
            yield from conversation_ids


def _find_in_slices(
    database: Database,
    key: InstrumentedAttribute[UUID],
    conversation: InstrumentedAttribute[UUID],
    find: Callable[[Session, _Ids], _Ids],
) -> Iterator[_Ids]:
    """What `find` returns for a table's conversations, slice by slice, each read from one snapshot."""

    def step(session: Session, after: UUID | None) -> Page[UUID, UUID]:
        page = slices.read(session, select(key, conversation), limit=_SLICE, after=after)
        return Page(items=sorted(find(session, [row[1] for row in page.items])), next=page.next)

    return (page.items for page in slices.walk(database.reading, step) if page.items)


def _find_wrong(session: Session, conversation_ids: _Ids) -> _Ids:
    return [each.id for each in activity.find_differences(session, conversation_ids) if each.actual is not None]
