"""When conversations were last active, each in one small row.

Activity is that somebody says something: a message is accepted, or a reply comes. Receipts are none, of which a
campaign has millions for one conversation: its row is written once for each request that sends, late in its
transaction, so that those who share a clientRef wait for each other's last step only.
"""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from receiptsvc.store.core import bulk, upsert
from receiptsvc.store.core.models import ConversationActivity, Message, Reply


class Activity(NamedTuple):
    """When a conversation was active, and whether the last word is a reply; None: both spoke last at the same time."""

    first_at: datetime
    last_at: datetime
    last_from_recipient: bool | None


class Difference(NamedTuple):
    """What is noted of a conversation, and what is true. None: nothing is noted, or nothing was said."""

    id: UUID
    noted: Activity | None
    true: Activity | None


def touch(session: Session, conversation_ids: Iterable[UUID], at: datetime, *, is_reply: bool) -> None:
    """Note that something was said in these conversations; nothing that was said later is forgotten."""
    said = {"first_at": at, "last_at": at, "last_from_recipient": is_reply}
    # In one order, so that two transactions can't wait for each other in a circle.
    rows = [{"id": one, **said} for one in sorted(set(conversation_ids))]
    bulk.execute_all(session, _merging(session), ConversationActivity, rows)


def find_missing(session: Session, conversation_ids: Collection[UUID]) -> set[UUID]:
    """Which of these conversations have no row."""
    asked = set(conversation_ids)
    if not asked:
        return set()
    return asked.difference(
        session.scalars(select(ConversationActivity.id).where(bulk.among(session, ConversationActivity.id, asked)))
    )


def find_differences(session: Session, conversation_ids: Collection[UUID]) -> list[Difference]:
    """Of which of these conversations something else is noted than their messages and replies say."""
    if not conversation_ids:
        return []
    query = select(
        ConversationActivity.id,
        ConversationActivity.first_at,
        ConversationActivity.last_at,
        ConversationActivity.last_from_recipient,
    )
    rows = session.execute(query.where(bulk.among(session, ConversationActivity.id, conversation_ids)))
    noted = {row.id: Activity(*row[1:]) for row in rows}
    true = _add_up(session, conversation_ids)
    return [
        Difference(one, noted.get(one), true.get(one))
        for one in sorted(set(conversation_ids))
        if not _is_same(noted.get(one), true.get(one))
    ]


def repair(session: Session, conversation_ids: Collection[UUID]) -> None:
    """Note what messages and replies say of these conversations; who speaks in one meanwhile waits, or comes after."""
    if not conversation_ids:
        return
    query = (
        select(ConversationActivity.id)
        .where(bulk.among(session, ConversationActivity.id, conversation_ids))
        .order_by(ConversationActivity.id)
    )
    held = set(session.scalars(query.with_for_update()))
    true = _add_up(session, conversation_ids)  # a statement after the lock, so that it sees what was said before it
    rows = [
        {
            "id": one,
            "first_at": said.first_at,
            "last_at": said.last_at,
            "last_from_recipient": bool(said.last_from_recipient),
        }
        for one, said in sorted(true.items())
    ]
    bulk.update_all(session, ConversationActivity, "id", [row for row in rows if row["id"] in held])
    bulk.execute_all(session, _merging(session), ConversationActivity, [row for row in rows if row["id"] not in held])


def _merging(session: Session) -> upsert.Insert:
    statement = upsert.into(session, ConversationActivity)
    given = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["id"],
        set_={
            "first_at": case(
                (given.first_at < ConversationActivity.first_at, given.first_at), else_=ConversationActivity.first_at
            ),
            "last_at": case(
                (given.last_at > ConversationActivity.last_at, given.last_at), else_=ConversationActivity.last_at
            ),
            "last_from_recipient": case(
                (given.last_at >= ConversationActivity.last_at, given.last_from_recipient),
                else_=ConversationActivity.last_from_recipient,
            ),
        },
    )


def _add_up(session: Session, conversation_ids: Collection[UUID]) -> dict[UUID, Activity]:
    """What messages and replies say, read from indexes that begin with the conversation."""
    ours, theirs = (
        {
            row[0]: row[1:]
            for row in session.execute(
                select(model.conversation_id, func.min(at), func.max(at))
                .where(bulk.among(session, model.conversation_id, conversation_ids))
                .group_by(model.conversation_id)
            )
        }
        for model, at in ((Message, Message.created_at), (Reply, Reply.received_at))
    )
    added: dict[UUID, Activity] = {}
    for one in ours.keys() | theirs.keys():
        times = [*ours.get(one, ()), *theirs.get(one, ())]
        sent, answered = ours.get(one, (None, None))[1], theirs.get(one, (None, None))[1]
        last_from_recipient = None if sent == answered else sent is None or (answered is not None and answered > sent)
        added[one] = Activity(min(times), max(times), last_from_recipient)
    return added


def _is_same(noted: Activity | None, true: Activity | None) -> bool:
    if noted is not None and true is not None and true.last_from_recipient is None:
        return noted[:2] == true[:2]
    return noted == true
