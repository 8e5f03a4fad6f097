"""The queue of pending callbacks: claim, settle, postpone, reopen.

Every row is in the ledger's counts from its first commit, and each of its moves is counted in the commit that makes it.
Which message a row belongs to is decided in `domain.correlation`.
"""

from collections import Counter
from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import select, tuple_, update
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.domain.messages import Callback
from receiptsvc.store.core import bulk
from receiptsvc.store.core.models import InboxRow
from receiptsvc.store.inbox import counters
from receiptsvc.store.inbox.columns import ARRIVED, WAITING


class ClaimedReceipt(NamedTuple):
    """An inbox row that this transaction has locked."""

    id: UUID
    channel: str
    message_id: UUID | None
    is_unauthenticated: bool
    received_at: datetime
    method: str
    query: bytes
    content_type: str | None
    body: bytes
    next_at: datetime
    tries: int
    processed_at: datetime | None  # when it last got an outcome, if it ever had one
    callback_id: UUID | None
    part: int
    assigned_to: UUID | None


QueuePosition: TypeAlias = tuple[datetime, UUID]  # next_at and id of a pending row


def claim(
    session: Session, now: datetime, limit: int, *, after: QueuePosition | None = None, only: UUID | None = None
) -> list[ClaimedReceipt]:
    """Up to `limit` pending rows that are due, locked until the caller's commit. Rows locked by others are skipped.

    `after`: only rows after this position of the queue. `only`: only the row with this id, even if it is not due.
    """
    query = select(*(getattr(InboxRow, name) for name in ClaimedReceipt._fields)).where(
        InboxRow.outcome == ReceiptOutcome.PENDING, InboxRow.next_at <= now if only is None else InboxRow.id == only
    )
    if after is not None:
        query = query.where(tuple_(InboxRow.next_at, InboxRow.id) > tuple_(*after))
    ordered = query.order_by(InboxRow.next_at, InboxRow.id).limit(limit).with_for_update(skip_locked=True)
    return [ClaimedReceipt._make(row) for row in session.execute(ordered)]


def add_parts(session: Session, first: ClaimedReceipt, count: int, now: datetime) -> int:
    """Add a pending row for each further receipt of a claimed callback, whose own row keeps the bytes; how many.

    `count`: of all its receipts. Pass the result to `settle`, which counts the new rows.
    """
    arrived = {column: getattr(first, column) for column in ARRIVED}
    shared = {**arrived, **WAITING, "query": b"", "content_type": None, "body": b"", "next_at": now}
    parts = [{**shared, "id": ids.new(), "callback_id": first.id, "part": part} for part in range(1, count)]
    bulk.insert_all(session, InboxRow, parts)
    return count - 1


def has_parts(session: Session, first: ClaimedReceipt) -> bool:
    """Whether a callback's further receipts already have rows. They have none if it could not be read before."""
    return session.scalar(select(InboxRow.id).where(InboxRow.callback_id == first.id).limit(1)) is not None


def callback_of(session: Session, row: ClaimedReceipt) -> Callback:
    """The callback that brought a receipt, and perhaps others with it."""
    if row.callback_id is None:
        return Callback(row.method, row.query, row.content_type, row.body)
    columns = (InboxRow.method, InboxRow.query, InboxRow.content_type, InboxRow.body)
    return Callback._make(session.execute(select(*columns).where(InboxRow.id == row.callback_id)).one())


def settle(
    session: Session,
    verdicts: Collection[tuple[ClaimedReceipt, ReceiptOutcome, str | None]],
    now: datetime,
    new_parts: int = 0,
) -> None:
    """Give claimed rows their outcome and reason; count the moves, and the rows that `add_parts` added.

    Call it once in a transaction, and late: other transactions may wait for the counters.
    """
    settled = [
        {"id": row.id, "outcome": outcome, "reason": reason, "processed_at": now} for row, outcome, reason in verdicts
    ]
    bulk.update_all(session, InboxRow, "id", settled)
    moves = Counter((ReceiptOutcome.PENDING, outcome) for _, outcome, _ in verdicts)
    counters.move(session, moves, {counters.RECEIVED: new_parts, ReceiptOutcome.PENDING: new_parts})


def postpone(session: Session, row: ClaimedReceipt, until: datetime, reason: str) -> None:
    """Leave a claimed row pending until a later try, which is counted here, with the reason."""
    later = {"next_at": until, "reason": reason, "tries": row.tries + 1}
    session.execute(update(InboxRow).where(InboxRow.id == row.id).values(later))


def set_reason(session: Session, row: ClaimedReceipt, reason: str) -> None:
    """Store why a claimed row is still pending."""
    session.execute(update(InboxRow).where(InboxRow.id == row.id).values(reason=reason))


def reopen(session: Session, receipt_ids: Collection[UUID], outcome: ReceiptOutcome, now: datetime) -> None:
    """Make receipts pending again. The caller has locked them, and all have this outcome."""
    values = {**WAITING, "next_at": now}
    bulk.update_all(session, InboxRow, "id", [{"id": receipt_id, **values} for receipt_id in receipt_ids])
    counters.move(session, {(outcome, ReceiptOutcome.PENDING): len(receipt_ids)})
