"""The tables. Only the migrations create them; docs/design.md draws how they relate."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    TextClause,
    TypeDecorator,
    UniqueConstraint,
    Uuid,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from receiptsvc.domain.inbox import Channel, ReceiptOutcome
from receiptsvc.domain.messages import Origin, SendOutcome
from receiptsvc.domain.numbers import INDEXED_DIGITS
from receiptsvc.domain.problems import State
from receiptsvc.domain.statuses import PROGRESS, Effect, Source, Status

_LOCAL_LENGTH = len("2026-01-05 12:00:00.000000")


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time, UTC in the database and out of it. One without a zone raises ValueError."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], object]:
        """To the database: in one step, since a batch of receipts does it some thousand times."""
        return _to_sqlite if dialect.name == "sqlite" else _to_utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """From the database, as aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


def _to_utc(value: datetime | None) -> datetime | None:
    if value is None or value.tzinfo is UTC:
        return value
    if value.tzinfo is None:
        raise ValueError("a time without a zone can't be stored")
    return value.astimezone(UTC)


def _to_sqlite(value: datetime | None) -> str | None:
    """As SQLAlchemy's own type for SQLite writes a time without a zone."""
    utc = _to_utc(value)
    return None if utc is None else utc.isoformat(" ", "microseconds")[:_LOCAL_LENGTH]


# Conditions of partial indexes, for the queries that use them too: databases compare them word by word.
RARE_EFFECTS = "effect <> 'applied' AND receipt_id IS NOT NULL AND superseded_at IS NULL"  # of transitions: of interest
RARE_CHANNELS = "channel <> 'message'"  # of the inbox

_OFTEN_VACUUMED = {  # whatever its size: its rows live for moments
    "autovacuum_vacuum_threshold": "5000",
    "autovacuum_vacuum_scale_factor": "0",
    "autovacuum_vacuum_cost_delay": "0",
    "autovacuum_analyze_threshold": "50000",
    "autovacuum_analyze_scale_factor": "0",
}

RECIPIENT_END = (
    f"substr(recipient, length(recipient) - {INDEXED_DIGITS - 1})"  # its last digits, in SQL of both databases
)

GUID_KEY = "lower(message_guid)"  # as `domain.references` compares them; no other letters than those of ASCII

ACCOUNT = "coalesce(impersonate_user_name, '')"  # by which a message goes out, as `domain.accounts` names it

WORDS = "is_opt_out OR is_opt_in"  # the replies that are nothing but such a word

Serial = BigInteger().with_variant(Integer, "sqlite")  # SQLite autoincrements only INTEGER columns


