"""What is due to go to the gateway: claims under a lease, and how each call ended.

A call has three commits: `claim` before its first byte, nothing while it runs, `record_results` after it. If the second
commit never comes, the lease ends and `settle_lost` says so. No row that was read before a call is written after it.

A call is by one account. What casts doubt on the account (`domain.accounts`) makes its messages wait under a number;
`release` lets them go on once another call has decided.
"""

import random
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, not_, or_, select, text, update
from sqlalchemy.orm import Session, aliased

from receiptsvc.domain.accounts import SUSPECT, Finding, account_of, settle
from receiptsvc.domain.accounts import find as find_of_account
from receiptsvc.domain.messages import SendOutcome, SendResult
from receiptsvc.domain.statuses import UNSETTLED, Status
from receiptsvc.store.core import bulk, keyset
from receiptsvc.store.core.models import ACCOUNT, Attempt, Message, SendingAccount, UtcDateTime
from receiptsvc.store.inbox import parking
from receiptsvc.store.messages import transitions
from receiptsvc.store.outbound import accounts, send_gate
from receiptsvc.store.outbound.accounts import DISPELLED, Call, Gate

_MAX_GAP = timedelta(minutes=5)
_MAY_BE_SENT = {SendOutcome.UNCLEAR, SendOutcome.SUSPECT_UNCLEAR}
_FIRST_GAP = timedelta(seconds=1)
_SLICE = 100  # of messages that are settled without a call


@dataclass(frozen=True, kw_only=True, slots=True)
class RepeatPolicy:
    """When a message may be offered again after an answer was lost. `spread`: by how much of a gap it may be longer."""

    after: timedelta
    duration: timedelta
    spread: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptResult:
    """How one attempt ended. `number` tells which of the message's attempts."""

    number: int
    result: SendResult


class ClaimedMessage(NamedTuple):
    """What of a message goes to the gateway, and how often it was offered: `tries`, the attempt begun included."""

    id: UUID
    recipient: str
    text: str
    message_guid: str
    transport: str
    tries: int
    call_limit: int | None
    unclear_since: datetime | None
    suspicion: int | None
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


def claim(
    session: Session,
    now: datetime,
    *,
    limit: int,
    lease: timedelta,
    repeats: RepeatPolicy,
    gates: Sequence[Gate] = (),
) -> Sequence[ClaimedMessage]:
    """Up to `limit` due messages for one call, each with an attempt begun and its lease running.

    They are of one transport and account, and no two go to the same recipient. Of what has one clientRef and recipient,
    the first is offered first; once its answer was lost it holds nothing up. A message that may have been taken is
    offered again only within its time: nobody knows how long the gateway remembers a guid. It shares its calls with
    others that may have been, and only with so many as its last calls allow.

    `gates`: accounts by which not everything may go out; the caller takes a gate's turn if the call needs it.
    """
    keyset.force_index_order(session)  # else all that is due is looked at and sorted, time and again
    due = _due_through(session, now, limit, repeats, gates) if gates else _due(session, now, limit, repeats, _FREE)
    if not gates and len({message.impersonate_user_name for message in due}) > 1:
        # Else clients that take turns in the queue would make a call of each message.
        due = _due(session, now, limit, repeats, _FREE, _is_of(account_of(due[0].impersonate_user_name)))
    chosen: dict[str, ClaimedMessage] = {}
    for message in due:
        if _kind(message) == _kind(due[0]) and len(chosen) < (message.call_limit or limit):
            chosen.setdefault(message.recipient, message._replace(tries=message.tries + 1))
    claimed = list(chosen.values())
    if claimed:
        _begin(session, claimed, now, lease)
    return claimed


def gate_of(message: ClaimedMessage, gates: Sequence[Gate]) -> Gate | None:
    """The gate whose turn a call takes that begins with this message; None: it needs none."""
    account = account_of(message.impersonate_user_name)
    gate = next((gate for gate in gates if gate.account == account), None)
    is_witness = message.suspicion is None or (message.suspicion == DISPELLED and message.unclear_since is not None)
    return None if gate is None or (is_witness and not gate.is_refused) else gate


# Not under a suspicion.
_FREE = or_(Message.suspicion.is_(None), Message.suspicion == DISPELLED)
# Fit to show what is with an account, as `gate_of` has it: what was refused so before may be so again for its own sake.
_IS_WITNESS = or_(Message.suspicion.is_(None), and_(Message.suspicion == DISPELLED, Message.unclear_since.is_not(None)))


