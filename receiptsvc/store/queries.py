"""The reader for API and pages, `store.timeline` apart: rows and small dataclasses. Nothing is written here."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from receiptsvc.domain.statuses import Status
from receiptsvc.store.models import Attempt, Heartbeat, Message, MessageTransaction, Reply, Transition

MOST_ROWS = 500  # in one answer

Item = TypeVar("Item")
Key = TypeVar("Key")


@dataclass(frozen=True, kw_only=True, slots=True)
class Page(Generic[Item, Key]):
    """Some rows, and the key after which the next ones begin; None: these were the last."""

    items: Sequence[Item]
    next: Key | None


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageFilter:
    """Which messages to list: all that every given field fits. `until` itself is left out."""

    client_ref: str | None = None
    transaction_id: str | None = None
    recipient: str | None = None
    status: str | None = None
    originator: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    """A message and what was recorded of it, in that order."""

    row: Message
    transitions: Sequence[Transition]


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """A message and everything from which its status can be explained, each kind in its own order."""

    row: Message
    transitions: Sequence[Transition]
    attempts: Sequence[Attempt]
    transactions: Sequence[MessageTransaction]


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """Messages by status. `statuses` has the words that occur; only a conversation has `replies`."""

    messages: int
    statuses: Mapping[str, int]
    conflicts: int
    replies: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Transaction:
    """What a transactionID covers: all of it in the summary, the first 500 messages as stories."""

    transaction_id: str
    summary: Summary
    messages: Sequence[Story]


@dataclass(frozen=True, kw_only=True, slots=True)
class Party:
    """A person in a conversation: how many messages went to them, and how many replies came."""

    number: str
    messages: int
    replies: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversation:
    """A conversation as a whole. `client_ref` is None where recipient and originator hold it together."""

    id: UUID
    client_ref: str | None
    parties: Sequence[Party]  # the first 500 by number
    summary: Summary


def find_message(session: Session, message_id: UUID) -> Story | None:
    """A message with its transitions."""
    message = session.get(Message, message_id)
    return None if message is None else _stories(session, [message])[0]


def find_evidence(session: Session, message_id: UUID) -> Evidence | None:
    """A message with all that was recorded of it, superseded or not, and how it was offered."""
    message = session.get(Message, message_id)
    if message is None:
        return None
    given = select(MessageTransaction).where(MessageTransaction.message_id == message_id)
    return Evidence(
        row=message,
        transitions=session.scalars(
            select(Transition).where(Transition.message_id == message_id).order_by(Transition.id)
        ).all(),
        attempts=session.scalars(
            select(Attempt).where(Attempt.message_id == message_id).order_by(Attempt.number)
        ).all(),
        transactions=session.scalars(
            given.order_by(MessageTransaction.noted_at, MessageTransaction.transaction_id)
        ).all(),
    )


def list_messages(
    session: Session, where: MessageFilter, *, limit: int, after: UUID | None = None
) -> Page[Message, UUID]:
    """Messages, the newest first: ids rise with the time at which they were made."""
    query = select(Message).where(*_conditions(where))
    if after is not None:
        query = query.where(Message.id < after)
    rows = session.scalars(query.order_by(Message.id.desc()).limit(limit + 1)).all()
    return Page(items=rows[:limit], next=rows[limit - 1].id if len(rows) > limit else None)


def find_guids(session: Session, guids: Collection[str]) -> dict[str, UUID]:
    """Which messages have these messageGuids already."""
    rows = session.execute(select(Message.message_guid, Message.id).where(Message.message_guid.in_(guids)))
    return {row.message_guid: row.id for row in rows}


def find_transaction(session: Session, transaction_id: str) -> Transaction | None:
    """The messages that were ever given this transactionID."""
    conditions = _conditions(MessageFilter(transaction_id=transaction_id))
    summary = _summarise(session, *conditions)
    if not summary.messages:
        return None
    first = session.scalars(select(Message).where(*conditions).order_by(Message.id).limit(MOST_ROWS)).all()
    return Transaction(transaction_id=transaction_id, summary=summary, messages=_stories(session, first))


def find_conversation(session: Session, conversation_id: UUID) -> Conversation | None:
    """A conversation that at least one message or reply belongs to."""
    summary = _summarise(session, Message.conversation_id == conversation_id)
    replies = session.scalar(select(func.count()).where(Reply.conversation_id == conversation_id)) or 0
    if not summary.messages and not replies:
        return None
    source = Message if summary.messages else Reply
    return Conversation(
        id=conversation_id,
        client_ref=session.scalar(
            select(source.client_ref).where(source.conversation_id == conversation_id).order_by(source.id).limit(1)
        ),
        parties=_parties(session, conversation_id),
        summary=replace(summary, replies=replies),
    )


def has_conversation(session: Session, conversation_id: UUID) -> bool:
    """Whether any message or reply belongs to this conversation."""
    return bool(
        session.scalar(
            select(
                exists().where(Message.conversation_id == conversation_id)
                | exists().where(Reply.conversation_id == conversation_id)
            )
        )
    )


def find_heartbeats(session: Session, kind: str, since: datetime) -> Sequence[Heartbeat]:
    """Processes of a kind, such as `worker`, that were seen at work after `since`."""
    query = select(Heartbeat).where(
        Heartbeat.process.startswith(f"{kind}:", autoescape=True), Heartbeat.seen_at > since
    )
    return session.scalars(query.order_by(Heartbeat.process)).all()


def _conditions(where: MessageFilter) -> list[ColumnElement[bool]]:
    same = (
        (Message.client_ref, where.client_ref),
        (Message.recipient, where.recipient),
        (Message.status, where.status),
        (Message.originator, where.originator),
    )
    conditions = [column == value for column, value in same if value is not None]
    if where.transaction_id is not None:
        given = select(MessageTransaction.message_id).where(MessageTransaction.transaction_id == where.transaction_id)
        conditions.append(Message.id.in_(given))
    if where.since is not None:
        conditions.append(Message.created_at >= where.since)
    if where.until is not None:
        conditions.append(Message.created_at < where.until)
    return conditions


def _stories(session: Session, messages: Sequence[Message]) -> list[Story]:
    told: dict[UUID, list[Transition]] = defaultdict(list)
    ids = [message.id for message in messages]
    query = select(Transition).where(Transition.message_id.in_(ids)).order_by(Transition.id)
    for transition in session.scalars(query):
        told[transition.message_id].append(transition)
    return [Story(row=message, transitions=told[message.id]) for message in messages]


def _summarise(session: Session, *conditions: ColumnElement[bool]) -> Summary:
    query = select(Message.status, Message.conflict, func.count()).where(*conditions)
    counted = session.execute(query.group_by(Message.status, Message.conflict)).all()
    statuses: Counter[str] = Counter()
    for status, _, count in counted:
        statuses[status] += count
    return Summary(
        messages=statuses.total(),
        statuses={status.value: statuses[status] for status in Status if statuses[status]},
        conflicts=sum(count for _, conflict, count in counted if conflict),
    )


def _parties(session: Session, conversation_id: UUID) -> list[Party]:
    def count(number: InstrumentedAttribute[str], of: InstrumentedAttribute[UUID]) -> dict[str, int]:
        query = select(number, func.count()).where(of == conversation_id).group_by(number)
        return {row[0]: row[1] for row in session.execute(query.order_by(number).limit(MOST_ROWS))}

    messages = count(Message.recipient, Message.conversation_id)
    replies = count(Reply.sender, Reply.conversation_id)
    numbers = sorted(messages.keys() | replies.keys())[:MOST_ROWS]
    return [Party(number=n, messages=messages.get(n, 0), replies=replies.get(n, 0)) for n in numbers]
