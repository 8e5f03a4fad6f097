"""Messages, and the one place that writes a message's status: a report is recorded, and the fold of all stands."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from receiptsvc.domain.messages import Origin
from receiptsvc.domain.statuses import UNSETTLED, Effect, Report, Source, Status, classify, fold
from receiptsvc.store.core import bulk, upsert
from receiptsvc.store.core.models import Message, MessageTransaction, Transition
from receiptsvc.store.messages import activity, change_feed, hourly_counts
from receiptsvc.store.messages.change_feed import Change


@dataclass(frozen=True, kw_only=True, slots=True)
class NewTransition:
    """A report about a message, on its way into the record."""

    report: Report
    rule: str  # how it found the message, or which step of ours it is
    reason: str | None = None
    receipt_id: UUID | None = None
    map_version: str | None = None


class TransactionLink(NamedTuple):
    """A message that was given a transactionID, and who said so: a send's `answer`, or a `receipt`."""

    transaction_id: str
    message_id: UUID
    recipient: str
    source: str


class Candidate(NamedTuple):
    """A message that a receipt may be about."""

    id: UUID
    client_ref: str


@dataclass(slots=True)
class LockedMessage:
    """What is to be known of a message that this transaction holds; what `record` writes of it may be changed."""

    id: UUID
    recipient: str
    client_ref: str | None
    originator: str | None
    origin: str
    created_at: datetime
    offered_at: datetime | None
    calling_since: datetime | None
    unclear_since: datetime | None
    status: str
    status_at: datetime
    conflict: bool
    transaction_id: str | None
    due_at: datetime | None
    before: tuple[Any, ...] = ()  # as it was saved last

    def __post_init__(self) -> None:
        self.before = self.saved()

    def saved(self) -> tuple[Any, ...]:
        """The values of `_SAVED`."""
        return self.id, self.status, self.status_at, self.conflict, self.transaction_id, self.due_at

    @property
    def saved_status(self) -> str:
        """The status that others see."""
        status: str = self.before[1]
        return status

    def standing(self) -> hourly_counts.CountedMessage:
        """What of it is counted."""
        return hourly_counts.CountedMessage(
            self.created_at, self.originator, self.offered_at, self.status, self.status_at
        )


MAX_CANDIDATES = 50  # that are looked at for one clientRef and recipient

_MAX_LOOKED_AT = 10_000  # messages of one clientRef

_LOCKED = tuple(field.name for field in fields(LockedMessage) if field.name != "before")
_SAVED = ("id", "status", "status_at", "conflict", "transaction_id", "due_at")
_REPORTED = ("source", "status", "received_at", "occurred_at", "provider_status_id", "provider_description")
_SOURCES: Mapping[str, Source] = {source.value: source for source in Source}
_WORDS: Mapping[str | None, Status | None] = {None: None, **{word.value: word for word in Status}}


def conversation_id(*, client_ref: str | None, recipient: str | None, originator: str | None) -> UUID:
    """The conversation of all that shares a clientRef, else recipient and originator."""
    parts = ("ref", client_ref) if client_ref else ("pair", recipient or "", originator or "")
    return UUID(bytes=blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest())


def accept(session: Session, messages: Sequence[Message], now: datetime, *, schedules_messages: bool = False) -> None:
    """Take new messages in: each gets its first transition, and is due. They stay outside the session.

    `schedules_messages`: one with a deliverAfter is due only then; else that is left to the gateway.
    """
    for message in messages:
        later = message.deliver_after if schedules_messages else None
        vars(message)["due_at"] = max(later, now) if later else now
    _take_in(session, messages, NewTransition(report=own_report(Status.ACCEPTED, now), rule="accepted"), now)


def accept_external(session: Session, messages: Sequence[Message], now: datetime) -> None:
    """Take in messages that another system gave to the gateway: they are there, and never due."""
    step = NewTransition(report=own_report(Status.SUBMITTED, now), rule="adopted", reason="another system sent it")
    for message in messages:
        message.origin, message.due_at = Origin.EXTERNAL, None
    _take_in(session, messages, step, now)