def _due_through(
    session: Session, now: datetime, limit: int, repeats: RepeatPolicy, gates: Sequence[Gate]
) -> Sequence[ClaimedMessage]:
    """What is due of the account that has waited longest and may send: all of it, or one message through its gate.

    A campaign that the gateway dislikes stands together in the queue. So the one message, which is to show what is
    with the account, is the newest that was never offered.
    """
    closed = {gate.account: gate for gate in gates}
    for account in _accounts_due(session, now):
        of_account, gate = _is_of(account), closed.get(account)
        if gate is None:
            found = _due(session, now, limit, repeats, _FREE, of_account)
        elif gate.is_refused:
            found = _witness(session, now, repeats, _FREE, of_account) if gate.is_open else []
        else:
            found = _witness(session, now, repeats, _IS_WITNESS, of_account)
            if not found and gate.is_open:
                found = _due(session, now, 1, repeats, accounts.may_be_tried, of_account)
        if found:
            return found
    return []


def _witness(
    session: Session, now: datetime, repeats: RepeatPolicy, *conditions: ColumnElement[bool]
) -> Sequence[ClaimedMessage]:
    """One message that is to show what is with its account."""
    never_offered = Message.offered_at.is_(None)
    newest = _due(session, now, 1, repeats, *conditions, never_offered, is_newest_first=True)
    return newest or _due(session, now, 1, repeats, *conditions)


def _due(
    session: Session,
    now: datetime,
    limit: int,
    repeats: RepeatPolicy,
    *conditions: ColumnElement[bool],
    is_newest_first: bool = False,
) -> Sequence[ClaimedMessage]:
    """Up to `limit` messages that may be offered now, locked; the one that has been due longest first."""
    order = (Message.due_at, Message.id)
    query = (
        select(*(getattr(Message, name) for name in ClaimedMessage._fields))
        .where(
            Message.due_at <= now,
            Message.calling_since.is_(None),
            Message.status.in_(UNSETTLED),
            not_(_is_too_late(now, repeats)),
            or_(Message.offered_at.is_not(None), not_(_waits_for_another(now, repeats))),
            *conditions,
        )
        .order_by(*(column.desc() for column in order) if is_newest_first else order)
        .limit(limit)
        .with_for_update(of=Message, skip_locked=True, key_share=True)
    )
    return [ClaimedMessage._make(row) for row in session.execute(query)]


def _is_of(account: str) -> ColumnElement[bool]:
    return accounts.of_message == account


_ACCOUNTS_DUE = text(  # from one account to the next in the index, however much is due of each
    f"""
    WITH RECURSIVE names(name) AS (
        SELECT (SELECT {ACCOUNT} FROM messages WHERE due_at IS NOT NULL ORDER BY {ACCOUNT} LIMIT 1)
        UNION ALL
        SELECT (
            SELECT {ACCOUNT} FROM messages WHERE due_at IS NOT NULL AND {ACCOUNT} > names.name
            ORDER BY {ACCOUNT} LIMIT 1
        ) FROM names WHERE names.name IS NOT NULL
    )
    SELECT name, (
        SELECT due_at FROM messages WHERE due_at IS NOT NULL AND {ACCOUNT} = names.name ORDER BY due_at LIMIT 1
    ) AS due_at FROM names WHERE name IS NOT NULL
    """  # noqa: S608 - our own words
).columns(due_at=UtcDateTime())


def _accounts_due(session: Session, now: datetime) -> Sequence[str]:
    """The accounts of what is due, the one that has waited longest first."""
    found = [(due_at, name) for name, due_at in session.execute(_ACCOUNTS_DUE) if due_at is not None and due_at <= now]
    return [name for _, name in sorted(found)]


def _kind(message: ClaimedMessage) -> tuple[object, ...]:
    """What all messages of a call have in common."""
    account = account_of(message.impersonate_user_name)
    return message.transport, account, message.call_limit, message.unclear_since is None


def _begin(session: Session, claimed: Sequence[ClaimedMessage], now: datetime, lease: timedelta) -> None:
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


