"""The record of what was done by hand, and of what moved a receipt that had its outcome: who, when, what, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from receiptsvc.store.core.models import Audit
from receiptsvc.store.core.paging import MAX_ROWS


@dataclass(frozen=True, kw_only=True, slots=True)
class Actor:
    """Who does something, and why."""

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
    """Put one deed on record, in the transaction that does it. `subject`: the public id of what it was done to."""
    session.add(
        Audit(at=at, actor=actor, action=action, subject=subject, reason=reason, details=dict(details or {})),
    )


def read(session: Session, subject: str) -> Sequence[Audit]:
    """What was done to this, the earliest first; of very much, the newest."""
    newest = select(Audit).where(Audit.subject == subject).order_by(Audit.id.desc()).limit(MAX_ROWS)
    return session.scalars(newest).all()[::-1]
