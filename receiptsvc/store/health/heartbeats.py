"""Heartbeats: each process reports again and again that it is running. A killed one leaves its heartbeat behind.

A kind is how the names of processes begin: `worker`, `web`, or `web:api`, the web processes of a role.

Of processes that ended well one row a kind says when the last of them did.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, or_, select
from sqlalchemy.orm import Session

from receiptsvc.store.core import bulk
from receiptsvc.store.core.models import Heartbeat
from receiptsvc.web_role import WebRole

WEB = "web"
UNSEEN_AFTER = timedelta(seconds=15)  # a worker that has not reported for so long counts as gone
MISSING_AFTER = timedelta(seconds=30)  # without any worker something is wrong: one that is restarted is back sooner

_WEB_UNSEEN_AFTER = timedelta(seconds=75)  # a web process, which reports twice a minute
_ENDED = "ended:"  # and the kind: no process has such a name


def web_kind(role: WebRole) -> str:
    """The kind of the web processes that have this role."""
    return f"{WEB}:{role}"


def beat(
    session: Session,
    process: str,
    now: datetime,
    *,
    clock_ahead_seconds: float = 0.0,
    gateway_fault: str | None = None,
    gateway_fault_at: datetime | None = None,
    version: str | None = None,
) -> None:
    """Store that this process is running, and by how much its clock is ahead of the database's.

    `gateway_fault`: what its calls show to be wrong with the gateway, since `gateway_fault_at`.
    `version`: of its release.
    """
    statement = bulk.upsert(session, Heartbeat)
    values = {
        "seen_at": now,
        "clock_ahead_seconds": clock_ahead_seconds,
        "gateway_fault": gateway_fault,
        "gateway_fault_at": gateway_fault_at,
        "version": version,
    }
    session.execute(
        statement.on_conflict_do_update(index_elements=["process"], set_=values), {"process": process, **values}
    )


def deregister(session: Session, process: str, now: datetime) -> None:
    """Delete the heartbeat of a process that ends well: it has finished all it began."""
    session.execute(delete(Heartbeat).where(Heartbeat.process == process))
    beat(session, f"{_ENDED}{process.partition(':')[0]}", now)


def reap(session: Session, kind: str, is_gone: Callable[[Heartbeat], bool]) -> int:
    """Delete the heartbeats of processes of a kind, such as `worker`, that died without deregistering; how many.

    Each is counted by one caller only.
    """
    query = (
        select(Heartbeat)
        .where(Heartbeat.process.startswith(f"{kind}:", autoescape=True))
        .order_by(Heartbeat.process)
        .with_for_update(skip_locked=True)
    )
    gone = [heartbeat for heartbeat in session.scalars(query) if is_gone(heartbeat)]
    for heartbeat in gone:
        session.delete(heartbeat)
    return len(gone)


def is_any_alive(connection: Connection, kind: str, now: datetime) -> bool:
    """Whether a process of a kind, such as `worker`, reported lately. One short statement, to be made all the time."""
    query = select(Heartbeat.process).where(Heartbeat.process.startswith(f"{kind}:", autoescape=True))
    return connection.scalar(query.where(Heartbeat.seen_at > now - UNSEEN_AFTER).limit(1)) is not None


def find_last_seen(session: Session | Connection, kind: str) -> datetime | None:
    """When a process of a kind last reported, or ended well; None: there was none."""
    of_kind = Heartbeat.process.startswith(f"{kind}:", autoescape=True)
    return session.scalar(
        select(func.max(Heartbeat.seen_at)).where(or_(of_kind, Heartbeat.process == f"{_ENDED}{kind}"))
    )


def is_missing(seen_at: datetime | None, now: datetime, answers_since: datetime | None = None) -> bool:
    """Whether no worker is at work, and none is just being restarted.

    `seen_at`: when the last one was; None: never. `answers_since`: when the database went on after it stood still, in
    which no worker can report; None: it has not stood still.
    """
    return seen_at is None or now - max(seen_at, answers_since or seen_at) >= MISSING_AFTER


def find_all(session: Session, kind: str) -> Sequence[Heartbeat]:
    """The heartbeats of all processes of a kind, such as `worker`, also of those that are gone."""
    of_kind = Heartbeat.process.startswith(f"{kind}:", autoescape=True)
    return session.scalars(select(Heartbeat).where(of_kind).order_by(Heartbeat.process)).all()


def find_alive(session: Session, kind: str, now: datetime) -> Sequence[Heartbeat]:
    """The heartbeats of the processes of a kind, such as `worker`, that reported lately."""
    unseen_after = _WEB_UNSEEN_AFTER if kind.partition(":")[0] == WEB else UNSEEN_AFTER
    query = select(Heartbeat).where(
        Heartbeat.process.startswith(f"{kind}:", autoescape=True), Heartbeat.seen_at > now - unseen_after
    )
    return session.scalars(query.order_by(Heartbeat.process)).all()
