"""Heartbeats: each process reports again and again that it is running. A killed one leaves its heartbeat behind."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.orm import Session

from receiptsvc.store.core import bulk
from receiptsvc.store.core.models import Heartbeat

UNSEEN_AFTER = timedelta(seconds=15)  # a worker that has not reported for so long counts as gone
WEB_UNSEEN_AFTER = timedelta(seconds=75)  # a web process, which reports twice a minute


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


def deregister(session: Session, process: str) -> None:
    """Delete the heartbeat of a process that ends well: it has finished all it began."""
    session.execute(delete(Heartbeat).where(Heartbeat.process == process))


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


def find_last_seen(session: Session, kind: str) -> datetime | None:
    """When the last process of a kind reported that did not end well; None: there is none."""
    of_kind = Heartbeat.process.startswith(f"{kind}:", autoescape=True)
    return session.scalar(select(func.max(Heartbeat.seen_at)).where(of_kind))


def find_all(session: Session, kind: str) -> Sequence[Heartbeat]:
    """The heartbeats of all processes of a kind, such as `worker`, also of those that are gone."""
    of_kind = Heartbeat.process.startswith(f"{kind}:", autoescape=True)
    return session.scalars(select(Heartbeat).where(of_kind).order_by(Heartbeat.process)).all()


def find_alive(
    session: Session, kind: str, now: datetime, unseen_after: timedelta = UNSEEN_AFTER
) -> Sequence[Heartbeat]:
    """The heartbeats of the processes of a kind, such as `worker`, that reported lately."""
    query = select(Heartbeat).where(
        Heartbeat.process.startswith(f"{kind}:", autoescape=True), Heartbeat.seen_at > now - unseen_after
    )
    return session.scalars(query.order_by(Heartbeat.process)).all()
