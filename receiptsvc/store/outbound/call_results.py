"""How calls to the gateway ended: recorded after each call, or by the lease of one that never came back.

No row that was read before a call is written after it. What an end means is decided elsewhere: for the account by
`domain.accounts`, for a message by `domain.call_ends`. What casts doubt on an account makes the call's messages wait
under a number; `release` lets them go on once another call has decided.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from receiptsvc.domain import call_ends, retry_policy
from receiptsvc.domain.accounts import (
    SUSPECT,
    TELLING,
    AccountSign,
    End,
    account_of,
    blame_credentials,
    doubts,
    judge,
    said_of_credentials,
)
from receiptsvc.domain.call_ends import CalledMessage, Step
from receiptsvc.domain.messages import SendOutcome, SendResult
from receiptsvc.domain.retry_policy import RepeatPolicy
from receiptsvc.domain.statuses import Status
from receiptsvc.store.core import bulk, topics
from receiptsvc.store.core.models import Attempt, Message, SendingAccount
from receiptsvc.store.core.topics import Topic
from receiptsvc.store.inbox import counters, parking
from receiptsvc.store.messages import transitions
from receiptsvc.store.outbound import accounts, send_gate
from receiptsvc.store.outbound.accounts import Call
from receiptsvc.store.outbound.claims import is_too_late

_SLICE = 100  # of messages that are settled without a call


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptResult:
    """How one attempt ended. `number` tells which of the message's attempts."""

    number: int
    result: SendResult


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
    entries: list[tuple[UUID, transitions.NewTransition]] = []
    for row in late:
        locked[row.id].due_at = None
        step = call_ends.step_if_late(row.status, may_be_sent=row.unclear_since is not None)
        if step is not None:
            entries.append((row.id, _transition(step, now)))
    calls = {row.id: {"suspicion": None} for row in late}
    transitions.record(session, locked, entries, now, calls=calls)
    return len(late)


def _is_late(now: datetime, repeats: RepeatPolicy) -> ColumnElement[bool]:
    return and_(Message.due_at <= now, Message.calling_since.is_(None), is_too_late(now, repeats))


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
    rows, attempts = _called(session, locked), _attempts(session, ended)
    judged = _judge_account(session, ended, rows, call, now) if call is not None else _Judged(ended=ended)
    entries: list[tuple[UUID, transitions.NewTransition]] = []
    given: list[tuple[transitions.LockedMessage, str]] = []
    closed: list[dict[str, object]] = []
    calls: dict[UUID, dict[str, object]] = {}
    limit = _next_limit(judged.ended, rows) if is_one_call else None
    stretch = retry_policy.stretch(repeats)
    for message_id, message in rows.items():
        end, tried = judged.ended[message_id], attempts[message_id]
        result, attempt = end.result, tried[end.number]
        if call_ends.is_closed_by(attempt, result.outcome):
            closed.append(_closed(message_id, end, now))
            tried[end.number] = attempt._replace(outcome=result.outcome)
        is_last = message.tries == end.number
        if is_last and message.calling_since is not None:
            after = call_ends.after_call(
                message, result, began_at=attempt.started_at, suspicion=judged.number, call_limit=limit
            )
            calls[message_id] = _noted(after)
            locked[message_id].calling_since = None
            locked[message_id].due_at = call_ends.next_due(
                after, tried.values(), result.outcome, now=now, repeats=repeats, stretch=stretch
            )
        if result.transaction_id and result.outcome is SendOutcome.TAKEN:
            given.append((locked[message_id], result.transaction_id))
        step = call_ends.step_of_call(result, tried.values(), is_last=is_last)
        if step is not None:
            entries.append((message_id, _transition(step, now)))
    transaction_ids = {transaction_id for _, transaction_id in given}
    client_refs = {message.client_ref for message in rows.values() if message.client_ref}
    parking.lock(session, transaction_ids, client_refs, is_shared=True)
    bulk.update_all(session, Attempt, ("message_id", "number"), closed)
    transitions.link_transactions(session, given, "answer", now)
    transitions.record(session, locked, entries, now, calls=calls)
    parking.release(session, transaction_ids=transaction_ids, client_refs=client_refs, now=now)
    taken = sum(end.result.outcome is SendOutcome.TAKEN for end in judged.ended.values())
    if taken:  # the last that this transaction locks: others wait for it
        counters.add(session, {counters.TAKEN: taken})
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
    session: Session,
    ended: Mapping[UUID, AttemptResult],
    rows: Mapping[UUID, CalledMessage],
    call: Call,
    now: datetime,
) -> _Judged:
    """Learn of an account from how a call ended, and of the call's messages from what is known of the account."""
    ends = {one: End(end.result.outcome, rows[one].suspicion if one in rows else None) for one, end in ended.items()}
    outcomes = {end.outcome for end in ends.values()}
    said = said_of_credentials([end.result for end in ended.values()])
    send_gate.record_outcome(session, said, now, was_probe=call.is_alone)
    if SendOutcome.ACCOUNT_REFUSED in said or not (outcomes & TELLING or accounts.is_known(session, call.account)):
        return _Judged(ended=ended)
    # Held till the commit: the numbers of suspicions are given, and accounts changed, one call after another.
    if send_gate.hold(session).refused_at is not None and outcomes & SUSPECT:  # as it was, or by a call meanwhile
        send_gate.record_outcome(session, {SendOutcome.ACCOUNT_REFUSED}, now, was_probe=call.is_alone)
        return _Judged(ended={one: replace(end, result=blame_credentials(end.result)) for one, end in ended.items()})
    account = accounts.find(session, call.account)
    state = accounts.state_of(account)
    numbers = {row.suspicion for row in rows.values() if row.suspicion}
    met_again = {
        outcome
        for outcome in doubts(ends.values(), state)
        if account is not None
        and accounts.is_met_again(session, account, call, outcome, numbers=numbers, message_ids=rows.keys())
    }
    judgement = judge(ends, state, met_again)
    number = None
    match judgement.sign:
        case AccountSign.SUSPECTED:
            number = accounts.suspect(session, account, call, now)
        case AccountSign.REFUSED:
            accounts.refuse(session, account, call, now, of_calls=judgement.of_calls)
            number = send_gate.next_number(session)  # for what that does not explain
        case AccountSign.WORKS if account is not None:
            accounts.free(session, account, call, rows.keys(), now)
    settled = {
        one: replace(end, result=replace(end.result, outcome=judgement.outcomes[one])) for one, end in ended.items()
    }
    return _Judged(ended=settled, number=number, has_decided=judgement.has_decided)


