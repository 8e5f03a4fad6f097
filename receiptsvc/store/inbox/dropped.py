"""Receipts whose row went with a time slice: what is still known of them.

A callback that was kept in the database may also wait in a spool: its commit was answered too late, or its spool file
could not be removed. If its time slice is dropped meanwhile, draining the spool keeps it a second time. What was made
of it stays, and says so. What has not ended is moved out of a slice before it is dropped, and is never kept twice.
"""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.store.core import bulk
from receiptsvc.store.core.models import OutcomeRow, Transition


def find_outcomes(session: Session, receipt_ids: Collection[UUID]) -> dict[UUID, ReceiptOutcome]:
    """The outcomes of those pending receipts that were worked on before."""
    if not receipt_ids:
        return {}
    recorded = select(Transition.receipt_id, Transition.effect).where(
        bulk.among(session, Transition.receipt_id, receipt_ids), Transition.superseded_at.is_(None)
    )
    written = select(OutcomeRow.receipt_id, OutcomeRow.outcome)
    outcomes = {
        receipt_id: ReceiptOutcome(effect) for receipt_id, effect in session.execute(recorded) if receipt_id is not None
    }
    for receipt_id, outcome in session.execute(written.where(bulk.among(session, OutcomeRow.receipt_id, receipt_ids))):
        outcomes[receipt_id] = ReceiptOutcome(outcome)
    return outcomes
