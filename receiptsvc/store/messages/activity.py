"""Conversation activity: when each conversation was first and last active, and by how much, in one small row.

Only accepted messages and replies are activity. Receipts are not: a campaign has millions of them for one conversation.
So its row is written once for each sending request, late in the transaction, and requests that share a clientRef wait
for each other's last step only.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import case, delete, func, select
from sqlalchemy.orm import Session

from receiptsvc.store.core import bulk
from receiptsvc.store.core.models import ConversationActivity, Message, Reply


class Activity(NamedTuple):
    """When a conversation was active, and by how much.

    `last_from_recipient`: None if a message and a reply share the last time.
    """

    first_at: datetime
    last_at: datetime
    messages: int
    replies: int
    last_from_recipient: bool | None


_NEVER = datetime.fromtimestamp(0, UTC)  # until a row that is made to be locked has its own
_NOTHING: tuple[datetime | None, datetime | None, int] = (None, None, 0)


class Difference(NamedTuple):
    """A conversation whose row is wrong. `stored`: None without a row; `actual`: None without message and reply."""

    id: UUID
    stored: Activity | None
    actual: Activity | None


def touch(session: Session, conversation_ids: Iterable[UUID], at: datetime, *, is_reply: bool) -> None:
    """Record a message, or reply, of each of these conversations; a later time that is stored already stays."""
    values = {"first_at": at, "last_at": at, "last_from_recipient": is_reply}
    # In the order of ids, so that two transactions can't deadlock.
    rows = [
        {"id": conversation_id, **values, "messages": 0 if is_reply else count, "replies": count if is_reply else 0}
        for conversation_id, count in sorted(Counter(conversation_ids).items())
    ]
    bulk.execute_all(session, _merge_statement(session), ConversationActivity, rows)


def find_missing(session: Session, conversation_ids: Collection[UUID]) -> set[UUID]:
    """Which of these conversations have no row."""
    missing = set(conversation_ids)
    if not missing:
        return set()
    return missing.difference(
        session.scalars(select(ConversationActivity.id).where(bulk.among(session, ConversationActivity.id, missing)))
    )


def find_differences(session: Session, conversation_ids: Collection[UUID]) -> list[Difference]:
    """Which of these conversations have a row that differs from their messages and replies."""
    if not conversation_ids:
        return []
    query = select(
        ConversationActivity.id,
        ConversationActivity.first_at,
        ConversationActivity.last_at,
        ConversationActivity.messages,
        ConversationActivity.replies,
        ConversationActivity.last_from_recipient,
    )
    rows = session.execute(query.where(bulk.among(session, ConversationActivity.id, conversation_ids)))
    stored = {row.id: Activity(*row[1:]) for row in rows}
    actual = _derive(session, conversation_ids)
    return [
        Difference(conversation_id, stored.get(conversation_id), actual.get(conversation_id))
        for conversation_id in sorted(set(conversation_ids))
        if not _is_same(stored.get(conversation_id), actual.get(conversation_id))
    ]


def repair(session: Session, conversation_ids: Collection[UUID]) -> None:
    """Write the rows of these conversations from their messages and replies. Concurrent activity is not lost.

    A row of a conversation that has neither any more is deleted.
    """
    if not conversation_ids:
        return
    # A missing row is made first: one that others make meanwhile would count what is counted here as well.
    none = {"first_at": _NEVER, "last_at": _NEVER, "last_from_recipient": False, "messages": 0, "replies": 0}
    bulk.execute_all(
        session,
        bulk.upsert(session, ConversationActivity).on_conflict_do_nothing(index_elements=["id"]),
        ConversationActivity,
        [{"id": conversation_id, **none} for conversation_id in sorted(conversation_ids)],
    )
    query = (
        select(ConversationActivity.id)
        .where(bulk.among(session, ConversationActivity.id, conversation_ids))
        .order_by(ConversationActivity.id)
    )
    session.execute(query.with_for_update()).all()
    actual = _derive(session, conversation_ids)  # read after the lock, so that it sees all that was written before it
    empty = set(conversation_ids) - actual.keys()
    if empty:
        session.execute(delete(ConversationActivity).where(bulk.among(session, ConversationActivity.id, empty)))
    rows = [
        {"id": conversation_id, **activity._asdict(), "last_from_recipient": bool(activity.last_from_recipient)}
        for conversation_id, activity in sorted(actual.items())
    ]
    bulk.update_all(session, ConversationActivity, "id", rows)


def _merge_statement(session: Session) -> bulk.Upsert:
    statement = bulk.upsert(session, ConversationActivity)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["id"],
        set_={
            "first_at": case(
                (new.first_at < ConversationActivity.first_at, new.first_at), else_=ConversationActivity.first_at
            ),
            "last_at": case(
                (new.last_at > ConversationActivity.last_at, new.last_at), else_=ConversationActivity.last_at
            ),
            "last_from_recipient": case(
                (new.last_at >= ConversationActivity.last_at, new.last_from_recipient),
                else_=ConversationActivity.last_from_recipient,
            ),
            "messages": ConversationActivity.messages + new.messages,
            "replies": ConversationActivity.replies + new.replies,
        },
    )


def _derive(session: Session, conversation_ids: Collection[UUID]) -> dict[UUID, Activity]:
    """The activity by messages and replies, read from indexes that begin with the conversation."""
    messages, replies = (
        {
            row[0]: row[1:]
            for row in session.execute(
                select(model.conversation_id, func.min(at), func.max(at), func.count())
                .where(bulk.among(session, model.conversation_id, conversation_ids))
                .group_by(model.conversation_id)
            )
        }
        for model, at in ((Message, Message.created_at), (Reply, Reply.received_at))
    )
    activities: dict[UUID, Activity] = {}
    for each in messages.keys() | replies.keys():
        first_sent_at, sent_at, sent = messages.get(each, _NOTHING)
        first_replied_at, replied_at, replied = replies.get(each, _NOTHING)
        activities[each] = Activity(
            first_at=min(at for at in (first_sent_at, first_replied_at) if at is not None),
            last_at=max(at for at in (sent_at, replied_at) if at is not None),
            messages=sent,
            replies=replied,
            last_from_recipient=None if sent_at == replied_at else _is_after(replied_at, sent_at),
        )
    return activities


def _is_after(replied_at: datetime | None, sent_at: datetime | None) -> bool:
    return sent_at is None or (replied_at is not None and replied_at > sent_at)


def _is_same(stored: Activity | None, actual: Activity | None) -> bool:
    if stored is not None and actual is not None and actual.last_from_recipient is None:
        return stored[:-1] == actual[:-1]
    return stored == actual
