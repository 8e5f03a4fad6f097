"""How calls to the gateway ended: recorded after each call, or by the lease of one that never came back.

No row that was read before a call is written after it. What casts doubt on an account (`domain.accounts`) makes the
call's messages wait under a number; `release` lets them go on once another call has decided. When a message is offered
again is `domain.retry_policy`'s business.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from receiptsvc.domain import retry_policy
from receiptsvc.domain.accounts import SUSPECT, Finding, account_of, settle
from receiptsvc.domain.accounts import find as find_of_account
from receiptsvc.domain.messages import SendOutcome, SendResult
from receiptsvc.domain.retry_policy import RepeatPolicy
from receiptsvc.domain.statuses import Status
from receiptsvc.store.core import bulk, topics
from receiptsvc.store.core.models import Attempt, Message, SendingAccount
from receiptsvc.store.core.topics import Topic
from receiptsvc.store.inbox import parking
from receiptsvc.store.messages import transitions
from receiptsvc.store.outbound import accounts, send_gate
from receiptsvc.store.outbound.accounts import DISPELLED, Call
from receiptsvc.store.outbound.claims import is_too_late

_SLICE = 100  # of messages that are settled without a call


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptResult:
    """How one attempt ended. `number` tells which of the message's attempts."""

    number: int
    result: SendResult


class _Called(NamedTuple):
    """What of a message decides what follows from its call."""

    id: UUID
    impersonate_user_name: str | None
    client_ref: str | None
    transport: str
    valid_until: datetime | None
    tries: int
    calling_since: datetime | None
    unclear_since: datetime | None
    call_limit: int | None
    suspicion: int | None


class _Tried(NamedTuple):
    """An attempt, as far as it is looked at."""

    number: int
    started_at: datetime
    outcome: str | None


def retire_late(session: Session, now: datetime, repeats: RepeatPolicy) -> int:
    """Settle due messages whose time has gone by; how many there were.

    One that was never given to the gateway is expired. One that may have been is `send_unknown`, for a receipt to
    settle.
    """
    late = session.execute(
        select(Message.id, Message.unclear_since, Message.status)
        .where(_is_late(now, repeats))
        .order_by(Message.id)
        .limit(_SLICE)
        .with_for_update(skip_locked=True, key_share=True)
    ).all()
    locked = transitions.lock_messages(session, [row.id for row in late])
    never_sent = transitions.NewTransition(
        report=transitions.own_report(Status.EXPIRED, now), rule="validUntil went by", reason="never sent"
    )
    entries: list[tuple[UUID, transitions.NewTransition]] = []
    for row in late:
        locked[row.id].due_at = None
        if row.unclear_since is None:
            entries.append((row.id, never_sent))
        elif row.status == Status.ACCEPTED:  # what has waited because its account may be refused
            entries.append((row.id, _lost(now)))
    calls = {row.id: {"suspicion": None} for row in late}
    transitions.record(session, locked, entries, now, calls=calls)
    return len(late)


def _is_late(now: datetime, repeats: RepeatPolicy) -> ColumnElement[bool]:
    return and_(Message.due_at <= now, Message.calling_since.is_(None), is_too_late(now, repeats))


def _lost(now: datetime) -> transitions.NewTransition:
    """That a message may have been sent."""
    return transitions.NewTransition(
        report=transitions.own_report(Status.SEND_UNKNOWN, now), rule=_RULES[SendOutcome.UNCLEAR]
    )


