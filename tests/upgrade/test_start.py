"""Web and worker start on a newer database that they may use, and say in one line why they do not on another."""

import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from receiptsvc.demo.processes import Stack, StackError, answers
from receiptsvc.store.core.db import Database

pytestmark = pytest.mark.slow


def make_newer(url: str, oldest: str) -> None:
    database = Database(url)
    with database.transaction() as session:
        session.execute(sa.text("UPDATE alembic_version SET version_num = '0099'"))
        session.execute(sa.text("UPDATE schema_compatibility SET oldest_revision = :oldest"), {"oldest": oldest})
    database.close()


def lines(stack: Stack, name: str) -> list[str]:
    """The log's lines that are not gunicorn's own."""
    return [line for line in (stack.folder / f"{name}.log").read_text().splitlines() if "gunicorn.error" not in line]


def actions(stack: Stack, name: str) -> list[str]:
    found = [json.loads(line)["action"] for line in lines(stack, name) if line.startswith("{")]
    return [action for action in found if action != "files.open_to_others"]  # it may be so where the tests run


def test_both_start_on_a_newer_database_that_they_may_use(database_url: str, tmp_path: Path) -> None:
    make_newer(database_url, "0001")
    with Stack(tmp_path / "stack", database_url) as stack:
        stack.start("web", "worker")
        stack.wait_until("the web process", lambda: answers(f"{stack.url}/readyz"))
        stack.wait_until("the worker", lambda: "worker.started" in actions(stack, "worker"))
        assert "web.not_migrated" not in actions(stack, "web")


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
        assert actions(stack, "worker")[0] == "worker.waits_for_migrations"
        assert actions(stack, "worker").count("worker.waits_for_migrations") == 1
        assert actions(stack, "web").count("web.not_migrated") == 1
        assert "run python -m receiptsvc migrate" in stack.tail("web")
