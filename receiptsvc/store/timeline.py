"""A conversation's story: messages, transitions and replies merged by time, in SQL and by pages. Nothing is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import CompoundSelect, Integer, case, func, literal, literal_column, select, tuple_, union_all
from sqlalchemy.orm import Session

from receiptsvc.store.models import Message, Reply, Transition
from receiptsvc.store.queries import Page

_MESSAGE, _TRANSITION, _REPLY = range(3)  # the order of what happened at the same time


class Key(NamedTuple):
    """Where a timeline's entry stands among the others: by time, then messages, transitions, replies."""

    at: datetime
    kind: int
    id: UUID  # the message's, or the reply's
    serial: int  # the transition's


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One entry of a timeline. `to`: whom a transition's message went to."""

    at: datetime
    row: Message | Transition | Reply
    to: str | None = None


def read(session: Session, conversation_id: UUID, *, limit: int, after: Key | None = None) -> Page[Entry, Key]:
    """What happened in a conversation, the earliest first.

    A message stands at the time it was accepted, a reply and a transition at the provider's time, or without one at
    the time we received it; a transition never before its message, whatever the provider's clock says.
    """
    keys = _keys(conversation_id).subquery()
    query = select(keys)
    if after is not None:
        columns = (keys.c.at, keys.c.kind, keys.c.id, keys.c.serial)
        values = (literal(value, column.type) for value, column in zip(after, columns, strict=True))
        query = query.where(tuple_(*columns) > tuple_(*values))
    found = [
        Key(*row)
        for row in session.execute(query.order_by(keys.c.at, keys.c.kind, keys.c.id, keys.c.serial).limit(limit + 1))
    ]
    shown = found[:limit]
    return Page(items=_entries(session, shown), next=shown[-1] if len(found) > limit else None)


def _keys(conversation_id: UUID) -> CompoundSelect[Any]:
    none = literal_column("0", Integer)
    told_at = func.coalesce(Transition.occurred_at, Transition.received_at)
    messages = select(
        Message.created_at.label("at"),
        literal_column(str(_MESSAGE), Integer).label("kind"),
        Message.id.label("id"),
        none.label("serial"),
    ).where(Message.conversation_id == conversation_id)
    transitions = (
        select(
            case((told_at < Message.created_at, Message.created_at), else_=told_at),
            literal_column(str(_TRANSITION), Integer),
            Transition.message_id,
            Transition.id,
        )
        .join(Message, Message.id == Transition.message_id)
        .where(Message.conversation_id == conversation_id)
    )
    replies = select(
        func.coalesce(Reply.occurred_at, Reply.received_at), literal_column(str(_REPLY), Integer), Reply.id, none
    ).where(Reply.conversation_id == conversation_id)
    return union_all(messages, transitions, replies)


def _entries(session: Session, keys: Sequence[Key]) -> list[Entry]:
    """The rows behind these keys, fetched by kind."""
    messages = {
        row.id: row
        for row in session.scalars(
            select(Message).where(Message.id.in_({key.id for key in keys if key.kind != _REPLY}))
        )
    }
    transitions = {
        row.id: row
        for row in session.scalars(
            select(Transition).where(Transition.id.in_([key.serial for key in keys if key.kind == _TRANSITION]))
        )
    }
    replies = {
        row.id: row
        for row in session.scalars(select(Reply).where(Reply.id.in_([key.id for key in keys if key.kind == _REPLY])))
    }
    entries: list[Entry] = []
    for key in keys:
        if key.kind == _MESSAGE:
            entries.append(Entry(at=key.at, row=messages[key.id]))
        elif key.kind == _TRANSITION:
            entries.append(Entry(at=key.at, row=transitions[key.serial], to=messages[key.id].recipient))
        else:
            entries.append(Entry(at=key.at, row=replies[key.id]))
    return entries
