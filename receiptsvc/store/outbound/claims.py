"""Which messages go to the gateway next: claims under a lease.

A claim is committed before the first byte of its call. If no result is ever recorded (`call_results`), the lease ends.
A call is by one account.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, not_, or_, select, text, update
from sqlalchemy.orm import Session, aliased

from receiptsvc.domain import numbers
from receiptsvc.domain.accounts import DISPELLED, account_of
from receiptsvc.domain.messages import MessageContent
from receiptsvc.domain.retry_policy import RepeatPolicy
from receiptsvc.domain.statuses import UNSETTLED, Status
from receiptsvc.store.core import bulk, keyset
from receiptsvc.store.core.models import ACCOUNT, Attempt, Message, UtcDateTime
from receiptsvc.store.outbound import accounts, suppressions, withdrawal
from receiptsvc.store.outbound.accounts import Gate
from receiptsvc.store.outbound.suppressions import Pair


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimedMessage(MessageContent):
    """What of a message goes to the gateway, and how often it was offered: `tries`, the attempt begun included."""

    id: UUID
    recipient: str
    message_guid: str
    transport: str
    tries: int
    call_limit: int | None
    unclear_since: datetime | None
    suspicion: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """Messages for one call. `withdrawn`: how many others were due, and do not go out any more."""

    messages: Sequence[ClaimedMessage]
    withdrawn: int = 0


_MAX_LOOKS = 10  # at what is due, while it is withdrawn
_CLAIMED = tuple(field.name for field in fields(ClaimedMessage))


def claim(
    session: Session,
    now: datetime,
    *,
    limit: int,
    lease: timedelta,
    repeats: RepeatPolicy,
    gates: Sequence[Gate] = (),
) -> Claim:
    """Claim up to `limit` due messages for one call, each with an attempt begun and its lease running.

    They are of one transport and account, and no two go to the same recipient. Of what has one clientRef and recipient,
    the first is offered first; once its answer was lost it holds nothing up. A message that may have been taken is
    offered again only within its time: nobody knows how long the gateway remembers a guid. It shares its calls with
    others that may have been, and only with so many as its last calls allow.

    `gates`: accounts by which not everything may go out; the caller takes a gate's turn if the call needs it.

    What is due to a person who has been suppressed since it was accepted is withdrawn instead.
    """
    keyset.force_index_order(session)  # else all that is due is looked at and sorted, time and again
    withdrawn = 0
    for _ in range(_MAX_LOOKS):
        due = _next_due(session, now, limit, repeats, gates)
        suppressed = _find_suppressed(session, due)
        if not suppressed:
            chosen = _choose(due, limit)
            if chosen:
                _begin(session, chosen, now, lease)
            return Claim(messages=chosen, withdrawn=withdrawn)
        withdrawal.withdraw(session, suppressed, now)
        withdrawn += len(suppressed)
    return Claim(messages=(), withdrawn=withdrawn)


def _next_due(
    session: Session, now: datetime, limit: int, repeats: RepeatPolicy, gates: Sequence[Gate]
) -> Sequence[ClaimedMessage]:
    due = _due_through(session, now, limit, repeats, gates) if gates else _due(session, now, limit, repeats, _FREE)
    if not gates and len({message.impersonate_user_name for message in due}) > 1:
        # Else clients that take turns in the queue would make a call of each message.
        due = _due(session, now, limit, repeats, _FREE, _is_of(account_of(due[0].impersonate_user_name)))
    return due


def _find_suppressed(session: Session, due: Sequence[ClaimedMessage]) -> Sequence[UUID]:
    suppressed = suppressions.find(session, {message.recipient for message in due})
    return [
        message.id
        for message in due
        if suppressed and Pair(message.recipient, numbers.fold_originator(message.originator)) in suppressed
    ]


def _choose(due: Sequence[ClaimedMessage], limit: int) -> Sequence[ClaimedMessage]:
    """Those of what is due that share a call."""
    chosen: dict[str, ClaimedMessage] = {}
    for message in due:
        if _kind(message) == _kind(due[0]) and len(chosen) < (message.call_limit or limit):
            chosen.setdefault(message.recipient, replace(message, tries=message.tries + 1))
    return list(chosen.values())


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
                found = _due(session, now, 1, repeats, accounts.may_be_tried(repeats.transports), of_account)
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
        select(*(getattr(Message, name) for name in _CLAIMED))
        .where(
            Message.due_at <= now,
            Message.calling_since.is_(None),
            Message.status.in_(UNSETTLED),
            not_(is_too_late(now, repeats)),
            or_(Message.offered_at.is_not(None), not_(_waits_for_another(now, repeats))),
            *conditions,
        )
        .order_by(*(column.desc() for column in order) if is_newest_first else order)
        .limit(limit)
        .with_for_update(of=Message, skip_locked=True, key_share=True)
    )
    return [ClaimedMessage(**dict(zip(_CLAIMED, row, strict=True))) for row in session.execute(query)]


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


def is_too_late(now: datetime, repeats: RepeatPolicy, message: type[Message] = Message) -> ColumnElement[bool]:
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
            or_(earlier.calling_since.is_not(None), not_(is_too_late(now, repeats, earlier))),
        )
        .exists()
    )