def _noted(message: CalledMessage) -> dict[str, object]:
    """The columns that a call's end changes, and nobody is shown."""
    return {
        "calling_since": message.calling_since,
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
    # What may be decided, along an index. `call_ends.release` says so of each, once it is locked.
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
    is_forgetting = accounts.hold_forgettable(session)
    rows, attempts = _called(session, locked), _attempts(session, locked)
    entries: list[tuple[UUID, transitions.NewTransition]] = []
    calls: dict[UUID, dict[str, object]] = {}
    stretch = retry_policy.stretch(repeats)
    names = {account_of(message.impersonate_user_name) for message in rows.values()}
    states = {name: accounts.state_of(accounts.find(session, name)) for name in names}
    for message_id, message in rows.items():
        released = call_ends.release(message, states[account_of(message.impersonate_user_name)])
        if released is None:
            continue
        calls[message_id] = _noted(released.message)
        if released.outcome is not None:
            locked[message_id].due_at = call_ends.next_due(
                released.message,
                attempts[message_id].values(),
                released.outcome,
                now=now,
                repeats=repeats,
                stretch=stretch,
            )
        if released.step is not None:
            entries.append((message_id, _transition(released.step, now)))
    transitions.record(session, locked, entries, now, calls=calls)
    if calls:
        topics.mark(session, Topic.MESSAGES)
    if is_forgetting:
        accounts.forget(session)
    return len(calls)


def _called(session: Session, message_ids: Collection[UUID]) -> dict[UUID, CalledMessage]:
    if not message_ids:
        return {}
    columns = (getattr(Message, name) for name in CalledMessage._fields)
    query = select(*columns).where(bulk.among(session, Message.id, message_ids)).order_by(Message.id)
    return {row.id: CalledMessage._make(row) for row in session.execute(query)}


def _attempts(session: Session, message_ids: Collection[UUID]) -> dict[UUID, dict[int, call_ends.Attempt]]:
    """Every attempt of these messages by its number."""
    found: dict[UUID, dict[int, call_ends.Attempt]] = defaultdict(dict)
    if message_ids:
        query = select(Attempt.message_id, Attempt.number, Attempt.started_at, Attempt.outcome)
        for message_id, *columns in session.execute(query.where(bulk.among(session, Attempt.message_id, message_ids))):
            attempt = call_ends.Attempt._make(columns)
            found[message_id][attempt.number] = attempt
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
    overdue = select(Message.id).where(is_overdue(before))
    return session.scalar(select(func.count()).select_from(overdue.limit(most).subquery())) or 0


def is_overdue(before: datetime) -> ColumnElement[bool]:
    """Whether a message is one of those that `count_overdue` counts."""
    return and_(Message.status == Status.SEND_UNKNOWN, Message.unclear_since <= before)


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


def _transition(step: Step, now: datetime) -> transitions.NewTransition:
    return transitions.NewTransition(
        report=transitions.own_report(step.status, now), rule=step.rule, reason=step.reason
    )


def _next_limit(ended: Mapping[UUID, AttemptResult], rows: Mapping[UUID, CalledMessage]) -> int | None:
    is_repeat = all(message.unclear_since is not None for message in rows.values())
    return retry_policy.next_call_limit([end.result.outcome for end in ended.values()], is_repeat=is_repeat)
