"""The parking lot: receipts that fit no message yet, found again by what they say the moment a message says the same.

A parked receipt is `unmatched`. To release it is to make it `pending`: it then goes the way of every receipt, and finds
its message or is parked again. Nothing here decides whose it is.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID
from zlib import crc32

from sqlalchemy import ColumnElement, delete, select, text, update
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.store.core import bulk, upsert
from receiptsvc.store.core.db import is_sqlite
from receiptsvc.store.core.models import Audit, InboxRow, Parked
from receiptsvc.store.inbox import pending

_MAX_AT_ONCE = 1000
_GAPS = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 30, 120, 360, 1440))  # between two looks; then daily
# One place a lock: PostgreSQL has room for some thousands of locks, and a batch may speak of two thousand things.
_PLACES = 256
_KIND = 20_160_111  # our locks among those of others
_LOCK = text(
    "SELECT pg_advisory_xact_lock(CAST(:kind AS integer), place) FROM unnest(CAST(:places AS integer[])) AS place"
)
_SHARED_LOCK = text(_LOCK.text.replace("lock(", "lock_shared("))


@dataclass(frozen=True, kw_only=True, slots=True)
class UnmatchedReceipt:
    """A receipt to be parked: what it says of its message."""

    receipt_id: UUID
    transaction_id: str | None
    client_ref: str | None
    candidates: Sequence[UUID] = ()
    not_before: datetime | None = None  # when something will be different, if that is known and to come


def hold(
    session: Session, transaction_ids: Collection[str], client_refs: Collection[str], *, only_releases: bool = False
) -> None:
    """Let nobody else park what speaks of these, until the caller's commit.

    Whoever parks looks for the message once more after this; whoever releases has written the message before. So one of
    the two always sees what the other did. `only_releases`: the caller parks nothing, and may do so beside others like
    it. SQLite has one writer at a time anyway. Call it once in a transaction, for all, and before counts are added to:
    so no two wait for each other in a circle.
    """
    names = [*(f"transaction {one}" for one in transaction_ids), *(f"clientRef {one}" for one in client_refs)]
    if names and not is_sqlite(session):
        places = sorted({crc32(name.encode()) % _PLACES for name in names})
        session.execute(_SHARED_LOCK if only_releases else _LOCK, {"kind": _KIND, "places": places})


def park(session: Session, strays: Sequence[UnmatchedReceipt], now: datetime) -> None:
    """Park receipts whose rows this transaction holds, or park them again: each time for longer."""
    if not strays:
        return
    query = select(Parked.receipt_id, Parked.looks).where(
        bulk.among(session, Parked.receipt_id, [stray.receipt_id for stray in strays])
    )
    looks: dict[UUID, int] = {row.receipt_id: row.looks for row in session.execute(query)}
    rows = []
    for stray in strays:
        looked = looks.get(stray.receipt_id, -1) + 1
        look_at = now + _GAPS[min(looked, len(_GAPS) - 1)]
        if stray.not_before is not None:
            look_at = max(now + _GAPS[0], min(stray.not_before, now + _GAPS[-1]))
        rows.append(
            {
                "receipt_id": stray.receipt_id,
                "transaction_id": stray.transaction_id,
                "client_ref": stray.client_ref,
                "candidates": [ids.public("msg", candidate) for candidate in stray.candidates],
                "looks": looked,
                "look_at": look_at,
            }
        )
    statement = upsert.into(session, Parked)
    anew = {name: statement.excluded[name] for name in rows[0] if name != "receipt_id"}
    session.execute(statement.on_conflict_do_update(index_elements=["receipt_id"], set_=anew), rows)


def release(session: Session, *, transaction_ids: Collection[str], client_refs: Collection[str], now: datetime) -> int:
    """Release what speaks of these, which the caller holds and has just given to messages; how many.

    Of the clientRefs the first thousand; more than that, which only one of many messages has, come with the sweep.
    """
    released = 0
    if transaction_ids:
        released += _release(session, bulk.among(session, Parked.transaction_id, transaction_ids), now)
    if client_refs:
        released += _release(session, bulk.among(session, Parked.client_ref, client_refs), now, _MAX_AT_ONCE)
    return released


def release_due(session: Session, now: datetime, limit: int) -> int:
    """Release up to `limit` receipts that have waited long enough for another look; how many."""
    return _release(session, Parked.look_at <= now, now, limit)


def remove(
    session: Session, left: Sequence[tuple[UUID, ReceiptOutcome, str | None]], now: datetime, actor: str
) -> None:
    """Take receipts off the lot that have now another outcome than `unmatched`, and put on record what they have now.

    They may have stood elsewhere: then whoever asked for another try has put on record what they were.
    """
    if not left:
        return
    receipt_ids = [receipt_id for receipt_id, _, _ in left]
    parked = bulk.among(session, Parked.receipt_id, receipt_ids)
    moved = set(session.scalars(delete(Parked).where(parked).returning(Parked.receipt_id)))
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
                    "from": ReceiptOutcome.UNMATCHED.value if receipt_id in moved else None,
                    "to": outcome.value,
                },
            }
            for receipt_id, outcome, reason in left
        ],
    )


def _release(session: Session, which: ColumnElement[bool], now: datetime, limit: int | None = None) -> int:
    query = (
        select(Parked.receipt_id)
        .join(InboxRow, InboxRow.id == Parked.receipt_id)
        .where(which, Parked.look_at.is_not(None), InboxRow.outcome == ReceiptOutcome.UNMATCHED)
        .order_by(Parked.look_at if limit else Parked.receipt_id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    released = session.scalars(query).all()
    if released:
        session.execute(update(Parked).where(bulk.among(session, Parked.receipt_id, released)).values(look_at=None))
        pending.reopen(session, released, ReceiptOutcome.UNMATCHED, now)
    return len(released)