def _take_in(session: Session, messages: Sequence[Message], step: NewTransition, now: datetime) -> None:
    word = step.report.status
    first = {
        "status": word,
        "status_at": now,
        "conflict": False,
        "created_at": now,
        "changed_at": now,
        "tries": 0,
    }
    for message in messages:
        vars(message).update(first)  # there can be ten thousand, and nobody asks which of these have changed
    columns = set(Message.__table__.columns.keys())
    rows = [{name: value for name, value in vars(message).items() if name in columns} for message in messages]
    bulk.insert_all(session, Message, rows)
    _write(session, [(message.id, step, Effect.APPLIED) for message in messages], now)
    change_feed.record(session, [Change(message.id, None, str(word), now) for message in messages], now)
    hour = hourly_counts.hour_of(now)
    hourly_counts.add(
        session,
        Counter(
            hourly_counts.CountKey(hour, hourly_counts.MESSAGES, message.originator or "", str(word))
            for message in messages
        ),
    )
    activity.touch(session, (message.conversation_id for message in messages), now, is_reply=False)


def own_report(word: Status, at: datetime) -> Report:
    """A report of our own."""
    return Report(source=Source.OURSELVES, status=word, received_at=at)


def lock_messages(
    session: Session, message_ids: Collection[UUID], *, only_look: bool = False
) -> dict[UUID, LockedMessage]:
    """These messages as they stand now, locked till the caller's commit; in the order of ids, against deadlocks.

    `only_look`: without a lock, for who will write nothing of them.
    """
    if not message_ids:
        return {}
    query = (
        select(*(getattr(Message, name) for name in _LOCKED))
        .where(bulk.among(session, Message.id, message_ids))
        .order_by(Message.id)
    )
    if not only_look:
        query = query.with_for_update(key_share=True)  # else a reply that points to a message would wait for its lock
    return {row[0]: LockedMessage(*row) for row in session.execute(query)}


def record(
    session: Session,
    locked: Mapping[UUID, LockedMessage],
    entries: Sequence[tuple[UUID, NewTransition]],
    now: datetime,
    calls: Mapping[UUID, Mapping[str, object]] = MappingProxyType({}),
) -> list[Effect]:
    """Record reports about locked messages, in this order, and let each status be the fold of all that was said.

    Gives the effect of each entry; what is `locked` is then as it stands. A message that is settled, and not in a call,
    is due no more. Also writes what `note_transactions` noted, and `calls`: columns that a call has changed, which
    nobody is shown.
    """
    told = find_reports(session, {message_id for message_id, _ in entries})
    judged: list[tuple[UUID, NewTransition, Effect]] = []
    changes: list[Change] = []
    shown = {message_id: message.saved_status for message_id, message in locked.items()}
    counts: Counter[hourly_counts.CountKey] = Counter()
    for message_id, entry in entries:
        message, earlier = locked[message_id], told[message_id]
        effect, state = classify(entry.report, earlier, Status(message.status))
        judged.append((message_id, entry, effect))
        earlier.append(entry.report)
        message.status, message.status_at, message.conflict = state.status, state.status_at, state.conflict
        if state.status != shown[message_id]:
            changes.append(Change(message_id, shown[message_id], state.status, state.status_at))
            shown[message_id] = state.status
        if entry.receipt_id is not None:
            counts[hourly_counts.of_receipt(entry.report.received_at, effect)] += 1
    for message in locked.values():  # also those of which there was nothing to record
        if message.status not in UNSETTLED and message.calling_since is None:
            message.due_at = None
    _write(session, judged, now)
    change_feed.record(session, changes, now)
    _save(session, locked.values(), calls, counts, now)
    hourly_counts.add(session, counts)
    return [effect for _, _, effect in judged]


def fold_again(session: Session, locked: Mapping[UUID, LockedMessage]) -> None:
    """Let locked messages be what is left of their reports, after some were superseded. `record` writes it."""
    for message_id, told in find_reports(session, locked).items():
        state, message = fold(told), locked[message_id]
        message.status, message.status_at, message.conflict = state.status, state.status_at, state.conflict


def find_transaction_links(session: Session, transaction_ids: Collection[str]) -> Sequence[TransactionLink]:
    """Which messages were ever given one of these transactionIDs."""
    if not transaction_ids:
        return []
    columns = (
        MessageTransaction.transaction_id,
        MessageTransaction.message_id,
        MessageTransaction.recipient,
        MessageTransaction.source,
    )
    query = select(*columns).where(bulk.among(session, MessageTransaction.transaction_id, transaction_ids))
    return [TransactionLink._make(row) for row in session.execute(query)]


