"""`migrate`: its exit codes, what it says, and that it is quick when there is nothing to do."""

import re
import resource
import secrets
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from receiptsvc.demo.processes import Stack, free_port
from receiptsvc.locations import PROJECT
from receiptsvc.store.core import database_faults, schema
from receiptsvc.store.core.db import Database, plain_url
from tests.cli.conftest import Run


@pytest.fixture
def url(database_url: str, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """A migrated database, and the settings that name it."""
    assert environ
    monkeypatch.setenv("DATABASE_URL", database_url)
    return database_url


def change(url: str, *statements: str) -> None:
    database = Database(url)
    with database.transaction() as session:
        for statement in statements:
            session.execute(text(statement))
    database.close()


def test_an_empty_sqlite_file_is_migrated_and_then_there_is_nothing_to_do(run: Run, environ: dict[str, str]) -> None:
    name = database_faults.describe(environ["DATABASE_URL"])
    first, second = run("migrate"), run("migrate")
    assert (first.exit_code, second.exit_code) == (0, 0)
    *migrations, end = first.output.splitlines()
    assert (migrations[0], migrations[-1]) == ("migration 0001", f"migration {schema.REVISION}")
    assert end == f"{name} has migration {schema.REVISION}"
    assert second.output == f"nothing to do: {name} has migration {schema.REVISION}\n"


def test_a_newer_database_that_this_release_may_use_is_left_alone(run: Run, url: str) -> None:
    change(url, "UPDATE alembic_version SET version_num = '0099'")
    result = run("migrate")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "newer than this release, which may use it" in result.stdout


@pytest.mark.parametrize(
    "statement",
    ["UPDATE schema_compatibility SET oldest_revision = '0098'", "DROP TABLE schema_compatibility"],
)
def test_a_newer_database_that_this_release_may_not_use_is_refused_in_one_line(
    run: Run, url: str, statement: str
) -> None:
    change(url, "UPDATE alembic_version SET version_num = '0099'", statement)
    result = run("migrate")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: the database is newer than this release: it has migration 0099")
    assert "Deploy a newer release, or restore a backup" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("part", "remedy"),
    [
        ({"host": "127.0.0.1", "port": free_port()}, "nothing listens there"),
        ({"host": "no-such-host.invalid", "port": 5432}, "there is no such host"),
        ({"database": "no_such_database"}, "there is no database of that name"),
        ({"username": "no_such_user"}, "there is no such user|the user or the password is refused"),
    ],
)
def test_a_database_that_can_not_be_reached_is_one_line_without_the_password(
    run: Run,
    environ: dict[str, str],
    postgresql_url: str,
    monkeypatch: pytest.MonkeyPatch,
    part: dict[str, object],
    remedy: str,
) -> None:
    assert environ
    wrong = make_url(postgresql_url).set(password="sesame", **part)  # type: ignore[arg-type]
    if "host" in part:
        wrong = wrong.set(query={})
    monkeypatch.setenv("DATABASE_URL", wrong.render_as_string(hide_password=False))
    result = run("migrate")
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.search(remedy, result.stderr)
    assert result.stderr.count("\n") == 1
    assert "sesame" not in result.stderr


def test_a_user_without_the_right_to_make_tables_is_told_so(
    run: Run, environ: dict[str, str], empty_postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert environ
    name = f"may_nothing_{secrets.token_hex(4)}"
    with_password = make_url(empty_postgresql).set(username=name, password="sesame")
    monkeypatch.setenv("DATABASE_URL", with_password.render_as_string(hide_password=False))
    with psycopg.connect(plain_url(empty_postgresql), autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'sesame'".encode())
        try:
            result = run("migrate")
        finally:
            admin.execute(f"DROP ROLE {name}".encode())
    assert result.exit_code == 1
    assert "let the URL name the user who owns the tables" in result.stderr


@pytest.mark.parametrize("path", ["/proc/receiptsvc/x.db", "/proc/x.db"])
def test_a_sqlite_file_that_can_not_be_made_is_one_line(
    run: Run, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    assert environ
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{path}")
    result = run("migrate")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: the SQLite file {path}: ")
    assert result.stderr.count("\n") == 1


def test_wrong_use_ends_with_2(run: Run, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("migrate", "head").exit_code == 2
    assert environ
    monkeypatch.setenv("DATABASE_URL", "sesame")
    result = run("migrate")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "DATABASE_URL: must be a URL" in result.stderr
    assert "sesame" not in result.stderr


@pytest.mark.slow
def test_nothing_to_do_takes_less_than_five_seconds(database_url: str, tmp_path: Path) -> None:
    stack = Stack(tmp_path, database_url)
    begun = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "receiptsvc", "migrate"],
        cwd=PROJECT,
        env=stack.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("nothing to do")
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert ended.ru_utime + ended.ru_stime - begun.ru_utime - begun.ru_stime < 5, "of the processor: others want it too"
