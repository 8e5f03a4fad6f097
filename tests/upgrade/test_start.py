"""Web and worker start on a newer database that they may use, and say in one line why they do not on another."""

import json
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import make_url

from receiptsvc.connection_shares import Bounds
from receiptsvc.demo.processes import Stack, StackError, answers
from receiptsvc.store.core.db import Database, plain_url
from receiptsvc.store.health import connection_limits, heartbeats

pytestmark = pytest.mark.slow


def make_newer(url: str, oldest: str) -> None:
    database = Database(url)
    with database.transaction() as session:
        session.execute(sa.text("UPDATE alembic_version SET version_num = '0099'"))
        session.execute(sa.text("UPDATE schema_compatibility SET oldest_revision = :oldest"), {"oldest": oldest})
    database.close()


def lines(stack: Stack, name: str) -> list[str]:
    """The log's lines that are not gunicorn's own."""
    return [line for line in (stack.folder / f"{name}.log").read_text().splitlines() if "gunicorn." not in line]


def actions(stack: Stack, name: str) -> list[str]:
    found = [json.loads(line)["action"] for line in lines(stack, name) if line.startswith("{")]
    return [action for action in found if action != "files.open_to_others"]  # it may be so where the tests run


def is_at_work(stack: Stack) -> bool:
    return "worker.started" in actions(stack, "worker")


@pytest.mark.on_postgresql
def test_both_start_on_a_newer_database_that_they_may_use(database_url: str, tmp_path: Path) -> None:
    make_newer(database_url, "0001")
    with Stack(tmp_path / "stack", database_url) as stack:
        stack.start("web", "worker")
        stack.wait_until("the web process", lambda: answers(f"{stack.url}/readyz"))
        stack.wait_until("the worker", lambda: "worker.started" in actions(stack, "worker"))
        assert "web.not_migrated" not in actions(stack, "web")


@pytest.mark.on_postgresql
@pytest.mark.parametrize(("process", "exit_code"), [("web", 4), ("worker", 1)])
def test_neither_starts_on_a_newer_database_that_it_may_not_use(
    database_url: str, tmp_path: Path, process: str, exit_code: int
) -> None:
    make_newer(database_url, "0098")
    with Stack(tmp_path / "stack", database_url, settings={"WEB_CONCURRENCY": "1"}) as stack:
        stack.start(process)
        with pytest.raises(StackError, match=f"{process} ended with exit code {exit_code}"):
            stack.wait_until("its end", lambda: False)
        said = [line for line in lines(stack, process) if "newer than this release" in line]
        assert len(said) == 1
        assert "Deploy a newer release" in said[0]
        assert "Traceback" not in stack.tail(process)


def test_a_web_process_that_started_without_its_database_refuses_a_newer_one_as_soon_as_it_is_there(
    postgresql_url: str, tmp_path: Path
) -> None:
    make_newer(postgresql_url, "0098")
    name = str(make_url(postgresql_url).database)
    server = make_url(plain_url(postgresql_url)).set(database="postgres").render_as_string(hide_password=False)
    settings = {"WEB_CONCURRENCY": "1", "SPOOL_DIR": str(tmp_path / "spool")}
    with (
        psycopg.connect(server, autocommit=True) as admin,
        Stack(tmp_path / "stack", postgresql_url, settings=settings) as stack,
    ):
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
        stack.start("web")
        stack.wait_until("it starts without", lambda: answers(f"{stack.url}/healthz"))
        assert "web.storage_unavailable" in actions(stack, "web")
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(name)))
        with pytest.raises(StackError, match="web ended with exit code 4"):
            stack.wait_until("its end", lambda: False)
        assert [line for line in lines(stack, "web") if "newer than this release" in line] != []
        assert "Traceback" not in stack.tail("web")


