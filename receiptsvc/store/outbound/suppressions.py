"""Who may not be written to any more, and by which sender. Each change of it leaves an audit."""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain import numbers
from receiptsvc.store.core import audits, bulk
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.models import Suppression
from receiptsvc.store.core.paging import Page

_A_LOOK = 10_000  # recipients; SQLite takes a parameter for each


class Pair(NamedTuple):
    """A person and a sender. Lists are in this order."""

    recipient: str  # international, digits
    originator: str  # as `numbers.fold_originator` gives it


def find(session: Session, recipients: Collection[str]) -> set[Pair]:
    """Every suppression of these people."""
    listed = list(recipients)
    found: set[Pair] = set()
    for start in range(0, len(listed), _A_LOOK):
        some = bulk.among(session, Suppression.recipient, listed[start : start + _A_LOOK])
        found.update(
            map(Pair._make, session.execute(select(Suppression.recipient, Suppression.originator).where(some)))
        )
    return found


def read(
    session: Session,
    *,
    recipient: str | None = None,
    originator: str | None = None,
    limit: int,
    after: Pair | None = None,
) -> Page[Suppression, Pair]:
    """Suppressions by recipient and originator: those of this person, and of this sender (empty: the account's own)."""
    columns, place = (Suppression.recipient, Suppression.originator), tuple(after) if after is not None else None
    query = select(Suppression)
    if recipient is not None:
        query = query.where(Suppression.recipient == recipient)
    if originator is not None:
        # In the order of the index that has it first: by the other one a plan would pass over everybody else's.
        name = numbers.fold_originator(originator)
        columns, place = (Suppression.originator, Suppression.recipient), (name, after.recipient if after else "")
        query = query.where(Suppression.originator <= name)
    if place is not None:
        query = query.where(tuple_(*columns) > tuple_(*place))
    rows = session.scalars(query.order_by(*columns).limit(limit + 1)).all()
    last = rows[limit - 1] if len(rows) > limit else None
    return Page(items=rows[:limit], next=Pair(last.recipient, last.originator) if last is not None else None)


def get(session: Session, pair: Pair) -> Suppression | None:
    """One suppression."""
    return session.get(Suppression, tuple(pair))


def add(
    session: Session, pairs: Iterable[Pair], by: Actor, now: datetime, *, reply_ids: dict[Pair, UUID] | None = None
) -> int:
    """Suppress each pair that is not; how many that were. `reply_ids`: the replies that ask for it.

    In the order of the pairs, because others may be adding the same ones.
    """
    added = 0
    statement = bulk.upsert(session, Suppression).on_conflict_do_nothing(index_elements=["recipient", "originator"])
    for pair in sorted(set(pairs)):
        reply_id = (reply_ids or {}).get(pair)
        values = {
            **pair._asdict(),
            "created_at": now,
            "created_by": by.actor,
            "reason": by.reason,
            "reply_id": reply_id,
        }
        if session.scalar(statement.values(values).returning(Suppression.recipient)) is not None:
            _audit(session, pair, "suppressed", by, now, reply_id=reply_id)
            added += 1
    return added


def remove(session: Session, pair: Pair, by: Actor, now: datetime) -> Suppression | None:
    """Let this sender write to this person again; the suppression that is no more. None: there was none."""
    gone = session.get(Suppression, tuple(pair), with_for_update=True)
    if gone is not None:
        session.delete(gone)
        _audit(session, pair, "allowed again", by, now, reply_id=gone.reply_id)
    return gone


def subject(pair: Pair) -> str:
    """What audits of this suppression are about."""
    return f"suppression:{pair.recipient}:{pair.originator}"


def _audit(session: Session, pair: Pair, action: str, by: Actor, now: datetime, *, reply_id: UUID | None) -> None:
    reply = {"reply": ids.public("rpl", reply_id)} if reply_id is not None else {}
    audits.write(session, at=now, actor=by.actor, action=action, subject=subject(pair), reason=by.reason, details=reply)
