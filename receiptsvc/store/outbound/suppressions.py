"""Who may not be written to any more, and by which sender. Each change of it leaves an audit."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain import numbers
from receiptsvc.store.core import audits, bulk, locks
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.locks import Lock
from receiptsvc.store.core.models import Audit, Suppression
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


def lock(session: Session, recipients: Collection[str]) -> None:
    """Lock what these people are suppressed for until the caller's commit. Call it once in a transaction, for all."""
    locks.take(session, Lock.SUPPRESSED, recipients)


def add(session: Session, pairs: Iterable[Pair], by: Actor, now: datetime) -> int:
    """Suppress each pair by hand; how many were not suppressed before.

    What an opt-out has suppressed stays as it is, and from now on no opt-in lifts it.
    """
    wanted = sorted(set(pairs))
    lock(session, {pair.recipient for pair in wanted})
    added = {pair for pair in wanted if _insert(session, pair, by, now)}
    opted_out = {pair for pair in wanted if pair not in added and session.get_one(Suppression, tuple(pair)).reply_id}
    held = find_held(session, opted_out)
    for pair in wanted:
        if pair in added or pair in opted_out - held:
            _audit(session, pair, _SUPPRESSED, by, now)
    return len(added)


def opt_out(session: Session, replies: Mapping[Pair, UUID], by: Actor, now: datetime) -> set[Pair]:
    """Suppress pairs because of replies; those that were not. The caller holds the lock of the people."""
    added = {pair for pair in sorted(replies) if _insert(session, pair, by, now, reply_id=replies[pair])}
    for pair in sorted(added):
        _audit(session, pair, "opted out", by, now, reply_id=replies[pair])
    return added


def opt_in(session: Session, replies: Mapping[Pair, UUID], by: Actor, now: datetime) -> set[Pair]:
    """Remove those of these suppressions that opt-outs made, and that nobody has made by hand as well; which.

    `replies`: that ask for it. The caller holds the lock of the people.
    """
    removable = find_liftable(session, replies.keys())
    for pair in sorted(removable):
        session.delete(session.get_one(Suppression, tuple(pair)))
        _audit(session, pair, "opted in", by, now, reply_id=replies[pair])
    session.flush()
    return removable


def note_withdrawal(
    session: Session,
    pair: Pair,
    by: Actor,
    now: datetime,
    *,
    cancelled: Collection[str],
    unrepeated: Collection[str],
    scheduled: Collection[str],
) -> None:
    """Note what became of the messages of a suppressed pair, by public id. `scheduled`: the gateway is to send them."""
    if scheduled:
        session.get_one(Suppression, tuple(pair)).scheduled_ids = list(scheduled)
    if cancelled or unrepeated or scheduled:
        details = {"cancelled": cancelled, "notRepeated": unrepeated, "scheduledByGateway": scheduled}
        audits.write(
            session,
            at=now,
            actor=by.actor,
            action="withdrew messages",
            subject=subject(pair),
            reason=by.reason,
            details=details,
        )


def find_liftable(session: Session, pairs: Collection[Pair]) -> set[Pair]:
    """Those of these pairs that are suppressed by an opt-out alone."""
    found = {pair for pair in pairs if (row := session.get(Suppression, tuple(pair))) is not None and row.reply_id}
    return found - find_held(session, found)


def find_held(session: Session, pairs: Collection[Pair]) -> set[Pair]:
    """Those of these pairs whose last change by hand was to suppress them."""
    return {pair for pair, audit in _last_by_hand(session, pairs).items() if audit.action == _SUPPRESSED}


def allowed_at(session: Session, pairs: Collection[Pair]) -> dict[Pair, datetime]:
    """When a person last allowed each of these pairs again; without those for which none did."""
    return {pair: audit.at for pair, audit in _last_by_hand(session, pairs).items() if audit.action == _ALLOWED}


def remove(session: Session, pair: Pair, by: Actor, now: datetime) -> Suppression | None:
    """Let this sender write to this person again, by hand; the suppression that is no more. None: there was none."""
    lock(session, [pair.recipient])
    gone = session.get(Suppression, tuple(pair), with_for_update=True)
    if gone is not None:
        session.delete(gone)
        _audit(session, pair, _ALLOWED, by, now, reply_id=gone.reply_id)
    return gone


def subject(pair: Pair) -> str:
    """What audits of this suppression are about."""
    return f"suppression:{pair.recipient}:{pair.originator}"


def pair_of(text: str) -> Pair | None:
    """The pair whose `subject` this is; None: it is another one's."""
    kind, _, rest = text.partition(":")
    recipient, colon, originator = rest.partition(":")
    return Pair(recipient, originator) if kind == "suppression" and colon else None


_SUPPRESSED, _ALLOWED = "suppressed", "allowed again"  # by hand


def _insert(session: Session, pair: Pair, by: Actor, now: datetime, *, reply_id: UUID | None = None) -> bool:
    statement = bulk.upsert(session, Suppression).on_conflict_do_nothing(index_elements=["recipient", "originator"])
    values = {
        **pair._asdict(),
        "created_at": now,
        "created_by": by.actor,
        "reason": by.reason,
        "reply_id": reply_id,
    }
    return session.scalar(statement.values(values).returning(Suppression.recipient)) is not None


def _last_by_hand(session: Session, pairs: Collection[Pair]) -> dict[Pair, Audit]:
    of_subject = {subject(pair): pair for pair in pairs}
    if not of_subject:
        return {}
    is_of_them = bulk.among(session, Audit.subject, of_subject.keys())
    found = session.scalars(select(Audit).where(is_of_them, Audit.action.in_((_SUPPRESSED, _ALLOWED))))
    # Sorted here: where a page reads along indexes in their order, the database would read all audits for it.
    return {of_subject[audit.subject]: audit for audit in sorted(found, key=attrgetter("id"))}


def _audit(
    session: Session, pair: Pair, action: str, by: Actor, now: datetime, *, reply_id: UUID | None = None
) -> None:
    reply = {"reply": ids.public("rpl", reply_id)} if reply_id is not None else {}
    audits.write(session, at=now, actor=by.actor, action=action, subject=subject(pair), reason=by.reason, details=reply)
