"""Many receipts in the parking lot, put there in a few statements."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete

from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.store.core import bulk
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import OutcomeRow, Parked, PendingRow
from receiptsvc.store.inbox import counters
from tests.support import rows
from tests.support.rows import T0

REASON = "no message has its transactionID"


def park(
    database: Database,
    count: int,
    outcome: ReceiptOutcome = ReceiptOutcome.UNMATCHED,
    *,
    now: datetime = T0,
    look_at: datetime | None = None,
) -> Sequence[UUID]:
    """Keep so many receipts with this outcome, and count them. `look_at`: when the worker looks at them again."""
    arrivals = [
        rows.arrival(f"transactionid=77{number}&statusid=1&statusdescription=Delivered", now=now)
        for number in range(count)
    ]
    made = [arrival.id for arrival in arrivals]
    told = {"outcome": outcome, "reason": REASON, "processed_at": now}
    waits: dict[str, Any] = {
        "transaction_id": None,
        "client_ref": None,
        "candidates": [],
        "looks": 0,
        "look_at": look_at or now,
    }
    with database.transaction() as session:
        rows.insert_arrivals(session, arrivals)
        session.execute(delete(PendingRow).where(bulk.among(session, PendingRow.receipt_id, made)))
        bulk.insert_all(session, OutcomeRow, [{"receipt_id": each, **told} for each in made])
        if outcome is ReceiptOutcome.UNMATCHED:
            bulk.insert_all(session, Parked, [{"receipt_id": each, **waits} for each in made])
        counters.move(session, {(ReceiptOutcome.PENDING, outcome): count})
    return made
