"""What one upgrade does by itself: it leaves no trace in a session, waits for locks, and gives way when it must."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.util import CommandError

from receiptsvc.domain.errors import TooNew
from receiptsvc.store.core import schema, time_limits
from receiptsvc.store.core.db import Database, plain_url
from receiptsvc.store.core.schema import Found
from receiptsvc.upgrade.lease import Lease, LeaseLost
from receiptsvc.upgrade.runner import BrokenChain, Outcome, Upgrade
from tests.support import toy_upgrade
from tests.support.databases import alembic_config
from tests.support.processes import until
from tests.support.toy_upgrade import AFTER, NEXT

LEASE = "SELECT holder FROM migration_lease"
SECRETS = {"CALLBACK_KEYS": "a-secret-for-the-tests", "API_KEYS": "a:read:0123456789abcdef"}
TOY_TABLE = 'op.create_table("toy", sa.Column("id", sa.Integer()))'


@pytest.fixture
def empty(empty_postgresql: str) -> Iterator[Database]:
    """An empty database on PostgreSQL, with as many connections as `migrate` has."""
    database = Database(empty_postgresql, pool_size=2, limits=time_limits.MIGRATION)
    yield database
    database.close()


def toy(
    database: Database, folder: Path, release: str, say: Callable[[str], object], lease_seconds: float = 5.0
) -> Upgrade:
    return Upgrade(database, say, config=toy_upgrade.config(folder), release=release, lease_seconds=lease_seconds)


def scalars(database: Database, query: str) -> list[object]:
    with database.connection(is_read_only=True) as connection:
        return list(connection.scalars(sa.text(query)))


def found(database: Database) -> Found:
    with database.connection(is_read_only=True) as connection:
        return schema.read(connection)


def test_a_database_that_is_up_to_date_is_only_read(database: Database) -> None:
    assert Upgrade(database, pytest.fail).run() is Outcome.NOTHING_TO_DO
    with database.connection(is_read_only=True) as connection:
        assert not sa.inspect(connection).has_table("migration_lease")


def test_an_empty_database_is_migrated_once_and_the_lease_given_back(empty: Database) -> None:
    said: list[str] = []
    assert Upgrade(empty, said.append).run() is Outcome.UPGRADED
    assert (said[0], said[-1]) == ("migration 0001", f"migration {schema.REVISION}")
    assert scalars(empty, LEASE) == [None]
    assert Upgrade(empty, pytest.fail).run() is Outcome.NOTHING_TO_DO


def test_alembic_by_hand_takes_the_lease_or_says_what_waits_for_it(
    empty: Database, empty_postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**SECRETS, "DATABASE_URL": empty_postgresql}.items():
        monkeypatch.setenv(name, value)
    other = Lease(empty, 60)
    assert other.try_to_take()
    with pytest.raises(
        CommandError, match="another process migrates this database: run `python -m receiptsvc migrate`"
    ):
        command.upgrade(alembic_config(), "head")
    assert found(empty) == Found(None, None)
    with other.kept():
        pass  # given back
    command.upgrade(alembic_config(), "head")
    assert found(empty).revision == schema.REVISION
    assert scalars(empty, LEASE) == [None]


def test_alembic_by_hand_undoes_what_it_does_when_it_has_lost_the_lease(
    empty: Database, empty_postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**SECRETS, "DATABASE_URL": empty_postgresql}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("receiptsvc.upgrade.lease._CHECK", sa.text("SELECT 1 WHERE CAST(:holder AS text) IS NULL"))
    with pytest.raises(LeaseLost):
        command.upgrade(alembic_config(), "head")
    assert found(empty) == Found(None, None)


def test_a_draft_leaves_the_lease_alone(empty: Database) -> None:
    Upgrade(empty, str).run()
    config = alembic_config()
    with empty.connection() as connection:
        config.attributes["connection"] = connection
        command.check(config)  # raises if a draft would drop its table


def test_nothing_that_a_migration_sets_stays_in_a_session(empty: Database, tmp_path: Path) -> None:
    """Behind a pooler in transaction mode each session is somebody else's afterwards."""
    toy_upgrade.write(tmp_path, NEXT, 'with op.get_context().autocommit_block():\n    op.execute("SELECT 1")')
    with ExitStack() as both:
        for connection in [both.enter_context(empty.connection()) for _ in range(2)]:
            connection.execute(sa.text("SELECT 1"))
    before = settings(empty)
    assert toy(empty, tmp_path, NEXT, str).run() is Outcome.UPGRADED
    after = settings(empty)
    assert after.keys() == before.keys(), "else they are other sessions, which show nothing"
    assert after == before