def test_two_sets_of_processes_say_at_their_start_what_they_sum_to(postgresql_url: str, tmp_path: Path) -> None:
    """The first finds room enough for itself, the second finds the first alive."""
    name = str(make_url(postgresql_url).database)
    with psycopg.connect(plain_url(postgresql_url), autocommit=True) as admin, ExitStack() as running:
        admin.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT 30").format(sql.Identifier(name)))
        try:
            one = {"WEB_CONCURRENCY": "1"}
            first, second = (
                running.enter_context(Stack(tmp_path / each, postgresql_url, settings=one)) for each in ("a", "b")
            )
            first.start("worker")
            first.wait_until("the first worker", partial(is_at_work, first))
            second.start("worker", "web")
            second.wait_until("the second worker", partial(is_at_work, second))
            second.wait_until("the web process", partial(answers, f"{second.url}/readyz"))
            said = "2 sets of processes may open 36 connections, and the database allows 30"
            assert "worker.too_many_connections" not in actions(first, "worker")
            assert actions(second, "worker").count("worker.too_many_connections") == 1
            assert said in second.tail("worker")
            degraded = second.client().call("GET", "/readyz")["degraded"]
            assert any(line.startswith(said) for line in degraded), degraded
            admin.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT 40").format(sql.Identifier(name)))
            first.stop("worker")
            first.start("worker")
            first.wait_until("it says so again", lambda: "worker.one_of_sets" in actions(first, "worker"))
            assert '"sets": 2, "connections": 36, "allowed": 40' in first.tail("worker")
        finally:
            admin.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT -1").format(sql.Identifier(name)))


def test_sets_that_fit_say_what_they_sum_to_as_well(postgresql_database: Database) -> None:
    now, bounds = datetime.now(UTC), Bounds(of_set=18, of_callbacks_process=3)
    with postgresql_database.transaction() as session:
        heartbeats.beat(session, "worker:one:1", now)
        one = connection_limits.measure(session, bounds, now)
        heartbeats.beat(session, "worker:two:1", now)
        two = connection_limits.measure(session, bounds, now)
    assert one is not None
    assert two is not None
    assert (one.sets, one.connections, two.sets, two.connections) == (1, 18, 2, 36)
    assert (one.fault, two.fault) == (None, None)


def test_processes_for_callbacks_alone_are_summed_up_beside_the_sets(postgresql_database: Database) -> None:
    now, bounds = datetime.now(UTC), Bounds(of_set=90, of_callbacks_process=4)
    names = ("worker:a:1", "web:callbacks:a:2", "web:callbacks:b:2", "web:api:a:3", "web:all:a:4")
    with postgresql_database.transaction() as session:
        for name in names:
            heartbeats.beat(session, name, now)
        heartbeats.beat(session, "web:callbacks:gone:6", now - timedelta(minutes=2))
        total = connection_limits.measure(session, bounds, now)
    assert total is not None
    assert (total.sets, total.for_callbacks, total.connections) == (1, 2, 98)
    said = "the processes and 2 for callbacks alone may open 98 connections, and the database allows 97: lower"
    assert replace(total, limit=97).fault == f"{said} DATABASE_CONNECTIONS"


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_without_tables_both_say_it_once_and_work_as_soon_as_they_are_there(
    request: pytest.FixtureRequest, engine: str, tmp_path: Path
) -> None:
    empty_url: str = request.getfixturevalue(f"empty_{engine}")
    with Stack(tmp_path / "stack", empty_url, settings={"WEB_CONCURRENCY": "1"}) as stack:
        stack.start("web", "worker")
        stack.wait_until("the worker says it", lambda: bool(actions(stack, "worker")))
        stack.wait_until("the web process", lambda: answers(f"{stack.url}/healthz"))
        assert not answers(f"{stack.url}/readyz")
        stack.migrate()
        stack.wait_until("the worker", lambda: "worker.started" in actions(stack, "worker"))
        stack.wait_until("the web process", lambda: answers(f"{stack.url}/readyz"))
        stack.wait_until("it has looked again", lambda: "web.database_fits" in actions(stack, "web"))
        assert actions(stack, "worker")[0] == "worker.waits_for_migrations"
        assert actions(stack, "worker").count("worker.waits_for_migrations") == 1
        assert actions(stack, "web").count("web.not_migrated") == 1
        assert "run python -m receiptsvc migrate" in stack.tail("web")
