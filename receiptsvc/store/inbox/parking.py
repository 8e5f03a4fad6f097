"""The parking lot: receipts that match no message yet, found again by their references once a message has the same.

A parked receipt is `unmatched`. Releasing it makes it `pending`: it goes through the whole pipeline again, and finds
its message or is parked again. Which message that is, `domain.correlation` decides.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, delete, select, update
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain.backoff import Backoff
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.store.core import bulk, locks
from receiptsvc.store.core.locks import Lock
from receiptsvc.store.core.models import Audit, OutcomeRow, Parked
from receiptsvc.store.inbox import pending

_MAX_RELEASED = 1000
_MAX_RELEASED_OF_TRANSACTIONS = 10_000  # a statement for ten times as many takes half of its time limit
_LOOKS = Backoff(tuple(timedelta(minutes=minutes) for minutes in (1, 5, 30, 120, 360, 1440)))  # then daily


@dataclass(frozen=True, kw_only=True, slots=True)
class UnmatchedReceipt:
    """A receipt to be parked, with its references to a message."""

    receipt_id: UUID
    transaction_id: str | None
    client_ref: str | None
    candidates: Sequence[UUID] = ()
    not_before: datetime | None = None  # when it may be adopted, if it ever may


def lock(
    session: Session, transaction_ids: Collection[str], client_refs: Collection[str], *, is_shared: bool = False
) -> None:
    """Lock these references until the caller's commit.

    The locks close a race between parking and releasing: a transaction that parks correlates once more after it has the
    locks; one that releases has written the message before. So one of the two always sees what the other did.

    `is_shared`: for a caller that only releases; such callers need not wait for each other. Call it once in a
    transaction, for all references, and before counts are added to, which prevents deadlocks.
    """
    references = [*(f"transaction {each}" for each in transaction_ids), *(f"clientRef {each}" for each in client_refs)]
    locks.take(session, Lock.REFERENCES, references, is_shared=is_shared)


def park(session: Session, receipts: Sequence[UnmatchedReceipt], now: datetime) -> None:
    """Park receipts that this transaction has taken from the queue, each time for longer than the time before."""
    if not receipts:
        return
    query = select(Parked.receipt_id, Parked.looks).where(
        bulk.among(session, Parked.receipt_id, [receipt.receipt_id for receipt in receipts])
    )
    looks_by_receipt: dict[UUID, int] = {row.receipt_id: row.looks for row in session.execute(query)}
    rows = []
    for receipt in receipts:
        looks = looks_by_receipt.get(receipt.receipt_id, -1) + 1
        look_at = now + _LOOKS.gap(looks)
        if receipt.not_before is not None:
            look_at = max(now + _LOOKS.gaps[0], min(receipt.not_before, now + _LOOKS.gaps[-1]))
        rows.append(
            {
                "receipt_id": receipt.receipt_id,
                "transaction_id": receipt.transaction_id,
                "client_ref": receipt.client_ref,
                "candidates": [ids.public("msg", candidate) for candidate in receipt.candidates],
                "looks": looks,
                "look_at": look_at,
            }
        )
    statement = bulk.upsert(session, Parked)
    new_values = {name: statement.excluded[name] for name in rows[0] if name != "receipt_id"}
    session.execute(statement.on_conflict_do_update(index_elements=["receipt_id"], set_=new_values), rows)


def release(session: Session, *, transaction_ids: Collection[str], client_refs: Collection[str], now: datetime) -> int:
    """Release receipts with these references, which messages have just got; how many. The caller holds their locks.

    At most a thousand by clientRef, as one clientRef can be that of many messages, and ten thousand by transactionID:
    any number may name one before it is given, and the answer of its call must be recorded all the same. `release_due`
    releases the rest.
    """
    released = 0
    if transaction_ids:
        is_named = bulk.among(session, Parked.transaction_id, transaction_ids)
        released += _release(session, is_named, now, _MAX_RELEASED_OF_TRANSACTIONS)
    if client_refs:
        released += _release(session, bulk.among(session, Parked.client_ref, client_refs), now, _MAX_RELEASED)
    return released


def release_due(session: Session, now: datetime, limit: int) -> int:
    """Release up to `limit` receipts whose time for another look has come; how many."""
    return _release(session, Parked.look_at <= now, now, limit)


def is_any_due(now: datetime) -> ColumnElement[bool]:
    """Whether `release_due` would release any."""
    return _releasable(Parked.look_at <= now).exists()


def remove(
    session: Session, receipts: Sequence[tuple[UUID, ReceiptOutcome, str | None]], now: datetime, actor: str
) -> None:
    """Take receipts with a new outcome other than `unmatched` off the lot, and write an audit of each.

    `receipts`: id, new outcome, reason. Some may not have been parked: what their outcome was before is in the audit of
    the retry that an operator asked for.
    """
    if not receipts:
        return
    is_listed = bulk.among(session, Parked.receipt_id, [receipt_id for receipt_id, _, _ in receipts])
    unparked = set(session.scalars(delete(Parked).where(is_listed).returning(Parked.receipt_id)))
    bulk.insert_all(
        session,
        Audit,
        [
            {
                "at": now,
                "actor": actor,
                "action": "moved",
                "subject": ids.public("rcp", receipt_id),
                "reason": reason,
                "details": {
                    "from": ReceiptOutcome.UNMATCHED.value if receipt_id in unparked else None,
                    "to": outcome.value,
                },
            }
            for receipt_id, outcome, reason in receipts
        ],
    )


def _release(session: Session, condition: ColumnElement[bool], now: datetime, limit: int) -> int:
    ordered = _releasable(condition).order_by(Parked.look_at).limit(limit)
    released = session.scalars(ordered.with_for_update(skip_locked=True)).all()
    if released:
        session.execute(update(Parked).where(bulk.among(session, Parked.receipt_id, released)).values(look_at=None))
        pending.reopen(session, released, now)
    return len(released)


def _releasable(condition: ColumnElement[bool]) -> Select[UUID]:
    is_parked = and_(Parked.look_at.is_not(None), OutcomeRow.outcome == ReceiptOutcome.UNMATCHED)
    query = select(Parked.receipt_id).join(OutcomeRow, OutcomeRow.receipt_id == Parked.receipt_id)
    return query.where(condition, is_parked)
