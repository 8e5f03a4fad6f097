"""Several upgrades at once, in real processes: one migrates, the others wait for it, and all end with 0."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from receiptsvc.demo.processes import Stack
from receiptsvc.locations import PROJECT
from receiptsvc.store.core import schema
from receiptsvc.store.core.db import Database, plain_url
from receiptsvc.store.core.models import Base
from receiptsvc.store.core.schema import Found
from tests.support import toy_upgrade
from tests.support.forms import IS_LONG
from tests.support.processes import until
from tests.support.toy_upgrade import AFTER, NEXT

pytestmark = [pytest.mark.slow, pytest.mark.long]

ROUNDS = 5 if IS_LONG else 1
PROCESSES = pytest.mark.parametrize("processes", [2, 5] if IS_LONG else [3])  # one migrates, and two want to go next
LEASE_SECONDS = 2.0

# As a migration is to build an index beside its writers: one that breaks off can be begun again.
CONCURRENT_INDEX = """
with op.get_context().autocommit_block():
    op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_toy")
    op.execute("CREATE INDEX CONCURRENTLY ix_toy ON audits (action)")
"""
# The first process to come here stays long enough for the others to come too.
TABLE = """
op.create_table("toy", sa.Column("id", sa.Integer()))
op.execute("SELECT pg_sleep(1)")
"""


def start(commands: Sequence[Sequence[str]], environ: dict[str, str] | None = None) -> list[subprocess.Popen[str]]:
    return [
        subprocess.Popen(command, cwd=PROJECT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for command in commands
    ]


def toy(url: str, folder: Path, release: str) -> list[str]:
    module = [sys.executable, "-m", "tests.support.toy_upgrade"]
    return [*module, url, str(folder), release, str(LEASE_SECONDS)]


def ends(processes: Sequence[subprocess.Popen[str]]) -> tuple[list[int], str]:
    """The exit codes, and what all have said."""
    said = [process.communicate(timeout=120)[0] for process in processes]
    return [process.returncode for process in processes], "".join(said)


def found(url: str) -> Found:
    database = Database(url)
    with database.connection(is_read_only=True) as connection:
        read = schema.read(connection)
    database.close()
    return read


def tables(url: str) -> set[str]:
    database = Database(url)
    with database.connection(is_read_only=True) as connection:
        names = set(sa.inspect(connection).get_table_names())
    database.close()
    return names


@PROCESSES
@pytest.mark.parametrize("round_", range(ROUNDS))
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_upgrades_at_once_of_an_empty_database_all_end_well(
    request: pytest.FixtureRequest, engine: str, tmp_path: Path, processes: int, round_: int
) -> None:
    empty_url: str = request.getfixturevalue(f"empty_{engine}")
    stack = Stack(tmp_path / "stack", empty_url)
    codes, said = ends(start([stack.commands["migrations"]] * processes, dict(stack.environ)))
    assert codes == [0] * processes, said
    assert said.splitlines().count("migration 0001") == 1, "only one of them migrates"
    assert found(empty_url) == Found(schema.REVISION, "0001")
    assert tables(empty_url) >= set(Base.metadata.tables)
    del round_


@PROCESSES
@pytest.mark.parametrize("round_", range(ROUNDS))
def test_an_index_is_built_beside_its_writers_while_others_wait_for_the_lease(
    empty_postgresql: str, tmp_path: Path, processes: int, round_: int
) -> None:
    toy_upgrade.write(tmp_path / "toy", NEXT, CONCURRENT_INDEX)
    toy_upgrade.write(tmp_path / "toy", AFTER, TABLE)
    codes, said = ends(start([toy(empty_postgresql, tmp_path / "toy", AFTER)] * processes))
    assert codes == [0] * processes, said
    assert "waiting: another process migrates" in said
    assert [said.count(f"migration {each}\n") for each in ("0001", NEXT, AFTER)] == [1, 1, 1]
    assert found(empty_postgresql) == Found(AFTER, "0001")
    with psycopg.connect(plain_url(empty_postgresql)) as connection:
        query = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_toy'::regclass"
        assert connection.execute(query).fetchall() == [(True,)]
    del round_


def test_a_killed_upgrade_keeps_the_next_waiting_no_longer_than_its_lease(
    empty_postgresql: str, tmp_path: Path
) -> None:
    """It is killed with a lock on a table in its hands; its session ends some seconds later."""
    folder = tmp_path / "toy"
    toy_upgrade.write(
        folder, NEXT, 'op.add_column("audits", sa.Column("toy", sa.Integer()))\nop.execute("SELECT pg_sleep(5)")'
    )
    (killed,) = start([toy(empty_postgresql, folder, NEXT)])
    until("the migration is in the middle", lambda: _is_asleep(empty_postgresql), seconds=60)
    killed.kill()
    killed.communicate()
    toy_upgrade.write(folder, NEXT, 'op.add_column("audits", sa.Column("toy", sa.Integer()))')
    codes, said = ends(start([toy(empty_postgresql, folder, NEXT)] * 2))
    assert codes == [0, 0], said
    assert said.count(f"migration {NEXT}\n") == 1
    assert found(empty_postgresql) == Found(NEXT, "0001")


def test_an_upgrade_killed_while_it_builds_an_index_can_be_begun_again(empty_postgresql: str, tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    toy_upgrade.write(folder, NEXT, CONCURRENT_INDEX)
    assert ends(start([toy(empty_postgresql, folder, schema.REVISION)]))[0] == [0]
    with psycopg.connect(plain_url(empty_postgresql)) as writer:
        writer.execute("INSERT INTO audits (at, actor, action, subject, details) VALUES (now(), '', '', '', '{}')")
        (killed,) = start([toy(empty_postgresql, folder, NEXT)])  # waits for the writer
        until("the index is being built", lambda: _is_building(empty_postgresql), seconds=60)
        killed.kill()
        killed.communicate()
        (next_,) = start([toy(empty_postgresql, folder, NEXT)])
        until("the next waits for the first one's session", lambda: _is_dropping(empty_postgresql), seconds=60)
        writer.commit()
    codes, said = ends([next_])
    assert codes == [0], said
    with psycopg.connect(plain_url(empty_postgresql)) as connection:
        query = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_toy'::regclass"
        assert connection.execute(query).fetchall() == [(True,)]


def _is_asleep(url: str) -> bool:
    return _runs(url, "SELECT pg_sleep%")


def _is_building(url: str) -> bool:
    return _runs(url, "CREATE INDEX CONCURRENTLY%")


def _is_dropping(url: str) -> bool:
    return _runs(url, "DROP INDEX CONCURRENTLY%")


def _runs(url: str, statement: str) -> bool:
    query = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query LIKE %s)"
    with psycopg.connect(plain_url(url)) as connection:
        row = connection.execute(query, [statement]).fetchone()
    return bool(row and row[0])
