"""`verify` as people and programs call it."""

import json

import pytest
from sqlalchemy import update

from receiptsvc import ids
from receiptsvc.domain.errors import ReadOnly
from receiptsvc.store.core.models import LastVerification, Message
from receiptsvc.store.health import last_verification
from tests.cli.conftest import Run, Service


def test_verify_says_what_it_checked(service: Service, run: Run) -> None:
    service.report(service.accept("Hello"), statusdescription="delivered")
    result = run("verify")
    assert (result.exit_code, result.stdout) == (
        0,
        f"no faults in {service.database_name} (messages 1, receipts 1, transitions 2, replies 0, conversations 1, counters 12, counts of hours 5)\n",
    )


def test_verify_names_each_fault_and_fails(service: Service, run: Run) -> None:
    message = service.accept("Hello")
    with service.database.transaction() as session:
        session.execute(update(Message).where(Message.id == ids.parse("msg", message)).values(conflict=True))
    result = run("verify")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"message's conflict, {message}: expected False, found True",
        f"1 fault in {service.database_name} (messages 1, receipts 0, transitions 1, replies 0, conversations 1, counters 12, counts of hours 1)",
    ]
    as_json = run("verify", "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout) == {
        "database": service.database_name,
        "checked": {
            "messages": 1,
            "receipts": 0,
            "transitions": 1,
            "replies": 0,
            "conversations": 1,
            "counters": 12,
            "counts of hours": 1,
        },
        "faults": [{"what": "message's conflict", "where": message, "expected": "False", "found": "True"}],
    }


def test_how_it_ended_is_kept_for_the_ops_page(service: Service, run: Run) -> None:
    message = service.accept("Hello")
    service.report(message, statusdescription="delivered")
    began_at = service.database.clock.now()
    run("verify")
    with service.database.transaction() as session:
        session.execute(update(Message).where(Message.id == ids.parse("msg", message)).values(conflict=True))
    first = read_last(service)
    run("verify", "--json")
    last = read_last(service)
    assert [(one.faults, one.receipts) for one in (first, last)] == [(0, 1), (1, 1)]
    assert began_at <= first.began_at <= first.ended_at <= last.began_at <= last.ended_at


def test_a_database_that_takes_no_writes_is_verified_all_the_same(
    run: Run, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ReadOnly("it takes no writes")

    monkeypatch.setattr(last_verification, "keep", refuse)
    result = run("verify")
    assert (result.exit_code, result.stderr) == (0, "the ops page will not show this: it takes no writes\n")
    assert result.stdout.startswith(f"no faults in {service.database_name}")


def read_last(service: Service) -> LastVerification:
    with service.database.reading() as session:
        found = last_verification.read(session)
    assert found is not None
    return found


def test_verify_without_tables_is_one_line(run: Run) -> None:
    result = run("verify")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "run python -m receiptsvc migrate" in result.stderr


def test_verify_without_a_database_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:password@127.0.0.1:9/none")
    result = run("verify")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "password" not in result.stderr
