"""The inbox's time slices in tests: slices that are missing, slices that were dropped, and callbacks of any time."""

from collections import Counter
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain.inbox import Arrival
from receiptsvc.store.core.db import Database
from receiptsvc.store.inbox import counters, receipts, time_slices
from receiptsvc.store.inbox.receipts import ReceiptFilter
from tests.support.rows import arrival


def arrival_at(time: datetime, query: str = "statusid=1", *, number: int = 0) -> Arrival:
    """A callback whose id says that it came at this time. `number`: so that two of one time differ."""
    return arrival(query)._replace(id=UUID(int=ids.first_at(time).int + number), received_at=time)


def names(database: Database) -> list[str]:
    """The slices that exist, the oldest first."""
    with database.reading() as session:
        return [each.name for each in time_slices.read(session)]


def slice_of(database: Database, receipt_id: UUID) -> str | None:
    """The slice that holds a receipt; None if none does."""
    with database.reading() as session:
        name = session.scalar(text("SELECT tableoid::regclass::text FROM inbox WHERE id = :id"), {"id": receipt_id})
        return None if name is None else str(name)


def drop_all(database: Database) -> None:
    """Drop every slice but the default one, and take what it held out of the ledger's counts."""
    with database.transaction() as session:
        for each in time_slices.read(session):
            _drop(session, each.name)


def _drop(session: Session, name: str) -> None:
    rows = session.execute(text(f"SELECT id, callback_id IS NULL FROM {name}")).all()  # noqa: S608 - our own words
    counts = Counter({counters.RECEIVED: -len(rows), counters.CALLBACKS: -sum(is_first for _, is_first in rows)})
    entries = receipts.list_receipts(session, ReceiptFilter(), limit=1000).items
    counts.subtract(entry.outcome for entry in entries if entry.row.id in {receipt_id for receipt_id, _ in rows})
    session.expunge_all()
    session.execute(text(f"ALTER TABLE inbox DETACH PARTITION {name}"))
    session.execute(text(f"DROP TABLE {name}"))
    counters.add(session, counts)
