"""Indexes of tables that are large and written to: built and dropped beside the writers, not in front of them.

On PostgreSQL each is a commit of its own, and what came before it in the migration is committed too. So a migration
that uses this may end half-way, and is begun again from its top: every step before the last of these must bear that.
What is there already is left, and what a build that broke off has left behind is built anew. SQLite has one writer.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import op


def build(name: str, table: str, columns: Sequence[str], where: str | None = None) -> None:
    """Build an index. `columns` may be expressions in parentheses; `where`: which rows are in it."""
    condition = sa.text(where) if where else None
    parts = [sa.text(column) if "(" in column else column for column in columns]
    if not on_postgresql():
        op.create_index(name, table, parts, sqlite_where=condition)
        return
    with _beside_writers():
        broken = sa.text("SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(:name) AND NOT indisvalid")
        if op.get_bind().execute(broken, {"name": name}).first() is not None:
            op.drop_index(name, table, postgresql_concurrently=True)
        op.create_index(
            name, table, parts, if_not_exists=True, postgresql_concurrently=True, postgresql_where=condition
        )


def drop(name: str, table: str) -> None:
    """Drop an index."""
    if not on_postgresql():
        op.drop_index(name, table)
        return
    with _beside_writers():
        op.drop_index(name, table, if_exists=True, postgresql_concurrently=True)


def on_postgresql() -> bool:
    """Whether it is PostgreSQL that is migrated."""
    return op.get_context().dialect.name == "postgresql"


@contextmanager
def _beside_writers() -> Iterator[None]:
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")  # it waits for whoever has begun, and nobody waits for it
        yield
        op.execute("SET lock_timeout = '5s'")  # as env.py has it
