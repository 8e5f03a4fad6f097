"""`urls`, `verify` and `replay` as people and programs call them."""

import json
from typing import Any

import pytest
from sqlalchemy import select, update

from receiptsvc import ids, tokens
from receiptsvc.config import Settings
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.store.core.models import Audit, InboxRow, Message
from receiptsvc.store.inbox import counters, receipts
from tests.cli.conftest import Run, Service
from tests.support import rows


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
        "no faults (messages 1, receipts 1, transitions 2, replies 0, conversations 1, counters 12, counts of hours 3)\n",
    )


def test_verify_names_each_fault_and_fails(service: Service, run: Run) -> None:
    message = service.accept("Hello")
    with service.database.transaction() as session:
        session.execute(update(Message).where(Message.id == ids.parse("msg", message)).values(conflict=True))
    result = run("verify")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"message's conflict, {message}: expected False, found True",
        "1 fault (messages 1, receipts 0, transitions 1, replies 0, conversations 1, counters 12, counts of hours 1)",
    ]
    as_json = run("verify", "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout) == {
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


def dead(service: Service, at: float) -> None:
    """A dead receipt, received so many seconds after T0."""
    receipt_id = rows.keep(service.database, "statusid=1", now=rows.seconds(at))
    with service.database.transaction() as session:
        session.execute(update(InboxRow).where(InboxRow.id == receipt_id).values(outcome="dead", processed_at=rows.T0))
        counters.move(session, {(ReceiptOutcome.PENDING, ReceiptOutcome.DEAD): 1})


def test_replay_has_receipts_worked_on_again_and_says_how_many(service: Service, run: Run) -> None:
    for at in (0, 10, 20):
        dead(service, at)
    between = ("--since", "2026-01-05T12:00:10Z", "--until", "2026-01-05T13:00:20+01:00")
    assert run("replay", "--outcome", "unmatched").stdout == "no receipts became pending\n"
    assert run("replay", *between, "--dry-run").stdout == "1 receipt would be pending\n"
    assert run("replay", *between, "--reason", "mended").stdout == "1 receipt became pending\n"
    result = run("replay", "--outcome", "dead", "--outcome", "quarantined", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"count": 2, "dryRun": False, "isComplete": True})
    with service.database.reading() as session:
        audits = session.scalars(select(Audit).order_by(Audit.id)).all()
    assert [(audit.actor, audit.reason, audit.details["count"]) for audit in audits] == [
        ("command line", "mended", 1),
        ("command line", None, 2),
    ]
    assert run("verify").exit_code == 0


def test_replay_goes_on_where_a_call_of_the_store_has_its_bound(
    service: Service, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        dead(service, 0)
    whole = receipts.replay

    def bounded(*arguments: Any, **options: Any) -> receipts.Replayed:
        return whole(*arguments, **options, limit=2)

    monkeypatch.setattr(receipts, "replay", bounded)
    assert run("replay", "--dry-run").stdout == "5 receipts would be pending\n"
    assert run("replay").stdout == "5 receipts became pending\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--outcome", "applied"),
        ("--since", "yesterday"),
        ("--until", "2026-01-05"),
        ("--since", "0001-01-01T00:00+14:00"),
    ],
)
def test_replay_refuses_what_it_does_not_understand(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("replay", *arguments).exit_code == 2


def test_replay_without_tables_is_one_line(run: Run) -> None:
    result = run("replay")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1


def test_rebuild_shows_the_difference_before_it_puts_it_right(
    service: Service, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = service.accept("Hello")
    service.report(message, statusid="77", statusdescription="Foo")
    assert run("rebuild").stdout == "no receipts would change; --apply puts them right\n"
    monkeypatch.setenv("STATUS_MAP", '{"77": "delivered"}')
    line = "1 receipt with statusid 77, 'Foo': unmapped → delivered\n"
    assert run("rebuild").stdout == line + "1 receipt would change; --apply puts them right\n"
    assert json.loads(run("rebuild", "--json").stdout) == {
        "applied": False,
        "differences": [{"statusId": "77", "description": "Foo", "was": "unmapped", "now": "delivered", "receipts": 1}],
        "conversations": 0,
    }
    assert run("rebuild", "--apply").stdout == line + "1 receipt put right\n"
    assert run("rebuild").stdout.startswith("no receipts")
    assert run("verify").exit_code == 0
