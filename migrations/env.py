"""Runs the migrations: over the connection that the caller gives, or against the database that the settings name.

Afterwards it has the inbox's time slices made; from then on the worker does that.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa
from alembic import context
from sqlalchemy.orm import Session

from receiptsvc.config import Settings
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Base, UtcDateTime
from receiptsvc.store.inbox import time_slices


def _render(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Write our own column types into a new migration as plain ones: a migration must not change with the models."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def _is_declared(name: str | None, kind: str, _parents: Any) -> bool:
    """Leave time slices out of a drafted migration, which would drop them: no model declares them."""
    return kind != "table" or not time_slices.is_slice(name)


def _run(connection: sa.Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_item=_render,
        include_name=_is_declared,
        transaction_per_migration=True,
    )
    if connection.dialect.name == "postgresql":
        # A migration that waits behind a long transaction would make everybody else wait behind it.
        connection.execute(sa.text("SET lock_timeout = '5s'"))
        connection.commit()
    with context.begin_transaction():
        context.run_migrations()

    @contextmanager
    def begin() -> Iterator[Session]:
        with Session(connection) as session, session.begin():
            yield session

    time_slices.make_missing(begin, datetime.now(UTC))


given = context.config.attributes.get("connection")
if given is not None:
    _run(given)
else:
    database = Database(Settings.from_env().database_url, may_create=True, limits=None)
    with database.connection() as connection:
        _run(connection)
    database.close()
