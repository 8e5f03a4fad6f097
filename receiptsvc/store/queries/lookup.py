"""The reader for API and pages, lists of messages and timelines apart. Nothing is written here."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, exists, func, select, union_all
from sqlalchemy.orm import Session

from receiptsvc.domain.statuses import Status
from receiptsvc.store.core import bulk
from receiptsvc.store.core.keyset import Scan, scan, with_equals
from receiptsvc.store.core.models import (
    Attempt,
    ConversationActivity,
    Message,
    MessageTransaction,
    Reply,
    Transition,
)
from receiptsvc.store.core.paging import MAX_ROWS, Page

LARGE = 300  # messages or replies; a conversation that has more is not counted to its end

_OF_EACH = 50  # messages of one status that are counted of a large conversation
_COUNTED = select(Message.status, Message.conflict, Message.recipient, Message.client_ref)
_FEW = 10  # messages that are counted of a conversation in a list

Row = TypeVar("Row", Message, Reply)


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageDetail:
    """A message and what was recorded of it, in that order."""

    row: Message
    transitions: Sequence[Transition]


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageEvidence:
    """A message and everything from which its status can be explained, each kind in its own order."""

    row: Message
    transitions: Sequence[Transition]
    attempts: Sequence[Attempt]
    transactions: Sequence[MessageTransaction]


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """Messages by status. `statuses` has the words that occur; only a conversation has `replies`.

    `is_bounded`: there are more than were counted. Then at most 50 of each status were, and 300 replies.
    """

    messages: int
    statuses: Mapping[str, int]
    conflicts: int
    replies: int = 0
    is_bounded: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Transaction:
    """What a transactionID covers: all of it in the summary, the first 500 messages as stories."""

    transaction_id: str
    summary: Summary
    messages: Sequence[MessageDetail]


@dataclass(frozen=True, kw_only=True, slots=True)
class Party:
    """A person in a conversation: how many messages went to them, and how many replies came."""

    number: str
    messages: int
    replies: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversation:
    """A conversation as a whole. `client_ref` is None where recipient and originator hold it together.

    `is_large`: more than 300 messages or replies; then `parties` are some of the people in it.
    """

    id: UUID
    client_ref: str | None
    parties: Sequence[Party]  # by number
    summary: Summary
    spoken: ConversationActivity | None  # when it was active; None: not since that is noted
    is_large: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ConversationOverview:
    """A conversation in a list. `sample`: one of its messages, or else of its replies.

    `statuses`: its messages by status; None: they are more than ten.
    """

    row: ConversationActivity
    sample: Message | Reply | None
    statuses: Mapping[str, int] | None


def find_message(session: Session, message_id: UUID) -> MessageDetail | None:
    """A message with its transitions."""
    message = session.get(Message, message_id)
    return None if message is None else _stories(session, [message])[0]


def find_evidence(session: Session, message_id: UUID) -> MessageEvidence | None:
    """A message with all that was recorded of it, superseded or not, and how it was offered."""
    message = session.get(Message, message_id)
    if message is None:
        return None
    given = select(MessageTransaction).where(MessageTransaction.message_id == message_id)
    return MessageEvidence(
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


def find_guids(session: Session, guids: Collection[str]) -> dict[str, UUID]:
    """Which messages have these messageGuids already."""
    rows = session.execute(select(Message.message_guid, Message.id).where(Message.message_guid.in_(guids)))
    return {row.message_guid: row.id for row in rows}


def find_transaction(session: Session, transaction_id: str) -> Transaction | None:
    """The messages that were ever given this transactionID."""
    given = select(MessageTransaction.message_id).where(MessageTransaction.transaction_id == transaction_id)
    ids = session.scalars(given.order_by(MessageTransaction.message_id)).all()
    if not ids:
        return None
    summary = _summarise(session, bulk.among(session, Message.id, ids))
    some = bulk.among(session, Message.id, ids[:MAX_ROWS])
    first = session.scalars(select(Message).where(some).order_by(Message.id)).all()
    return Transaction(transaction_id=transaction_id, summary=summary, messages=_stories(session, first))


def find_conversation(session: Session, conversation_id: UUID) -> Conversation | None:
    """A conversation that at least one message or reply belongs to."""
    messages = _said(session, conversation_id)
    replies = session.execute(
        select(Reply.sender, Reply.client_ref)
        .where(Reply.conversation_id == conversation_id)
        .order_by(Reply.received_at, Reply.id)
        .limit(LARGE + 1)
    ).all()
    if not messages and not replies:
        return None
    is_large = max(len(messages), len(replies)) > LARGE
    if len(messages) > LARGE:
        messages = _said_by_status(session, conversation_id)
    statuses = Counter(row.status for row in messages)
    written, answered = Counter(row.recipient for row in messages), Counter(row.sender for row in replies[:LARGE])
    numbers = sorted(written.keys() | answered.keys())[:MAX_ROWS]
    return Conversation(
        id=conversation_id,
        client_ref=(messages or replies)[0].client_ref,
        parties=[Party(number=one, messages=written[one], replies=answered[one]) for one in numbers],
        summary=Summary(
            messages=len(messages),
            statuses={status.value: statuses[status] for status in Status if statuses[status]},
            conflicts=sum(row.conflict for row in messages),
            replies=sum(answered.values()),
            is_bounded=is_large,
        ),
        spoken=session.get(ConversationActivity, conversation_id),
        is_large=is_large,
    )


def list_conversations(
    session: Session, *, limit: int, after: tuple[Any, ...] | None = None
) -> Page[ConversationOverview, tuple[Any, ...]]:
    """Conversations, the one that was active last first. The key is of that time and the id."""
    way = Scan(order=(ConversationActivity.last_at, ConversationActivity.id), branches=[[]])
    walked = scan(session, way, limit=limit, after=after)
    ids = [identifier for _, identifier in walked.keys]
    if not ids:
        return Page(items=[], next=None)
    # Each in the order of an index that has the conversation first, so that no plan looks elsewhere.
    in_it = select(Message.status).where(Message.conversation_id == ConversationActivity.id).order_by(Message.status)
    some = in_it.limit(_FEW + 1).correlate(ConversationActivity).subquery()
    replies_in_it = (
        select(Reply.id).where(Reply.conversation_id == ConversationActivity.id).order_by(Reply.received_at, Reply.id)
    )
    query = select(
        ConversationActivity,
        select(func.aggregate_strings(some.c.status, ",")).scalar_subquery().label("statuses"),
        in_it.with_only_columns(Message.id).limit(1).scalar_subquery().label("message_id"),
        replies_in_it.limit(1).scalar_subquery().label("reply_id"),
    ).where(bulk.among(session, ConversationActivity.id, ids))
    found = {row.ConversationActivity.id: row for row in session.execute(query)}
    messages = _by_id(session, Message, [row.message_id for row in found.values() if row.message_id])
    silent = [row.reply_id for row in found.values() if row.reply_id and not row.message_id]
    replies = _by_id(session, Reply, silent)
    glimpses = []
    for row in (found[identifier] for identifier in ids):
        words = row.statuses.split(",") if row.statuses else []
        glimpses.append(
            ConversationOverview(
                row=row.ConversationActivity,
                sample=messages.get(row.message_id) or replies.get(row.reply_id),
                statuses=Counter(words) if len(words) <= _FEW else None,
            )
        )
    return Page(items=glimpses, next=walked.next)


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


def _stories(session: Session, messages: Sequence[Message]) -> list[MessageDetail]:
    told: dict[UUID, list[Transition]] = defaultdict(list)
    ids = [message.id for message in messages]
    query = select(Transition).where(Transition.message_id.in_(ids)).order_by(Transition.id)
    for transition in session.scalars(query):
        told[transition.message_id].append(transition)
    return [MessageDetail(row=message, transitions=told[message.id]) for message in messages]


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


def _said(session: Session, conversation_id: UUID) -> Sequence[Any]:
    """What is counted of a conversation's messages: of all, or of one more than makes it large."""
    pins = [(Message.conversation_id, conversation_id)]
    query = with_equals(_COUNTED, pins, Message.status, Message.created_at, Message.id)
    return session.execute(query.limit(LARGE + 1)).all()


def _said_by_status(session: Session, conversation_id: UUID) -> Sequence[Any]:
    """The same of the first 50 messages of each status."""
    parts = []
    for status in Status:
        pins = [(Message.conversation_id, conversation_id), (Message.status, status.value)]
        parts.append(with_equals(_COUNTED, pins, Message.created_at, Message.id).limit(_OF_EACH).subquery())
    return session.execute(union_all(*(select(part) for part in parts))).all()


def _by_id(session: Session, model: type[Row], identifiers: Sequence[UUID]) -> dict[UUID, Row]:
    if not identifiers:
        return {}
    return {row.id: row for row in session.scalars(select(model).where(bulk.among(session, model.id, identifiers)))}