class Base(DeclarativeBase):
    """The base of the models. Every constraint and index gets a name, so that a migration can refer to it."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        datetime: UtcDateTime,
        str: Text,
        UUID: Uuid,
        dict[str, Any]: JSON,
        list[str]: JSON,
        bytes: LargeBinary,
    }


def _in(column: str, values: Iterable[StrEnum]) -> str:
    return f"{column} IN ({', '.join(repr(value.value) for value in values)})"


def _one_of(column: str, values: type[StrEnum], *, is_optional: bool = False) -> CheckConstraint:
    return CheckConstraint(f"{column} IS NULL OR " * is_optional + _in(column, values), name=column)


def _partial_index(name: str, *columns: str | TextClause, where: str, unique: bool = False) -> Index:
    """An index of the rows for which `where` holds, on both databases."""
    return Index(name, *columns, unique=unique, postgresql_where=text(where), sqlite_where=text(where))


OPEN = _in("status", PROGRESS)  # no final report yet


class Message(Base):
    """One text to one recipient, and its status. Only `store.messages.transitions` writes the status."""

    __tablename__ = "messages"
    __table_args__ = (
        _one_of("status", Status),
        _one_of("origin", Origin),
        Index("ix_messages_message_guid", text(GUID_KEY), unique=True),
        _partial_index("ix_messages_due", "due_at", "id", where="due_at IS NOT NULL"),
        _partial_index("ix_messages_due_recipient_id", "recipient", "id", where="due_at IS NOT NULL"),
        _partial_index("ix_messages_account_due_at_id", text(ACCOUNT), "due_at", "id", where="due_at IS NOT NULL"),
        _partial_index("ix_messages_suspicion", "suspicion", where="suspicion > 0"),
        _partial_index("ix_messages_unclear_since", "unclear_since", where="status = 'send_unknown'"),
        *(
            _partial_index(
                f"ix_messages_open_{name}", "status", name, "id", where=f"{OPEN} AND deliver_after IS {is_scheduled}"
            )
            for name, is_scheduled in (("created_at", "NULL"), ("deliver_after", "NOT NULL"))
        ),
        Index("ix_messages_status_created_at_id", "status", "created_at", "id"),
        _partial_index(
            "ix_messages_originator_status_created_at_id",
            "originator",
            "status",
            "created_at",
            "id",
            where="originator IS NOT NULL",
        ),
        Index("ix_messages_conversation_id_status_created_at_id", "conversation_id", "status", "created_at", "id"),
        _partial_index(
            "ix_messages_client_ref_created_at_id", "client_ref", "created_at", "id", where="client_ref IS NOT NULL"
        ),
        Index("ix_messages_recipient_created_at_id", "recipient", "created_at", "id"),
        Index("ix_messages_recipient_end_created_at_id", text(RECIPIENT_END), "created_at", "id"),
        Index("ix_messages_changed_at_id", "changed_at", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    conversation_id: Mapped[UUID]
    created_at: Mapped[datetime]
    created_by: Mapped[str]  # the name of the API key
    origin: Mapped[str] = mapped_column(server_default=Origin.OWN)

    status: Mapped[str]
    status_at: Mapped[datetime]
    conflict: Mapped[bool]
    changed_at: Mapped[datetime]  # when one of these, or the transactionID, last changed

    recipient: Mapped[str]
    text: Mapped[str]
    originator: Mapped[str | None]
    client_ref: Mapped[str | None]  # ordered by code points, on PostgreSQL by the collation "C"
    country_iso_code: Mapped[str | None]
    deliver_after: Mapped[datetime | None]
    valid_until: Mapped[datetime | None]
    reject_unicode: Mapped[bool]
    include_message_text: Mapped[bool]
    filter_set_name: Mapped[str | None]
    impersonate_user_name: Mapped[str | None]
    additional_options: Mapped[dict[str, Any]]
    message_guid: Mapped[str]  # on PostgreSQL by the collation "C", so that `lower` is the same in every locale
    transport: Mapped[str]

    encoding: Mapped[str]
    segments: Mapped[int]
    warnings: Mapped[list[str]]

    transaction_id: Mapped[str | None]  # the one given last; all of them are in message_transactions
    due_at: Mapped[datetime | None]  # when the worker should act: to send it, or when the lease of a running call ends
    calling_since: Mapped[datetime | None]  # set and committed before the first byte of a call is sent
    tries: Mapped[int]  # calls started
    offered_at: Mapped[datetime | None]  # when the first of them started
    unclear_since: Mapped[datetime | None]  # when the first call started that may have given it to the gateway
    suspicion: Mapped[int | None] = mapped_column(BigInteger)  # see `SendingAccount`; 0: it was dispelled
    standing: Mapped[bytes]  # what its reports add up to: see `domain.standing`
    transition_count: Mapped[int]  # of all that were ever recorded, superseded ones too
    call_limit: Mapped[int | None]  # how many messages its next call may have, after whole calls ended unclear


class Attempt(Base):
    """One call that offered a message to the gateway. Without an outcome it is running, or its process died."""

    __tablename__ = "attempts"
    __table_args__ = (_one_of("outcome", SendOutcome, is_optional=True),)

    message_id: Mapped[UUID] = mapped_column(ForeignKey("messages.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # 1 for the first
    transport: Mapped[str]
    message_guid: Mapped[str]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    transaction_id: Mapped[str | None]
    return_code: Mapped[str | None]
    return_description: Mapped[str | None]
    return_detail: Mapped[str | None]


class MessageTransaction(Base):
    """A transactionID of a message. `source`: whether a send's answer gave it, or a receipt."""

    __tablename__ = "message_transactions"
    __table_args__ = (
        CheckConstraint("source IN ('answer', 'receipt')", name="source"),
        Index("ix_message_transactions_transaction_id_recipient", "transaction_id", "recipient"),
    )

    message_id: Mapped[UUID] = mapped_column(ForeignKey("messages.id"), primary_key=True)
    transaction_id: Mapped[str] = mapped_column(primary_key=True)
    recipient: Mapped[str]
    source: Mapped[str]
    noted_at: Mapped[datetime]


