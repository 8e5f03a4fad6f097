"""What operators do to messages: cancel those not yet given to the gateway, resolve those with an unknown fate.

Each action locks the messages before it decides, is recorded as one more report about them, so that a later receipt
still wins, and writes an audit.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from uuid import UUID

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain.errors import Refused
from receiptsvc.domain.statuses import Status
from receiptsvc.store.core import audits
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import MAX_SECONDS, Database
from receiptsvc.store.core.models import Message
from receiptsvc.store.messages import transitions
from receiptsvc.store.messages.transitions import LockedMessage

RESOLUTIONS = (Status.SUBMITTED, Status.DELIVERED, Status.UNDELIVERED, Status.FAILED)
MAX_CANCELLED = 100_000  # in one call
CANCELLED = "messages"  # the subject of an audit of many messages

_SLICE = 250  # messages in one transaction
_SQLITE_SLICE = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelSelection:
    """Which messages to cancel: those that fit every given field. `since` ≤ time of acceptance < `until`."""

    client_ref: str | None = None
    recipient: str | None = None
    originator: str | None = None
    created_by: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Cancelled:
    """How many messages were cancelled, or would be in a dry run. `is_complete`: whether these were all."""

    count: int
    is_complete: bool


def cancel(session: Session, message_id: UUID, by: Actor, now: datetime) -> bool:
    """Cancel one message; False if it does not exist. Raises Refused if the gateway may have it, or it is settled."""
    locked = transitions.lock_messages(session, [message_id])
    if not locked:
        return False
    message = locked[message_id]
    if not _is_cancellable(message):
        raise Refused(_explain_refusal(message))
    _record(session, locked, _step(Status.CANCELLED, "cancelled by hand", by, now), now)
    audits.write(
        session, at=now, actor=by.actor, action="cancel", subject=ids.public("msg", message_id), reason=by.reason
    )
    return True


def cancel_all(
    database: Database,
    selection: CancelSelection,
    by: Actor,
    now: datetime,
    *,
    is_dry_run: bool = False,
    limit: int = MAX_CANCELLED,
) -> Cancelled:
    """Cancel up to `limit` messages, slice by slice, or `MAX_SECONDS` long. `is_dry_run`: only count.

    Messages in a call are left alone. It commits each slice in a short transaction, whatever becomes of the next one.
    """
    count, after, deadline = 0, None, monotonic() + MAX_SECONDS
    size = _SQLITE_SLICE if database.is_sqlite and not is_dry_run else _SLICE
    while True:
        if is_dry_run:
            with database.reading() as session:
                found = _find(session, selection, after, size)
            count += len(found)
        else:
            with database.transaction() as session:
                found = _find(session, selection, after, size)
                count += _cancel_slice(session, [message_id for message_id, _ in found], by, now)
            database.let_others_write()
        if len(found) < size:
            return Cancelled(count=count, is_complete=True)
        after = found[-1]
        if count >= limit or monotonic() >= deadline:
            return Cancelled(count=count, is_complete=False)


def resolve(session: Session, message_id: UUID, status: Status, by: Actor, now: datetime) -> bool:
    """Settle a `send_unknown` message by an operator's decision; False if it does not exist.

    Raises Refused for a message of any other status.
    """
    locked = transitions.lock_messages(session, [message_id])
    if not locked:
        return False
    message = locked[message_id]
    if message.status != Status.SEND_UNKNOWN and not _waits_though_it_may_be_sent(message):
        raise Refused(f"Only a message that is send_unknown can be resolved; this one is {message.status}.")
    _record(session, locked, _step(status, "resolved by hand", by, now), now)
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


def _is_cancellable(message: LockedMessage) -> bool:
    # An accepted message that is in no call is not at the gateway, unless an answer left that open.
    return message.status == Status.ACCEPTED and message.calling_since is None and message.unclear_since is None


def _waits_though_it_may_be_sent(message: LockedMessage) -> bool:
    """Whether its answer leaves open if it was sent, and it waits until it is known whether its account is refused."""
    return message.status == Status.ACCEPTED and message.unclear_since is not None


def _explain_refusal(message: LockedMessage) -> str:
    if message.status == Status.ACCEPTED and message.calling_since is not None:
        return "It is just being given to the gateway, and can't be cancelled any more."
    if message.status == Status.SEND_UNKNOWN or _waits_though_it_may_be_sent(message):
        return "The gateway may have it, and can't be told to forget it."
    return f"It is {message.status}, and can't be cancelled any more."


def _find(
    session: Session, selection: CancelSelection, after: tuple[UUID, datetime] | None, size: int
) -> list[tuple[UUID, datetime]]:
    conditions: list[ColumnElement[bool]] = [
        Message.due_at.is_not(None),
        Message.status == Status.ACCEPTED,
        Message.calling_since.is_(None),
        Message.unclear_since.is_(None),
    ]
    for column, value in (
        (Message.client_ref, selection.client_ref),
        (Message.recipient, selection.recipient),
        (Message.originator, selection.originator),
        (Message.created_by, selection.created_by),
    ):
        if value is not None:
            conditions.append(column == value)
    if selection.since is not None:
        conditions.append(Message.created_at >= selection.since)
    if selection.until is not None:
        conditions.append(Message.created_at < selection.until)
    if after is not None:
        last_id, last_due = after
        conditions += [
            Message.due_at >= last_due,
            or_(Message.due_at > last_due, and_(Message.due_at == last_due, Message.id > last_id)),
        ]
    query = select(Message.id, Message.due_at).where(*conditions).order_by(Message.due_at, Message.id).limit(size)
    return [(message_id, due_at) for message_id, due_at in session.execute(query) if due_at is not None]


def _cancel_slice(session: Session, message_ids: Collection[UUID], by: Actor, now: datetime) -> int:
    locked = {
        message_id: message
        for message_id, message in transitions.lock_messages(session, message_ids).items()
        if _is_cancellable(message)  # a call may have begun since it was found
    }
    if locked:
        _record(session, locked, _step(Status.CANCELLED, "cancelled by hand", by, now), now)
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


def _step(status: Status, rule: str, by: Actor, now: datetime) -> transitions.NewTransition:
    reason = f"{by.actor}: {by.reason}" if by.reason else by.actor
    return transitions.NewTransition(report=transitions.own_report(status, now), rule=rule, reason=reason)


def _record(
    session: Session, locked: Mapping[UUID, LockedMessage], step: transitions.NewTransition, now: datetime
) -> None:
    transitions.record(session, locked, [(message_id, step) for message_id in locked], now)
