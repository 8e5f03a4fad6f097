"""The change feed: status changes and replies, numbered in the order of their commits, for event streams.

Ids do not have that order: an id is drawn before its transaction commits, so a lower one may appear after a higher one
was read. So a commit leaves its changes in a row without a number, and a reader first numbers what has been committed
since: one reader at a time, by what a single snapshot sees. A number is given only once every lower one can be read. A
long transaction delays no other: its rows get their numbers when it ends. Within a snapshot rows are numbered by id,
which for one message is the order of its changes, because ids are drawn under its lock. SQLite has one writer at a
time: there a row has its number at once.

A row holds its changes packed, 26 bytes each. A change has no index entry of its own: there are as many as receipts.

Numbers have no gaps, and `prune` deletes from the lowest on. It leaves the newest row that it might delete: so the next
number follows from a row even if nothing happens any more, and a reader that has seen everything still finds its place.
"""

import re
import struct
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias, cast
from uuid import UUID

from sqlalchemy import ColumnElement, Table, delete, func, insert, select, text
from sqlalchemy.orm import Session

from receiptsvc.domain import references
from receiptsvc.domain.errors import ReceiptsvcError
from receiptsvc.domain.statuses import LETTERS
from receiptsvc.domain.times import from_micros, to_micros
from receiptsvc.store.core import bulk, locks
from receiptsvc.store.core.db import is_sqlite
from receiptsvc.store.core.locks import Lock
from receiptsvc.store.core.models import EventRow, Message, MessageTransaction, Reply

Label: TypeAlias = "tuple[str, str]"  # a name that the API filters by, and a value

CLIENT_REF, TRANSACTION_ID, RECIPIENT = "clientRef", "transactionID", "recipient"
STATUS, ORIGINATOR = "status", "originator"

_PACKED = struct.Struct(">16sccq")  # message or reply id, previous status, status, time in microseconds
_NOTHING, _REPLY = b"-", b"+"
_LETTERS: dict[str | None, bytes] = {None: _NOTHING, **{status.value: letter for status, letter in LETTERS.items()}}
_STATUSES = {letter: status for status, letter in LETTERS.items()}

MAX_NUMBERED = 1000  # rows in one transaction

_MAX_CHANGES_PER_ROW = 500
_MAX_ROWS_PER_READ = 50
_POSITION = re.compile(r"([0-9]{12})\.([0-9]{3})\Z", re.ASCII)

_TABLE = cast("Table", EventRow.__table__)
_ALL_ROWS = _TABLE.alias()
_NEXT_NUMBER = select(func.coalesce(func.max(_ALL_ROWS.c.number), 0) + 1).scalar_subquery()
_IN_ORDER = select(_TABLE.c.number).where(_TABLE.c.number.is_not(None)).order_by(_TABLE.c.number)

_ASSIGN_NUMBERS = text("""
    UPDATE events SET number = fresh.number
    FROM (
        SELECT id, (SELECT coalesce(max(number), 0) FROM events) + row_number() OVER (ORDER BY id) AS number
        FROM (SELECT id FROM events WHERE number IS NULL ORDER BY id LIMIT :limit) AS waiting
    ) AS fresh
    WHERE events.id = fresh.id
""")


class NotKept(ReceiptsvcError):
    """Not every event after a position is kept, or the position is not one of this database."""


class Change(NamedTuple):
    """A change of a message's status. `previous`: None for a new message."""

    message_id: UUID
    previous: str | None
    status: str
    at: datetime


class FeedPosition(NamedTuple):
    """The position of an event: its row's number, and its part of the row. As texts, positions sort the same way."""

    number: int
    part: int

    def __str__(self) -> str:
        return f"{self.number:012d}.{self.part:03d}"


BEGINNING = FeedPosition(0, 0)  # before all events


class MessageSummary(NamedTuple):
    """The part of a message that events show."""

    id: UUID
    recipient: str
    client_ref: str | None
    originator: str | None
    conversation_id: UUID
    transaction_id: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusChange:
    """A message's status has changed. `labels`: what the event can be filtered by."""

    position: FeedPosition
    row: MessageSummary
    previous_status: str | None
    status: str
    status_at: datetime
    labels: frozenset[Label]


@dataclass(frozen=True, kw_only=True, slots=True)
class NewReply:
    """A reply was recorded. It has the labels of the message that it answers; its sender is the recipient."""

    position: FeedPosition
    row: Reply
    labels: frozenset[Label]


