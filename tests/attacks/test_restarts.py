"""The database is restarted in the middle of an upgrade: it ends in one line, and the next one does the rest."""

import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.engine import make_url

from receiptsvc.demo.processes import Stack
from receiptsvc.store.core import schema
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Base
from tests.support.forms import IS_LONG
from tests.support.postgres import Server
from tests.support.processes import until


@pytest.fixture
def empty_url(server: Server, postgresql_url: str) -> str:
    """An empty database on the server that can be broken."""
    with server.connect() as admin:
        admin.execute("DROP DATABASE IF EXISTS restarted")
        admin.execute("CREATE DATABASE restarted")
    return make_url(postgresql_url).set(database="restarted").render_as_string(hide_password=False)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("how", ["stop", "kill"] if IS_LONG else ["kill"])
def test_an_upgrade_whose_database_goes_away_says_so_and_is_finished_by_the_next(
    server: Server, empty_url: str, tmp_path: Path, how: str
) -> None:
    stack = Stack(tmp_path / "stack", empty_url)

    def migrate() -> subprocess.Popen[str]:
        return subprocess.Popen(
            stack.commands["migrations"],
            cwd=stack.project,
            env=stack.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    with closing(server.connect("restarted")) as holder:  # has an upgrade wait when it has made its tables
        holder.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
        holder.execute("BEGIN; LOCK TABLE alembic_version IN SHARE MODE")
        with migrate() as first:
            until("the upgrade waits in a migration", lambda: waits(server))
            getattr(server, how)()
            said = (first.stdout.read() if first.stdout else "").splitlines()
    server.start()
    assert first.returncode == 1, said
    assert said[-1].startswith("Error: the database restarted at 127.0.0.1"), said
    assert all(line.startswith(("migration", "waiting")) for line in said[:-1]), said
    with server.connect("restarted") as inside:  # its lease has run out meanwhile
        inside.execute("UPDATE migration_lease SET expires_at = '-infinity'")
    with migrate() as last:
        said = (last.stdout.read() if last.stdout else "").splitlines()
    assert last.returncode == 0, said
    database = Database(empty_url)
    with database.connection(is_read_only=True) as connection:
        assert schema.read(connection).revision == schema.REVISION
        assert set(Base.metadata.tables) <= set(inspect(connection).get_table_names())
        assert not connection.scalar(text("SELECT count(*) FROM pg_index WHERE NOT indisvalid"))
    database.close()


def waits(server: Server) -> bool:
    with server.connect() as admin:
        row = admin.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
    return bool(row and row[0])
