"""What is due to go to the gateway: claims under a lease, and how each call ended.

A call has three commits: `claim` before its first byte, nothing while it runs, `record_results` after it. If the second
commit never comes, the lease ends and `settle_lost` says so. No row that was read before a call is written after it.
"""

import random
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, not_, or_, select, update
from sqlalchemy.orm import Session, aliased

from receiptsvc.domain.messages import Outcome, SendResult
from receiptsvc.domain.statuses import UNSETTLED, Status
from receiptsvc.store import bulk, messages, parking, walks
from receiptsvc.store.models import Attempt, Message

_LONGEST_GAP = timedelta(minutes=5)
_FIRST_GAP = timedelta(seconds=1)
_SLICE = 100  # of messages that are settled without a call


@dataclass(frozen=True, kw_only=True, slots=True)
class Repeats:
    """When a message may be offered again after an answer was lost. `spread`: by how much of a gap it may be longer."""

    after: timedelta
    duration: timedelta
    spread: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How one attempt ended. `number` tells which of the message's attempts."""

    number: int
    result: SendResult


class Claimed(NamedTuple):
    """What of a message goes to the gateway, and how often it was offered: `tries`, the attempt begun included."""

    id: UUID
    recipient: str
    text: str
    message_guid: str
    transport: str
    tries: int
    call_limit: int | None
    unclear_since: datetime | None
    originator: str | None
    client_ref: str | None
    country_iso_code: str | None
    deliver_after: datetime | None
    valid_until: datetime | None
    reject_unicode: bool
    include_message_text: bool
    filter_set_name: str | None
    impersonate_user_name: str | None
    additional_options: dict[str, Any]


class _Called(NamedTuple):
    """What of a message decides what follows from its call."""

    id: UUID
    client_ref: str | None
    transport: str
    valid_until: datetime | None
    tries: int
    calling_since: datetime | None
    unclear_since: datetime | None
    call_limit: int | None


class _Tried(NamedTuple):
    """An attempt, as far as it is looked at."""

    number: int
    started_at: datetime
    outcome: str | None


def claim(session: Session, now: datetime, *, limit: int, lease: timedelta, repeats: Repeats) -> Sequence[Claimed]:
    """Up to `limit` due messages for one call, each with an attempt begun and its lease running.

    They are of one transport, and no two go to the same recipient. Of what has one clientRef and recipient, the first
    is offered first; once its answer was lost it holds nothing up. A message that may have been taken is offered again
    only within its time: nobody knows how long the gateway remembers a guid. It shares its calls with others that may
    have been, and only with so many as its last calls allow.
    """
    walks.keep_to_order(session)  # else all that is due is looked at and sorted, time and again
    query = (
        select(*(getattr(Message, name) for name in Claimed._fields))
        .where(
            Message.due_at <= now,
            Message.calling_since.is_(None),
            Message.status.in_(UNSETTLED),
            not_(_is_too_late(now, repeats)),
            or_(Message.offered_at.is_not(None), not_(_waits_for_another(now, repeats))),
        )
        .order_by(Message.due_at, Message.id)
        .limit(limit)
        .with_for_update(of=Message, skip_locked=True, key_share=True)
    )
    due = [Claimed._make(row) for row in session.execute(query)]
    chosen: dict[str, Claimed] = {}
    for message in due:
        if _kind(message) == _kind(due[0]) and len(chosen) < (message.call_limit or limit):
            chosen.setdefault(message.recipient, message._replace(tries=message.tries + 1))
    claimed = list(chosen.values())
    if claimed:
        _begin(session, claimed, now, lease)
    return claimed


def _kind(message: Claimed) -> tuple[object, ...]:
    """What all messages of a call have in common."""
    return message.transport, message.call_limit, message.unclear_since is None


def _begin(session: Session, claimed: Sequence[Claimed], now: datetime, lease: timedelta) -> None:
    begun = {
        Message.tries: Message.tries + 1,
        Message.calling_since: now,
        Message.due_at: now + lease,
        Message.offered_at: func.coalesce(Message.offered_at, now),
    }
    ours = bulk.among(session, Message.id, [message.id for message in claimed])
    session.execute(update(Message).where(ours).values(begun).execution_options(synchronize_session=False))
    bulk.insert_all(
        session,
        Attempt,
        [
            {
                "message_id": message.id,
                "number": message.tries,
                "transport": message.transport,
                "message_guid": message.message_guid,
                "started_at": now,
            }
            for message in claimed
        ],
    )


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


def record_results(
    session: Session, ended: Mapping[UUID, Ended], now: datetime, repeats: Repeats, *, is_one_call: bool = False
) -> None:
    """Record how calls ended. What receipts have said meanwhile stands: a result is one more report.

    `is_one_call`: these were all messages of one. If it stays unclear as a whole, the next ones are half as large.
    """
    locked = messages.lock(session, ended)
    rows = _called(session, locked)
    attempts = _tried(session, ended)
    entries: list[tuple[UUID, messages.Entry]] = []
    given: list[tuple[messages.Locked, str]] = []
    closed: list[dict[str, object]] = []
    calls: dict[UUID, dict[str, object]] = {}
    limit = _next_limit(ended, rows) if is_one_call else None
    stretch = 1 + repeats.spread * random.random()  # noqa: S311 - one for all: what was in one call stays together
    for message_id, message in rows.items():
        end, tried = ended[message_id], attempts[message_id]
        result = end.result
        if tried[end.number].outcome is None or result.outcome is Outcome.TAKEN:
            closed.append(_closed(message_id, end, now))
            tried[end.number] = tried[end.number]._replace(outcome=result.outcome)
        is_last = message.tries == end.number
        if is_last and message.calling_since is not None:
            if result.outcome is Outcome.UNCLEAR:
                began = message.unclear_since or tried[end.number].started_at
                message = message._replace(unclear_since=began, call_limit=limit or message.call_limit)  # noqa: PLW2901
            calls[message_id] = {
                "calling_since": None,
                "unclear_since": message.unclear_since,
                "call_limit": message.call_limit,
            }
            locked[message_id].calling_since = None
            locked[message_id].due_at = _next_due(message, tried, end, now, repeats, stretch=stretch)
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
    parking.hold(session, transaction_ids, client_refs, only_releases=True)
    bulk.update_all(session, Attempt, ("message_id", "number"), closed)
    messages.note_transactions(session, given, "answer", now)
    messages.record(session, locked, entries, now, calls=calls)
    parking.release(session, transaction_ids=transaction_ids, client_refs=client_refs, now=now)


