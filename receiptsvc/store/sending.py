"""What is due to go to the gateway: claims under a lease, and how each call ended.

A call has three commits: `claim` before its first byte, nothing while it runs, `record_results` after it. If the second
commit never comes, the lease ends and `settle_lost` says so. No row that was read before a call is written after it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, and_, not_, or_, select
from sqlalchemy.orm import Session

from receiptsvc.domain.messages import Outcome, SendResult
from receiptsvc.domain.statuses import UNSETTLED, Status
from receiptsvc.store import messages, parking
from receiptsvc.store.models import Attempt, Message

_LONGEST_GAP = timedelta(minutes=5)
_FIRST_GAP = timedelta(seconds=1)
_SLICE = 100  # of messages that are settled without a call


@dataclass(frozen=True, kw_only=True, slots=True)
class Repeats:
    """When a message may be offered again after an answer was lost."""

    after: timedelta
    duration: timedelta


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How one attempt ended. `number` tells which of the message's attempts."""

    number: int
    result: SendResult


def claim(session: Session, now: datetime, *, limit: int, lease: timedelta, repeats: Repeats) -> Sequence[Message]:
    """Up to `limit` due messages, no two to the same recipient, each with an attempt begun and its lease running.

    One that may have been taken is offered again only within its time: nobody knows how long the gateway remembers
    a guid.
    """
    due = session.scalars(
        select(Message)
        .where(
            Message.due_at <= now,
            Message.calling_since.is_(None),
            Message.status.in_(UNSETTLED),
            not_(_is_too_late(now, repeats)),
        )
        .order_by(Message.due_at, Message.id)
        .limit(limit)
        .with_for_update(skip_locked=True, key_share=True)
    ).all()
    chosen: dict[str, Message] = {}
    for message in due:
        chosen.setdefault(message.recipient, message)
    for message in chosen.values():
        message.tries += 1
        message.calling_since, message.due_at = now, now + lease
        message.offered_at = message.offered_at or now
        session.add(
            Attempt(
                message_id=message.id,
                number=message.tries,
                transport=message.transport,
                message_guid=message.message_guid,
                started_at=now,
            )
        )
    return list(chosen.values())


def retire_late(session: Session, now: datetime, repeats: Repeats) -> int:
    """Settle due messages whose time has gone by; how many there were.

    One that was never given to the gateway is expired; one that may have been stays `send_unknown`, for a receipt to
    settle.
    """
    late = session.scalars(
        select(Message)
        .where(Message.due_at <= now, Message.calling_since.is_(None), _is_too_late(now, repeats))
        .order_by(Message.id)
        .limit(_SLICE)
        .with_for_update(skip_locked=True, key_share=True)
    ).all()
    for message in late:
        message.due_at = None
    unsent = [message.id for message in late if message.unclear_since is None]
    step = messages.Entry(report=messages.own_step(Status.EXPIRED, now), rule="validUntil went by", reason="never sent")
    messages.record(session, messages.lock(session, unsent), [(message_id, step) for message_id in unsent], now)
    return len(late)


def record_results(session: Session, ended: Mapping[UUID, Ended], now: datetime, repeats: Repeats) -> None:
    """Record how calls ended. What receipts have said meanwhile stands: a result is one more report."""
    locked = messages.lock(session, ended)
    rows = {message.id: message for message in session.scalars(select(Message).where(Message.id.in_(locked)))}
    attempts: dict[UUID, dict[int, Attempt]] = {message_id: {} for message_id in ended}
    for attempt in session.scalars(select(Attempt).where(Attempt.message_id.in_(ended))):
        attempts[attempt.message_id][attempt.number] = attempt
    entries: list[tuple[UUID, messages.Entry]] = []
    given: list[tuple[messages.Locked, str]] = []
    for message_id, message in rows.items():
        end, tried = ended[message_id], attempts[message_id]
        result = end.result
        if tried[end.number].outcome is None or result.outcome is Outcome.TAKEN:
            _close(tried[end.number], result, now)
        is_last = message.tries == end.number
        if is_last and message.calling_since is not None:
            message.calling_since = locked[message_id].calling_since = None
            locked[message_id].due_at = _next_due(message, tried, end, now, repeats)
        if result.transaction_id and result.outcome is Outcome.TAKEN:
            given.append((locked[message_id], result.transaction_id))
        word = _WORDS.get(result.outcome)
        if word is Status.FAILED and (not is_last or any(a.outcome == Outcome.TAKEN for a in tried.values())):
            word = None  # another attempt was taken, or still may be: a refusal of this one does not fail the message
        if word is not None:
            reason = _reason(result) if word is not Status.SUBMITTED else None
            entry = messages.Entry(report=messages.own_step(word, now), rule=_RULES[result.outcome], reason=reason)
            entries.append((message_id, entry))
    transaction_ids = {transaction_id for _, transaction_id in given}
    client_refs = {message.client_ref for message in rows.values() if message.client_ref}
    parking.hold(session, transaction_ids, client_refs)
    messages.note_transactions(session, given, "answer", now)
    messages.record(session, locked, entries, now)
    parking.release(session, transaction_ids=transaction_ids, client_refs=client_refs, now=now)


