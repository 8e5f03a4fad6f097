"""Look-ups for the API: one message, one transaction, one conversation, and the list of conversations."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Subquery, case, exists, func, select, union_all
from sqlalchemy.orm import Session

from receiptsvc.domain import references
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
from receiptsvc.store.queries import histories
from receiptsvc.store.queries.histories import History

LARGE = 300  # messages or replies; a conversation with more is only counted in part
LARGE_TRANSITIONS = 10 * LARGE  # of a conversation; more are not merged by time

_MAX_PER_STATUS = 50  # messages of one status that are counted in a large conversation
_COUNTED_COLUMNS = select(
    Message.status, Message.conflict, Message.recipient, Message.client_ref, Message.transition_count
)
_MAX_LISTED = 10  # messages that are counted for a conversation in a list


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageDetail:
    """A message and what was recorded of it."""

    row: Message
    history: History

    @property
    def transitions(self) -> Sequence[Transition]:
        """Those that are shown."""
        return self.history.transitions

    @property
    def rest_after(self) -> int | None:
        """After which of them some are left out."""
        return self.history.rest_after


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageEvidence:
    """A message and everything that explains its status, each kind in its own order."""

    row: Message
    history: History
    attempts: Sequence[Attempt]
    transactions: Sequence[MessageTransaction]


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """Counts of messages by status. `statuses` holds those that occur; only a conversation has `replies`.

    `is_bounded`: `statuses` and `conflicts` are only of at most 50 messages of each status.
    """

    messages: int
    statuses: Mapping[str, int]
    conflicts: int
    replies: int = 0
    is_bounded: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Transaction:
    """The messages of a transactionID: all of them in the summary, the first 500 in detail."""

    transaction_id: str
    summary: Summary
    messages: Sequence[MessageDetail]


@dataclass(frozen=True, kw_only=True, slots=True)
class Party:
    """A number in a conversation: how many messages went to it, and how many replies came from it."""

    number: str
    messages: int
    replies: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversation:
    """A conversation as a whole. `client_ref` is None for a conversation of one recipient and one originator.

    `is_large`: more than 300 messages or replies, so that `parties` are only some of them; or very many transitions.
    """

    id: UUID
    client_ref: str | None
    parties: Sequence[Party]  # by number
    summary: Summary
    activity: ConversationActivity | None  # None: it was last active under a release that did not store it
    is_large: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ConversationOverview:
    """A conversation in a list, by one of its messages, or else by one of its replies.

    `party`: the number of a person in it. `statuses`: its messages by status; None: it has more than ten.
    """

    id: UUID
    client_ref: str | None
    party: str | None
    originator: str | None
    messages: int
    replies: int
    statuses: Mapping[str, int] | None
    first_at: datetime
    last_at: datetime
    last_from_recipient: bool


def find_message(session: Session, message_id: UUID) -> MessageDetail | None:
    """A message with its transitions."""
    message = session.get(Message, message_id)
    return None if message is None else _load_details(session, [message])[0]


def find_evidence(session: Session, message_id: UUID) -> MessageEvidence | None:
    """A message with its transitions, superseded or not, its attempts and its transactionIDs."""
    message = session.get(Message, message_id)
    if message is None:
        return None
    links = select(MessageTransaction).where(MessageTransaction.message_id == message_id)
    return MessageEvidence(
        row=message,
        history=histories.find(session, [message])[message_id],
        attempts=session.scalars(
            select(Attempt).where(Attempt.message_id == message_id).order_by(Attempt.number)
        ).all(),
        transactions=session.scalars(
            links.order_by(MessageTransaction.noted_at, MessageTransaction.transaction_id)
        ).all(),
    )


def find_by_guid(session: Session, guids: Collection[str]) -> dict[str, UUID]:
    """The ids of messages by these messageGuids, however they were stored."""
    spellings = {spelling: guid for guid in guids for spelling in references.guid_spellings(guid)}
    key = func.lower(Message.message_guid)
    rows = session.execute(select(key.label("key"), Message.id).where(key.in_(spellings)))
    return {spellings[row.key]: row.id for row in rows}


def find_transaction(session: Session, transaction_id: str) -> Transaction | None:
    """The messages that were ever given this transactionID; None if there are none."""
    links = select(MessageTransaction.message_id).where(MessageTransaction.transaction_id == transaction_id)
    ids = session.scalars(links.order_by(MessageTransaction.message_id)).all()
    if not ids:
        return None
    summary = _summarise(session, bulk.among(session, Message.id, ids))
    is_shown = bulk.among(session, Message.id, ids[:MAX_ROWS])
    messages = session.scalars(select(Message).where(is_shown).order_by(Message.id)).all()
    return Transaction(transaction_id=transaction_id, summary=summary, messages=_load_details(session, messages))


def find_conversation(session: Session, conversation_id: UUID) -> Conversation | None:
    """A conversation; None if no message or reply belongs to it."""
    messages = _read_counted(session, conversation_id)
    replies = session.execute(
        select(Reply.sender, Reply.client_ref)
        .where(Reply.conversation_id == conversation_id)
        .order_by(Reply.received_at, Reply.id)
        .limit(LARGE + 1)
    ).all()
    if not messages and not replies:
        return None
    is_bounded = max(len(messages), len(replies)) > LARGE
    is_large = is_bounded or sum(row.transition_count for row in messages) > LARGE_TRANSITIONS
    if len(messages) > LARGE:
        messages = _read_counted_by_status(session, conversation_id)
    statuses = Counter(row.status for row in messages)
    sent, received = Counter(row.recipient for row in messages), Counter(row.sender for row in replies[:LARGE])
    numbers = sorted(sent.keys() | received.keys())[:MAX_ROWS]
    activity = session.get(ConversationActivity, conversation_id)
    return Conversation(
        id=conversation_id,
        client_ref=(messages or replies)[0].client_ref,
        parties=[Party(number=number, messages=sent[number], replies=received[number]) for number in numbers],
        summary=Summary(
            messages=activity.messages if activity and is_bounded else len(messages),
            statuses={status.value: statuses[status] for status in Status if statuses[status]},
            conflicts=sum(row.conflict for row in messages),
            replies=activity.replies if activity and is_bounded else len(replies),
            is_bounded=is_bounded,
        ),
        activity=activity,
        is_large=is_large,
    )


def list_conversations(
    session: Session, *, limit: int, after: tuple[Any, ...] | None = None
) -> Page[ConversationOverview, tuple[Any, ...]]:
    """Conversations, the last active one first. The key is (last_at, id)."""
    plan = Scan(order=(ConversationActivity.last_at, ConversationActivity.id), branches=[[]])
    page = scan(session, plan, limit=limit, after=after)
    ids = [conversation_id for _, conversation_id in page.keys]
    if not ids:
        return Page(items=[], next=None)
    listed = _read_overviews(session, ids)
    query = select(
        listed,
        func.coalesce(Message.client_ref, listed.c.their_client_ref).label("client_ref"),
        func.coalesce(Message.recipient, listed.c.sender).label("party"),
        Message.originator,
    )
    rows = session.execute(query.outerjoin(Message, Message.id == listed.c.message_id)).all()
    overviews = {row.id: _describe(row) for row in rows}
    return Page(items=[overviews[conversation_id] for conversation_id in ids], next=page.next)


def _read_overviews(session: Session, ids: Sequence[UUID]) -> Subquery:
    """Conversations with their statuses, if they are few, and the id of a message, or else what a reply says."""
    # Each in the order of an index that has the conversation first, so that no plan uses another one.
    its_messages = (
        select(Message.status).where(Message.conversation_id == ConversationActivity.id).order_by(Message.status)
    )
    its_replies = (
        select(Reply.sender).where(Reply.conversation_id == ConversationActivity.id).order_by(Reply.received_at)
    )
    some = its_messages.limit(_MAX_LISTED).correlate(ConversationActivity).subquery()
    is_short, has_none = ConversationActivity.messages <= _MAX_LISTED, ConversationActivity.messages == 0
    query = select(
        ConversationActivity.__table__,
        case((is_short, select(func.aggregate_strings(some.c.status, ",")).scalar_subquery())).label("statuses"),
        its_messages.with_only_columns(Message.id).limit(1).scalar_subquery().label("message_id"),
        case((has_none, its_replies.limit(1).scalar_subquery())).label("sender"),
        case((has_none, its_replies.with_only_columns(Reply.client_ref).limit(1).scalar_subquery())).label(
            "their_client_ref"
        ),
    )
    # The limit keeps the planner from working each of these out again in the query around it.
    return query.where(bulk.among(session, ConversationActivity.id, ids)).limit(len(ids)).subquery()


def _describe(row: Any) -> ConversationOverview:
    return ConversationOverview(
        id=row.id,
        client_ref=row.client_ref,
        party=row.party,
        originator=row.originator,
        messages=row.messages,
        replies=row.replies,
        statuses=Counter(row.statuses.split(",") if row.statuses else ()) if row.messages <= _MAX_LISTED else None,
        first_at=row.first_at,
        last_at=row.last_at,
        last_from_recipient=row.last_from_recipient,
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


def _load_details(session: Session, messages: Sequence[Message]) -> list[MessageDetail]:
    found = histories.find(session, messages)
    return [MessageDetail(row=message, history=found[message.id]) for message in messages]


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


def _read_counted(session: Session, conversation_id: UUID) -> Sequence[Any]:
    """The counted columns of a conversation's messages; at most one row more than makes it large."""
    equals = [(Message.conversation_id, conversation_id)]
    query = with_equals(_COUNTED_COLUMNS, equals, Message.status, Message.created_at, Message.id)
    return session.execute(query.limit(LARGE + 1)).all()


def _read_counted_by_status(session: Session, conversation_id: UUID) -> Sequence[Any]:
    """The counted columns of the first 50 messages of each status."""
    parts = []
    for status in Status:
        equals = [(Message.conversation_id, conversation_id), (Message.status, status.value)]
        query = with_equals(_COUNTED_COLUMNS, equals, Message.created_at, Message.id)
        parts.append(query.limit(_MAX_PER_STATUS).subquery())
    return session.execute(union_all(*(select(part) for part in parts))).all()
