"""When a worker next has something to do, told by one cheap statement, so that it can rest until then."""

from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, case, func, select
from sqlalchemy.orm import Session

from receiptsvc.domain.statuses import Status
from receiptsvc.store.core.models import Message
from receiptsvc.store.inbox import pending
from receiptsvc.store.outbound import send_gate
from receiptsvc.store.outbound.send_gate import GateTimes


class NextDue(NamedTuple):
    """When the first pending receipt and the first message to send are due; None: there is none.

    A time may have gone by: the first in a queue may be what another worker has locked, or may not be sent yet.
    """

    receipt_at: datetime | None
    message_at: datetime | None


class LateSince(NamedTuple):
    """Since when the first receipt and the first message are due; None: none is, or sending is held, or goes on."""

    receipt_at: datetime | None
    message_at: datetime | None


class Waiting(NamedTuple):
    """How many messages wait to be given to the gateway, at most MAX_WAITING, and since when the first does."""

    messages: int
    since: datetime | None


MAX_WAITING = 10_000  # that are counted
_GOES_ON = timedelta(minutes=1)  # after the rate was last used
_FIRST_MESSAGE = select(Message.due_at).where(Message.due_at.is_not(None)).order_by(Message.due_at).limit(1)
_HEADS = [query.scalar_subquery() for query in (pending.first_waiting(), pending.first_due(), _FIRST_MESSAGE)]
_QUERY = select(*_HEADS, *send_gate.TIMES)  # built once


def find(connection: Connection, now: datetime, per_second: float | None) -> NextDue:
    """What is due next. `per_second`: the allowed rate of sending, as for `send_gate.request`."""
    receipt_at, message_at, gate = _read_heads(connection)
    opens_at = gate.opens_at(now, per_second)
    if message_at is None or opens_at is None:
        return NextDue(receipt_at, None)
    return NextDue(receipt_at, max(message_at, opens_at))


def find_late(connection: Connection, now: datetime) -> LateSince:
    """What is due and not being worked on. Behind a rate many wait in turn: what was sent lately shows that."""
    receipt_at, message_at, gate = _read_heads(connection)
    is_held = gate.paused_at is not None or gate.refused_at is not None
    goes_on = gate.next_free_at is not None and gate.next_free_at > now - _GOES_ON
    return LateSince(receipt_at, None if is_held or goes_on else message_at)


def count_waiting(session: Session, now: datetime) -> Waiting:
    """What is accepted and in no call: due now, or to be tried again. What the service keeps for later is left out."""
    is_kept = (Message.due_at > now) & (Message.due_at == Message.deliver_after)
    query = select(case((Message.deliver_after <= now, Message.deliver_after), else_=Message.created_at).label("since"))
    few = query.where(
        Message.status == Status.ACCEPTED,
        Message.due_at.is_not(None),
        Message.calling_since.is_(None),
        Message.deliver_after.is_(None) | ~is_kept,
    )
    some = few.order_by(Message.due_at).limit(MAX_WAITING).subquery()
    count, since = session.execute(select(func.count(), func.min(some.c.since))).one()
    return Waiting(count, since)


def _read_heads(connection: Connection) -> tuple[datetime | None, datetime | None, GateTimes]:
    waiting_since, due_at, message_at, *gate = connection.execute(_QUERY).one()
    receipt_at = min((at for at in (waiting_since, due_at) if at is not None), default=None)
    return receipt_at, message_at, GateTimes._make(gate)