def settings(database: Database) -> dict[int, dict[str, str]]:
    """What is set in each session of the pool, but for the transaction's own, by the process of the server."""
    query = sa.text(
        "SELECT name, setting FROM pg_settings WHERE (source = 'session' OR name LIKE '%timeout')"
        " AND name NOT IN ('transaction_isolation', 'transaction_read_only', 'transaction_deferrable')"
    )
    with ExitStack() as both:
        sessions = [both.enter_context(database.connection()) for _ in range(2)]
        return {
            each.scalar(sa.text("SELECT pg_backend_pid()")): {
                str(row.name): str(row.setting) for row in each.execute(query)
            }
            for each in sessions
        }


def test_a_migration_waits_for_a_lock_only_for_a_while_and_is_then_begun_again(
    empty: Database, empty_postgresql: str, tmp_path: Path
) -> None:
    assert Upgrade(empty, str).run() is Outcome.UPGRADED
    body = """
assert op.get_bind().scalar(sa.text("SHOW lock_timeout")) == "500ms"
op.execute("SET LOCAL lock_timeout = '50ms'")
op.execute("ALTER TABLE audits ADD COLUMN toy integer")
"""
    toy_upgrade.write(tmp_path, NEXT, body)
    said: list[str] = []
    with psycopg.connect(plain_url(empty_postgresql)) as other:
        other.execute("SELECT count(*) FROM audits")

        def say(line: str) -> None:
            said.append(line)
            other.rollback()  # once it has been waited for in vain

        assert toy(empty, tmp_path, NEXT, say).run() is Outcome.UPGRADED
    assert said == ["waiting: other transactions hold a table that a migration needs", f"migration {NEXT}"]