def find_candidates(session: Session, wanted: Collection[tuple[str, str]]) -> Sequence[Candidate]:
    """Messages of a clientRef to a recipient whose number ends so: (clientRef, last digits).

    Among the newest ten thousand of a clientRef, at most 50 a pair.
    """
    found: list[Candidate] = []
    for client_ref, tail in sorted(wanted):
        newest = (  # a campaign's clientRef may be that of a million
            select(Message.id, Message.client_ref, Message.recipient)
            .where(Message.client_ref == client_ref)
            .order_by(Message.created_at.desc(), Message.id.desc())
            .limit(_MAX_LOOKED_AT)
            .subquery()
        )
        query = (
            select(newest.c.id, newest.c.client_ref)
            .where(newest.c.recipient.endswith(tail, autoescape=True))
            .order_by(newest.c.id.desc())
            .limit(MAX_CANDIDATES)
        )
        found += [Candidate._make(row) for row in session.execute(query)]
    return found


def link_transactions(session: Session, noted: Sequence[tuple[LockedMessage, str]], source: str, now: datetime) -> None:
    """Remember transactionIDs that locked messages were given. `source`: `answer` (a send's), or `receipt`.

    What a send's answer said is worth more than what a receipt let us guess, and replaces it.
    """
    rows = {
        (message.id, transaction_id): {
            "message_id": message.id,
            "transaction_id": transaction_id,
            "recipient": message.recipient,
            "source": source,
            "noted_at": now,
        }
        for message, transaction_id in noted
    }
    for message, transaction_id in noted:
        if source == "answer" or message.transaction_id is None:
            message.transaction_id = transaction_id
    if rows:
        statement = upsert.into(session, MessageTransaction)
        keys = ["message_id", "transaction_id"]
        if source == "answer":
            statement = statement.on_conflict_do_update(index_elements=keys, set_={"source": source})
        else:
            statement = statement.on_conflict_do_nothing(index_elements=keys)
        bulk.execute_all(session, statement, MessageTransaction, list(rows.values()))


def find_reports(session: Session, message_ids: Collection[UUID]) -> dict[UUID, list[Report]]:
    """What was ever said of these messages and still counts, in the order recorded."""
    told: dict[UUID, list[Report]] = {message_id: [] for message_id in message_ids}
    if message_ids:
        query = (
            select(Transition.message_id, *(getattr(Transition, name) for name in _REPORTED))
            .where(bulk.among(session, Transition.message_id, message_ids), Transition.superseded_at.is_(None))
            .order_by(Transition.id)
        )
        for message_id, source, word, *rest in session.execute(query):
            told[message_id].append(Report(_SOURCES[source], _WORDS[word], *rest))
    return told


def report_of(transition: Transition) -> Report:
    """What a recorded transition said, for the fold."""
    return Report(
        source=Source(transition.source),
        status=Status(transition.status) if transition.status else None,
        received_at=transition.received_at,
        occurred_at=transition.occurred_at,
        provider_status_id=transition.provider_status_id,
        provider_description=transition.provider_description,
    )


def _write(session: Session, judged: Sequence[tuple[UUID, NewTransition, Effect]], now: datetime) -> None:
    rows = [
        {
            "message_id": message_id,
            "receipt_id": entry.receipt_id,
            "source": entry.report.source,
            "status": entry.report.status,
            "effect": effect,
            "rule": entry.rule,
            "reason": entry.reason,
            "provider_status_id": entry.report.provider_status_id,
            "provider_description": entry.report.provider_description,
            "occurred_at": entry.report.occurred_at,
            "received_at": entry.report.received_at,
            "recorded_at": now,
            "map_version": entry.map_version,
        }
        for message_id, entry, effect in judged
    ]
    bulk.insert_all(session, Transition, rows)


def _save(
    session: Session,
    locked: Iterable[LockedMessage],
    calls: Mapping[UUID, Mapping[str, object]],
    counts: Counter[hourly_counts.CountKey],
    now: datetime,
) -> None:
    """Write what has changed of locked messages, each once, and say how that moves the counts."""
    changed = [message for message in locked if message.saved() != message.before]
    rows = {
        message.id: dict(zip(_SAVED, message.saved(), strict=True), changed_at=now, **calls.get(message.id, {}))
        for message in changed
    }
    rows |= {message_id: {"id": message_id, **call} for message_id, call in calls.items() if message_id not in rows}
    bulk.update_all(session, Message, "id", rows.values())
    for message in changed:
        _, status, status_at, *_ = message.before
        counts.subtract(hourly_counts.of_message(message.standing()._replace(status=status, status_at=status_at)))
        counts.update(hourly_counts.of_message(message.standing()))
        message.before = message.saved()
