"""Accounts that the gateway refuses, or may refuse: what they hold, who may try them, and when that is over.

What a call says of its account is `domain.accounts`' to judge; which messages wait is kept with them by `call_results`.
Here stand the rows of accounts that are not as they should be. Whoever changes one holds the row of all sending first.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Text, and_, delete, func, literal_column, or_, select, update
from sqlalchemy.orm import Session

from receiptsvc import logs
from receiptsvc.domain.accounts import OWN, AccountState
from receiptsvc.domain.backoff import Backoff
from receiptsvc.domain.messages import SendOutcome
from receiptsvc.domain.sentences import agree
from receiptsvc.store.core.models import ACCOUNT, Message, SendingAccount
from receiptsvc.store.outbound import send_gate

# Written out, because an index is found only by its own words.
of_message: ColumnElement[str] = literal_column(ACCOUNT.replace("impersonate", "messages.impersonate"), Text)
waits: ColumnElement[bool] = literal_column("messages.suspicion > 0")


MAX_SHOWN = 100  # accounts

_TRIES = Backoff.doubling(timedelta(seconds=1), send_gate.PROBES.gaps[-1])
_MAX_NAME = 100  # of an account, in a line of the log


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """An account by which not everything may go out now.

    `is_refused`: nothing but a probe; else it is only suspected. `is_open`: whether its probe is due, or the time has
    come to try one of the messages that wait. `opened_at`: since when.
    """

    account: str
    is_refused: bool
    is_open: bool
    opened_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A call whose end is to be judged. `knows_up_to`: the number of the last suspicion of which it knew at its claim.

    `is_alone`: it was the probe of an account that is refused, or tried a message that waits.
    """

    account: str
    knows_up_to: int
    is_alone: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ImpairedAccount:
    """An account that is not as it should be, for ops. `name`: None for the one without an impersonateUserName.

    `next_try_at`: of its probe, or of a message that waits, should no other be due; None: none of those may be tried.
    """

    name: str | None
    refused_at: datetime | None
    suspected_at: datetime | None
    next_try_at: datetime | None
    waiting: int


def gates(session: Session, now: datetime) -> Sequence[Gate]:
    """The accounts by which not everything may go out."""
    found = []
    for row in session.scalars(select(SendingAccount).where(_is_amiss)):
        at = row.probe_at if row.refused_at else row.try_at
        is_open = at is None or at <= now
        found.append(Gate(account=row.name, is_refused=row.refused_at is not None, is_open=is_open, opened_at=at))
    return found


def take_turn(session: Session, gate: Gate, now: datetime) -> bool:
    """Use a gate that is open; False if another call was first. It counts when this transaction commits."""
    at, gap = (
        (SendingAccount.probe_at, SendingAccount.probe_gap_seconds)
        if gate.is_refused
        else (SendingAccount.try_at, SendingAccount.try_gap_seconds)
    )
    seconds = session.scalar(select(gap).where(SendingAccount.name == gate.account)) or 0
    taken = update(SendingAccount).where(SendingAccount.name == gate.account, at == gate.opened_at)
    taken = taken.values({at: now + timedelta(seconds=seconds)}).execution_options(synchronize_session=False)
    return session.scalar(taken.returning(SendingAccount.name)) is not None


def is_known(session: Session, name: str) -> bool:
    """Whether an account has a row."""
    return session.scalar(select(SendingAccount.name).where(SendingAccount.name == name)) is not None


def find(session: Session, name: str) -> SendingAccount | None:
    """An account's row as it stands now; None: all is well with it. It may change unless all sending's row is held."""
    return session.get(SendingAccount, name, populate_existing=True)


def state_of(row: SendingAccount | None) -> AccountState | None:
    """How the account of a row stands; None without one."""
    if row is None:
        return None
    return AccountState(
        is_refused=row.refused_at is not None,
        is_suspected=row.suspected_at is not None,
        refuses_calls=row.refuses_calls,
        works_number=row.works_number,
    )


def is_met_again(
    session: Session,
    row: SendingAccount,
    call: Call,
    outcome: SendOutcome,
    *,
    numbers: Collection[int],
    message_ids: Collection[UUID],
) -> bool:
    """Whether a call knew of an open suspicion that other messages than its own have met in the same way.

    `outcome`: how it ended. `numbers`: of the suspicions under which its own messages have waited.
    """
    may_be_sent = Message.unclear_since
    is_alike = may_be_sent.is_(None) if outcome is SendOutcome.SUSPECT_REFUSED else may_be_sent.is_not(None)
    others = [_is_open(row), Message.suspicion <= call.knows_up_to, Message.suspicion.not_in(numbers)]
    return _exists(session, is_alike, *others, Message.id.not_in(list(message_ids)))


def suspect(session: Session, row: SendingAccount | None, call: Call, now: datetime) -> int:
    """Note that a call may have met a refusal of its account; the number of that."""
    number = send_gate.next_number(session)
    row = row or _add(session, call.account, number)
    if row.suspected_at is None:
        row.suspected_at, row.since_number, row.try_gap_seconds = now, number, 0
        logs.warning("send.account_suspected", **_in_log(call.account))
    if call.is_alone or not row.try_gap_seconds:
        gap = _TRIES.following(timedelta(seconds=row.try_gap_seconds))
        row.try_at, row.try_gap_seconds = now + gap, round(gap.total_seconds())
    return number


