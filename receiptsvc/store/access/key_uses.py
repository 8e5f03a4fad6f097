"""When each key was last used: the API's, and those that sign callback URLs. `receiptsvc.key_uses` writes it."""

from collections.abc import Collection, Mapping
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from sqlalchemy import select
from sqlalchemy.orm import Session

from receiptsvc.store.core import bulk
from receiptsvc.store.core.models import KeyUse


class Kind(StrEnum):
    """What a key is for."""

    API = "api"
    CALLBACK = "callback"


Use: TypeAlias = tuple[Kind, str]  # of a key of this kind: its name, or its kid


def write(session: Session, uses: Collection[Use], now: datetime) -> None:
    """Note that these keys were used by now. In one order, so that processes do not lock each other out."""
    statement = bulk.upsert(session, KeyUse)
    latest = statement.on_conflict_do_update(index_elements=["kind", "name"], set_={"used_at": now})
    for kind, name in sorted(uses):
        session.execute(latest, {"kind": kind.value, "name": name, "used_at": now})


def read(session: Session, kind: Kind) -> Mapping[str, datetime]:
    """When each key of a kind was last used, by its name or kid; what is not there was not used since that is noted."""
    found = session.execute(select(KeyUse.name, KeyUse.used_at).where(KeyUse.kind == kind.value))
    return {row.name: row.used_at for row in found}
