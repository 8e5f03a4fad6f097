"""The gateway's codes: which came with which words, in the newest receipts and in those that nobody could read.

No index has a code that was read. So a bounded number of the newest receipts is looked through; of those that nobody
could read all, as long as they are few.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Text, cast, exists, func, select, text
from sqlalchemy.orm import Session

from receiptsvc.domain.statuses import Effect
from receiptsvc.store.core.keyset import force_index_order
from receiptsvc.store.core.models import RARE_EFFECTS, OutcomeRow, ReceiptReferences, Transition

LOOKED_THROUGH = 2_000  # receipts, of either kind

_MAX_SEEN = 500  # that are told apart: of more only the most frequent ones


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A code with its words, as they came. `first_at`, `last_at`: of the receipts looked at. `newest`: its receipt."""

    status_id: str | None
    description: str | None
    receipts: int
    first_at: datetime
    last_at: datetime
    newest: UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What was seen, the most frequent first. `looked_to`: the time of the oldest receipt; None: all were looked at."""

    items: Sequence[Seen]
    receipts: int
    looked_to: datetime | None


class Words(NamedTuple):
    """What a receipt says of the status, in the gateway's words."""

    status_id: str | None
    description: str | None


def find_newest(session: Session) -> Look:
    """The codes of the newest receipts that were recorded."""
    force_index_order(session)
    is_current = (Transition.receipt_id.is_not(None), Transition.superseded_at.is_(None))
    return _look(session, _select_words().where(*is_current).order_by(Transition.receipt_id.desc()))


def find_unmapped(session: Session) -> Look:
    """The codes of the newest receipts without a status."""
    force_index_order(session)
    # Word for word as in the index. Of those that were set aside nothing is to be done.
    is_unmapped = (text(RARE_EFFECTS), Transition.effect == Effect.UNMAPPED.value, ~_is_set_aside())
    return _look(session, _select_words().where(*is_unmapped).order_by(Transition.receipt_id.desc()))


def find_words(session: Session, receipt_id: UUID) -> Words | None:
    """What a receipt says, as it was recorded, or as it waits; None if there is no such receipt, or it says nothing."""
    current = (Transition.receipt_id == receipt_id, Transition.superseded_at.is_(None))
    row = session.execute(
        select(Transition.provider_status_id, Transition.provider_description).where(*current)
    ).first()
    if row is not None:
        words = Words(*row)
    else:
        waiting = session.get(ReceiptReferences, receipt_id)
        said = (waiting.provider_status_id, waiting.provider_description) if waiting is not None else (None, None)
        words = Words(*said)
    return words if any(words) else None


def _is_set_aside() -> ColumnElement[bool]:
    return exists().where(OutcomeRow.receipt_id == Transition.receipt_id)


def _select_words() -> Select[*tuple[Any, ...]]:
    """What receipts say, with when they came."""
    return select(
        Transition.receipt_id, Transition.provider_status_id, Transition.provider_description, Transition.received_at
    )


def _look(session: Session, newest_first: Select[*tuple[Any, ...]]) -> Look:
    looked = newest_first.limit(LOOKED_THROUGH + 1).subquery()
    receipts = func.count()
    query = (
        select(
            looked.c.provider_status_id,
            looked.c.provider_description,
            receipts.label("receipts"),
            func.min(looked.c.received_at).label("first_at"),
            func.max(looked.c.received_at).label("last_at"),
            func.max(cast(looked.c.receipt_id, Text)).label("newest"),  # ids rise with time
            func.sum(receipts).over().label("all_receipts"),
            func.min(func.min(looked.c.received_at)).over().label("looked_to"),
        )
        .group_by(looked.c.provider_status_id, looked.c.provider_description)
        .order_by(receipts.desc())
        .limit(_MAX_SEEN)
    )
    rows = session.execute(query).all()
    items = [
        Seen(
            status_id=row.provider_status_id,
            description=row.provider_description,
            receipts=row.receipts,
            first_at=row.first_at,
            last_at=row.last_at,
            newest=UUID(row.newest),
        )
        for row in rows
    ]
    count = int(rows[0].all_receipts) if rows else 0
    is_bounded = count > LOOKED_THROUGH
    looked_to = rows[0].looked_to if is_bounded else None
    return Look(items=items, receipts=min(count, LOOKED_THROUGH), looked_to=looked_to)
