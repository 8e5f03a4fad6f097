"""The timeline of a conversation: messages, transitions and replies merged by time, in SQL and by pages.

The timeline of a large conversation, such as a campaign's, goes message by message, each followed by its transitions:
to merge a million messages' transitions by time, every transition would need an entry in one more index.
"""

from collections.abc import Iterator, Mapping, Sequence
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

_MESSAGE, _TRANSITION, _REPLY = range(3)  # the order of entries with the same time
_BY_MESSAGE = 3  # marks a cursor of a timeline that goes message by message


class TimelineCursor(NamedTuple):
    """The position of an entry: by time, then messages, transitions, replies.

    In a large conversation by time, id and serial, where a transition has its message's time.
    """

    at: datetime
    kind: int
    id: UUID  # the message's, or the reply's
    serial: int  # the transition's


@dataclass(frozen=True, kw_only=True, slots=True)
class TimelineRow:
    """An entry of a timeline. `to`: the recipient of a transition's message."""

    at: datetime
    row: Message | Transition | Reply
    to: str | None = None


def read(
    session: Session, conversation_id: UUID, *, limit: int, after: TimelineCursor | None = None, is_large: bool = False
) -> Page[TimelineRow, TimelineCursor]:
    """The entries of a conversation, the earliest first; message by message if it `is_large`.

    A message has the time of its acceptance; a reply and a transition have the provider's time, or without one the time
    of receipt. A transition is never before its message, whatever the provider's clock says. In a large conversation a
    reply has its time of receipt. A list with `after` goes on in the way it began, however large it has become.
    """
    if is_by_message(after, is_large=is_large):
        return _read_by_message(session, conversation_id, limit=limit, after=after)
    keys = _keys(conversation_id).subquery()
    query = select(keys)
    if after is not None:
        columns = (keys.c.at, keys.c.kind, keys.c.id, keys.c.serial)
        values = (literal(value, column.type) for value, column in zip(after, columns, strict=True))
        query = query.where(tuple_(*columns) > tuple_(*values))
    cursors = [
        TimelineCursor(*row)
        for row in session.execute(query.order_by(keys.c.at, keys.c.kind, keys.c.id, keys.c.serial).limit(limit + 1))
    ]
    page = cursors[:limit]
    return Page(items=_load_entries(session, page), next=page[-1] if len(cursors) > limit else None)


def is_by_message(after: TimelineCursor | None, *, is_large: bool) -> bool:
    """Whether a timeline goes message by message."""
    return is_large if after is None else after.kind == _BY_MESSAGE


