"""What changed, for those who follow it: status changes and replies, numbered in the order of their commits.

An id is drawn before its transaction commits, so a lower one may appear after a higher one was read. So each commit
leaves what it changed as a row without a number, and whoever wants news numbers first what has been committed since:
one at a time, by what a single snapshot sees. A number is given only when every lower one can be read, and a long
transaction holds up nobody: it has its numbers when it ends. What one snapshot sees is numbered in the order of ids,
which for one message is that of its changes, because they are drawn under its lock. SQLite has one writer at a time:
there a row has its number at once.

A row holds the changes packed, 26 bytes each, and none has an index entry of its own: there are as many as receipts.
"""

import re
import struct
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeAlias, cast
from uuid import UUID

from sqlalchemy import Table, delete, exists, func, insert, select, text
from sqlalchemy.orm import Session

from receiptsvc.domain.statuses import Status
from receiptsvc.store.core import bulk
from receiptsvc.store.core.db import is_sqlite
from receiptsvc.store.core.models import EventRow, Message, MessageTransaction, Reply

Label: TypeAlias = "tuple[str, str]"  # a name that the API filters by, and a value

CLIENT_REF, TRANSACTION_ID, RECIPIENT = "clientRef", "transactionID", "recipient"
STATUS, ORIGINATOR = "status", "originator"

_PACKED = struct.Struct(">16sccq")  # whose, the status before, the status, since when in microseconds
_NOTHING, _REPLY = b"-", b"+"
_LETTERS: dict[str | None, bytes] = {  # they stand in rows: new ones may come, none may change
    None: _NOTHING,
    Status.ACCEPTED: b"a",
    Status.SEND_UNKNOWN: b"u",
    Status.SUBMITTED: b"m",
    Status.SENT: b"s",
    Status.DELIVERED: b"d",
    Status.UNDELIVERED: b"n",
    Status.EXPIRED: b"e",
    Status.REJECTED: b"r",
    Status.FAILED: b"f",
    Status.CANCELLED: b"c",
}
_WORDS = {letter: word for word, letter in _LETTERS.items()}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

MAX_NUMBERED = 1000  # rows in one transaction

_MAX_IN_A_ROW = 500  # changes
_MAX_ROWS = 50  # in one page
_PLACE = re.compile(r"([0-9]{12})\.([0-9]{3})\Z", re.ASCII)

_TABLE = cast("Table", EventRow.__table__)
_EVERY = _TABLE.alias()
_NEXT_NUMBER = select(func.coalesce(func.max(_EVERY.c.number), 0) + 1).scalar_subquery()

_ALONE = text("SELECT pg_try_advisory_xact_lock(20160113, 0)")  # until the end of the transaction that numbers
_NUMBER = text("""
    UPDATE events SET number = fresh.number
    FROM (
        SELECT id, (SELECT coalesce(max(number), 0) FROM events) + row_number() OVER (ORDER BY id) AS number
        FROM (SELECT id FROM events WHERE number IS NULL ORDER BY id LIMIT :most) AS waiting
    ) AS fresh
    WHERE events.id = fresh.id
""")


class Change(NamedTuple):
    """A message's status, which was another one before; None: there was no message."""

    message_id: UUID
    before: str | None
    status: str
    at: datetime


class FeedPosition(NamedTuple):
    """Where an event stands: its row's number, then its part of the row. As text, places have the same order."""

    number: int
    part: int

    def __str__(self) -> str:
        return f"{self.number:012d}.{self.part:03d}"


BEGINNING = FeedPosition(0, 0)  # before all


class MessageSummary(NamedTuple):
    """What of a message an event tells."""

    id: UUID
    recipient: str
    client_ref: str | None
    originator: str | None
    conversation_id: UUID
    transaction_id: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusChange:
    """A message has another status. `labels`: what it can be filtered by."""

    place: FeedPosition
    row: MessageSummary
    previous_status: str | None
    status: str
    status_at: datetime
    labels: frozenset[Label]


@dataclass(frozen=True, kw_only=True, slots=True)
class NewReply:
    """A reply was recorded. Its labels are those of the message that it answers, its sender being the recipient."""

    place: FeedPosition
    row: Reply
    labels: frozenset[Label]


