"""The inbox: callbacks as they came, and where each of them stands.

A row is in the ledger's counts from its first commit, and its every move is counted in the commit that makes it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from receiptsvc.domain.inbox import Channel, InboxOutcome
from receiptsvc.domain.messages import Callback
from receiptsvc.store import ledger, upsert
from receiptsvc.store.models import InboxRow


class Arrival(NamedTuple):
    """A callback on its way into the inbox. `id` is made when it arrives, so that keeping it twice keeps it once."""

    id: UUID
    channel: Channel
    message_id: UUID | None  # whose signed URL it came to
    received_at: datetime
    callback: Callback
    is_stranger: bool = False  # its key was wrong


def keep(session: Session, arrivals: Sequence[Arrival]) -> int:
    """Keep `arrivals` (not empty) and count them; how many were not kept before."""
    statement = upsert.into(session, InboxRow).on_conflict_do_nothing(index_elements=["id"]).returning(InboxRow.id)
    rows = [
        {
            "id": arrival.id,
            "channel": arrival.channel,
            "message_id": arrival.message_id,
            "is_stranger": arrival.is_stranger,
            "received_at": arrival.received_at,
            "method": arrival.callback.method,
            "query": arrival.callback.query,
            "content_type": arrival.callback.content_type,
            "body": arrival.callback.body,
            "outcome": InboxOutcome.PENDING,
            "next_at": arrival.received_at,
            "tries": 0,
        }
        for arrival in arrivals
    ]
    kept = len(session.scalars(statement, rows).all())
    ledger.add(session, {ledger.CALLBACKS: kept, ledger.RECEIVED: kept, InboxOutcome.PENDING: kept})
    return kept


def claim(session: Session, now: datetime, limit: int, *, only: UUID | None = None) -> Sequence[InboxRow]:
    """Up to `limit` pending rows whose time has come, locked until the caller's commit; rows that others hold are left.

    `only`: that row and no other.
    """
    query = select(InboxRow).where(InboxRow.outcome == InboxOutcome.PENDING, InboxRow.next_at <= now)
    if only is not None:
        query = query.where(InboxRow.id == only)
    return session.scalars(
        query.order_by(InboxRow.next_at, InboxRow.id).limit(limit).with_for_update(skip_locked=True)
    ).all()


def settle(session: Session, verdicts: Iterable[tuple[InboxRow, InboxOutcome, str | None]], now: datetime) -> None:
    """Give claimed rows their outcome, with a reason where there is one, and count the moves."""
    moves: Counter[tuple[InboxOutcome, InboxOutcome]] = Counter()
    for row, outcome, reason in verdicts:
        moves[InboxOutcome(row.outcome), outcome] += 1
        row.outcome, row.reason, row.processed_at = outcome, reason, now
    ledger.move(session, moves)


def postpone(row: InboxRow, until: datetime, reason: str) -> None:
    """Leave a claimed row pending for another try, and say why."""
    row.next_at, row.reason, row.tries = until, reason, row.tries + 1