def _read_by_message(
    session: Session, conversation_id: UUID, *, limit: int, after: TimelineCursor | None
) -> Page[TimelineRow, TimelineCursor]:
    after_key = (after.at, after.id) if after is not None else None
    # The index has the status before the time: a branch for each status, merged. Each message has at least one
    # transition, so half as many messages fill a page.
    equals = [[(Message.conversation_id, conversation_id), (Message.status, status.value)] for status in Status]
    branches: list[list[ColumnElement[bool]]] = [[] for _ in equals]
    sent = Scan(order=(Message.created_at, Message.id), branches=branches, equals=equals, is_descending=False)
    received = Scan(
        order=(Reply.received_at, Reply.id),
        branches=[[Reply.conversation_id == conversation_id]],
        is_descending=False,
    )
    messages = scan(session, sent, limit=limit // 2 + 1, after=after_key).keys
    replies = scan(session, received, limit=limit + 1, after=after_key).keys
    message_times = {message_id: at for at, message_id in messages}
    if after is not None:
        message_times[after.id] = after.at
    cursors = [TimelineCursor(at, _MESSAGE, message_id, 0) for at, message_id in messages]
    cursors += [
        TimelineCursor(message_times[message_id], _TRANSITION, message_id, serial)
        for message_id, serial in _find_transitions(session, message_times, after, limit)
    ]
    cursors += [TimelineCursor(at, _REPLY, reply_id, 0) for at, reply_id in replies]
    cursors.sort(key=_message_order)
    if after is not None:
        cursors = [cursor for cursor in cursors if _message_order(cursor) > _message_order(after)]
    page = cursors[:limit]
    next_cursor = page[-1]._replace(kind=_BY_MESSAGE) if len(cursors) > limit else None
    return Page(items=_load_entries(session, page), next=next_cursor)


def _find_transitions(
    session: Session, messages: Mapping[UUID, datetime], after: TimelineCursor | None, limit: int
) -> Iterator[tuple[UUID, int]]:
    """The transitions that a page can show: no more messages than fill it, and of each no more than fill it.

    `messages`: their times, by which they are in order.
    """
    counted = select(Message.id, Message.transition_count).where(Message.id.in_(messages))
    counts = {row.id: row.transition_count for row in session.execute(counted)}
    few: list[UUID] = []
    filled = 0
    for message_id in sorted(counts, key=lambda each: (messages[each], each)):
        is_begun = after is not None and after.id == message_id
        if counts[message_id] <= limit:
            few.append(message_id)
        else:
            last = after.serial if after is not None and is_begun else 0
            query = select(Transition.id).where(Transition.message_id == message_id, Transition.id > last)
            for serial in session.scalars(query.order_by(Transition.id).limit(limit + 1)):
                yield message_id, serial
        filled += 0 if is_begun else 1 + counts[message_id]  # how many are left of one begun is not known
        if filled > limit:
            break
    of_few = select(Transition.message_id, Transition.id).where(Transition.message_id.in_(few))
    for message_id, serial in session.execute(of_few):
        yield message_id, serial


def _message_order(cursor: TimelineCursor) -> tuple[datetime, UUID, int]:
    return cursor.at, cursor.id, cursor.serial


def _keys(conversation_id: UUID) -> CompoundSelect[Any]:
    """The cursors of all entries, as a query."""
    no_serial = literal_column("0", BigInteger)
    transition_at = func.coalesce(Transition.occurred_at, Transition.received_at)
    messages = select(
        Message.created_at.label("at"),
        literal_column(str(_MESSAGE), Integer).label("kind"),
        Message.id.label("id"),
        no_serial.label("serial"),
    ).where(Message.conversation_id == conversation_id)
    transitions = (
        select(
            case((transition_at < Message.created_at, Message.created_at), else_=transition_at),
            literal_column(str(_TRANSITION), Integer),
            Transition.message_id,
            Transition.id,
        )
        .join(Message, Message.id == Transition.message_id)
        .where(Message.conversation_id == conversation_id)
    )
    replies = select(
        func.coalesce(Reply.occurred_at, Reply.received_at), literal_column(str(_REPLY), Integer), Reply.id, no_serial
    ).where(Reply.conversation_id == conversation_id)
    return union_all(messages, transitions, replies)


def _load_entries(session: Session, cursors: Sequence[TimelineCursor]) -> list[TimelineRow]:
    """The entries at these positions, loaded by kind."""
    messages = {
        row.id: row
        for row in session.scalars(
            select(Message).where(Message.id.in_({cursor.id for cursor in cursors if cursor.kind != _REPLY}))
        )
    }
    transitions = {
        row.id: row
        for row in session.scalars(
            select(Transition).where(
                Transition.id.in_([cursor.serial for cursor in cursors if cursor.kind == _TRANSITION])
            )
        )
    }
    replies = {
        row.id: row
        for row in session.scalars(
            select(Reply).where(Reply.id.in_([cursor.id for cursor in cursors if cursor.kind == _REPLY]))
        )
    }
    entries: list[TimelineRow] = []
    for cursor in cursors:
        if cursor.kind == _MESSAGE:
            entries.append(TimelineRow(at=cursor.at, row=messages[cursor.id]))
        elif cursor.kind == _TRANSITION:
            message, row = messages[cursor.id], transitions[cursor.serial]
            at = max(row.occurred_at or row.received_at, message.created_at)
            entries.append(TimelineRow(at=at, row=row, to=message.recipient))
        else:
            entries.append(TimelineRow(at=cursor.at, row=replies[cursor.id]))
    return entries
