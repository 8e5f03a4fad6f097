"""Saved searches of the ops page: what was asked for, by an id, so that no address holds a number or a name.

What the terms mean is the page's business. They hold personal data: never log them.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.store.core import bulk
from receiptsvc.store.core.models import OpsSearch

KEPT_FOR = timedelta(days=30)


def save(session: Session, terms: Mapping[str, Any], now: datetime) -> UUID:
    """Save a search; its id."""
    search_id = ids.new()
    session.add(OpsSearch(id=search_id, made_at=now, terms=dict(terms)))
    return search_id


def find(session: Session, search_id: UUID, now: datetime) -> Mapping[str, Any] | None:
    """The terms of a search; None if there is none, or it has expired."""
    row = session.get(OpsSearch, search_id)
    return row.terms if row is not None and row.made_at > now - KEPT_FOR else None


def hold(session: Session, search_id: UUID) -> None:
    """Have others who hold the same search wait until this transaction ends."""
    session.scalar(select(OpsSearch.id).where(OpsSearch.id == search_id).with_for_update())


def prune(session: Session, now: datetime, limit: int) -> int:
    """Delete up to `limit` expired searches; how many. Their ids are as old as they are, so no other row is read."""
    expired = select(OpsSearch.id).where(OpsSearch.id < ids.first_at(now - KEPT_FOR)).order_by(OpsSearch.id)
    search_ids = session.scalars(expired.limit(limit)).all()
    if search_ids:
        session.execute(delete(OpsSearch).where(bulk.among(session, OpsSearch.id, search_ids)))
    return len(search_ids)