def retire_late(session: Session, now: datetime, repeats: RepeatPolicy) -> int:
    """Settle due messages whose time has gone by; how many there were.

    One that was never given to the gateway is expired. One that may have been is `send_unknown`, for a receipt to
    settle.
    """
    late = session.execute(
        select(Message.id, Message.unclear_since, Message.status)
        .where(Message.due_at <= now, Message.calling_since.is_(None), _is_too_late(now, repeats))
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
    stretch = _stretch(repeats)
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


def _stretch(repeats: RepeatPolicy) -> float:
    """By how much gaps are longer: one for all, so that what was in one call stays together."""
    return 1 + repeats.spread * random.random()  # noqa: S311 - no secret


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
    stretch = _stretch(repeats)
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


def _next_limit(ended: Mapping[UUID, AttemptResult], rows: Mapping[UUID, _Called]) -> int | None:
    """How many messages the next calls of these may hold: half as many, if no repeat brought any of them an answer."""
    is_unclear = all(end.result.outcome is SendOutcome.UNCLEAR for end in ended.values())
    is_repeat = all(message.unclear_since is not None for message in rows.values())
    return (len(ended) + 1) // 2 if is_unclear and is_repeat and len(ended) > 1 else None


def settle_lost(session: Session, now: datetime, repeats: RepeatPolicy, *, all_calls: bool = False) -> int:
    """Count calls whose lease has ended as lost answers; how many there were.

    `all_calls`: whatever the lease says. Only where no other process can be calling.
    """
    query = select(Message.id, Message.tries).where(Message.calling_since.is_not(None))
    if not all_calls:
        query = query.where(Message.due_at <= now)
    rows = session.execute(
        query.order_by(Message.id).limit(_SLICE).with_for_update(skip_locked=True, key_share=True)
    ).all()
    lost = SendResult(outcome=SendOutcome.UNCLEAR, description="the process that made this call went away")
    record_results(session, {row.id: AttemptResult(number=row.tries, result=lost) for row in rows}, now, repeats)
    return len(rows)


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


def _is_too_late(now: datetime, repeats: RepeatPolicy, message: type[Message] = Message) -> ColumnElement[bool]:
    """Whether a message is not to be offered any more. Never null, so that it can be negated."""
    return or_(
        and_(message.valid_until.is_not(None), message.valid_until <= now),
        and_(message.unclear_since.is_not(None), message.unclear_since <= now - repeats.duration),
    )


def _waits_for_another(now: datetime, repeats: RepeatPolicy) -> ColumnElement[bool]:
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
            earlier.unclear_since.is_(None),
            or_(earlier.suspicion.is_(None), earlier.tries == 1),  # else it was tried by itself, in vain
            or_(earlier.offered_at.is_not(None), earlier.due_at <= now),  # else it waits for its deliverAfter
            or_(earlier.calling_since.is_not(None), not_(_is_too_late(now, repeats, earlier))),
        )
        .exists()
    )


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


def _next_due(
    message: _Called,
    tried: Mapping[int, _Tried],
    outcome: SendOutcome,
    now: datetime,
    repeats: RepeatPolicy,
    *,
    stretch: float,
) -> datetime | None:
    """When to look at a message again after its call ended so; None: never."""
    alike = _MAY_BE_SENT if outcome in _MAY_BE_SENT else {outcome}
    before = sum(attempt.outcome in alike for attempt in tried.values()) - 1  # how often it ended so before
    match outcome:
        case SendOutcome.ACCOUNT_REFUSED | SendOutcome.SUSPECT_REFUSED:
            return now  # its account is held, or this message; it did nothing wrong
        case SendOutcome.SUSPECT_UNCLEAR:
            # Within the time for repeats it may be tried again; then it is settled as one that may have been sent.
            last = _last_repeat(message, now, repeats)
            return last if message.transport != "soap" else min(now + _unclear_gap(repeats, before) * stretch, last)
        case SendOutcome.NOT_SENT:
            return now + min(_doubled(_FIRST_GAP, before), _MAX_GAP) * stretch
        case SendOutcome.UNCLEAR if message.transport == "soap":
            due = now + _unclear_gap(repeats, before) * stretch
            return due if due < _last_repeat(message, now, repeats) else None
        case _:  # settled, or without a messageGuid on the wire: then a repeat could be a second SMS
            return None


def _last_repeat(message: _Called, now: datetime, repeats: RepeatPolicy) -> datetime:
    """Before which a message that may have been sent may be offered again."""
    last = (message.unclear_since or now) + repeats.duration
    return min(last, message.valid_until or last)


def _unclear_gap(repeats: RepeatPolicy, before: int) -> timedelta:
    return min(_doubled(repeats.after, before), max(repeats.after, _MAX_GAP))


def _doubled(gap: timedelta, times: int) -> timedelta:
    return gap * (1 << min(times, 10))


def _reason(result: SendResult) -> str | None:
    said = [part for part in (result.code, result.description, result.detail) if part]
    return ": ".join(said) or None
