"""Runs the migrations: over the connection that the caller gives, or against the database that the settings name."""

from typing import Any, Literal

import sqlalchemy as sa
from alembic import context

from receiptsvc.config import Settings
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Base, UtcDateTime


def _render(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Write our own column types into a new migration as plain ones: a migration must not change with the models."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def _run(connection: sa.Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_item=_render,
        transaction_per_migration=True,
    )
    if connection.dialect.name == "postgresql":
        # A migration that waits behind a long transaction would make everybody else wait behind it.
        connection.execute(sa.text("SET lock_timeout = '5s'"))
        connection.commit()
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    _run(given)
else:
    database = Database(Settings.from_env().database_url, may_create=True)
    with database.connection() as connection:
        _run(connection)
    database.close()
