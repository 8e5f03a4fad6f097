"""Rows for tests, made by the store's own functions."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain import conversations
from receiptsvc.domain.encoding import measure
from receiptsvc.domain.inbox import Arrival, Channel, ReceiptOutcome
from receiptsvc.domain.messages import Callback, NewMessage
from receiptsvc.store.core import bulk
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Attempt, InboxRow, Message, OutcomeRow, PendingRow, Transition
from receiptsvc.store.inbox import counters, receipts
from receiptsvc.store.inbox.columns import LARGE_BYTES
from receiptsvc.store.inbox.receipts import ReceiptDetail
from receiptsvc.store.messages import transitions

_SERIAL = count(1)

T0 = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def seconds(count: float) -> datetime:
    """A time that many seconds after T0."""
    return T0 + timedelta(seconds=count)


def message(recipient: str = "447700900001", text: str = "Hello", **more: Any) -> NewMessage:
    """A message that is not yet accepted."""
    measured = measure(text)
    values: dict[str, Any] = {
        "id": ids.new(),
        "created_by": "test",
        "message_guid": str(uuid4()),
        "transport": "soap",
        "encoding": measured.encoding,
        "segments": measured.segments,
        "conversation_id": conversations.conversation_id(
            client_ref=more.get("client_ref"), recipient=recipient, originator=more.get("originator")
        ),
        **more,
    }
    return NewMessage(recipient=recipient, text=text, **values)


def accept(database: Database, *made: NewMessage, now: datetime = T0) -> list[UUID]:
    """Accept messages, or one if none is given; their ids."""
    accepted = list(made) or [message()]
    with database.transaction() as session:
        transitions.accept(session, accepted, now)
    return [one.id for one in accepted]


def arrival(
    query: str | bytes, *, message_id: UUID | None = None, channel: Channel | None = None, now: datetime = T0
) -> Arrival:
    """A callback by GET, to a message's signed URL unless another channel is named."""
    return Arrival(
        id=UUID(int=ids.first_at(now).int | 0x7 << 76 | 0x2 << 62 | next(_SERIAL)),  # those of one time in order
        channel=channel or (Channel.MESSAGE if message_id else Channel.ACCOUNT),
        message_id=message_id,
        received_at=now,
        callback=Callback(
            method="GET", query=query.encode() if isinstance(query, str) else query, content_type=None, body=b""
        ),
    )


def keep(
    database: Database,
    query: str | bytes,
    *,
    message_id: UUID | None = None,
    channel: Channel | None = None,
    now: datetime = T0,
) -> UUID:
    """Keep such a callback; its id."""
    kept = arrival(query, message_id=message_id, channel=channel, now=now)
    with database.transaction() as session:
        insert_arrivals(session, [kept])
    return kept.id


def insert_arrivals(session: Session, arrivals: Sequence[Arrival]) -> int:
    """Store callbacks as the inbox writer does, by SQLAlchemy and with columns of its own; how many were new."""
    statement = bulk.upsert(session, InboxRow).on_conflict_do_nothing(index_elements=["id"]).returning(InboxRow.id)
    values = [
        {
            "id": arrival.id,
            "channel": arrival.channel,
            "message_id": arrival.message_id,
            "claimed_kid": arrival.claimed_kid,
            "received_at": arrival.received_at,
            "method": arrival.callback.method,
            "query": arrival.callback.query,
            "content_type": arrival.callback.content_type,
            "content_encoding": arrival.callback.content_encoding,
            "body": arrival.callback.body,
        }
        for arrival in arrivals
    ]
    new_ids = set(session.scalars(statement, values).all())
    waiting = [
        {
            "receipt_id": arrival.id,
            "group_id": arrival.message_id,
            "is_large": len(arrival.callback.query) + len(arrival.callback.body) > LARGE_BYTES,
        }
        for arrival in arrivals
        if arrival.id in new_ids
    ]
    if waiting:
        session.execute(insert(PendingRow), waiting)
    kept = len(new_ids)
    counters.add(session, {counters.CALLBACKS: kept, counters.RECEIVED: kept, ReceiptOutcome.PENDING: kept})
    return kept


def read_message(database: Database, message_id: UUID) -> Message:
    """A message as it stands."""
    with database.reading() as session:
        return session.get_one(Message, message_id)


def read_transitions(database: Database, message_id: UUID) -> Sequence[Transition]:
    """A message's transitions in the order recorded."""
    with database.reading() as session:
        return session.scalars(
            select(Transition).where(Transition.message_id == message_id).order_by(Transition.id)
        ).all()


def read_attempts(database: Database, message_id: UUID) -> Sequence[Attempt]:
    """A message's attempts in order."""
    with database.reading() as session:
        return session.scalars(select(Attempt).where(Attempt.message_id == message_id).order_by(Attempt.number)).all()


def read_inbox(database: Database, receipt_id: UUID) -> ReceiptDetail:
    """A receipt as it stands."""
    with database.reading() as session:
        found = receipts.find_receipt(session, receipt_id)
    assert found is not None
    return found


def read_pending(database: Database, receipt_id: UUID) -> PendingRow:
    """The row of a receipt that is pending."""
    with database.reading() as session:
        return session.get_one(PendingRow, receipt_id)


def set_outcome(
    session: Session, receipt_id: UUID, outcome: ReceiptOutcome, now: datetime = T0, *, reason: str | None = None
) -> None:
    """Write this outcome of a receipt down, without counting it."""
    session.execute(delete(PendingRow).where(PendingRow.receipt_id == receipt_id))
    session.execute(delete(OutcomeRow).where(OutcomeRow.receipt_id == receipt_id))
    values = {"receipt_id": receipt_id, "outcome": outcome, "reason": reason, "processed_at": now}
    session.execute(insert(OutcomeRow), values)
