"""The question whether a callback could be kept right now, asked by doing all of it but the commit."""

from datetime import datetime

from sqlalchemy import insert
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain.inbox import Channel, InboxOutcome
from receiptsvc.store.models import InboxRow


def try_keeping(session: Session, now: datetime) -> None:
    """Write an inbox row and take it back. Raises SQLAlchemy's errors if that can't be done.

    The caller's transaction is over afterwards.
    """
    session.execute(
        insert(InboxRow).values(
            id=ids.new(),
            channel=Channel.ACCOUNT,
            received_at=now,
            method="HEAD",
            query=b"",
            body=b"",
            outcome=InboxOutcome.PENDING,
            next_at=now,
            tries=0,
        )
    )
    session.rollback()