def _called(session: Session, message_ids: Collection[UUID]) -> dict[UUID, _Called]:
    if not message_ids:
        return {}
    columns = (getattr(Message, name) for name in _Called._fields)
    query = select(*columns).where(bulk.among(session, Message.id, message_ids)).order_by(Message.id)
    return {row.id: _Called._make(row) for row in session.execute(query)}


def _tried(session: Session, message_ids: Collection[UUID]) -> dict[UUID, dict[int, _Tried]]:
    """Every attempt of these messages by its number."""
    found: dict[UUID, dict[int, _Tried]] = defaultdict(dict)
    if message_ids:
        query = select(Attempt.message_id, Attempt.number, Attempt.started_at, Attempt.outcome)
        for message_id, *attempt in session.execute(query.where(bulk.among(session, Attempt.message_id, message_ids))):
            tried = _Tried._make(attempt)
            found[message_id][tried.number] = tried
    return found


def _next_limit(ended: Mapping[UUID, Ended], rows: Mapping[UUID, _Called]) -> int | None:
    """How many messages the next calls of these may hold: half as many, if no repeat brought any of them an answer."""
    is_unclear = all(end.result.outcome is Outcome.UNCLEAR for end in ended.values())
    is_repeat = all(message.unclear_since is not None for message in rows.values())
    return (len(ended) + 1) // 2 if is_unclear and is_repeat and len(ended) > 1 else None


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


def count_overdue(session: Session, before: datetime, most: int = 10_000) -> int:
    """Messages that stay `send_unknown` after their repeats: first called before this time. It counts up to `most`."""
    overdue = select(Message.id).where(Message.status == Status.SEND_UNKNOWN, Message.unclear_since <= before)
    return session.scalar(select(func.count()).select_from(overdue.limit(most).subquery())) or 0


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


def _is_too_late(now: datetime, repeats: Repeats, message: type[Message] = Message) -> ColumnElement[bool]:
    """Whether a message is not to be offered any more. Never null, so that it can be negated."""
    return or_(
        and_(message.valid_until.is_not(None), message.valid_until <= now),
        and_(message.unclear_since.is_not(None), message.unclear_since <= now - repeats.duration),
    )


def _waits_for_another(now: datetime, repeats: Repeats) -> ColumnElement[bool]:
    """Whether an earlier message of the same conversation to the same person is still to be offered, or just is.

    It is looked for among what is due to that person. A conversation can have a million messages, and many may be
    accepted, so the indexes that begin with these are kept out of it: coalesce() makes no use of them.
    """
    earlier = aliased(Message)
    conversation_id, status = (
        func.coalesce(column, column, type_=column.type) for column in (earlier.conversation_id, earlier.status)
    )
    return (
        select(earlier.id)
        .where(
            earlier.recipient == Message.recipient,
            earlier.due_at.is_not(None),
            earlier.id < Message.id,
            conversation_id == Message.conversation_id,
            status == Status.ACCEPTED,
            or_(earlier.offered_at.is_not(None), earlier.due_at <= now),  # else it waits for its deliverAfter
            or_(earlier.calling_since.is_not(None), not_(_is_too_late(now, repeats, earlier))),
        )
        .exists()
    )


def _closed(message_id: UUID, end: Ended, now: datetime) -> dict[str, object]:
    """An attempt's row as its end leaves it."""
    return {
        "message_id": message_id,
        "number": end.number,
        "ended_at": now,
        "outcome": end.result.outcome,
        "transaction_id": end.result.transaction_id,
        "return_code": end.result.code,
        "return_description": end.result.description,
        "return_detail": end.result.detail,
    }


def _next_due(
    message: _Called, tried: Mapping[int, _Tried], end: Ended, now: datetime, repeats: Repeats, *, stretch: float
) -> datetime | None:
    """When to look at a message again after its call ended so; None: never."""
    outcome = end.result.outcome
    before = sum(attempt.outcome == outcome for attempt in tried.values()) - 1  # how often it ended so before
    match outcome:
        case Outcome.TAKEN | Outcome.REFUSED:
            return None
        case Outcome.ACCOUNT_REFUSED:
            return now  # all sending is held; this message did nothing wrong
        case Outcome.NOT_SENT:
            return now + min(_doubled(_FIRST_GAP, before), _LONGEST_GAP) * stretch
        case Outcome.UNCLEAR:
            if message.transport != "soap" or message.unclear_since is None:
                return None  # without a messageGuid on the wire a repeat could be a second SMS
            due = now + min(_doubled(repeats.after, before), max(repeats.after, _LONGEST_GAP)) * stretch
            last = message.unclear_since + repeats.duration
            return due if due < min(last, message.valid_until or last) else None


def _doubled(gap: timedelta, times: int) -> timedelta:
    return gap * (1 << min(times, 10))


def _reason(result: SendResult) -> str | None:
    said = [part for part in (result.code, result.description, result.detail) if part]
    return ": ".join(said) or None
