"""Audits: who did what to which object by hand, and which process moved a receipt that had an outcome, when and why."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from receiptsvc.store.core import bulk
from receiptsvc.store.core.keyset import Scan, scan
from receiptsvc.store.core.models import Audit
from receiptsvc.store.core.paging import MAX_ROWS, Page


@dataclass(frozen=True, kw_only=True, slots=True)
class Actor:
    """Who acts, and why. `actor`: the name of an API key, or of one of our processes."""

    actor: str
    reason: str | None = None


class AuditKey(NamedTuple):
    """The position in a list of audits: after the one with this time and id."""

    at: datetime
    id: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditFilter:
    """Which audits to list: those that fit every given field, whole. `since` ≤ their time < `until`."""

    subject: str | None = None
    actor: str | None = None
    action: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def write(
    session: Session,
    *,
    at: datetime,
    actor: str,
    action: str,
    subject: str,
    reason: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write one audit, in the transaction of the action. `subject`: the public id of the object that it changes."""
    session.add(
        Audit(at=at, actor=actor, action=action, subject=subject, reason=reason, details=dict(details or {})),
    )


def read(session: Session, *subjects: str, limit: int = MAX_ROWS) -> Sequence[Audit]:
    """The newest audits of these subjects, `limit` of each, the oldest first. Each has a range of an index."""
    found: list[Audit] = []
    for subject in subjects:
        newest = select(Audit).where(Audit.subject == subject).order_by(Audit.at.desc(), Audit.id.desc())
        found += session.scalars(newest.limit(limit))
    return sorted(found, key=lambda audit: (audit.at, audit.id))


def find_all(session: Session, subject: str, action: str) -> Sequence[Audit]:
    """All audits of an action on a subject, the oldest first. For a subject that has a bounded number of them."""
    query = select(Audit).where(Audit.subject == subject, Audit.action == action)
    return session.scalars(query.order_by(Audit.at, Audit.id)).all()


def list_audits(
    session: Session, where: AuditFilter, *, limit: int, after: AuditKey | None = None
) -> Page[Audit, AuditKey]:
    """Audits, the newest first. A short or empty page need not be the last one: see `keyset`."""
    plan = Scan(
        order=(Audit.at, Audit.id),
        branches=[[]],
        equals=[[(Audit.subject, where.subject)]] if where.subject is not None else (),
        since=where.since,
        until=where.until,
        filters=[
            column == value
            for column, value in ((Audit.actor, where.actor), (Audit.action, where.action))
            if value is not None
        ],
    )
    page = scan(session, plan, limit=limit, after=after)
    found = session.scalars(select(Audit).where(Audit.id.in_([serial for _, serial in page.keys])))
    by_id = {audit.id: audit for audit in found}
    return Page(
        items=[by_id[serial] for _, serial in page.keys if serial in by_id],
        next=AuditKey._make(page.next) if page.next is not None else None,
    )


def find_newest(session: Session, subjects: Collection[str], action: str) -> Mapping[str, Audit]:
    """The newest audit of an action for each of these subjects that has one."""
    newest = select(func.max(Audit.id)).where(bulk.among(session, Audit.subject, subjects), Audit.action == action)
    found = session.scalars(select(Audit).where(Audit.id.in_(newest.group_by(Audit.subject))))
    return {audit.subject: audit for audit in found}
