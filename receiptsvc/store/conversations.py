"""When conversations were last active, each in one small row.

Activity is that somebody says something: a message is accepted, or a reply comes. Receipts are none, of which a
campaign has millions for one conversation: its row is written once for each request that sends, late in its
transaction, so that those who share a clientRef wait for each other's last step only.
"""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from sqlalchemy import case
from sqlalchemy.orm import Session

from receiptsvc.store import bulk, upsert
from receiptsvc.store.models import Spoken


def speak(session: Session, conversation_ids: Iterable[UUID], at: datetime, *, is_reply: bool) -> None:
    """Note that something was said in these conversations; nothing that was said later is forgotten."""
    statement = upsert.into(session, Spoken)
    given = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=["id"],
        set_={
            "first_at": case((given.first_at < Spoken.first_at, given.first_at), else_=Spoken.first_at),
            "last_at": case((given.last_at > Spoken.last_at, given.last_at), else_=Spoken.last_at),
            "is_answered": case((given.last_at >= Spoken.last_at, given.is_answered), else_=Spoken.is_answered),
        },
    )
    said = {"first_at": at, "last_at": at, "is_answered": is_reply}
    # In one order, so that two transactions can't wait for each other in a circle.
    bulk.execute_all(session, statement, Spoken, [{"id": one, **said} for one in sorted(set(conversation_ids))])