Event: TypeAlias = StatusChange | NewReply


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Events in order. `end`: the last position that was read; `is_all`: whether there were no more at that time."""

    events: Sequence[Event]
    end: FeedPosition
    is_all: bool


def parse_position(text: str) -> FeedPosition | None:
    """The position that a text stands for; None if it is not the text of a position."""
    match = _POSITION.match(text)
    return FeedPosition(int(match[1]), int(match[2])) if match else None


def record(session: Session, changes: Sequence[Change], now: datetime) -> None:
    """Add status changes, those of one message in order, in the caller's transaction. It must hold the messages."""
    _insert(
        session,
        [
            _PACKED.pack(message_id.bytes, _LETTERS[previous], _LETTERS[status], to_micros(at))
            for message_id, previous, status, at in changes
        ],
        now,
    )


def record_reply(session: Session, reply_id: UUID, now: datetime) -> None:
    """Add a reply, in the caller's transaction."""
    _insert(session, [_PACKED.pack(reply_id.bytes, _NOTHING, _REPLY, 0)], now)


def has_unnumbered(session: Session) -> bool:
    """Whether there are committed rows without a number."""
    return not is_sqlite(session) and bool(session.scalar(select(is_any_unnumbered())))


def is_any_unnumbered() -> ColumnElement[bool]:
    """The same as a condition. On SQLite it is never true."""
    # The order makes the planner use the partial index of such rows, whatever its statistics say of their number.
    first = select(EventRow.id).where(EventRow.number.is_(None)).order_by(EventRow.id).limit(1)
    return first.scalar_subquery().is_not(None)


def number(session: Session, limit: int = MAX_NUMBERED) -> int:
    """Number up to `limit` committed rows; how many. Numbers none if another process is numbering.

    Call it in a short transaction of its own: until that ends, no other process can number.
    """
    if is_sqlite(session) or not locks.try_to_take(session, Lock.EVENT_NUMBERS):
        return 0
    numbered: int = session.execute(_ASSIGN_NUMBERS, {"limit": limit}).rowcount  # type: ignore[attr-defined]  # an update's
    return numbered


def read(session: Session, after: FeedPosition, limit: int = 500) -> Batch:
    """The next events after a position: about `limit` of them, as rows are read whole, or fewer.

    Events about deleted messages and replies are left out. Every reader finds the same events in the same order after
    the same position, at any time and from any process. Raises NotKept.
    """
    query = _IN_ORDER.add_columns(_TABLE.c.changes).where(_TABLE.c.number >= after.number)
    found = session.execute(query.limit(_MAX_ROWS_PER_READ)).all()
    _require_kept(after, *((found[0].number, len(found[0].changes)) if found else ()))
    unpacked: list[tuple[FeedPosition, tuple[Any, ...]]] = []
    rows = 0
    for row_number, packed in found:
        rows += 1
        changes = enumerate(_PACKED.iter_unpack(packed))
        unpacked += [(FeedPosition(row_number, part), change) for part, change in changes if (row_number, part) > after]
        if len(unpacked) >= limit:
            break
    return Batch(
        events=_load_events(session, unpacked),
        end=unpacked[-1][0] if unpacked else after,
        is_all=rows < _MAX_ROWS_PER_READ and len(unpacked) < limit,
    )