class InboxRow(Base):
    """One kept receipt or reply: a row of the ledger. It is written once, and holds the bytes as they came.

    Our secrets are cut out of them. Where it stands is told by the one of three that exists: its row in `pending`, its
    row in `outcomes`, or its current transition.

    No foreign key refers to it: it would forbid to drop a time slice. `store.health.verification` checks the same.
    """

    __tablename__ = "inbox"
    __table_args__ = (
        _one_of("channel", Channel),
        _partial_index("ix_inbox_channel_id", "channel", "id", where=RARE_CHANNELS),
        {"postgresql_partition_by": "RANGE (id)"},  # by its time: see `store.inbox.time_slices`
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)  # made when the callback arrived
    channel: Mapped[str]  # the address that it came to
    message_id: Mapped[UUID | None]  # from the token; no foreign key, as content never refuses a callback
    claimed_kid: Mapped[str | None]  # of a wrong key, empty if it claims none; none: its key was right
    received_at: Mapped[datetime]
    method: Mapped[str]
    query: Mapped[bytes]
    content_type: Mapped[str | None]
    content_encoding: Mapped[str | None]
    body: Mapped[bytes]
    callback_id: Mapped[UUID | None]  # of the further receipts of one callback: the row that holds its bytes
    part: Mapped[int] = mapped_column(server_default="0")  # which of the callback's receipts it is

    @property
    def is_unauthenticated(self) -> bool:
        """Whether its key was wrong."""
        return self.claimed_kid is not None


class PendingRow(Base):
    """A receipt that waits to be worked on. Its row is made with the receipt's, and is gone once that has an outcome.

    The usual order is that of the ids, which is that of arrival. Only what waits for a time has one.
    """

    __tablename__ = "pending"
    __table_args__ = (
        _partial_index("ix_pending_next_at_receipt_id", "next_at", "receipt_id", where="next_at IS NOT NULL"),
        _partial_index("ix_pending_large", "receipt_id", where="is_large"),
        {"postgresql_with": _OFTEN_VACUUMED},
    )

    receipt_id: Mapped[UUID] = mapped_column(primary_key=True)
    group_id: Mapped[UUID | None]  # receipts that share one turn: of one signed URL, or of one callback
    is_large: Mapped[bool] = mapped_column(server_default=false())  # few of them fit into memory, or into a second
    next_at: Mapped[datetime | None]  # before which it is left alone
    tries: Mapped[int] = mapped_column(server_default="0")
    reason: Mapped[str | None]  # of the last try that failed, or of the outcome that it had before
    processed_at: Mapped[datetime | None]  # when it got that outcome
    assigned_to: Mapped[UUID | None]  # the message that an operator says it is about


class OutcomeRow(Base):
    """The outcome of a receipt that no transition tells: it has none, it was dismissed, or it is a reply."""

    __tablename__ = "outcomes"
    __table_args__ = (
        _one_of("outcome", ReceiptOutcome),
        Index("ix_outcomes_outcome_receipt_id", "outcome", "receipt_id"),
    )

    receipt_id: Mapped[UUID] = mapped_column(primary_key=True)
    outcome: Mapped[str]
    reason: Mapped[str | None]  # why it is quarantined, unmatched or dead, or what could not be read
    processed_at: Mapped[datetime]
    assigned_to: Mapped[UUID | None]  # as in `PendingRow`


