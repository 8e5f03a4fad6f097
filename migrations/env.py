"""Runs the migrations: over the connection that the caller gives, or against the database that the settings name.

Afterwards it has the inbox's time slices made; from then on the worker does that. `python -m receiptsvc migrate` gives
a connection, and waits while another process migrates (`receiptsvc.upgrade`). Alembic's own commands take the same
lease, but do not wait for it.
"""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa
from alembic import context
from alembic.util import CommandError
from sqlalchemy.orm import Session

from receiptsvc.config import Settings
from receiptsvc.store.core import schema, time_limits
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Base, UtcDateTime
from receiptsvc.store.inbox import time_slices
from receiptsvc.upgrade import lease


def _render(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Write our own column types into a new migration as plain ones: a migration must not change with the models."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def _is_declared(name: str | None, kind: str, _parents: Any) -> bool:
    """Leave time slices and the lease out of a drafted migration, which would drop them: no model declares them."""
    return kind != "table" or not (name == lease.TABLE or time_slices.is_slice(name))


def _store_oldest_compatible(*, ctx: Any, heads: Collection[str], **_: Any) -> None:
    """Store what the newest migration says, in its own transaction."""
    for revision in heads:  # one, or none after everything was undone
        schema.write_oldest(ctx.connection, ctx.script.get_revision(revision).module.oldest_compatible)


def _run(connection: sa.Connection) -> None:
    on_version_apply: Any = [_store_oldest_compatible, *context.config.attributes.get("on_version_apply", ())]
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_item=_render,
        include_name=_is_declared,
        transaction_per_migration=True,
        on_version_apply=on_version_apply,
    )
    with context.begin_transaction():
        context.run_migrations()

    @contextmanager
    def begin() -> Iterator[Session]:
        with Session(connection) as session, session.begin():
            yield session

    time_slices.make_missing(begin, datetime.now(UTC))


def _run_by_hand() -> None:
    database = Database(Settings.from_env().database_url, may_create=True, limits=time_limits.MIGRATION)
    with closing(database), ExitStack() as held:
        if not database.is_sqlite and _changes_tables():
            held.enter_context(_leased(database))
        with database.connection() as connection:
            _run(connection)


def _changes_tables() -> bool:
    """Whether the command line's command does; called from Python, it is not known which one it is."""
    options = context.config.cmd_opts
    return options is None or options.cmd[0].__name__ in {"upgrade", "downgrade", "stamp"}


@contextmanager
def _leased(database: Database) -> Iterator[None]:
    mine = lease.Lease(database)
    if not mine.try_to_take():
        raise CommandError(f"another process migrates this database: run `{schema.MIGRATE}`, which waits for it")

    def check(*, ctx: Any, **_: Any) -> None:
        mine.check(ctx.connection)

    context.config.attributes["on_version_apply"] = [check]
    with mine.kept():
        yield


given = context.config.attributes.get("connection")
if given is not None:
    _run(given)
else:
    _run_by_hand()
