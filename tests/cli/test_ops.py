"""`urls` and `verify` as people and programs call them."""

import json

import pytest
from sqlalchemy import update

from receiptsvc import ids, tokens
from receiptsvc.config import Settings
from receiptsvc.store.models import Message
from tests.cli.conftest import Run, Service


def test_urls_are_those_that_the_callbacks_verify(environ: dict[str, str], run: Run) -> None:
    static = tokens.static_urls(Settings.from_env(environ))
    result = run("urls")
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["receipts", static.receipts],
        ["replies", static.inbound],
    ]
    assert "secret" in result.stderr
    assert json.loads(run("urls", "--json").stdout) == {"receipts": static.receipts, "inbound": static.inbound}


def test_verify_says_what_it_looked_at(service: Service, run: Run) -> None:
    service.report(service.accept("Hello"), statusdescription="delivered")
    result = run("verify")
    assert (result.exit_code, result.stdout) == (
        0,
        "no faults (messages 1, receipts 1, transitions 2, replies 0, counters 12)\n",
    )


def test_verify_names_each_fault_and_fails(service: Service, run: Run) -> None:
    message = service.accept("Hello")
    with service.database.transaction() as session:
        session.execute(update(Message).where(Message.id == ids.parse("msg", message)).values(status="delivered"))
    result = run("verify")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"message's status, {message}: expected accepted, found delivered",
        "1 fault (messages 1, receipts 0, transitions 1, replies 0, counters 12)",
    ]
    as_json = run("verify", "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout) == {
        "checked": {"messages": 1, "receipts": 0, "transitions": 1, "replies": 0, "counters": 12},
        "faults": [{"what": "message's status", "where": message, "expected": "accepted", "found": "delivered"}],
    }


def test_verify_without_tables_is_one_line(run: Run) -> None:
    result = run("verify")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "have its migrations run?" in result.stderr


def test_verify_without_a_database_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:password@127.0.0.1:9/none")
    result = run("verify")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "password" not in result.stderr
