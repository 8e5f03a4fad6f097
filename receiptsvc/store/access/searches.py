"""Saved searches of the ops page: what was asked for, by an id, so that no address holds a number or a name.

What the terms mean is the page's business. They hold personal data: never log them.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session, aliased

from receiptsvc import ids
from receiptsvc.store.core import bulk
from receiptsvc.store.core.models import Audit, OpsSearch

KEPT_FOR = timedelta(days=30)
PREVIEW_KEPT_FOR = timedelta(days=1)  # of a choice that nobody has acted on: it may have two megabytes
PREFIX = "srch"  # of the public ids

_PREVIEWS = ("chosen", "cancellation")  # the kinds of terms that fix a choice
_LOOKED_BACK = timedelta(hours=1)  # for previews; one that was not found by then is kept like a search


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
    """Delete up to `limit` expired searches, and as many previews; how many.

    Their ids are as old as they are, so few other rows are read.
    """
    expired = select(OpsSearch.id).where(OpsSearch.id < ids.first_at(now - KEPT_FOR)).order_by(OpsSearch.id)
    search_ids = {*session.scalars(expired.limit(limit)), *_find_left_alone(session, now - PREVIEW_KEPT_FOR, limit)}
    if search_ids:
        session.execute(delete(OpsSearch).where(bulk.among(session, OpsSearch.id, search_ids)))
    return len(search_ids)


def _find_left_alone(session: Session, before: datetime, limit: int) -> Collection[UUID]:
    """Previews made shortly before a time, of which no audit tells."""
    since, until = ids.first_at(before - _LOOKED_BACK), ids.first_at(before)
    oldest = select(OpsSearch).where(OpsSearch.id >= since, OpsSearch.id < until).order_by(OpsSearch.id).limit(limit)
    some = aliased(OpsSearch, oldest.subquery())
    previews = session.scalars(select(some.id).where(some.terms["kind"].as_string().in_(_PREVIEWS)))
    by_name = {ids.public(PREFIX, search_id): search_id for search_id in previews}
    if not by_name:
        return ()
    told_of = session.scalars(select(Audit.subject).where(bulk.among(session, Audit.subject, list(by_name))))
    return [by_name[name] for name in by_name.keys() - set(told_of)]