def record_results(
    session: Session,
    ended: Mapping[UUID, AttemptResult],
    now: datetime,
    repeats: RepeatPolicy,
    *,
    is_one_call: bool = False,
    call: Call | None = None,
) -> bool:
    """Record how calls ended. What receipts have said meanwhile stands: a result is one more report.

    `is_one_call`: these were all messages of one. If it stays unclear as a whole, the next ones are half as large.
    `call`: which one, if it had an answer from which to learn of its account. Gives whether that decided anything for
    messages that wait: then `release` is to be called.
    """
    locked = transitions.lock_messages(session, ended)
    rows = _called(session, locked)
    attempts = _tried(session, ended)
    judged = _judge_account(session, ended, rows, call, now) if call is not None else _Judged(ended=ended)
    ended = judged.ended
    entries: list[tuple[UUID, transitions.NewTransition]] = []
    given: list[tuple[transitions.LockedMessage, str]] = []
    closed: list[dict[str, object]] = []
    calls: dict[UUID, dict[str, object]] = {}
    limit = _next_limit(ended, rows) if is_one_call else None
    stretch = retry_policy.stretch(repeats)
    for message_id, message in rows.items():
        end, tried = ended[message_id], attempts[message_id]
        result = end.result
        if tried[end.number].outcome is None or result.outcome is SendOutcome.TAKEN:
            closed.append(_closed(message_id, end, now))
            tried[end.number] = tried[end.number]._replace(outcome=result.outcome)
        is_last = message.tries == end.number
        if is_last and message.calling_since is not None:
            message = _after(message, end, tried, judged.number, locked[message_id].status)  # noqa: PLW2901
            if result.outcome is SendOutcome.UNCLEAR and limit:
                message = message._replace(call_limit=limit)  # noqa: PLW2901
            calls[message_id] = _noted(message)
            locked[message_id].calling_since = None
            locked[message_id].due_at = _next_due(message, tried, result.outcome, now, repeats, stretch=stretch)
        if result.transaction_id and result.outcome is SendOutcome.TAKEN:
            given.append((locked[message_id], result.transaction_id))
        word = _WORDS.get(result.outcome)
        if word is Status.FAILED and (not is_last or any(a.outcome == SendOutcome.TAKEN for a in tried.values())):
            word = None  # another attempt was taken, or still may be: a refusal of this one does not fail the message
        if word is not None:
            reason = _reason(result) if word is not Status.SUBMITTED else None
            entry = transitions.NewTransition(
                report=transitions.own_report(word, now), rule=_RULES[result.outcome], reason=reason
            )
            entries.append((message_id, entry))
    transaction_ids = {transaction_id for _, transaction_id in given}
    client_refs = {message.client_ref for message in rows.values() if message.client_ref}
    parking.lock(session, transaction_ids, client_refs, is_shared=True)
    bulk.update_all(session, Attempt, ("message_id", "number"), closed)
    transitions.link_transactions(session, given, "answer", now)
    transitions.record(session, locked, entries, now, calls=calls)
    parking.release(session, transaction_ids=transaction_ids, client_refs=client_refs, now=now)
    return judged.has_decided


@dataclass(frozen=True, kw_only=True, slots=True)
class _Judged:
    """How a call ended for each message, now that it is known what it says of its account.

    `number`: of the suspicion under which messages of it wait. `has_decided`: whether other messages wait no more.
    """

    ended: Mapping[UUID, AttemptResult]
    number: int | None = None
    has_decided: bool = False


def _judge_account(
    session: Session, ended: Mapping[UUID, AttemptResult], rows: Mapping[UUID, _Called], call: Call, now: datetime
) -> _Judged:
    """Learn of an account from how a call ended, and of the call's messages from what is known of the account."""
    outcomes = {message_id: end.result.outcome for message_id, end in ended.items()}
    suspects = {message_id for message_id, outcome in outcomes.items() if outcome in SUSPECT}
    is_of_credentials = any(end.result.is_of_credentials for end in ended.values())
    send_gate.record_outcome(
        session,
        {SendOutcome.ACCOUNT_REFUSED} if is_of_credentials else {SendOutcome.TAKEN} & set(outcomes.values()),
        now,
        was_probe=call.is_alone,
    )
    is_telling = suspects or SendOutcome.ACCOUNT_REFUSED in outcomes.values()
    if is_of_credentials or not (is_telling or accounts.is_known(session, call.account)):
        return _Judged(ended=ended)
    if send_gate.hold(session).refused_at is not None and suspects:  # it is as it was, or a call that ran meanwhile
        send_gate.record_outcome(session, {SendOutcome.ACCOUNT_REFUSED}, now, was_probe=call.is_alone)
        refused = {one: _ended_so(ended[one], SendOutcome.ACCOUNT_REFUSED, is_of_credentials=True) for one in suspects}
        return _Judged(ended={**ended, **refused})
    account = accounts.find(session, call.account)
    works_number = account.works_number if account else 0
    dispelled = {one for one, row in rows.items() if row.suspicion is not None and row.suspicion <= works_number}
    is_held = account is not None and account.refused_at is not None
    # While the account may be refused again, no message fails for its words.
    is_suspected = account is not None and account.suspected_at is not None
    cleared = {
        one
        for one in suspects & dispelled
        if not is_held and (not is_suspected or outcomes[one] is SendOutcome.SUSPECT_UNCLEAR)
    }
    numbers = {row.suspicion for row in rows.values() if row.suspicion}
    met_again = {
        outcome
        for outcome in {outcomes[one] for one in suspects - dispelled}
        if account is not None
        and accounts.is_met_again(session, account, call, outcome, numbers=numbers, message_ids=rows.keys())
    }
    finding = find_of_account(
        {outcome for message_id, outcome in outcomes.items() if message_id not in cleared},
        is_held=is_held,
        is_met_again=bool(met_again),
    )
    number = None
    has_decided = account is not None and finding in {Finding.REFUSED, Finding.WORKS}
    match finding:
        case Finding.SUSPECTED:
            number = accounts.suspect(session, account, call, now)
        case Finding.REFUSED:
            of_calls = SendOutcome.SUSPECT_UNCLEAR in met_again or SendOutcome.ACCOUNT_REFUSED in outcomes.values()
            account = accounts.refuse(session, account, call, now, of_calls=of_calls)
            number = send_gate.next_number(session)  # for what that does not explain
        case Finding.WORKS if account is not None:
            accounts.free(session, account, call, rows.keys(), now)
    refuses_calls = account is not None and account.refuses_calls
    settled = {
        one: _ended_so(
            end,
            settle(end.result.outcome, finding, was_cleared=one in cleared, refuses_calls=refuses_calls),
        )
        for one, end in ended.items()
    }
    return _Judged(ended=settled, number=number, has_decided=has_decided)


