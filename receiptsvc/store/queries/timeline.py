"""A conversation's story: messages, transitions and replies merged by time, in SQL and by pages. Nothing is written.

A large conversation, such as a campaign's, is told message by message: what became of each follows it at once. To merge
by time too what became of a million messages, every transition would have to stand in one more index.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    Integer,
    case,
    func,
    literal,
    literal_column,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.orm import Session

from receiptsvc.domain.statuses import Status
from receiptsvc.store.core.keyset import Scan, scan
from receiptsvc.store.core.models import Message, Reply, Transition
from receiptsvc.store.core.paging import Page

_MESSAGE, _TRANSITION, _REPLY = range(3)  # the order of what happened at the same time
_BY_MESSAGE = 3  # in a place: it is one in a large conversation


class TimelineCursor(NamedTuple):
    """Where a timeline's entry stands among the others: by time, then messages, transitions, replies.

    In a large conversation by time, id and serial: a transition has its message's time there.
    """

    at: datetime
    kind: int
    id: UUID  # the message's, or the reply's
    serial: int  # the transition's


@dataclass(frozen=True, kw_only=True, slots=True)
class TimelineRow:
    """One entry of a timeline. `to`: whom a transition's message went to."""

    at: datetime
    row: Message | Transition | Reply
    to: str | None = None


def read(
    session: Session, conversation_id: UUID, *, limit: int, after: TimelineCursor | None = None, is_large: bool = False
) -> Page[TimelineRow, TimelineCursor]:
    """What happened in a conversation, the earliest first; of one that `is_large`, message by message.

    A message stands at the time it was accepted, a reply and a transition at the provider's time, or without one at
    the time we received it; a transition never before its message, whatever the provider's clock says. Where it is told
    message by message, a reply stands at the time we received it. It goes on as it began, however large it has become.
    """
    if is_by_message(after, is_large=is_large):
        return _read_by_message(session, conversation_id, limit=limit, after=after)
    keys = _keys(conversation_id).subquery()
    query = select(keys)
    if after is not None:
        columns = (keys.c.at, keys.c.kind, keys.c.id, keys.c.serial)
        values = (literal(value, column.type) for value, column in zip(after, columns, strict=True))
        query = query.where(tuple_(*columns) > tuple_(*values))
    found = [
        TimelineCursor(*row)
        for row in session.execute(query.order_by(keys.c.at, keys.c.kind, keys.c.id, keys.c.serial).limit(limit + 1))
    ]
    shown = found[:limit]
    return Page(items=_entries(session, shown), next=shown[-1] if len(found) > limit else None)


def is_by_message(after: TimelineCursor | None, *, is_large: bool) -> bool:
    """Whether a conversation is told message by message."""
    return is_large if after is None else after.kind == _BY_MESSAGE


def _read_by_message(
    session: Session, conversation_id: UUID, *, limit: int, after: TimelineCursor | None
) -> Page[TimelineRow, TimelineCursor]:
    place = (after.at, after.id) if after is not None else None
    # Each message has a transition at least, so that half as many fill a page.
    statuses = [[(Message.conversation_id, conversation_id), (Message.status, status.value)] for status in Status]
    every: list[list[ColumnElement[bool]]] = [[] for _ in statuses]
    sent = Scan(order=(Message.created_at, Message.id), branches=every, pins=statuses, is_descending=False)
    answers = [[Reply.conversation_id == conversation_id]]
    received = Scan(order=(Reply.received_at, Reply.id), branches=answers, is_descending=False)
    messages = scan(session, sent, limit=limit // 2 + 1, after=place).keys
    replies = scan(session, received, limit=limit + 1, after=place).keys
    made_at = {identifier: at for at, identifier in messages}
    rest = made_at | ({after.id: after.at} if after is not None else {})
    told = select(Transition.message_id, Transition.id).where(Transition.message_id.in_(list(rest)))
    found = [TimelineCursor(at, _MESSAGE, identifier, 0) for at, identifier in messages]
    found += [
        TimelineCursor(rest[identifier], _TRANSITION, identifier, serial)
        for identifier, serial in session.execute(told)
    ]
    found += [TimelineCursor(at, _REPLY, identifier, 0) for at, identifier in replies]
    found.sort(key=_by_message)
    if after is not None:
        found = [key for key in found if _by_message(key) > _by_message(after)]
    shown = found[:limit]
    following = shown[-1]._replace(kind=_BY_MESSAGE) if len(found) > limit else None
    return Page(items=_entries(session, shown), next=following)


def _by_message(key: TimelineCursor) -> tuple[datetime, UUID, int]:
    return key.at, key.id, key.serial


def _keys(conversation_id: UUID) -> CompoundSelect[Any]:
    none = literal_column("0", BigInteger)  # the type of all serials
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


def _entries(session: Session, keys: Sequence[TimelineCursor]) -> list[TimelineRow]:
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
    entries: list[TimelineRow] = []
    for key in keys:
        if key.kind == _MESSAGE:
            entries.append(TimelineRow(at=key.at, row=messages[key.id]))
        elif key.kind == _TRANSITION:
            message, row = messages[key.id], transitions[key.serial]
            at = max(row.occurred_at or row.received_at, message.created_at)
            entries.append(TimelineRow(at=at, row=row, to=message.recipient))
        else:
            entries.append(TimelineRow(at=key.at, row=replies[key.id]))
    return entries
