"""The bytes of kept callbacks, for what reads many again: each once, however many receipts it brought.

A page of rows ends where the callbacks of its rows have too many bytes: each may have a megabyte, and bring thousands.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, func, select
from sqlalchemy.orm import Session

from receiptsvc.domain.messages import Callback
from receiptsvc.store.core import bulk
from receiptsvc.store.core.models import InboxRow
from receiptsvc.store.core.paging import Key, Page, cut

_MAX_BYTES = 16 * 1024 * 1024  # of the callbacks of a page


def size_of(carrier: type[InboxRow]) -> ColumnElement[int]:
    """How many bytes a row holds, which is told without reading them."""
    return func.length(carrier.query) + func.length(carrier.body)


def cut_to_size(
    rows: Sequence[Row[*tuple[Any, ...]]], limit: int, key: Callable[[Row[*tuple[Any, ...]]], Key]
) -> Page[Row[*tuple[Any, ...]], Key]:
    """The page of the first `limit` rows, or of fewer, whose last columns are a callback's row and `size_of` it."""
    counted: set[UUID] = set()
    total = 0
    for position, (*_, carrier_id, size) in enumerate(rows[:limit]):
        total += 0 if carrier_id in counted else size
        counted.add(carrier_id)
        if position and total > _MAX_BYTES:
            return cut(rows, position, key)
    return cut(rows, limit, key)


def load(session: Session, carrier_ids: Collection[UUID]) -> dict[UUID, Callback]:
    """The callbacks that these rows hold, as far as they are kept."""
    if not carrier_ids:
        return {}
    query = select(InboxRow.id, *(getattr(InboxRow, name) for name in Callback._fields))
    found = session.execute(query.where(bulk.among(session, InboxRow.id, list(carrier_ids))))
    return {carrier_id: Callback._make(columns) for carrier_id, *columns in found}