def _ended_so(end: AttemptResult, outcome: SendOutcome, *, is_of_credentials: bool = False) -> AttemptResult:
    if outcome is end.result.outcome:
        return end
    return replace(end, result=replace(end.result, outcome=outcome, is_of_credentials=is_of_credentials))


def _after(
    message: _Called, end: AttemptResult, tried: Mapping[int, _Tried], number: int | None, status: str
) -> _Called:
    """What is noted of a message after its last call ended so. `number`: of the suspicion that it met."""
    began = message.unclear_since or tried[end.number].started_at
    match end.result.outcome:
        case SendOutcome.SUSPECT_REFUSED:
            return message._replace(suspicion=number)
        case SendOutcome.SUSPECT_UNCLEAR:
            return message._replace(suspicion=number, unclear_since=began)
        case SendOutcome.UNCLEAR:
            return message._replace(suspicion=_dispelled(message), unclear_since=began)
        case SendOutcome.ACCOUNT_REFUSED if not end.result.is_of_credentials:
            return _as_refused_with_account(message, status)
        case SendOutcome.TAKEN | SendOutcome.REFUSED:
            return message._replace(suspicion=None)
        case _:
            return message


def _dispelled(message: _Called) -> int | None:
    return DISPELLED if message.suspicion == DISPELLED else None


def _as_refused_with_account(message: _Called, status: str) -> _Called:
    """A message of a call that was refused with its account, so that it was not sent by it; `status`: its own."""
    # Before that its answer may have been lost; then it may have been sent all the same.
    return message._replace(suspicion=None, unclear_since=None if status == Status.ACCEPTED else message.unclear_since)


def _noted(message: _Called) -> dict[str, object]:
    """The columns that a call's end changes, and nobody is shown."""
    return {
        "calling_since": None,
        "unclear_since": message.unclear_since,
        "call_limit": message.call_limit,
        "suspicion": message.suspicion,
    }


def release(session: Session, now: datetime, repeats: RepeatPolicy) -> int:
    """Let messages go on whose suspicion was decided, a slice at a time; how many there were.

    If their account is refused, nothing was sent of them: they are offered again once it works. (Items that are refused
    prove nothing for calls that ended in a fault or a 403: those wait on.) If it works, what was refused goes out once
    more, alone, and what may have been sent is a lost answer like any other.
    """
    is_decided = or_(
        and_(
            SendingAccount.refused_at.is_not(None),
            or_(Message.unclear_since.is_(None), SendingAccount.refuses_calls),
        ),
        Message.suspicion <= SendingAccount.works_number,
        Message.due_at.is_(None),  # a receipt or a person has settled it
    )
    found = session.scalars(
        select(Message.id)
        .join(SendingAccount, SendingAccount.name == accounts.of_message)
        .where(accounts.waits, Message.calling_since.is_(None), is_decided)
        .order_by(Message.id)
        .limit(_SLICE)
    ).all()
    locked = transitions.lock_messages(session, found)
    rows, attempts = _called(session, locked), _tried(session, locked)
    entries: list[tuple[UUID, transitions.NewTransition]] = []
    calls: dict[UUID, dict[str, object]] = {}
    stretch = retry_policy.stretch(repeats)
    names = {account_of(message.impersonate_user_name) for message in rows.values()}
    standing = {name: accounts.find(session, name) for name in names}
    for message_id, message in rows.items():
        account, number = standing[account_of(message.impersonate_user_name)], message.suspicion
        if not number or message.calling_since is not None or account is None:
            continue  # it was let go, or is being tried, meanwhile
        mine = locked[message_id]
        if mine.due_at is None:
            after = message._replace(suspicion=None)
        elif account.refused_at is not None and (message.unclear_since is None or account.refuses_calls):
            after, mine.due_at = _as_refused_with_account(message, mine.status), now
        elif number > account.works_number:
            continue
        elif message.unclear_since is None:
            after, mine.due_at = message._replace(suspicion=DISPELLED, call_limit=1), now
        else:
            after = message._replace(suspicion=DISPELLED)
            entries.append((message_id, _lost(now)))
            tried = attempts[message_id]
            mine.due_at = _next_due(after, tried, SendOutcome.UNCLEAR, now, repeats, stretch=stretch)
        calls[message_id] = _noted(after)
    transitions.record(session, locked, entries, now, calls=calls)
    if calls:
        topics.mark(session, Topic.MESSAGES)
    accounts.forget(session)
    return len(calls)


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


