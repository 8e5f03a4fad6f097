"""The database of `make run`: the one that all other commands use as well, with keys from the data folder.

It must hold nothing but what such runs made. The sandbox would take a real message that waits there, and report it as
delivered. So the first run leaves a mark, and what has messages or receipts without it is refused.
"""

import os
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from receiptsvc.config import Settings
from receiptsvc.demo.story import DemoFailed
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.locations import DATA
from receiptsvc.store.core import audits, database_faults
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Audit, InboxRow, Message

_MARK = "demo.database_marked"


def settings() -> Settings:
    """The settings that a run has, and the other commands with the same DATABASE_URL. Raises SettingsError."""
    port = {"PORT": os.environ.get("PORT", "")}
    desk = Settings.from_env({"DATABASE_URL": f"sqlite:///{DATA / 'receiptsvc.db'}", **port})  # makes the keys
    database_url = os.environ.get("DATABASE_URL", "").strip()
    if not database_url:
        return desk
    (api_key,) = desk.api_keys
    return Settings.from_env(
        {
            "DATABASE_URL": database_url,
            "CALLBACK_KEYS": ",".join(f"{key.kid}:{key.secret}" for key in desk.callback_keys),
            "API_KEYS": f"{api_key.name}:{'+'.join(sorted(api_key.scopes))}:{api_key.secret}",
            **port,
        }
    )


def refuse_foreign(database_url: str) -> None:
    """Raise DemoFailed if the database has messages or receipts that no run has made, or can't be read."""
    path = make_url(database_url).database
    if database_url.startswith("sqlite") and not Path(path or "").exists():
        return
    try:
        with closing(Database(database_url)) as database, database.connection(is_read_only=True) as connection:
            is_foreign = not _is_marked(connection) and _has_any(connection, Message, InboxRow)
    except (SQLAlchemyError, StorageUnavailable) as error:
        fault = error if isinstance(error, StorageUnavailable) else database_faults.explain(error, database_url)
        raise DemoFailed(str(fault)) from error
    if is_foreign:
        raise DemoFailed(
            "this database has messages or receipts of a real service, which the sandbox must not touch: "
            "let DATABASE_URL name an empty one"
        )


def mark(database_url: str) -> None:
    """Note in the migrated database that runs of this kind may use it."""
    with closing(Database(database_url)) as database:
        with database.connection(is_read_only=True) as connection:
            if _is_marked(connection):
                return
        with database.transaction() as session:
            audits.write(session, at=datetime.now(UTC), actor="demo", action=_MARK, subject="database")


def _is_marked(connection: sa.Connection) -> bool:
    if not sa.inspect(connection).has_table(Audit.__tablename__):
        return False
    return (
        connection.scalar(sa.select(Audit.id).where(Audit.subject == "database", Audit.action == _MARK).limit(1))
        is not None
    )


def _has_any(connection: sa.Connection, *tables: type[Message] | type[InboxRow]) -> bool:
    there = [table for table in tables if sa.inspect(connection).has_table(table.__tablename__)]
    return any(connection.scalar(sa.select(sa.literal(1)).select_from(table).limit(1)) for table in there)
