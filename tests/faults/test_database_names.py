"""Each fault of a database has its name and one line with a remedy: in commands, /readyz, and the logs of web and worker."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
from click.testing import CliRunner
from sqlalchemy.engine import make_url

from receiptsvc.cli.main import commands
from receiptsvc.demo.processes import answers, free_port
from receiptsvc.store.core.db import Database
from receiptsvc.web.app import create_app
from tests.faults.conftest import StartWeb, callback_url
from tests.support.callers import ALL, SECRETS, bearer, client_of, make_settings
from tests.support.forked import Stack
from tests.support.postgres import Server
from tests.support.processes import until

PASSWORD = "sesame-0123456789"


class Case(NamedTuple):
    """A database that can't be used: its URL, the fault's name, and a part of the remedy."""

    url: str
    kind: str
    remedy: str
    may_migrate: bool = False


@pytest.fixture
def cases(server: Server, tmp_path: Path) -> Iterator[dict[str, Case]]:
    """Every fault that can be made without breaking the machine, each on a database or file of its own."""
    good, reads, newer = (make_url(server.new_database()) for _ in range(3))
    text, folder = tmp_path / "text.db", tmp_path / "none" / "test.db"
    text.write_bytes(b"this is text, and no database" * 100)
    with server.connect() as admin:
        for statement in (
            "CREATE DATABASE without_tables",
            f"CREATE ROLE with_password LOGIN PASSWORD '{PASSWORD}-right'",
            "CREATE ROLE without_connections LOGIN CONNECTION LIMIT 0",
            f'ALTER DATABASE "{reads.database}" SET default_transaction_read_only = on',
        ):
            admin.execute(statement.encode())
        server.require_password("with_password")
        with server.connect(newer.database or "") as inside:
            inside.execute("UPDATE alembic_version SET version_num = '0099'")
            inside.execute("UPDATE schema_compatibility SET oldest_revision = '0098'")
        found = {
            "no tables": (good.set(database="without_tables"), "no tables", "run python -m receiptsvc migrate"),
            "password": (good.set(username="with_password"), "wrong password", "put the right ones into"),
            "database": (good.set(database="nowhere"), "no such database", "create it"),
            "role": (good.set(username="nobody"), "no such role", "create it"),
            "connections": (good.set(username="without_connections"), "too many connections", "CONNECTION LIMIT"),
            "refused": (good.set(port=free_port()), "unreachable", "nothing listens there"),
            "tls": (good.update_query_dict({"sslmode": "require"}), "TLS refused", "see sslmode"),
            "url": (good.update_query_dict({"color": "blue"}), "URL can't be read", "correct its parameters"),
            "newer": (newer, "newer than this release", "Deploy a newer release"),
            "text": (make_url(f"sqlite:///{text}"), "not a database", "correct DATABASE_URL"),
            "file": (make_url(f"sqlite:///{folder}"), "no tables", "run python -m receiptsvc migrate"),
        }
        made = {
            name: Case(
                (url.set(password=PASSWORD) if url.host else url).render_as_string(hide_password=False),
                kind,
                remedy,
                may_migrate=kind == "no tables",
            )
            for name, (url, kind, remedy) in found.items()
        }
        made["read-only"] = Case(reads.render_as_string(hide_password=False), "read-only", "name the primary")
        yield made
        for statement in (
            "DROP DATABASE without_tables WITH (FORCE)",
            "DROP ROLE with_password",
            "DROP ROLE without_connections",
        ):
            admin.execute(statement.encode())


def readiness(answer: Any) -> tuple[int, list[str]]:
    told = answer.json() if callable(answer.json) else answer.json
    return answer.status_code, told["degraded"]


def test_commands_and_readiness_name_every_fault_in_one_line(
    cases: dict[str, Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"CALLBACK_KEYS": "k1:0123456789abcdef", "API_KEYS": "a:ops:0123456789abcdef"}.items():
        monkeypatch.setenv(name, value)
    for name, case in cases.items():
        monkeypatch.setenv("DATABASE_URL", case.url)
        if name != "read-only":  # it can be read, and verified
            verified = CliRunner().invoke(commands, ["verify"])
            assert (verified.exit_code, verified.stderr.count("\n")) == (1, 1), (name, verified.output)
            assert case.remedy in verified.stderr, (name, verified.stderr)
            assert PASSWORD not in verified.output
            database = Database(case.url)
            app = create_app(make_settings(), database)
            if name != "newer":
                assert readiness(app.test_client().get("/readyz")) == (503, ["storage", case.kind]), name
                _, told = readiness(client_of(app).get("/readyz"))
                assert case.remedy in told[1], (name, told)
                assert PASSWORD not in told[1]
                for secret, what in ((SECRETS["read"], case.kind), (ALL, case.remedy)):
                    answer = client_of(app, secret).get("/v1/messages")
                    assert (answer.status_code, what in answer.json["detail"]) == (503, True), name  # type: ignore[index]
                    assert PASSWORD not in answer.json["detail"]  # type: ignore[index]
            else:
                assert case.kind in app.test_client().get("/readyz").json["degraded"]  # type: ignore[index]
            database.close()
        if not case.may_migrate:
            migrated = CliRunner().invoke(commands, ["migrate"])
            if name == "read-only":  # there is nothing to do
                assert migrated.exit_code == 0
                continue
            assert (migrated.exit_code, migrated.stderr.count("\n")) == (1, 1), (name, migrated.output)
            assert case.remedy in migrated.stderr, (name, migrated.stderr)
            assert PASSWORD not in migrated.output


def lines(stack: Stack, name: str) -> list[dict[str, Any]]:
    text = (stack.folder / f"{name}.log").read_text()
    assert PASSWORD not in text
    assert "Traceback" not in text
    read = [json.loads(line) for line in text.splitlines()]
    assert not [line for line in read if "trace" in line]
    return read


def test_web_and_worker_say_at_their_start_what_is_wrong_once_and_wait(cases: dict[str, Case], tmp_path: Path) -> None:
    chosen = ("no tables", "password", "refused", "text")
    settings = {"WEB_CONCURRENCY": "1", "CALLBACK_BUDGET_SECONDS": "0.5"}
    with ExitStack() as running:
        stacks = {
            name: running.enter_context(Stack(tmp_path / name, cases[name].url, settings=settings)) for name in chosen
        }
        for stack in stacks.values():
            stack.start("web", "worker")
        for name, stack in stacks.items():
            case = cases[name]
            stack.wait_until("the web process", lambda stack=stack: answers(f"{stack.url}/healthz"))  # type: ignore[misc]
            stack.wait_until("the worker says it", lambda stack=stack: bool(stack.tail("worker")))  # type: ignore[misc]
            assert readiness(requests.get(f"{stack.url}/readyz", timeout=5)) == (503, ["storage", case.kind])
            told = requests.get(f"{stack.url}/readyz", headers=bearer(stack.api_key), timeout=5)
            assert case.remedy in readiness(told)[1][1]
            assert requests.get(f"{callback_url(stack)}?a=b", timeout=10).status_code == 503
        for name, stack in stacks.items():
            case, is_missing = cases[name], name == "no tables"
            action = "worker.waits_for_migrations" if is_missing else "worker.storage_unavailable"
            [said] = [line for line in lines(stack, "worker") if line["action"] == action]
            assert case.remedy in said["error"]
            [said] = [
                line
                for line in lines(stack, "web")
                if line["action"] == ("web.not_migrated" if is_missing else "web.storage_unavailable")
            ]
            assert case.remedy in said["error"]
            actions = [line["action"] for line in lines(stack, "web")]
            assert actions.count("intake.trial_not_in_database") == actions.count("intake.not_kept") == 1


def test_a_server_that_goes_away_while_they_run_is_named_once_and_its_return_too(
    server: Server, postgresql_url: str, start_web: StartWeb, tmp_path: Path
) -> None:
    stack = start_web(postgresql_url, WEB_CONCURRENCY="1", SPOOL_DIR=str(tmp_path / "spool"))
    stack.start("worker")
    stack.wait_until("the worker", lambda: "worker.listens" in stack.tail("worker"))
    server.stop()
    for _ in range(3):
        assert requests.get(f"{callback_url(stack)}?a=b", timeout=10).status_code == 200
    until("it is named", lambda: "unreachable" in readiness(requests.get(f"{stack.url}/readyz", timeout=5))[1])
    until("the worker says it", lambda: "worker.storage_unavailable" in stack.tail("worker"))
    server.start()
    # A duty that met it tries again after half a minute at most, and one that does not is taken for over after one.
    until("it is over", lambda: any(line["action"] == "fault.over" for line in lines(stack, "worker")), seconds=120)
    until("a callback is kept", lambda: answers(f"{callback_url(stack)}?a=b") and counted(stack, "intake.spooled") >= 3)
    said = [line for line in lines(stack, "worker") if line["action"] == "worker.storage_unavailable"]
    assert len(said) == len({line["error"] for line in said}), "each fault once, though every duty met it"


def counted(stack: Stack, action: str) -> int:
    """How often a fault was met that is over."""
    return sum(line["times"] for line in lines(stack, "web") if line["action"] == "fault.over" and line["of"] == action)


def test_a_folder_for_the_spool_that_can_not_be_written_stops_the_start_in_one_line(
    sqlite_url: str, tmp_path: Path
) -> None:
    with Stack(tmp_path / "stack", sqlite_url, settings={"SPOOL_DIR": "/proc/spool"}) as stack:
        stack.start("web")
        until("it has ended", lambda: "SPOOL_DIR" in stack.tail("web"))
        text = (stack.folder / "web.log").read_text()
        assert "SPOOL_DIR: must be a folder" in text
        assert "/proc/spool is not" in text
        assert "Traceback" not in text
