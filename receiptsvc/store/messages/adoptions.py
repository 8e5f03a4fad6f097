"""Takes adopted receipts away from the messages that were made for them, since they are about others.

Which others, a person says (`match`), or `worker.adoption_repair` finds out.
"""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain import correlation
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.domain.statuses import Status
from receiptsvc.store.core import audits
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.models import InboxRow, Message, OutcomeRow, Parked
from receiptsvc.store.inbox import counters, receipts
from receiptsvc.store.inbox.receipts import OtherRecipient, ReceiptEntry
from receiptsvc.store.messages import superseding, transitions
from receiptsvc.store.messages.superseding import RecordedReceipt
from receiptsvc.store.messages.transitions import NewTransition

_TAKEN_BACK = "it was taken for another system's"


def match(
    session: Session, receipt_id: UUID, message_id: UUID, by: Actor, now: datetime, *, to_any_recipient: bool = False
) -> ReceiptEntry | None:
    """As `receipts.match`, and also for a receipt that was adopted. Raises the same."""
    recipient = _take_back(session, receipt_id, by, now)
    if recipient is not None and not to_any_recipient:
        other = session.scalar(select(Message.recipient).where(Message.id == message_id))
        if other is not None and correlation.names_other_number(recipient, other):
            raise OtherRecipient("the receipt names another number than the message went to")
    return receipts.match(session, receipt_id, message_id, by, now, to_any_recipient=to_any_recipient)


def make_steps(session: Session, left_ids: Collection[UUID], now: datetime) -> list[tuple[UUID, NewTransition]]:
    """What is to be recorded about messages that receipts were taken from. One without any is no message of anybody."""
    reported = transitions.find_reported(session, left_ids)
    return [(message_id, _step(now, is_empty=message_id not in reported)) for message_id in sorted(left_ids)]


def _step(now: datetime, *, is_empty: bool) -> NewTransition:
    if is_empty:
        report = transitions.own_report(Status.CANCELLED, now)
        return NewTransition(report=report, rule="adoption taken back", reason="its receipts are about other messages")
    report = transitions.own_report(Status.SUBMITTED, now)
    return NewTransition(report=report, rule="receipts taken away", reason="they are about other messages")


def _take_back(session: Session, receipt_id: UUID, by: Actor, now: datetime) -> str | None:
    """Make a receipt that is recorded about another system's message unmatched; that message's recipient.

    None if it is no such receipt. The caller works on it in the same transaction: its place in the parking lot has no
    time at which it would be looked at.
    """
    if session.scalar(select(InboxRow.id).where(InboxRow.id == receipt_id).with_for_update()) is None:
        return None
    recorded = superseding.find_of(session, receipt_id)
    if recorded is None or not transitions.find_external(session, [recorded.message_id]):
        return None
    locked = transitions.lock_messages(session, [recorded.message_id])
    superseding.supersede(session, [recorded], now)
    transitions.refold(session, locked)
    steps = make_steps(session, locked, now)
    [message] = locked.values()
    if not transitions.find_reported(session, [message.id]):
        links = [(message, link) for link in transitions.find_transaction_ids(session, message.id)]
        transitions.unlink_transactions(session, links)
    transitions.record(session, locked, steps, now)
    _park(session, recorded, by, now)
    return message.recipient


def _park(session: Session, recorded: RecordedReceipt, by: Actor, now: datetime) -> None:
    outcome = ReceiptOutcome(recorded.effect.value)
    session.add(
        OutcomeRow(
            receipt_id=recorded.receipt_id, outcome=ReceiptOutcome.UNMATCHED, reason=_TAKEN_BACK, processed_at=now
        )
    )
    session.add(Parked(receipt_id=recorded.receipt_id, candidates=[], looks=0, look_at=None))
    session.flush()
    counters.move(session, {(outcome, ReceiptOutcome.UNMATCHED): 1})
    audits.write(
        session,
        at=now,
        actor=by.actor,
        action="taken back",
        subject=ids.public("rcp", recorded.receipt_id),
        reason=by.reason,
        details={"from": outcome.value, "to": ReceiptOutcome.UNMATCHED.value},
    )