Event: TypeAlias = StatusChange | NewReply


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Some events in their order, the place of the last that was looked at, and whether there was no more then."""

    events: Sequence[Event]
    upto: FeedPosition
    is_all: bool


def parse_place(text: str) -> FeedPosition | None:
    """The place that is written so; None: it is none."""
    found = _PLACE.match(text)
    return FeedPosition(int(found[1]), int(found[2])) if found else None


def record(session: Session, changes: Sequence[Change], now: datetime) -> None:
    """Leave word of changes, in the caller's transaction, which holds the messages. Those of one message in order."""
    _write(
        session,
        [
            _PACKED.pack(message_id.bytes, _LETTERS[before], _LETTERS[status], (at - _EPOCH) // _MICROSECOND)
            for message_id, before, status, at in changes
        ],
        now,
    )


def record_reply(session: Session, reply_id: UUID, now: datetime) -> None:
    """Leave word of a reply, in the caller's transaction."""
    _write(session, [_PACKED.pack(reply_id.bytes, _NOTHING, _REPLY, 0)], now)


def has_unnumbered(session: Session) -> bool:
    """Whether rows were committed that have no number yet."""
    if is_sqlite(session):
        return False
    # By its order the index of such rows serves it, whatever the planner believes of how many there are.
    waiting = select(EventRow.id).where(EventRow.number.is_(None)).order_by(EventRow.id).limit(1)
    return session.scalar(waiting) is not None


def number(session: Session, most: int = MAX_NUMBERED) -> int:
    """Number up to so many rows that were committed; how many. None of them, if somebody else is at it.

    In a transaction of its own, which is short, because it keeps others from numbering.
    """
    if is_sqlite(session) or not session.scalar(_ALONE):
        return 0
    done: int = session.execute(_NUMBER, {"most": most}).rowcount  # type: ignore[attr-defined]  # of an update
    return done


def read(session: Session, after: FeedPosition, limit: int = 500) -> Batch:
    """The next events after a place: some `limit` of them, by whole rows, or fewer.

    What is about a message or reply that is there no more is left out. Whoever reads after the same place, at any time
    and from any process, finds the same events in the same order, as far as there are some yet.
    """
    query = (
        select(_TABLE.c.number, _TABLE.c.changes)
        .where(_TABLE.c.number >= after.number)
        .order_by(_TABLE.c.number)
        .limit(_MAX_ROWS)
    )
    found: list[tuple[FeedPosition, tuple[Any, ...]]] = []
    rows = 0
    for row_number, packed in session.execute(query):
        rows += 1
        changes = enumerate(_PACKED.iter_unpack(packed))
        found += [(FeedPosition(row_number, part), change) for part, change in changes if (row_number, part) > after]
        if len(found) >= limit:
            break
    return Batch(
        events=_events(session, found),
        upto=found[-1][0] if found else after,
        is_all=rows < _MAX_ROWS and len(found) < limit,
    )


def find_last(session: Session) -> FeedPosition:
    """Where the last event stands that has a number."""
    query = select(_TABLE.c.number, func.length(_TABLE.c.changes)).where(_TABLE.c.number.is_not(None))
    last = session.execute(query.order_by(_TABLE.c.number.desc()).limit(1)).first()
    return BEGINNING if last is None else FeedPosition(last[0], last[1] // _PACKED.size - 1)


def is_kept(session: Session, place: FeedPosition) -> bool:
    """Whether every event after this place is still here, and the place is one of ours."""
    if place.number:
        return bool(session.scalar(select(exists().where(EventRow.number == place.number))))
    first = session.scalar(select(func.min(EventRow.number)))
    return place == BEGINNING and first in {None, 1}


def prune(session: Session, before: datetime, limit: int = 1000) -> int:
    """Delete the first rows as far as they are older than `before`, up to so many; how many.

    The last one stays whatever its age: it knows which number comes next.
    """
    first = (
        select(EventRow.number, EventRow.recorded_at)
        .where(EventRow.number < select(func.max(_EVERY.c.number)).scalar_subquery())
        .order_by(EventRow.number)
        .limit(limit)
    )
    last = None
    for row_number, recorded_at in session.execute(first):
        if recorded_at >= before:
            break
        last = row_number
    if last is None:
        return 0
    gone: int = session.execute(delete(_TABLE).where(_TABLE.c.number <= last)).rowcount  # type: ignore[attr-defined]
    return gone


def _write(session: Session, packed: Sequence[bytes], now: datetime) -> None:
    rows = [
        {"recorded_at": now, "changes": b"".join(packed[start : start + _MAX_IN_A_ROW])}
        for start in range(0, len(packed), _MAX_IN_A_ROW)
    ]
    if rows:
        statement = insert(_TABLE)
        session.execute(statement.values(number=_NEXT_NUMBER) if is_sqlite(session) else statement, rows)


def _events(session: Session, found: Sequence[tuple[FeedPosition, tuple[Any, ...]]]) -> list[Event]:
    """The events at these places, with what they are about."""
    told = [
        (place, UUID(bytes=whose), _WORDS.get(before), letter, micros)
        for place, (whose, before, letter, micros) in found
    ]
    replies: dict[UUID, Reply] = {}
    reply_ids = [whose for _, whose, _, letter, _ in told if letter == _REPLY]
    if reply_ids:
        replies = {
            reply.id: reply for reply in session.scalars(select(Reply).where(bulk.among(session, Reply.id, reply_ids)))
        }
    answered = {reply.message_id for reply in replies.values() if reply.message_id is not None}
    message_ids = answered | {whose for _, whose, _, letter, _ in told if letter != _REPLY}
    abouts, transactions = _abouts(session, message_ids)
    events: list[Event] = []
    for place, whose, before, letter, micros in told:
        status = _WORDS.get(letter)
        if letter == _REPLY and whose in replies:
            events.append(_reply_came(place, replies[whose], abouts, transactions))
        elif status is not None and whose in abouts:
            about = abouts[whose]
            events.append(
                StatusChange(
                    place=place,
                    row=about,
                    previous_status=before,
                    status=status,
                    status_at=_EPOCH + timedelta(microseconds=micros),
                    labels=_labels(about, transactions[whose]) | {(STATUS, status)},
                )
            )
    return events


def _abouts(
    session: Session, message_ids: Collection[UUID]
) -> tuple[dict[UUID, MessageSummary], defaultdict[UUID, set[str]]]:
    """Messages, and every transactionID that each was ever given."""
    transactions: defaultdict[UUID, set[str]] = defaultdict(set)
    if not message_ids:
        return {}, transactions
    columns = [getattr(Message, name) for name in MessageSummary._fields]
    abouts = session.execute(select(*columns).where(bulk.among(session, Message.id, message_ids)))
    given = select(MessageTransaction.message_id, MessageTransaction.transaction_id)
    for message_id, transaction_id in session.execute(
        given.where(bulk.among(session, MessageTransaction.message_id, message_ids))
    ):
        transactions[message_id].add(transaction_id)
    return {row[0]: MessageSummary._make(row) for row in abouts}, transactions


def _reply_came(
    place: FeedPosition, reply: Reply, abouts: dict[UUID, MessageSummary], transactions: defaultdict[UUID, set[str]]
) -> NewReply:
    about = abouts.get(reply.message_id) if reply.message_id is not None else None
    labels = {(RECIPIENT, reply.sender)}
    if reply.client_ref is not None:
        labels.add((CLIENT_REF, reply.client_ref))
    if about is not None:
        labels |= _labels(about, transactions[about.id])
    return NewReply(place=place, row=reply, labels=frozenset(labels))


def _labels(about: MessageSummary, transaction_ids: Collection[str]) -> frozenset[Label]:
    values = ((RECIPIENT, about.recipient), (CLIENT_REF, about.client_ref), (ORIGINATOR, about.originator))
    return frozenset((name, value) for name, value in values if value is not None) | {
        (TRANSACTION_ID, transaction_id) for transaction_id in transaction_ids
    }
