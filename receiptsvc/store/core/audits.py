"""Audits: who did what to which object by hand, and which process moved a receipt that had an outcome, when and why."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from receiptsvc.store.core.models import Audit
from receiptsvc.store.core.paging import MAX_ROWS


@dataclass(frozen=True, kw_only=True, slots=True)
class Actor:
    """Who acts, and why. `actor`: the name of an API key, or of one of our processes."""

    actor: str
    reason: str | None = None


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


def read(session: Session, subject: str) -> Sequence[Audit]:
    """The newest MAX_ROWS audits of a subject, the oldest of them first."""
    newest = select(Audit).where(Audit.subject == subject).order_by(Audit.id.desc()).limit(MAX_ROWS)
    return session.scalars(newest).all()[::-1]


def find_newest(session: Session, subjects: Collection[str], action: str) -> Mapping[str, Audit]:
    """The newest audit of an action for each of these subjects that has one. For few subjects."""
    newest = select(func.max(Audit.id)).where(Audit.subject.in_(subjects), Audit.action == action)
    found = session.scalars(select(Audit).where(Audit.id.in_(newest.group_by(Audit.subject))))
    return {audit.subject: audit for audit in found}
