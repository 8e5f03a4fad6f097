"""A sample of the callbacks that were refused for a wrong key: the newest few, so that ops can see what comes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.store.core.models import RejectedCallbackRow

MAX_KEPT = 500
MAX_QUERY = 1024  # bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class RejectedCallback:
    """A refused callback, without its token. `kid`: of the key that it claims, if it has the form of one."""

    received_at: datetime
    method: str
    address: str
    kid: str | None
    query: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class RejectedByKey:
    """What was refused with one kid, as far as the sample goes."""

    kid: str | None
    callbacks: int
    last_at: datetime


def sample(session: Session, refused: Sequence[RejectedCallback]) -> None:
    """Keep these, and let the oldest go."""
    rows = [
        {
            "id": ids.new(),
            "received_at": one.received_at,
            "method": one.method,
            "address": one.address,
            "kid": one.kid,
            "query": one.query[:MAX_QUERY],
        }
        for one in refused
    ]
    session.execute(insert(RejectedCallbackRow), rows)
    oldest = (
        select(RejectedCallbackRow.id)
        .order_by(RejectedCallbackRow.id.desc())
        .offset(MAX_KEPT)
        .limit(1)
        .scalar_subquery()
    )
    session.execute(delete(RejectedCallbackRow).where(RejectedCallbackRow.id <= oldest))


def by_kid(session: Session) -> Sequence[RejectedByKey]:
    """The sample, counted by the kid that was claimed, the most frequent first."""
    count = func.count()
    query = select(RejectedCallbackRow.kid, count, func.max(RejectedCallbackRow.received_at)).group_by(
        RejectedCallbackRow.kid
    )
    return [
        RejectedByKey(kid=row[0], callbacks=row[1], last_at=row[2])
        for row in session.execute(query.order_by(count.desc()))
    ]
