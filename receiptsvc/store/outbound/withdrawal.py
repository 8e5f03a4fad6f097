"""Withdraws what is not to go out any more because its recipient is suppressed for its sender.

What the gateway can't have is cancelled. What it may have stays `send_unknown`, and is never offered again. What it has
can't be taken back: what it is to send later is listed.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from receiptsvc.domain import call_ends, numbers
from receiptsvc.domain.call_ends import Step
from receiptsvc.domain.statuses import UNSETTLED, Status
from receiptsvc.store.core.models import Message
from receiptsvc.store.messages import transitions
from receiptsvc.store.outbound.suppressions import Pair

_MAY_BE_THERE = (Status.ACCEPTED, Status.SEND_UNKNOWN, Status.SUBMITTED)  # if they were offered
_MAX_FOUND = 1_000  # messages of one person; what is left is withdrawn when its turn comes


@dataclass(frozen=True, kw_only=True, slots=True)
class Withdrawal:
    """What became of messages, by id. `scheduled`: the gateway has them, or may have, and is to send them later."""

    cancelled: Collection[UUID] = ()
    unrepeated: Collection[UUID] = ()
    scheduled: Collection[UUID] = ()


def withdraw(session: Session, message_ids: Collection[UUID], now: datetime) -> Withdrawal:
    """Withdraw those of these messages that are in no call."""
    locked = transitions.lock_messages(session, message_ids)
    steps: dict[UUID, Step] = {}
    for message in locked.values():
        if message.status in UNSETTLED and message.calling_since is None and message.due_at is not None:
            steps[message.id] = call_ends.step_if_suppressed(message.status, message.unclear_since)
            message.due_at = None
    entries = [
        (
            message_id,
            transitions.NewTransition(
                report=transitions.own_report(step.status, now), rule=step.rule, reason=step.reason
            ),
        )
        for message_id, step in steps.items()
    ]
    transitions.record(session, {message_id: locked[message_id] for message_id in steps}, entries, now)
    cancelled = {message_id for message_id, step in steps.items() if step.status not in UNSETTLED}
    return Withdrawal(cancelled=cancelled, unrepeated=steps.keys() - cancelled)


def withdraw_all(session: Session, pairs: Collection[Pair], now: datetime) -> Mapping[Pair, Withdrawal]:
    """Withdraw what is due from these senders to these people, now or later; and what can't be withdrawn.

    What another transaction has locked, such as one that claims it, is left alone.
    """
    return {pair: _withdraw_pair(session, pair, now) for pair in sorted(pairs)}


def _withdraw_pair(session: Session, pair: Pair, now: datetime) -> Withdrawal:
    due = select(Message.id, Message.originator).where(Message.recipient == pair.recipient, Message.due_at.is_not(None))
    found = session.execute(
        due.order_by(Message.id).limit(_MAX_FOUND).with_for_update(skip_locked=True, key_share=True)
    )
    done = withdraw(session, [row.id for row in found if _is_of(row.originator, pair)], now)
    newest = (
        select(Message.id, Message.originator, Message.deliver_after, Message.offered_at, Message.status)
        .where(Message.recipient == pair.recipient)
        .order_by(Message.created_at.desc(), Message.id.desc())
        .limit(_MAX_FOUND)
        .subquery()
    )
    rows = session.execute(
        select(newest.c.id, newest.c.originator)
        .where(newest.c.deliver_after > now, newest.c.offered_at.is_not(None), newest.c.status.in_(_MAY_BE_THERE))
        .order_by(newest.c.id)
    )
    scheduled = [row.id for row in rows if _is_of(row.originator, pair)]
    return Withdrawal(cancelled=done.cancelled, unrepeated=done.unrepeated, scheduled=scheduled)


def _is_of(originator: str | None, pair: Pair) -> bool:
    return numbers.fold_originator(originator) == pair.originator
