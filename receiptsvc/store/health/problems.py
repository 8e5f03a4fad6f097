"""The problems that are kept: what looks have seen, and what people have said about it.

Which states follow each other is `domain.problems`' to say. Rows of a kind that only a newer release knows are left
alone.

Whoever looked calls `note`: each worker, and a web process for what only it can see, or while no worker is at work.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, delete, exists, or_, select
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain.errors import Refused
from receiptsvc.domain.problems import OF_A_HOST, Kind, Seen, State, comes_back, rank, refuse
from receiptsvc.store.core import audits, bulk
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.models import ProblemRow
from receiptsvc.store.core.paging import MAX_ROWS
from receiptsvc.store.health.causes import Look

PREFIX = "prb"
SERVICE = "service"  # the actor of an audit of what no person did

WANTING = (State.OPEN, State.ACKNOWLEDGED)

_UNSEEN_FOR = timedelta(minutes=5)  # a problem of a host: its web processes look three times a minute
_KEPT_FOR = timedelta(days=30)  # after it was resolved
_MAX_RESOLVED = 1_000  # that are kept

_is_known: ColumnElement[bool] = ProblemRow.kind.in_(list(Kind))
_ACTIONS = {State.ACKNOWLEDGED: "acknowledged", State.RESOLVED: "resolved", State.OPEN: "reopened"}


def note(session: Session, look: Look) -> None:
    """Keep what a look has seen. What it has seen no more has ended."""
    seen = {one.id: one for one in look.seen}
    concerned = or_(ProblemRow.state.in_(WANTING), ProblemRow.id.in_(list(seen)))
    query = select(ProblemRow).where(_is_known, concerned).order_by(ProblemRow.id).with_for_update()
    rows = session.scalars(query).all()
    for row in rows:
        if row.id in seen:
            _see(session, row, seen[row.id], look.at)
        elif _is_over(row, look):
            _end(session, row, look.at)
    known = {row.id for row in rows}
    new = [values_of(one, look.at) for one in look.seen if one.id not in known]
    if new:  # another process may be as fast
        session.execute(bulk.upsert(session, ProblemRow).on_conflict_do_nothing(index_elements=["id"]), new)
    _prune(session, look, seen)


def is_any_wanting(session: Session) -> bool:
    """Whether anything is open or acknowledged."""
    return bool(session.scalar(select(exists().where(ProblemRow.state.in_(WANTING)))))


def list_problems(session: Session, states: Collection[State] = WANTING) -> Sequence[ProblemRow]:
    """Problems of these states, at most MAX_ROWS: open ones first, of those what harms now, then the newest."""
    query = select(ProblemRow).where(_is_known, ProblemRow.state.in_(states))
    rows = session.scalars(query.order_by(ProblemRow.last_at.desc(), ProblemRow.id).limit(MAX_ROWS)).all()
    order = list(State)
    return sorted(rows, key=lambda row: (order.index(State(row.state)), rank(Kind(row.kind))))


def find(session: Session, problem_id: UUID) -> ProblemRow | None:
    """A problem; None if there is none with this id, or it is kept no more."""
    return session.scalars(select(ProblemRow).where(_is_known, ProblemRow.id == problem_id)).one_or_none()


def acknowledge(session: Session, problem_id: UUID, by: Actor, now: datetime) -> ProblemRow | None:
    """Note that somebody sees to a problem: so it stays until it ends. None if there is none. Raises Refused."""
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


def _see(session: Session, row: ProblemRow, seen: Seen, at: datetime) -> None:
    """Note that a problem is there."""
    is_new = False
    if row.state == State.RESOLVED:
        has_ended = row.changed_by is None
        if not comes_back(seen, looked_at=at, resolved_at=row.changed_at, has_ended=has_ended, newest_id=row.newest_id):
            return
        is_new = True
        if has_ended:  # nobody said anything about it
            row.state, row.changed_at, row.reason = State.OPEN, at, None
        else:
            _set(session, row, State.OPEN, None, at)
    row.first_at = seen.first_at if is_new else min(row.first_at, seen.first_at)
    row.last_at = max(row.last_at, seen.last_at)
    row.detail, row.count, row.is_all = seen.detail, seen.count, seen.is_all
    row.newest_id = seen.newest_id


def _is_over(row: ProblemRow, look: Look) -> bool:
    kind = Kind(row.kind)
    if kind in OF_A_HOST:
        return row.cause.get("host") == look.host or row.last_at < look.at - _UNSEEN_FOR
    return kind in look.complete


def _end(session: Session, row: ProblemRow, at: datetime) -> None:
    """Note that a problem is there no more. Of what somebody had acknowledged that is worth an audit."""
    if row.state == State.ACKNOWLEDGED:
        _set(session, row, State.RESOLVED, None, at)
    else:
        row.state, row.changed_at, row.changed_by, row.reason = State.RESOLVED, at, None, None


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
    }


def _prune(session: Session, look: Look, seen: Collection[UUID]) -> None:
    """Forget what was resolved long ago, or is one of very many. What is still seen stays: it would be open again."""
    resolved = ProblemRow.state == State.RESOLVED
    newest = select(ProblemRow.id).where(resolved).order_by(ProblemRow.changed_at.desc()).limit(_MAX_RESOLVED)
    is_old = or_(ProblemRow.changed_at < look.at - _KEPT_FOR, ProblemRow.id.not_in(newest))
    old = delete(ProblemRow).where(resolved, is_old, ProblemRow.id.not_in(list(seen)))
    session.execute(old.execution_options(synchronize_session=False))