class Parked(Base):
    """A receipt that matches no message yet: its references, and when to look again. Deleted once it is matched."""

    __tablename__ = "parked"
    __table_args__ = (
        Index("ix_parked_transaction_id", "transaction_id"),
        Index("ix_parked_client_ref", "client_ref"),
        Index("ix_parked_look_at", "look_at"),
    )

    receipt_id: Mapped[UUID] = mapped_column(primary_key=True)
    transaction_id: Mapped[str | None]
    client_ref: Mapped[str | None]
    candidates: Mapped[list[str]]  # public ids of the messages between which nothing decides
    looks: Mapped[int]  # how often no message was found
    look_at: Mapped[datetime | None]  # none: it is pending again


class ReceiptReferences(Base):
    """What a receipt names that was not simply recorded: unmatched, quarantined, dead or unmapped, or was and waits.

    It stays when such a receipt is dismissed, and is deleted once it is recorded with a word. Of a reply: its sender.
    """

    __tablename__ = "receipt_references"
    __table_args__ = tuple(
        Index(f"ix_receipt_references_{name}_receipt_id", name, "receipt_id")
        for name in (
            *("recipient", "recipient_end", "transaction_id", "client_ref"),
            *("provider_status_id", "description_key", "kid"),
        )
    )

    receipt_id: Mapped[UUID] = mapped_column(primary_key=True)
    recipient: Mapped[str | None]  # as `domain.numbers` folds it
    recipient_end: Mapped[str | None]  # its last INDEXED_DIGITS
    transaction_id: Mapped[str | None]
    client_ref: Mapped[str | None]
    provider_status_id: Mapped[str | None]
    provider_description: Mapped[str | None]
    description_key: Mapped[str | None]  # by which it is compared
    kid: Mapped[str | None]  # that a wrong key claims


class Audit(Base):
    """An action by hand, or a move of a receipt that had an outcome: who, when, what, why."""

    __tablename__ = "audits"
    __table_args__ = (Index("ix_audits_subject_at_id", "subject", "at", "id"), Index("ix_audits_at_id", "at", "id"))

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str]  # the name of an API key, or which of our processes
    action: Mapped[str]
    subject: Mapped[str]  # the public id of the object that was changed
    reason: Mapped[str | None]
    details: Mapped[dict[str, Any]]


class HourlyCount(Base):
    """A count of an hour, updated in the commits that change what it counts. See `store.messages.hourly_counts`."""

    __tablename__ = "hourly_counts"
    __table_args__ = (
        _partial_index("ix_hourly_counts_changes", "hour", where="kind = 'changes'"),
        _partial_index("ix_hourly_counts_since", "hour", where="kind = 'since'"),
    )

    hour: Mapped[datetime] = mapped_column(primary_key=True)  # its beginning
    kind: Mapped[str] = mapped_column(primary_key=True)
    originator: Mapped[str] = mapped_column(primary_key=True)  # empty: the account's own
    label: Mapped[str] = mapped_column(primary_key=True)
    slot: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[int] = mapped_column(BigInteger)