def settle_lost(session: Session, now: datetime, repeats: RepeatPolicy, *, all_calls: bool = False) -> int:
    """Count calls whose lease has ended as lost answers; how many there were.

    `all_calls`: whatever the lease says. Only where no other process can be calling.
    """
    query = select(Message.id, Message.tries).where(_IS_CALLING if all_calls else _is_lost(now))
    rows = session.execute(
        query.order_by(Message.id).limit(_SLICE).with_for_update(skip_locked=True, key_share=True)
    ).all()
    lost = SendResult(outcome=SendOutcome.UNCLEAR, description="the process that made this call went away")
    record_results(session, {row.id: AttemptResult(number=row.tries, result=lost) for row in rows}, now, repeats)
    return len(rows)


_IS_CALLING = Message.calling_since.is_not(None)


def _is_lost(now: datetime) -> ColumnElement[bool]:
    return and_(_IS_CALLING, Message.due_at <= now)


def is_any_to_settle(now: datetime, repeats: RepeatPolicy) -> ColumnElement[bool]:
    """Whether `retire_late`, `settle_lost` or `release` may find anything."""
    found = (select(Message.id).where(condition).exists() for condition in (_is_late(now, repeats), _is_lost(now)))
    return or_(*found, select(SendingAccount.name).exists())


def count_overdue(session: Session, before: datetime, most: int = 10_000) -> int:
    """Messages that stay `send_unknown` after their repeats: first called before this time. It counts up to `most`."""
    overdue = select(Message.id).where(Message.status == Status.SEND_UNKNOWN, Message.unclear_since <= before)
    return session.scalar(select(func.count()).select_from(overdue.limit(most).subquery())) or 0


_WORDS = {
    SendOutcome.TAKEN: Status.SUBMITTED,
    SendOutcome.REFUSED: Status.FAILED,
    SendOutcome.UNCLEAR: Status.SEND_UNKNOWN,
}
_RULES = {
    SendOutcome.TAKEN: "the gateway took it",
    SendOutcome.REFUSED: "the gateway refused it",
    SendOutcome.UNCLEAR: "the gateway's answer was lost",
}


def _closed(message_id: UUID, end: AttemptResult, now: datetime) -> dict[str, object]:
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


def _reason(result: SendResult) -> str | None:
    said = [part for part in (result.code, result.description, result.detail) if part]
    return ": ".join(said) or None


def _next_due(
    message: _Called,
    tried: Mapping[int, _Tried],
    outcome: SendOutcome,
    now: datetime,
    repeats: RepeatPolicy,
    *,
    stretch: float,
) -> datetime | None:
    return retry_policy.next_due(
        outcome,
        ended_before=[attempt.outcome for attempt in tried.values()],
        can_repeat=message.transport in repeats.transports,
        unclear_since=message.unclear_since,
        valid_until=message.valid_until,
        now=now,
        repeats=repeats,
        stretch=stretch,
    )


def _next_limit(ended: Mapping[UUID, AttemptResult], rows: Mapping[UUID, _Called]) -> int | None:
    is_repeat = all(message.unclear_since is not None for message in rows.values())
    return retry_policy.next_call_limit([end.result.outcome for end in ended.values()], is_repeat=is_repeat)
