"""How `verify` ended the last time that it ran to its end. What it checks is in `verification`, which only reads."""

from datetime import datetime

from sqlalchemy.orm import Session

from receiptsvc.store.core import bulk
from receiptsvc.store.core.models import LastVerification


def keep(session: Session, *, began_at: datetime, ended_at: datetime, faults: int, receipts: int) -> None:
    """Keep how a run ended, in place of the one before. `receipts`: how many it has checked."""
    values = {"began_at": began_at, "ended_at": ended_at, "faults": faults, "receipts": receipts}
    statement = bulk.upsert(session, LastVerification)
    session.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values), {"id": 1, **values})


def read(session: Session) -> LastVerification | None:
    """The last run; None: there was none."""
    return session.get(LastVerification, 1)
