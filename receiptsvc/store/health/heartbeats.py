"""Who is at work: each worker says so every few seconds."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from receiptsvc.store.core import upsert
from receiptsvc.store.core.models import Heartbeat

_FORGET_AFTER = timedelta(days=1)


def beat(session: Session, process: str, now: datetime) -> None:
    """Say that this process is at work, and forget those that have long been silent."""
    statement = upsert.into(session, Heartbeat)
    values = {"seen_at": now}
    session.execute(
        statement.on_conflict_do_update(index_elements=["process"], set_=values), {"process": process, **values}
    )
    session.execute(delete(Heartbeat).where(Heartbeat.seen_at < now - _FORGET_AFTER))


def deregister(session: Session, process: str) -> None:
    """Say that this process ends well: what it had begun, it has finished."""
    session.execute(delete(Heartbeat).where(Heartbeat.process == process))


def reap(session: Session, kind: str, is_gone: Callable[[Heartbeat], bool]) -> int:
    """Forget processes of a kind, such as `worker`, that ended without saying so; how many they were.

    Each is counted by one caller only.
    """
    query = (
        select(Heartbeat)
        .where(Heartbeat.process.startswith(f"{kind}:", autoescape=True))
        .order_by(Heartbeat.process)
        .with_for_update(skip_locked=True)
    )
    gone = [one for one in session.scalars(query) if is_gone(one)]
    for one in gone:
        session.delete(one)
    return len(gone)


def find_alive(session: Session, kind: str, since: datetime) -> Sequence[Heartbeat]:
    """Processes of a kind, such as `worker`, that were seen at work after `since`."""
    query = select(Heartbeat).where(
        Heartbeat.process.startswith(f"{kind}:", autoescape=True), Heartbeat.seen_at > since
    )
    return session.scalars(query.order_by(Heartbeat.process)).all()