def test_the_last_try_waits_longer_and_then_it_is_given_up(
    empty: Database, empty_postgresql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Upgrade(empty, str).run() is Outcome.UPGRADED
    monkeypatch.setattr("receiptsvc.upgrade.runner._LOCKS_SECONDS", 0)
    toy_upgrade.write(tmp_path, NEXT, 'op.execute("ALTER TABLE audits ADD COLUMN toy integer")')
    said: list[str] = []
    with psycopg.connect(plain_url(empty_postgresql)) as other:
        other.execute("SELECT count(*) FROM audits")
        began = time.monotonic()
        with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
            toy(empty, tmp_path, NEXT, said.append).run()
        waited = time.monotonic() - began
    assert waited >= time_limits.MIGRATION.lock + time_limits.LAST_MIGRATION.lock
    assert said == ["waiting: other transactions hold a table that a migration needs"]
    assert found(empty).revision == schema.REVISION
    assert scalars(empty, LEASE) == [None]


def test_who_lost_the_lease_undoes_the_migration_and_waits(empty: Database, tmp_path: Path) -> None:
    """As after a pause of the whole process, in which another one has begun."""
    assert Upgrade(empty, str).run() is Outcome.UPGRADED
    seen = tmp_path / "seen"
    body = f"""
from pathlib import Path
{TOY_TABLE}
if not Path({str(seen)!r}).exists():
    Path({str(seen)!r}).touch()
    with op.get_bind().engine.begin() as other:
        other.execute(sa.text(
            "UPDATE migration_lease SET holder = 'other', expires_at = clock_timestamp() + interval '0.7 s'"
        ))
"""  # noqa: S608 - our own words
    toy_upgrade.write(tmp_path / "toy", NEXT, body)
    said: list[str] = []
    assert toy(empty, tmp_path / "toy", NEXT, said.append).run() is Outcome.UPGRADED
    assert said == [
        "another process migrates: this one could not renew its lease in time",
        "waiting: another process migrates",
        f"migration {NEXT}",
    ]
    assert found(empty) == Found(NEXT, "0001")


def test_the_lease_is_renewed_while_a_migration_runs(empty: Database, empty_postgresql: str, tmp_path: Path) -> None:
    assert Upgrade(empty, str).run() is Outcome.UPGRADED
    toy_upgrade.write(tmp_path, NEXT, 'op.execute("SELECT pg_sleep(1.5)")')
    upgrade = toy(empty, tmp_path, NEXT, str, lease_seconds=0.5)
    thread = threading.Thread(target=upgrade.run)
    thread.start()
    others = Database(empty_postgresql, pool_size=2, limits=time_limits.MIGRATION)
    said: list[str] = []
    until("it has begun", lambda: scalars(others, LEASE) != [None])
    assert toy(others, tmp_path, NEXT, said.append, lease_seconds=0.5).run() is Outcome.NOTHING_TO_DO
    thread.join()
    others.close()
    assert said == ["waiting: another process migrates"]


def test_each_migration_writes_which_releases_may_use_the_tables(empty: Database, tmp_path: Path) -> None:
    toy_upgrade.write(tmp_path, NEXT, TOY_TABLE)
    toy_upgrade.write(tmp_path, AFTER, 'op.drop_table("toy")', oldest=NEXT)
    assert toy(empty, tmp_path, AFTER, str).run() is Outcome.UPGRADED
    assert found(empty) == Found(AFTER, NEXT)
    assert toy(empty, tmp_path, NEXT, pytest.fail).run() is Outcome.NEWER
    with pytest.raises(TooNew):
        Upgrade(empty, pytest.fail).run()


def test_a_migration_that_fails_leaves_nothing_and_gives_the_lease_back(empty: Database, tmp_path: Path) -> None:
    toy_upgrade.write(tmp_path, NEXT, TOY_TABLE)
    toy_upgrade.write(tmp_path, AFTER, f'{TOY_TABLE.replace("toy", "other")}\nop.execute("SELECT no_such_column")')
    with pytest.raises(sa.exc.ProgrammingError):
        toy(empty, tmp_path, AFTER, str).run()
    assert found(empty) == Found(NEXT, "0001")
    assert scalars(empty, LEASE) == [None]
    with empty.connection(is_read_only=True) as connection:
        assert not sa.inspect(connection).has_table("other")


def test_on_sqlite_a_chain_that_breaks_off_leaves_nothing(empty_sqlite: str, tmp_path: Path) -> None:
    database = Database(empty_sqlite, pool_size=2, may_create=True)
    folder = tmp_path / "toy"
    toy_upgrade.write(folder, NEXT, 'op.execute("SELECT no_such_column")')
    with pytest.raises(sa.exc.OperationalError):
        toy(database, folder, NEXT, str).run()
    assert found(database) == Found(None, None)
    toy_upgrade.write(folder, NEXT, TOY_TABLE)
    assert toy(database, folder, NEXT, str).run() is Outcome.UPGRADED
    assert found(database) == Found(NEXT, "0001")
    database.close()


def test_files_that_do_not_lead_to_this_release_are_one_line(empty: Database) -> None:
    assert Upgrade(empty, str).run() is Outcome.UPGRADED
    with pytest.raises(BrokenChain, match=r"the files in migrations/ do not fit the database"):
        Upgrade(empty, str, release=NEXT).run()
