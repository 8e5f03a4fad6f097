"""Who is at work: each worker says so every few seconds, and what troubles it."""

from datetime import datetime, timedelta

from sqlalchemy import delete
from sqlalchemy.orm import Session

from receiptsvc.store import upsert
from receiptsvc.store.models import Heartbeat

_FORGET_AFTER = timedelta(days=1)


def beat(session: Session, process: str, now: datetime, trouble: str | None) -> None:
    """Say that this process is at work, and forget those that have long been silent."""
    statement = upsert.into(session, Heartbeat)
    values = {"seen_at": now, "trouble": trouble}
    session.execute(
        statement.on_conflict_do_update(index_elements=["process"], set_=values), {"process": process, **values}
    )
    session.execute(delete(Heartbeat).where(Heartbeat.seen_at < now - _FORGET_AFTER))
