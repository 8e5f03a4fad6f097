"""A longer chain than the project's: its migrations, then those of a folder. `python -m` runs an upgrade along it.

Arguments: the database's URL, the folder, the newest migration, the seconds of the lease.
"""

import os
import sys
from pathlib import Path

from alembic.config import Config

from receiptsvc.locations import PROJECT
from receiptsvc.store.core import schema, time_limits
from receiptsvc.store.core.db import Database
from receiptsvc.upgrade.runner import Upgrade
from tests.support.databases import alembic_config

NEXT, AFTER = (f"{int(schema.REVISION) + more:04}" for more in (1, 2))  # the migrations behind the project's own

# What a migration may do to the busiest tables while the release before works, in two steps. What is committed before the
# end of a step, as the index is, must be able to be begun again.
COLUMN = """
op.add_column("inbox", sa.Column("toy", sa.Integer()))
op.execute("ALTER TABLE inbox ADD CONSTRAINT ck_inbox_toy CHECK (toy >= 0) NOT VALID")
"""
INDEX = """
with op.get_context().autocommit_block():
    op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_transitions_toy")
    op.execute("CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_transitions_toy ON transitions (status)")
op.execute("ALTER TABLE inbox VALIDATE CONSTRAINT ck_inbox_toy")
"""

_FORM = """
import time

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{previous}"
branch_labels = None
depends_on = None
oldest_compatible = "{oldest}"


def upgrade() -> None:
{body}
"""


def write(folder: Path, revision: str, body: str, *, oldest: str = "0001") -> None:
    """Write a migration. `body`: the lines of its `upgrade`."""
    folder.mkdir(exist_ok=True)
    previous = f"{int(revision) - 1:04}"
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    text = _FORM.format(revision=revision, previous=previous, oldest=oldest, body=lines)
    (folder / f"{revision}_toy.py").write_text(text)


def write_both(folder: Path, *, oldest: str = "0001") -> None:
    """Write a migration of each step: `NEXT` and `AFTER`."""
    write(folder, NEXT, COLUMN, oldest=oldest)
    write(folder, AFTER, INDEX, oldest=oldest)


def config(folder: Path) -> Config:
    """Settings of the migrations with the folder's behind the project's."""
    made = alembic_config()
    made.set_main_option("version_locations", f"{PROJECT / 'migrations' / 'versions'}{os.pathsep}{folder}")
    return made


def upgrade(url: str, folder: Path, release: str, lease_seconds: float) -> None:
    """Upgrade the database along the whole chain."""
    database = Database(url, pool_size=2, may_create=True, limits=time_limits.MIGRATION)
    try:
        print(Upgrade(database, print, config=config(folder), release=release, lease_seconds=lease_seconds).run())
    finally:
        database.close()


if __name__ == "__main__":
    upgrade(sys.argv[1], Path(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