def refuse(
    session: Session, row: SendingAccount | None, call: Call, now: datetime, *, of_calls: bool
) -> SendingAccount:
    """Hold an account; its row. Several calls may learn of one refusal, and it counts once.

    `of_calls`: whole calls are refused, not items only.
    """
    if row is None or (row.suspected_at is None and row.refused_at is None):
        number = send_gate.next_number(session)
        row = row or _add(session, call.account, number)
        row.since_number = number
    if row.refused_at is None or call.is_alone:
        gap = send_gate.PROBES.following(timedelta(seconds=row.probe_gap_seconds))
        row.refused_at, row.probe_at = row.refused_at or now, now + gap
        row.probe_gap_seconds = round(gap.total_seconds())
        logs.error("send.account_refused", None, next_probe_seconds=row.probe_gap_seconds, **_in_log(call.account))
    row.refuses_calls = row.refuses_calls or of_calls
    row.suspected_at, row.try_at, row.try_gap_seconds = None, None, 0
    return row


def free(session: Session, row: SendingAccount, call: Call, message_ids: Collection[UUID], now: datetime) -> None:
    """Note that a call has shown that its account works, if it began after what was found against that."""
    if call.knows_up_to < row.since_number:
        return
    row.works_number = max(row.works_number, call.knows_up_to)
    if row.refused_at is not None:
        logs.info("send.account_works_again", **_in_log(call.account))
    row.refused_at, row.refuses_calls, row.probe_at, row.probe_gap_seconds = None, False, None, 0
    if _exists(session, _is_open(row), Message.id.not_in(list(message_ids))):  # found out while this call ran
        row.since_number = row.works_number + 1
        row.suspected_at = row.suspected_at or now
    else:
        row.suspected_at, row.try_at, row.try_gap_seconds = None, None, 0


def hold_forgettable(session: Session) -> bool:
    """Hold all sending's row if `forget` may have something to do, which the answer says.

    To be called before messages are recorded: whoever holds that row may then want the counts that recording writes.
    """
    any_free = session.scalar(select(SendingAccount.name).where(SendingAccount.refused_at.is_(None)).limit(1))
    if any_free is not None:
        send_gate.hold(session)
    return any_free is not None


def forget(session: Session) -> None:
    """Leave no row of an account that is not refused, and for which no message waits any more.

    All sending's row is held.
    """
    waiting = select(Message.id).where(waits, of_message == SendingAccount.name).exists()
    idle = delete(SendingAccount).where(SendingAccount.refused_at.is_(None), ~waiting)
    session.execute(idle.execution_options(synchronize_session=False))


def may_be_tried(ignore_repeats: Collection[str]) -> ColumnElement[bool]:
    """What may be tried by itself while nothing else shows it: never what may have been sent, if a repeat could be too.

    `ignore_repeats`: the transports by which the gateway ignores a message that it has had.
    """
    is_harmless = or_(Message.unclear_since.is_(None), Message.transport.in_(ignore_repeats))
    return and_(Message.suspicion.is_not(None), is_harmless)


def read_impaired(session: Session, ignore_repeats: Collection[str]) -> Sequence[ImpairedAccount]:
    """The accounts that are not as they should be, at most MAX_SHOWN: first what is refused, then the longest.

    `ignore_repeats`: as for `may_be_tried`.
    """
    is_waiting = and_(waits, of_message == SendingAccount.name)
    waiting = select(func.count(Message.id)).where(is_waiting).scalar_subquery()
    due_at = select(func.min(Message.due_at)).where(is_waiting, may_be_tried(ignore_repeats)).scalar_subquery()
    query = (
        select(SendingAccount, waiting, due_at)
        .where(_is_amiss)
        .order_by(SendingAccount.refused_at.is_(None), SendingAccount.refused_at, SendingAccount.suspected_at)
        .limit(MAX_SHOWN)
    )
    return [
        ImpairedAccount(
            name=row.name or None,
            refused_at=row.refused_at,
            suspected_at=row.suspected_at,
            next_try_at=row.probe_at if row.refused_at else max(row.try_at or due_at, due_at) if due_at else None,
            waiting=count,
        )
        for row, count, due_at in session.execute(query)
    ]


def describe(shown: Sequence[ImpairedAccount]) -> list[str]:
    """What is not as it should be with accounts, for ops."""
    return [
        f"the gateway refuses {_called(one.name)}"
        if one.refused_at
        else f"the gateway may refuse {_called(one.name)}: "
        f"{agree(one.waiting, 'message waits', 'messages wait')} for another one to show it"
        for one in shown
    ]


_is_amiss = or_(SendingAccount.refused_at.is_not(None), SendingAccount.suspected_at.is_not(None))


def _is_open(row: SendingAccount) -> ColumnElement[bool]:
    """Whether a message waits under a suspicion of this account that nothing has decided yet."""
    is_undecided = and_(waits, Message.suspicion > row.works_number)
    return and_(is_undecided, of_message == row.name, Message.due_at.is_not(None))


def _exists(session: Session, *conditions: ColumnElement[bool]) -> bool:
    return session.scalar(select(Message.id).where(*conditions).limit(1)) is not None


def _add(session: Session, name: str, number: int) -> SendingAccount:
    row = SendingAccount(
        name=name, since_number=number, works_number=0, refuses_calls=False, try_gap_seconds=0, probe_gap_seconds=0
    )
    session.add(row)
    return row


def _called(name: str | None) -> str:
    return "our credentials" if name is None else f"the account {name}"


def _in_log(name: str) -> dict[str, str]:
    return {} if name == OWN else {"account": name[:_MAX_NAME]}
