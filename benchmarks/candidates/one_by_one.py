"""Processes receipts in the usual way: one by one through the ORM, one commit each."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from receiptsvc.domain import callback_reader
from receiptsvc.domain.errors import Unreadable
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.domain.messages import Callback
from receiptsvc.domain.statuses import classify, fold
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import InboxRow, Message, MessageTransaction, PendingRow, Transition
from receiptsvc.store.inbox import counters
from receiptsvc.store.messages.transitions import report_of
from receiptsvc.worker.receipt_batch import ReceiptRules


def process(database: Database, rules: ReceiptRules, now: datetime) -> int:
    """Process the next pending row, if any, and write what the worker would. Returns how many rows there were."""
    with database.transaction() as session:
        waiting = session.scalar(
            select(PendingRow).order_by(PendingRow.receipt_id).limit(1).with_for_update(skip_locked=True)
        )
        if waiting is None:
            return 0
        outcome = record(session, session.get_one(InboxRow, waiting.receipt_id), rules, now)
        session.delete(waiting)
        session.flush()
        counters.move(session, {(ReceiptOutcome.PENDING, outcome): 1})
    return 1


def record(session: Session, row: InboxRow, rules: ReceiptRules, now: datetime) -> ReceiptOutcome:
    """Read one receipt, find its message, fold all its reports, write transition and status. Returns the outcome."""
    callback = Callback(row.method, row.query, row.content_type, row.body, row.content_encoding)
    (receipt,) = rules.reader.read_receipts(callback, row.received_at)
    message = session.scalar(select(Message).where(Message.id == row.message_id).with_for_update())
    if isinstance(receipt, Unreadable) or message is None:
        raise ValueError("this benchmark has only receipts that can be read and find their message")
    if receipt.transaction_id and session.get(MessageTransaction, (message.id, receipt.transaction_id)) is None:
        session.add(
            MessageTransaction(
                message_id=message.id,
                transaction_id=receipt.transaction_id,
                recipient=message.recipient,
                source="receipt",
                noted_at=now,
            )
        )
        message.transaction_id = message.transaction_id or receipt.transaction_id
    transitions = session.scalars(
        select(Transition).where(Transition.message_id == message.id).order_by(Transition.id)
    ).all()
    report = callback_reader.report_of(receipt, row.received_at, rules.reader)
    earlier = [report_of(transition) for transition in transitions]
    effect, _ = classify(report, earlier)
    state = fold([*earlier, report])
    session.add(
        Transition(
            message_id=message.id,
            receipt_id=row.id,
            source=report.source,
            status=report.status,
            effect=effect,
            rule="token",
            provider_status_id=receipt.status_id,
            provider_description=receipt.description,
            occurred_at=receipt.occurred_at,
            received_at=row.received_at,
            recorded_at=now,
            map_version=rules.reader.version,
        )
    )
    message.status, message.status_at, message.conflict = state.status, state.status_at, state.conflict
    message.due_at = None
    return ReceiptOutcome(effect.value)
