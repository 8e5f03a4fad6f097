"""What is to go out, now or later, and what nobody knows of: counted to a bound, along partial indexes.

Their conditions are written out literally: SQLite compares them word by word.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, TextClause, func, literal_column, select, text, union_all
from sqlalchemy.orm import InstrumentedAttribute, Session

from receiptsvc.domain.statuses import PROGRESS, Status
from receiptsvc.store.core import keyset
from receiptsvc.store.core.models import OPEN, Message
from receiptsvc.store.queries import listing

MAX_COUNTED = 10_000  # of each kind
MAX_UPCOMING = 10


class Count(NamedTuple):
    """How many messages, at most MAX_COUNTED, and the first time among them; None: there is none."""

    messages: int
    first_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlook:
    """What is to go out. `due`: by now, the first since then. `here`, `at_gateway`: scheduled, the first for then.

    `unknown`: `send_unknown`, the first since then. `upcoming`: what is scheduled next, here or at the gateway.
    """

    due: Count
    here: Count
    at_gateway: Count
    unknown: Count
    upcoming: Sequence[Message]


def read(session: Session, now: datetime) -> Outlook:
    """What is to go out, as of now."""
    keyset.force_index_order(session)  # else all of it might be read, and sorted, for the first ones
    is_due = (Message.due_at.is_not(None), Message.due_at <= now)
    return Outlook(
        due=_count(session, Message.due_at, *is_due),
        here=_count(session, Message.deliver_after, *_is_scheduled(Status.ACCEPTED, now)),
        at_gateway=_count(session, Message.deliver_after, *_is_scheduled(Status.SUBMITTED, now)),
        unknown=_count(session, Message.unclear_since, _has(Status.SEND_UNKNOWN), Message.unclear_since.is_not(None)),
        upcoming=_find_upcoming(session, now),
    )


def _count(
    session: Session, at: InstrumentedAttribute[datetime | None], *conditions: ColumnElement[bool] | TextClause
) -> Count:
    first = select(at.label("at")).where(*conditions).order_by(at).limit(MAX_COUNTED).subquery()
    return Count._make(session.execute(select(func.count(), func.min(first.c.at)).select_from(first)).one())


def _find_upcoming(session: Session, now: datetime) -> Sequence[Message]:
    parts = [
        select(Message.id, Message.deliver_after)
        .where(*_is_scheduled(status, now))
        .order_by(Message.deliver_after, Message.id)
        .limit(MAX_UPCOMING)
        .subquery()
        for status in PROGRESS
    ]
    merged = union_all(*map(select, parts)).subquery()
    order = (merged.c.deliver_after, merged.c.id)
    return listing.read_messages(
        session, session.scalars(select(merged.c.id).order_by(*order).limit(MAX_UPCOMING)).all()
    )


def _is_scheduled(status: Status, now: datetime) -> Sequence[ColumnElement[bool] | TextClause]:
    """What is `status` and goes out later."""
    return text(OPEN), _has(status), Message.deliver_after.is_not(None), Message.deliver_after > now


def _has(status: Status) -> ColumnElement[bool]:
    return Message.status == literal_column(f"'{status.value}'")
