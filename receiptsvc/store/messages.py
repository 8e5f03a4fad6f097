"""Messages, and the one place that writes a message's status: a report is recorded, and the fold of all stands."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from receiptsvc.domain.statuses import UNSETTLED, Effect, Report, Source, Status, fold, judge
from receiptsvc.store.models import Message, MessageTransaction, Transition


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A report about a message, on its way into the record."""

    report: Report
    rule: str  # how it found the message, or which step of ours it is
    reason: str | None = None
    receipt_id: UUID | None = None
    map_version: str | None = None


def conversation_id(*, client_ref: str | None, recipient: str | None, originator: str | None) -> UUID:
    """The conversation of all that shares a clientRef, else recipient and originator."""
    parts = ("ref", client_ref) if client_ref else ("pair", recipient or "", originator or "")
    return UUID(bytes=blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest())


def accept(session: Session, messages: Sequence[Message], now: datetime) -> None:
    """Take new messages in: each gets its first transition, and is due at once."""
    for message in messages:
        message.status, message.status_at, message.conflict = Status.ACCEPTED, now, False
        message.created_at, message.due_at = now, now
        message.tries = 0
    session.add_all(messages)
    session.flush()
    step = Entry(report=own_step(Status.ACCEPTED, now), rule="accepted")
    _write(session, [(message.id, step, Effect.APPLIED) for message in messages], now)


def own_step(word: Status, at: datetime) -> Report:
    """A report of our own."""
    return Report(source=Source.OURSELVES, word=word, received_at=at)


def lock(session: Session, message_ids: Collection[UUID]) -> dict[UUID, Message]:
    """These messages as they stand now, locked till the caller's commit; in the order of ids, against deadlocks."""
    if not message_ids:
        return {}
    query = (
        select(Message)
        .where(Message.id.in_(message_ids))
        .order_by(Message.id)
        .with_for_update(key_share=True)  # else a reply that points to a message would wait for its lock
        .execution_options(populate_existing=True)
    )
    return {message.id: message for message in session.scalars(query)}


def record(
    session: Session, locked: Mapping[UUID, Message], entries: Sequence[tuple[UUID, Entry]], now: datetime
) -> list[Effect]:
    """Record reports about locked messages, in this order, and let each status be the fold of all that was said.

    Gives the effect of each entry. A message that is settled, and not in a call, is due no more.
    """
    told = _reports(session, {message_id for message_id, _ in entries})
    judged: list[tuple[UUID, Entry, Effect]] = []
    for message_id, entry in entries:
        earlier = told[message_id]
        judged.append((message_id, entry, judge(entry.report, earlier)))
        earlier.append(entry.report)
    for message_id, reports in told.items():
        message, state = locked[message_id], fold(reports)
        message.status, message.status_at, message.conflict = state.status, state.status_at, state.conflict
        if state.status not in UNSETTLED and message.calling_since is None:
            message.due_at = None
    _write(session, judged, now)
    return [effect for _, _, effect in judged]


def transactions(session: Session, transaction_ids: Collection[str]) -> Sequence[MessageTransaction]:
    """Which messages were ever given one of these transactionIDs."""
    if not transaction_ids:
        return []
    return session.scalars(
        select(MessageTransaction).where(MessageTransaction.transaction_id.in_(transaction_ids))
    ).all()


def note_transactions(session: Session, noted: Iterable[tuple[Message, str]], source: str, now: datetime) -> None:
    """Remember transactionIDs that locked messages were given. `source`: `answer` (a send's), or `receipt`.

    What a send's answer said is worth more than what a receipt let us guess, and replaces it.
    """
    for message, transaction_id in noted:
        known = session.get(MessageTransaction, (message.id, transaction_id))
        if known is None:
            session.add(
                MessageTransaction(
                    message_id=message.id,
                    transaction_id=transaction_id,
                    recipient=message.recipient,
                    source=source,
                    noted_at=now,
                )
            )
        elif source == "answer":
            known.source = source
        if source == "answer" or message.transaction_id is None:
            message.transaction_id = transaction_id


def report_of(transition: Transition) -> Report:
    """What a recorded transition said, for the fold."""
    return Report(
        source=Source(transition.source),
        word=Status(transition.status) if transition.status else None,
        received_at=transition.received_at,
        occurred_at=transition.occurred_at,
        provider_status_id=transition.provider_status_id,
        provider_description=transition.provider_description,
    )


def _reports(session: Session, message_ids: Collection[UUID]) -> dict[UUID, list[Report]]:
    told: dict[UUID, list[Report]] = defaultdict(list)
    if message_ids:
        query = select(Transition).where(Transition.message_id.in_(message_ids)).order_by(Transition.id)
        for transition in session.scalars(query):
            told[transition.message_id].append(report_of(transition))
    return told


def _write(session: Session, judged: Sequence[tuple[UUID, Entry, Effect]], now: datetime) -> None:
    rows = [
        {
            "message_id": message_id,
            "receipt_id": entry.receipt_id,
            "source": entry.report.source,
            "status": entry.report.word,
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
    if rows:
        session.execute(insert(Transition), rows)
