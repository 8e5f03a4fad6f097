"""The problems that are kept: what looks have seen, and what people have said about it.

Which states follow each other is `domain.problems`' to say. Rows of a kind that only a newer release knows are left
alone.

Whoever looked calls `note`: one worker, and a web process for what only it can see, or while no worker is at work.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, delete, exists, or_, select
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain.errors import Refused
from receiptsvc.domain.problems import (
    OF_A_HOST,
    Kind,
    Resolved,
    Seen,
    State,
    comes_back,
    harm_of,
    is_over,
    rank,
    refuse,
)
from receiptsvc.store.core import audits, bulk
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.models import ProblemRow
from receiptsvc.store.core.paging import MAX_ROWS
from receiptsvc.store.health.causes import Look

PREFIX = "prb"
SERVICE = "service"  # the actor of an audit of what no person did

WANTING = (State.OPEN, State.ACKNOWLEDGED)

_UNSEEN_FOR = timedelta(minutes=5)  # a problem of a host: its web processes look more than twice a minute
_KEPT_FOR = timedelta(days=30)  # after it was resolved
_MAX_ENDED = 1_000  # that are kept
_MAX_UNSEEN = 50  # open problems of one kind that a look has not seen, and can't say that they have ended

_is_known: ColumnElement[bool] = ProblemRow.kind.in_(list(Kind))
_may_end: ColumnElement[bool] = ProblemRow.has_ended.is_(False)
_ACTIONS = {State.ACKNOWLEDGED: "acknowledged", State.RESOLVED: "resolved", State.OPEN: "reopened"}


def note(session: Session, look: Look) -> None:
    """Keep what a look has seen. What it has seen no more, and looks before it neither, has ended."""
    seen = {one.id: one for one in look.seen}
    concerned = or_(_may_end, ProblemRow.id.in_(list(seen)))
    query = select(ProblemRow).where(_is_known, concerned).order_by(ProblemRow.id).with_for_update()
    rows = session.scalars(query).all()
    for row in rows:
        if row.id in seen:
            _see(session, row, seen[row.id], look.at)
        elif _is_missed(row, look):
            _miss(session, row, look.at)
    for row in _find_crowded_out(rows, look, seen):
        _end(session, row, look.at)
    # In one order, so that two processes wait for each other and not each for the other.
    new = [values_of(seen[each], look.at) for each in sorted(seen.keys() - {row.id for row in rows})]
    if new:  # another process may be as fast
        session.execute(bulk.upsert(session, ProblemRow).on_conflict_do_nothing(index_elements=["id"]), new)


def may_any_end(connection: Connection) -> bool:
    """Whether a look that sees nothing has anything to note. It is asked all the time."""
    return bool(connection.scalar(select(exists().where(_may_end))))


def prune(session: Session, now: datetime, limit: int) -> int:
    """Forget up to `limit` problems that ended long ago, or are of very many; how many. What is still seen stays."""
    ended = select(ProblemRow.id).where(ProblemRow.has_ended)
    newest = ended.order_by(ProblemRow.changed_at.desc(), ProblemRow.id).limit(_MAX_ENDED)
    is_old = or_(ProblemRow.changed_at < now - _KEPT_FOR, ProblemRow.id.not_in(newest))
    old = session.scalars(ended.where(is_old).order_by(ProblemRow.id).limit(limit).with_for_update()).all()
    if old:
        session.execute(delete(ProblemRow).where(bulk.among(session, ProblemRow.id, old)))
    return len(old)


def list_problems(session: Session, now: datetime, states: Collection[State] = WANTING) -> Sequence[ProblemRow]:
    """Problems of these states, at most MAX_ROWS: open ones first, of those what harms now, then the newest."""
    query = select(ProblemRow).where(_is_known, ProblemRow.state.in_(states))
    rows = session.scalars(query.order_by(ProblemRow.last_at.desc(), ProblemRow.id).limit(MAX_ROWS)).all()
    order = list(State)

    def place(row: ProblemRow) -> tuple[int, tuple[bool, int]]:
        kind = Kind(row.kind)
        return order.index(State(row.state)), rank(kind, harm_of(kind, row.last_at, now))

    return sorted(rows, key=place)


def find_seen(session: Session) -> Collection[Kind]:
    """The kinds of which something is seen, also if somebody has said that it is resolved."""
    return {Kind(kind) for kind in session.scalars(select(ProblemRow.kind).where(_is_known, _may_end).distinct())}


def find_single(session: Session) -> Mapping[Kind, UUID]:
    """The problem that needs attention of each kind that has a single one."""
    query = select(ProblemRow.kind, ProblemRow.id).where(_is_known, ProblemRow.state.in_(WANTING)).limit(MAX_ROWS)
    of_kind: defaultdict[Kind, list[UUID]] = defaultdict(list)
    for kind, problem_id in session.execute(query):
        of_kind[Kind(kind)].append(problem_id)
    return {kind: found[0] for kind, found in of_kind.items() if len(found) == 1}


def find(session: Session, problem_id: UUID) -> ProblemRow | None:
    """A problem; None if there is none with this id, or it is kept no more."""
    return session.scalars(select(ProblemRow).where(_is_known, ProblemRow.id == problem_id)).one_or_none()


def acknowledge(session: Session, problem_id: UUID, by: Actor, now: datetime) -> ProblemRow | None:
    """Note that somebody works on a problem: so it stays until it ends. None if there is none. Raises Refused."""
    return _change(session, problem_id, State.ACKNOWLEDGED, by, now)


def resolve(session: Session, problem_id: UUID, by: Actor, now: datetime) -> ProblemRow | None:
    """Note that a problem is settled, until it is seen again. None if there is none. Raises Refused."""
    return _change(session, problem_id, State.RESOLVED, by, now)


def reopen(session: Session, problem_id: UUID, by: Actor, now: datetime) -> ProblemRow | None:
    """Take back that a problem was acknowledged or resolved. None if there is none. Raises Refused."""
    return _change(session, problem_id, State.OPEN, by, now)


def _change(session: Session, problem_id: UUID, to: State, by: Actor, now: datetime) -> ProblemRow | None:
    query = select(ProblemRow).where(_is_known, ProblemRow.id == problem_id).with_for_update()
    row = session.scalars(query).one_or_none()
    if row is None:
        return None
    refusal = refuse(State(row.state), to, row.changed_by)
    if refusal is not None:
        raise Refused(refusal)
    _set(session, row, to, by, now)
    return row


def _set(session: Session, row: ProblemRow, to: State, by: Actor | None, now: datetime) -> None:
    """Bring a problem into a state, and write that down. `by`: None for the service."""
    actor, reason = (by.actor, by.reason) if by is not None else (SERVICE, None)
    details = {"from": row.state, "to": to.value}
    subject = ids.public(PREFIX, row.id)
    audits.write(session, at=now, actor=actor, action=_ACTIONS[to], subject=subject, reason=reason, details=details)
    row.state, row.changed_at, row.reason = to, now, reason
    row.changed_by = by.actor if by is not None else None
    row.missed_at, row.has_ended = None, False


def _see(session: Session, row: ProblemRow, seen: Seen, at: datetime) -> None:
    """Note that a problem is there."""
    row.missed_at = None
    is_new = row.state == State.RESOLVED
    if is_new:
        if not comes_back(seen, _what_was_resolved(row), at):
            return
        _reopen(session, row, at)
    row.first_at = seen.first_at if is_new else min(row.first_at, seen.first_at)
    row.last_at = max(row.last_at, seen.last_at)
    row.detail, row.count, row.is_all = seen.detail, seen.count, seen.is_all
    row.newest_id = seen.newest_id


def _what_was_resolved(row: ProblemRow) -> Resolved:
    return Resolved(
        at=row.changed_at, has_ended=row.has_ended, count=row.count, is_all=row.is_all, newest_id=row.newest_id
    )


def _reopen(session: Session, row: ProblemRow, at: datetime) -> None:
    """Note that a problem is there again. Where somebody had said that it is resolved, that is worth an audit."""
    if row.changed_by is not None:
        _set(session, row, State.OPEN, None, at)
    else:
        row.state, row.changed_at, row.reason, row.has_ended = State.OPEN, at, None, False


def _is_missed(row: ProblemRow, look: Look) -> bool:
    """Whether a look would have seen a problem that it has not."""
    kind = Kind(row.kind)
    if kind in OF_A_HOST:
        return row.cause.get("host") == look.host or row.last_at < look.at - _UNSEEN_FOR
    return kind in look.complete


def _miss(session: Session, row: ProblemRow, at: datetime) -> None:
    """Note that a problem was not seen; and that it is there no more, if others have not seen it either."""
    row.missed_at = row.missed_at or at
    if is_over(row.missed_at, at):
        _end(session, row, at)


def _find_crowded_out(rows: Sequence[ProblemRow], look: Look, seen: Collection[UUID]) -> Iterator[ProblemRow]:
    """Of each kind with more causes than a look names, the open problems that are too many, the longest past first.

    Whoever sends may make up ever new causes. What is still there counts as one of the others, and opens when it is
    among the largest again. What somebody sees to stays.
    """
    unseen = [row for row in rows if row.state == State.OPEN and row.id not in seen]
    for kind in {one.kind for one in look.seen} - OF_A_HOST - set(look.complete):
        of_kind = [row for row in unseen if row.kind == kind]
        yield from sorted(of_kind, key=lambda row: row.last_at, reverse=True)[_MAX_UNSEEN:]


def _end(session: Session, row: ProblemRow, at: datetime) -> None:
    """Note that a problem is there no more. Of what somebody had acknowledged that is worth an audit."""
    if row.state == State.ACKNOWLEDGED:
        _set(session, row, State.RESOLVED, None, at)
    elif row.state == State.OPEN:
        row.state, row.changed_at, row.changed_by, row.reason = State.RESOLVED, at, None, None
    row.has_ended = True


def values_of(seen: Seen, at: datetime) -> dict[str, object]:
    """The columns of a problem that is new."""
    return {
        "id": seen.id,
        "kind": seen.kind,
        "cause": dict(seen.cause),
        "state": State.OPEN,
        "first_at": seen.first_at,
        "last_at": seen.last_at,
        "detail": seen.detail,
        "count": seen.count,
        "is_all": seen.is_all,
        "newest_id": seen.newest_id,
        "changed_at": at,
        "changed_by": None,
        "reason": None,
        "missed_at": None,
        "has_ended": False,
    }
