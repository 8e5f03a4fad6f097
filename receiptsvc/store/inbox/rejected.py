"""A sample of the callbacks that were refused, most for a wrong key: the newest few, so that operators see them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.store.core.models import RejectedCallbackRow

MAX_KEPT = 500
MAX_QUERY = 1024  # bytes of the query that are kept


@dataclass(frozen=True, kw_only=True, slots=True)
class RejectedCallback:
    """A rejected callback, without its token. `kid`: the id of the key that it claims, if it has the form of a kid."""

    received_at: datetime
    method: str
    address: str
    kid: str | None
    query: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class RejectedByKey:
    """The callbacks of the sample that claim one kid."""

    kid: str | None
    callbacks: int
    first_at: datetime
    last_at: datetime


def add(session: Session, callbacks: Sequence[RejectedCallback]) -> None:
    """Add callbacks to the sample, and delete the oldest beyond MAX_KEPT."""
    rows = [
        {
            "id": ids.new(),
            "received_at": callback.received_at,
            "method": callback.method,
            "address": callback.address,
            "kid": callback.kid,
            "query": callback.query[:MAX_QUERY],
        }
        for callback in callbacks
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


def count_by_kid(session: Session, since: datetime | None = None) -> Sequence[RejectedByKey]:
    """The sample counted by claimed kid, the most frequent first. `since`: only what came after that time."""
    count, at = func.count(), RejectedCallbackRow.received_at
    query = select(RejectedCallbackRow.kid, count, func.min(at), func.max(at)).group_by(RejectedCallbackRow.kid)
    if since is not None:
        query = query.where(at > since)
    return [
        RejectedByKey(kid=row[0], callbacks=row[1], first_at=row[2], last_at=row[3])
        for row in session.execute(query.order_by(count.desc(), RejectedCallbackRow.kid))
    ]


def explain(kid: str | None, listed: Collection[str]) -> str:
    """Why callbacks that claim a kid are refused. `listed`: the kids of CALLBACK_KEYS."""
    if kid is None:
        return "not of our form"
    return "its secret is another, it was listed later, or the request was not HTTP" if kid in listed else "not listed"


def find_newest(session: Session, limit: int) -> Sequence[RejectedCallback]:
    """The newest callbacks of the sample."""
    newest = select(RejectedCallbackRow).order_by(RejectedCallbackRow.id.desc()).limit(limit)
    return [
        RejectedCallback(
            received_at=row.received_at, method=row.method, address=row.address, kid=row.kid, query=row.query
        )
        for row in session.scalars(newest)
    ]
