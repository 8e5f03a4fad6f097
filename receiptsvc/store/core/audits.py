"""Audits: who did what to which object by hand, and which process moved a receipt that had an outcome, when and why."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Text, cast, func, select
from sqlalchemy.orm import Session

from receiptsvc.store.core import bulk
from receiptsvc.store.core.keyset import MAX_PAGES_SCANNED, Scan, scan
from receiptsvc.store.core.models import Audit
from receiptsvc.store.core.paging import MAX_ROWS, Page

PROCESSES = ("worker", "rebuild", "service")  # our own, as audits name them

_MAX_PAGES = 100  # of rows, among which those of people are looked for: our processes write many more


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
    """Which audits to list: those that fit every given field, whole. `since` ≤ their time < `until`.

    `is_by_people`: without those of our own processes.
    """

    subject: str | None = None
    actor: str | None = None
    action: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    is_by_people: bool = False


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


def find_since(
    session: Session, subjects: Collection[str], action: str, since: datetime, *, limit: int
) -> Sequence[Audit]:
    """The audits of an action on these subjects since a time, `limit` of each at most, the newest first."""
    if not subjects:
        return []
    given = bulk.listed(session, subjects)  # each has a range of an index, which one condition for all need not use
    its_audits = (
        select(Audit.id)
        .where(Audit.subject == given.c.value, Audit.action == action, Audit.at >= since)
        .order_by(Audit.at.desc(), Audit.id.desc())
        .limit(limit)
        .correlate(given)
        .subquery()
    )
    ids = select(func.aggregate_strings(cast(its_audits.c.id, Text), ",")).scalar_subquery()
    found = {int(each) for text in session.scalars(select(ids).select_from(given)) if text for each in text.split(",")}
    audits = session.scalars(select(Audit).where(Audit.id.in_(found))) if found else ()
    return sorted(audits, key=lambda audit: (audit.at, audit.id), reverse=True)


def find_all(session: Session, subject: str, action: str) -> Sequence[Audit]:
    """All audits of an action on a subject, the oldest first. For a subject that has a bounded number of them."""
    query = select(Audit).where(Audit.subject == subject, Audit.action == action)
    return session.scalars(query.order_by(Audit.at, Audit.id)).all()


def list_audits(
    session: Session, where: AuditFilter, *, limit: int, after: AuditKey | None = None
) -> Page[Audit, AuditKey]:
    """Audits, the newest first. A short or empty page need not be the last one: see `keyset`."""
    filters: list[ColumnElement[bool]] = [
        column == value
        for column, value in ((Audit.actor, where.actor), (Audit.action, where.action))
        if value is not None
    ]
    if where.is_by_people:
        filters.append(Audit.actor.not_in(PROCESSES))
    plan = Scan(
        order=(Audit.at, Audit.id),
        branches=[[]],
        equals=[[(Audit.subject, where.subject)]] if where.subject is not None else (),
        since=where.since,
        until=where.until,
        filters=filters,
        max_pages=_MAX_PAGES if where.is_by_people else MAX_PAGES_SCANNED,
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