def settle_lost(session: Session, now: datetime, repeats: Repeats, *, all_calls: bool = False) -> int:
    """Count calls whose lease has ended as lost answers; how many there were.

    `all_calls`: whatever the lease says. Only where no other process can be calling.
    """
    query = select(Message.id, Message.tries).where(Message.calling_since.is_not(None))
    if not all_calls:
        query = query.where(Message.due_at <= now)
    rows = session.execute(
        query.order_by(Message.id).limit(_SLICE).with_for_update(skip_locked=True, key_share=True)
    ).all()
    lost = SendResult(outcome=Outcome.UNCLEAR, description="the process that made this call went away")
    record_results(session, {row.id: Ended(number=row.tries, result=lost) for row in rows}, now, repeats)
    return len(rows)


_WORDS = {
    Outcome.TAKEN: Status.SUBMITTED,
    Outcome.REFUSED: Status.FAILED,
    Outcome.UNCLEAR: Status.SEND_UNKNOWN,
}
_RULES = {
    Outcome.TAKEN: "the gateway took it",
    Outcome.REFUSED: "the gateway refused it",
    Outcome.UNCLEAR: "the gateway's answer was lost",
}


def _is_too_late(now: datetime, repeats: Repeats) -> ColumnElement[bool]:
    """Whether a message is not to be offered any more. Never null, so that it can be negated."""
    return or_(
        and_(Message.valid_until.is_not(None), Message.valid_until <= now),
        and_(Message.unclear_since.is_not(None), Message.unclear_since <= now - repeats.duration),
    )


def _close(attempt: Attempt, result: SendResult, now: datetime) -> None:
    attempt.ended_at, attempt.outcome = now, result.outcome
    attempt.transaction_id = result.transaction_id
    attempt.return_code = result.code
    attempt.return_description = result.description
    attempt.return_detail = result.detail


def _next_due(
    message: Message, tried: Mapping[int, Attempt], end: Ended, now: datetime, repeats: Repeats
) -> datetime | None:
    """When to look at a message again after its call ended so; None: never."""
    outcome = end.result.outcome
    before = sum(attempt.outcome == outcome for attempt in tried.values()) - 1  # how often it ended so before
    match outcome:
        case Outcome.TAKEN | Outcome.REFUSED:
            return None
        case Outcome.ACCOUNT_REFUSED:
            return now  # the worker holds all sending; this message did nothing wrong
        case Outcome.NOT_SENT:
            return now + min(_doubled(_FIRST_GAP, before), _LONGEST_GAP)
        case Outcome.UNCLEAR:
            message.unclear_since = message.unclear_since or tried[end.number].started_at
            if message.transport != "soap":
                return None  # without a messageGuid on the wire a repeat could be a second SMS
            due = now + _doubled(repeats.after, before)
            last = message.unclear_since + repeats.duration
            return due if due < min(last, message.valid_until or last) else None


def _doubled(gap: timedelta, times: int) -> timedelta:
    return gap * (1 << min(times, 10))


def _reason(result: SendResult) -> str | None:
    said = [part for part in (result.code, result.description, result.detail) if part]
    return ": ".join(said) or None