def find_last(session: Session) -> FeedPosition:
    """The position of the last numbered event."""
    query = select(_TABLE.c.number, func.length(_TABLE.c.changes)).where(_TABLE.c.number.is_not(None))
    last = session.execute(query.order_by(_TABLE.c.number.desc()).limit(1)).first()
    return BEGINNING if last is None else FeedPosition(last[0], last[1] // _PACKED.size - 1)


def require_kept(session: Session, position: FeedPosition) -> None:
    """Raise NotKept unless this is a position of ours, and every event after it is still there."""
    query = _IN_ORDER.add_columns(func.length(_TABLE.c.changes)).where(_TABLE.c.number >= position.number)
    _require_kept(position, *(session.execute(query.limit(1)).first() or ()))


def prune(session: Session, before: datetime, limit: int) -> int:
    """Delete up to `limit` of the rows older than `before`, from the lowest number on, but not the last of them.

    Returns how many. A row without a number, or behind one that is not so old, stays. Several processes may call it.
    """
    session.execute(_IN_ORDER.limit(1).with_for_update()).first()  # one process at a time; the next finds what is left
    oldest: list[int] = []
    for row_number, recorded_at in session.execute(_IN_ORDER.add_columns(_TABLE.c.recorded_at).limit(limit + 1)):
        if recorded_at >= before:
            break
        oldest.append(row_number)
    if len(oldest) < 2:
        return 0
    deleted: int = session.execute(delete(_TABLE).where(_TABLE.c.number < oldest[-1])).rowcount  # type: ignore[attr-defined]
    return deleted


def _require_kept(position: FeedPosition, number: int | None = None, length: int = 0) -> None:
    """Raise NotKept unless no event after a position is missing. `number`, `length`: of the first row from there on."""
    if position.number:
        is_kept = number == position.number and position.part * _PACKED.size < length
    else:
        is_kept = position == BEGINNING and number in {None, 1}
    if not is_kept:
        raise NotKept("not every event after this position is kept, or it is not from here")


def _insert(session: Session, packed: Sequence[bytes], now: datetime) -> None:
    rows = [
        {"recorded_at": now, "changes": b"".join(packed[start : start + _MAX_CHANGES_PER_ROW])}
        for start in range(0, len(packed), _MAX_CHANGES_PER_ROW)
    ]
    if rows:
        statement = insert(_TABLE)
        session.execute(statement.values(number=_NEXT_NUMBER) if is_sqlite(session) else statement, rows)


def _load_events(session: Session, unpacked: Sequence[tuple[FeedPosition, tuple[Any, ...]]]) -> list[Event]:
    """The events of unpacked changes, with the messages and replies that they are about."""
    changes = [
        (position, UUID(bytes=subject), _STATUSES.get(previous), letter, micros)
        for position, (subject, previous, letter, micros) in unpacked
    ]
    replies: dict[UUID, Reply] = {}
    reply_ids = [subject for _, subject, _, letter, _ in changes if letter == _REPLY]
    if reply_ids:
        replies = {
            reply.id: reply for reply in session.scalars(select(Reply).where(bulk.among(session, Reply.id, reply_ids)))
        }
    message_ids = {reply.message_id for reply in replies.values() if reply.message_id is not None}
    message_ids |= {subject for _, subject, _, letter, _ in changes if letter != _REPLY}
    messages, transaction_ids = _load_messages(session, message_ids)
    events: list[Event] = []
    for position, subject, previous, letter, micros in changes:
        status = _STATUSES.get(letter)
        if letter == _REPLY and subject in replies:
            events.append(_new_reply(position, replies[subject], messages, transaction_ids))
        elif status is not None and subject in messages:
            message = messages[subject]
            events.append(
                StatusChange(
                    position=position,
                    row=message,
                    previous_status=previous,
                    status=status,
                    status_at=from_micros(micros),
                    labels=_labels(message, transaction_ids[subject]) | {(STATUS, status)},
                )
            )
    return events


def _load_messages(
    session: Session, message_ids: Collection[UUID]
) -> tuple[dict[UUID, MessageSummary], defaultdict[UUID, set[str]]]:
    """Messages, and all transactionIDs that each was ever given."""
    transaction_ids: defaultdict[UUID, set[str]] = defaultdict(set)
    if not message_ids:
        return {}, transaction_ids
    columns = [getattr(Message, name) for name in MessageSummary._fields]
    messages = session.execute(select(*columns).where(bulk.among(session, Message.id, message_ids)))
    links = select(MessageTransaction.message_id, MessageTransaction.transaction_id)
    for message_id, transaction_id in session.execute(
        links.where(bulk.among(session, MessageTransaction.message_id, message_ids))
    ):
        transaction_ids[message_id].add(transaction_id)
    return {row[0]: MessageSummary._make(row) for row in messages}, transaction_ids


def _new_reply(
    position: FeedPosition,
    reply: Reply,
    messages: dict[UUID, MessageSummary],
    transaction_ids: defaultdict[UUID, set[str]],
) -> NewReply:
    message = messages.get(reply.message_id) if reply.message_id is not None else None
    labels = {(RECIPIENT, reply.sender)}
    if reply.client_ref is not None:
        labels.add((CLIENT_REF, reply.client_ref))
    if message is not None:
        labels |= _labels(message, transaction_ids[message.id])
    return NewReply(position=position, row=reply, labels=frozenset(labels))


def _labels(message: MessageSummary, transaction_ids: Collection[str]) -> frozenset[Label]:
    client_ref = references.trim_client_ref(message.client_ref) or message.client_ref
    values = ((RECIPIENT, message.recipient), (CLIENT_REF, client_ref), (ORIGINATOR, message.originator))
    return frozenset((name, value) for name, value in values if value is not None) | {
        (TRANSACTION_ID, transaction_id) for transaction_id in transaction_ids
    }