class Transition(Base):
    """One report about a message: of a receipt (`receipt_id`), or of a step of our own."""

    __tablename__ = "transitions"
    __table_args__ = (
        _one_of("status", Status, is_optional=True),
        _one_of("effect", Effect),
        _one_of("source", Source),
        _partial_index("uq_transitions_receipt_id", "receipt_id", unique=True, where="superseded_at IS NULL"),
        _partial_index("ix_transitions_superseded_receipt_id", "receipt_id", where="superseded_at IS NOT NULL"),
        _partial_index("ix_transitions_effect_receipt_id", "effect", "receipt_id", where=RARE_EFFECTS),
        Index("ix_transitions_message_id_id", "message_id", "id"),
        _partial_index(
            "ix_transitions_message_id_content_digest",
            "message_id",
            "content_digest",
            where="content_digest IS NOT NULL",
        ),
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    message_id: Mapped[UUID] = mapped_column(ForeignKey("messages.id"))
    receipt_id: Mapped[UUID | None]
    source: Mapped[str]
    status: Mapped[str | None]  # none: the status map does not know the code
    effect: Mapped[str]
    rule: Mapped[str]  # the rule that found the message, or the name of our step
    reason: Mapped[str | None]  # what the gateway said, or why we took the step
    provider_status_id: Mapped[str | None]
    provider_description: Mapped[str | None]
    occurred_at: Mapped[datetime | None]
    received_at: Mapped[datetime]
    recorded_at: Mapped[datetime]
    map_version: Mapped[str | None]  # the version of the status map that read it
    superseded_at: Mapped[datetime | None]  # when a new transition of the same receipt replaced it
    content_digest: Mapped[bytes | None]  # if the message's standing has no room for it


class Reply(Base):
    """An inbound message, linked to a conversation."""

    __tablename__ = "replies"
    __table_args__ = (
        Index("ix_replies_is_opt_out_received_at_id", "is_opt_out", "received_at", "id"),
        Index("ix_replies_conversation_id_received_at_id", "conversation_id", "received_at", "id"),
        Index("ix_replies_sender_received_at_id", "sender", "received_at", "id"),
        _partial_index("ix_replies_words", "sender", where=WORDS),
        Index("ix_replies_recipient_received_at_id", "recipient", "received_at", "id"),
        Index("ix_replies_msgid", "msgid"),
        UniqueConstraint("receipt_id"),
        UniqueConstraint("fingerprint"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    receipt_id: Mapped[UUID]
    conversation_id: Mapped[UUID]
    message_id: Mapped[UUID | None] = mapped_column(ForeignKey("messages.id"))  # the message that it seems to answer
    link: Mapped[str]  # why it belongs to this conversation
    msgid: Mapped[str | None]
    sender: Mapped[str]
    recipient: Mapped[str | None]
    content: Mapped[str]
    client_ref: Mapped[str | None]
    occurred_at: Mapped[datetime | None]
    received_at: Mapped[datetime]
    recorded_at: Mapped[datetime]
    fingerprint: Mapped[UUID]  # of msgid, sender and content: equal for a reply that was forwarded twice
    is_conflicting: Mapped[bool]  # its msgid came before with another content
    is_opt_out: Mapped[bool] = mapped_column(server_default=false())  # its content is a word such as STOP
    is_opt_in: Mapped[bool] = mapped_column(server_default=false())  # its content is a word such as START


class EventRow(Base):
    """The packed changes of one commit, or some of them. Only `store.messages.change_feed` reads and writes it."""

    __tablename__ = "events"
    __table_args__ = (
        UniqueConstraint("number"),
        _partial_index("ix_events_unnumbered", "id", where="number IS NULL"),
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    number: Mapped[int | None] = mapped_column(BigInteger)  # its position in the order of commits, once that is known
    recorded_at: Mapped[datetime]
    changes: Mapped[bytes]


class ConversationActivity(Base):
    """When a conversation was active, by its messages and replies, and how many; receipts are no activity."""

    __tablename__ = "conversation_activity"
    __table_args__ = (Index("ix_conversation_activity_last_at_id", "last_at", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]
    last_from_recipient: Mapped[bool]  # whether a reply came last
    messages: Mapped[int] = mapped_column(server_default=text("0"))
    replies: Mapped[int] = mapped_column(server_default=text("0"))


class SendGate(Base):
    """What pauses or slows all sending, for every worker: one row, inserted by the migration."""

    __tablename__ = "send_gate"
    __table_args__ = (CheckConstraint("id = 1", name="id"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    paused_at: Mapped[datetime | None]  # by hand
    paused_by: Mapped[str | None]
    pause_reason: Mapped[str | None]
    refused_at: Mapped[datetime | None]  # when the gateway refused our credentials; none: they work
    probe_at: Mapped[datetime | None]  # when one message may be sent to test whether they work again
    probe_gap_seconds: Mapped[int] = mapped_column(server_default="0")
    next_free_at: Mapped[datetime | None]  # until when the allowed rate is used up
    suspicions: Mapped[int] = mapped_column(BigInteger, server_default="0")  # how many numbers were given to them


class SendingAccount(Base):
    """An account that is refused, or may be. It has a row for as long as that, or as messages wait because of it.

    A suspicion has a number. A call tells the truth about those that it could know of when it was claimed: what has a
    higher number was found out while it ran. The messages that wait under one have its number too.
    """

    __tablename__ = "sending_accounts"

    name: Mapped[str] = mapped_column(primary_key=True)  # as `domain.accounts` names it
    since_number: Mapped[int] = mapped_column(BigInteger)  # a call that did not know of this can't say that it works
    works_number: Mapped[int] = mapped_column(BigInteger, server_default="0")  # up to which a call has said so
    suspected_at: Mapped[datetime | None]
    try_at: Mapped[datetime | None]  # when one of the messages that wait may be tried by itself
    try_gap_seconds: Mapped[int] = mapped_column(server_default="0")
    refused_at: Mapped[datetime | None]
    refuses_calls: Mapped[bool] = mapped_column(server_default=false())  # not items only: then no such call was taken
    probe_at: Mapped[datetime | None]  # when one message may be offered, to see whether it is taken again
    probe_gap_seconds: Mapped[int] = mapped_column(server_default="0")


class IdempotencyKey(Base):
    """A request that is done at most once, and the messages that it made."""

    __tablename__ = "idempotency_keys"

    api_key: Mapped[str] = mapped_column(primary_key=True)  # the name of the API key
    key: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[bytes]  # of the parsed body
    begun_at: Mapped[datetime]
    message_ids: Mapped[
        list[str] | None
    ]  # public ids in the order of the answer; none: it is running, or its process died


class Suppression(Base):
    """A recipient that an originator may no longer send to."""

    __tablename__ = "suppressions"
    __table_args__ = (Index("ix_suppressions_originator_recipient", "originator", "recipient"),)

    recipient: Mapped[str] = mapped_column(primary_key=True)  # international, digits
    originator: Mapped[str] = mapped_column(primary_key=True)  # casefolded, no plus; empty: the account's own number
    created_at: Mapped[datetime]
    created_by: Mapped[str]  # the name of an API key, or which of our processes
    reason: Mapped[str | None]
    reply_id: Mapped[UUID | None]  # the opt-out that made it; none: a person did
    scheduled_ids: Mapped[list[str] | None]  # public ids of messages that the gateway had to send later by then


class RejectedCallbackRow(Base):
    """A sampled callback that was refused, truncated, so that operators see what comes with which key."""

    __tablename__ = "rejected_callbacks"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    received_at: Mapped[datetime]
    method: Mapped[str]
    address: Mapped[str]  # without its token
    kid: Mapped[str | None]  # of the key that it claims
    query: Mapped[bytes]  # its first bytes


class Counter(Base):
    """A counter of the ledger, apart from the rows. Each process adds to its own slot; readers sum the slots."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(primary_key=True)
    slot: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[int] = mapped_column(BigInteger)


class Heartbeat(Base):
    """When a process last reported that it is running, and what its calls show to be wrong with the gateway.

    `process`: `worker:`, or `web:` and its role, its host and its process id.
    """

    __tablename__ = "heartbeats"

    process: Mapped[str] = mapped_column(primary_key=True)
    seen_at: Mapped[datetime]
    clock_ahead_seconds: Mapped[float] = mapped_column(server_default="0")  # its own clock before the database's
    gateway_fault: Mapped[str | None]
    gateway_fault_at: Mapped[datetime | None]
    version: Mapped[str | None]  # of its release; earlier ones did not tell it


class Minute(Base):
    """What the kept counts added up to in a minute. See `store.health.minutes`."""

    __tablename__ = "minutes"

    minute: Mapped[datetime] = mapped_column(primary_key=True)  # its beginning
    read_at: Mapped[datetime]
    totals: Mapped[dict[str, Any]]
    reports: Mapped[dict[str, Any]]


class LastVerification(Base):
    """One row, once `verify` has run to its end: how it ended the last time."""

    __tablename__ = "last_verification"
    __table_args__ = (CheckConstraint("id = 1", name="id"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    began_at: Mapped[datetime]
    ended_at: Mapped[datetime]
    faults: Mapped[int]
    receipts: Mapped[int] = mapped_column(BigInteger)  # that were checked


class User(Base):
    """A person who may sign in at the ops page with a password."""

    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("name"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    password_hash: Mapped[str]
    made_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]


class OpsSession(Base):
    """A sign-in at the ops page. Its secret is known to the browser alone."""

    __tablename__ = "ops_sessions"
    __table_args__ = (
        UniqueConstraint("secret_digest"),
        Index("ix_ops_sessions_who_id", "who", "id"),
        Index("ix_ops_sessions_ends_at", "ends_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    secret_digest: Mapped[bytes]
    who: Mapped[str]  # `user` or `key`, and the name
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    key_digest: Mapped[bytes | None]  # of the API key, made with the session's secret: worth nothing without that
    made_at: Mapped[datetime]
    seen_at: Mapped[datetime]  # to the minute
    ends_at: Mapped[datetime]  # whatever is done with it
    ended_at: Mapped[datetime | None]  # by hand, before


class SignInGuesses(Base):
    """How many sign-ins were tried in a minute: with one name, or in all."""

    __tablename__ = "sign_in_guesses"

    who_digest: Mapped[bytes] = mapped_column(primary_key=True)  # what was typed may be a password
    minute: Mapped[datetime] = mapped_column(primary_key=True)
    guesses: Mapped[int]


class OpsSearch(Base):
    """What was searched for on the ops page. Its terms hold personal data: an address names it by its id."""

    __tablename__ = "ops_searches"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    made_at: Mapped[datetime]
    terms: Mapped[dict[str, Any]]


class ProblemRow(Base):
    """What needs attention, by its cause. `store.health.problems` writes it; what is never seen again goes in the end.

    Its id is made of kind and cause. The times are those of its rows or events; of a condition, since when it holds,
    and when it was last seen.
    """

    __tablename__ = "problems"
    __table_args__ = (_one_of("state", State),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]  # one that is new needs no migration
    cause: Mapped[dict[str, Any]]
    state: Mapped[str]
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]
    detail: Mapped[str | None]
    count: Mapped[int | None]  # of its rows, or events; none: it has none
    is_all: Mapped[bool]  # whether these are all
    newest_id: Mapped[UUID | None]  # of its newest row: what is newer shows that it is there again
    missed_at: Mapped[datetime | None]  # since when no look that would have seen it has
    changed_at: Mapped[datetime]  # when it came into its state
    changed_by: Mapped[str | None]  # none: the service, for it was seen, or seen no more
    reason: Mapped[str | None]
    has_ended: Mapped[bool]  # it is seen no more: it ended by itself, or after it was resolved


class KeyUse(Base):
    """When a key of the API, or of callback URLs, was last used. See `store.access.key_uses`."""

    __tablename__ = "key_uses"

    kind: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)  # of a callback key: its kid
    used_at: Mapped[datetime]  # to the minute


class SchemaCompatibility(Base):
    """One row: a release whose newest migration is this one or a later one may use these tables."""

    __tablename__ = "schema_compatibility"
    __table_args__ = (CheckConstraint("id = 1", name="id"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    oldest_revision: Mapped[str]
