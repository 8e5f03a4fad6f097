"""What operators do to messages: cancel those not yet given to the gateway, resolve those with an unknown fate.

Each action locks the messages before it asks `domain.operator_actions`, is recorded as one more report about them, so
that a later receipt still wins, and writes an audit.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, not_, select, tuple_
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain import references, waiting
from receiptsvc.domain.errors import Refused
from receiptsvc.domain.operator_actions import (
    CANCELLED_BY_HAND,
    RESOLVED_BY_HAND,
    refuse_cancelling,
    refuse_resolving,
)
from receiptsvc.domain.statuses import Status
from receiptsvc.store.core import audits, bulk, prefixes
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.models import Message
from receiptsvc.store.core.paging import Page, cut
from receiptsvc.store.messages import transitions
from receiptsvc.store.messages.transitions import LockedMessage

CANCELLED = "messages"  # the subject of an audit of many messages

_EXAMPLES = 5
_CAN_BE_CANCELLED: Sequence[ColumnElement[bool]] = (  # as `refuse_cancelling` has it, on the index of what is due
    Message.due_at.is_not(None),
    Message.status == Status.ACCEPTED,
    Message.calling_since.is_(None),
    Message.unclear_since.is_(None),
)

DueKey: TypeAlias = tuple[datetime | None, UUID]  # a message's due_at and id


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelSelection:
    """Which messages to cancel: those that fit every given field. `since` ≤ time of acceptance < `until`.

    `scheduled`: only those that wait here for their deliverAfter.
    """

    client_ref: str | None = None
    client_ref_prefix: str | None = None
    recipient: str | None = None
    originator: str | None = None
    created_by: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    scheduled: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """How messages stand that were chosen to be cancelled. `gone`: some of those that can't be, and were not."""

    cancelled: int
    left: int  # that still can be
    gone_count: int
    gone: Sequence[UUID]


def cancel(session: Session, message_id: UUID, by: Actor, now: datetime) -> bool:
    """Cancel one message; False if it does not exist. Raises Refused if the gateway may have it, or it is settled."""
    locked = transitions.lock_messages(session, [message_id])
    if not locked:
        return False
    message = locked[message_id]
    refusal = _refuse_cancelling(message)
    if refusal is not None:
        raise Refused(_refuse_cancelling(message, _find_schedule(session, message, now)) or refusal)
    _record(session, locked, _step(Status.CANCELLED, CANCELLED_BY_HAND, by, now), now)
    audits.write(
        session, at=now, actor=by.actor, action="cancel", subject=ids.public("msg", message_id), reason=by.reason
    )
    return True


def find_cancellable(
    session: Session, selection: CancelSelection, *, limit: int, after: DueKey | None = None
) -> Page[UUID, DueKey]:
    """The next messages that can be cancelled, the first due ones first."""
    conditions = [*_CAN_BE_CANCELLED]
    for column, value in (
        (Message.recipient, selection.recipient),
        (Message.originator, selection.originator),
        (Message.created_by, selection.created_by),
    ):
        if value is not None:
            conditions.append(column == value)
    if selection.client_ref is not None:
        conditions.append(Message.client_ref.in_(references.client_ref_spellings(selection.client_ref)))
    if selection.client_ref_prefix is not None:
        conditions.append(prefixes.begins_with(Message.client_ref, selection.client_ref_prefix))
    if selection.scheduled:
        conditions.append(Message.due_at == Message.deliver_after)
    if selection.since is not None:
        conditions.append(Message.created_at >= selection.since)
    if selection.until is not None:
        conditions.append(Message.created_at < selection.until)
    if after is not None:
        conditions.append(tuple_(Message.due_at, Message.id) > tuple_(*after))
    query = select(Message.due_at, Message.id).where(*conditions).order_by(Message.due_at, Message.id)
    rows = session.execute(query.limit(limit + 1)).all()
    page = cut(rows, limit, lambda row: (row.due_at, row.id))
    return Page(items=[row.id for row in page.items], next=page.next)


def describe_chosen(session: Session, message_ids: Collection[UUID]) -> Chosen:
    """How these messages stand now; not too many of them."""
    if not message_ids:
        return Chosen(cancelled=0, left=0, gone_count=0, gone=())
    ours, can_be = bulk.among(session, Message.id, message_ids), and_(*_CAN_BE_CANCELLED)
    is_gone = and_(Message.status != Status.CANCELLED, not_(can_be))
    is_cancelled = Message.status == Status.CANCELLED
    counts = select(func.count().filter(is_cancelled), func.count().filter(can_be), func.count().filter(is_gone))
    cancelled, left, gone_count = session.execute(counts.where(ours)).one()
    some = select(Message.id).where(ours, is_gone).order_by(Message.id).limit(_EXAMPLES)
    gone = session.scalars(some).all() if gone_count else ()
    return Chosen(cancelled=cancelled, left=left, gone_count=gone_count, gone=gone)


def cancel_found(session: Session, message_ids: Collection[UUID], by: Actor, now: datetime) -> int:
    """Cancel those of these messages that still can be; how many."""
    locked = {
        message_id: message
        for message_id, message in transitions.lock_messages(session, message_ids).items()
        if _refuse_cancelling(message) is None  # a call may have begun since it was found
    }
    if locked:
        _record(session, locked, _step(Status.CANCELLED, CANCELLED_BY_HAND, by, now), now)
        audits.write(
            session,
            at=now,
            actor=by.actor,
            action="cancel",
            subject=CANCELLED,
            reason=by.reason,
            details={"messages": [ids.public("msg", message_id) for message_id in locked]},
        )
    return len(locked)


def resolve(session: Session, message_id: UUID, status: Status, by: Actor, now: datetime) -> bool:
    """Settle a `send_unknown` message by an operator's decision; False if it does not exist.

    Raises Refused for a message of any other status.
    """
    locked = transitions.lock_messages(session, [message_id])
    if not locked:
        return False
    message = locked[message_id]
    refusal = refuse_resolving(message.status, unclear_since=message.unclear_since)
    if refusal is not None:
        raise Refused(refusal)
    _record(session, locked, _step(status, RESOLVED_BY_HAND, by, now), now)
    audits.write(
        session,
        at=now,
        actor=by.actor,
        action="resolve",
        subject=ids.public("msg", message_id),
        reason=by.reason,
        details={"status": status.value},
    )
    return True


def _refuse_cancelling(message: LockedMessage, scheduled_at: datetime | None = None) -> str | None:
    return refuse_cancelling(
        message.status,
        calling_since=message.calling_since,
        unclear_since=message.unclear_since,
        scheduled_at=scheduled_at,
    )


def _find_schedule(session: Session, message: LockedMessage, now: datetime) -> datetime | None:
    deliver_after = session.scalar(select(Message.deliver_after).where(Message.id == message.id))
    return waiting.find_scheduled_at(Status(message.status), deliver_after=deliver_after, now=now)


def _step(status: Status, rule: str, by: Actor, now: datetime) -> transitions.NewTransition:
    reason = f"{by.actor}: {by.reason}" if by.reason else by.actor
    return transitions.NewTransition(report=transitions.own_report(status, now), rule=rule, reason=reason)


def _record(
    session: Session, locked: Mapping[UUID, LockedMessage], step: transitions.NewTransition, now: datetime
) -> None:
    transitions.record(session, locked, [(message_id, step) for message_id in locked], now)
