"""`replay` as people and programs call it."""

import json

import pytest
from sqlalchemy import select

from receiptsvc import bulk_actions
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.store.core.models import Audit
from receiptsvc.store.inbox import counters
from tests.cli.conftest import Run, Service
from tests.support import rows


def keep_dead(service: Service, at: float) -> None:
    """Keep a dead receipt that was received `at` seconds after T0."""
    receipt_id = rows.keep(service.database, "statusid=1", now=rows.seconds(at))
    with service.database.transaction() as session:
        rows.set_outcome(session, receipt_id, ReceiptOutcome.DEAD)
        counters.move(session, {(ReceiptOutcome.PENDING, ReceiptOutcome.DEAD): 1})


def test_replay_makes_receipts_pending_and_says_how_many(service: Service, run: Run) -> None:
    for at in (0, 10, 20):
        keep_dead(service, at)
    between = ("--since", "2026-01-05T12:00:10Z", "--until", "2026-01-05T13:00:20+01:00")
    assert run("replay", "--outcome", "unmatched").stdout == f"no receipts became pending in {service.database_name}\n"
    assert run("replay", *between, "--dry-run").stdout == f"1 receipt would be pending in {service.database_name}\n"
    assert (
        run("replay", *between, "--reason", "mended").stdout == f"1 receipt became pending in {service.database_name}\n"
    )
    result = run("replay", "--outcome", "dead", "--outcome", "quarantined", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"count": 2, "dryRun": False, "isComplete": True})
    with service.database.reading() as session:
        audits = session.scalars(select(Audit).order_by(Audit.id)).all()
    assert [(audit.actor, audit.reason, audit.details["count"]) for audit in audits] == [
        ("command line", "mended", 1),
        ("command line", None, 2),
    ]
    assert run("verify").exit_code == 0


def test_replay_continues_where_one_call_stops(service: Service, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        keep_dead(service, 0)
    monkeypatch.setattr(bulk_actions, "MAX_CHANGED", 2)
    assert run("replay", "--dry-run").stdout == f"5 receipts would be pending in {service.database_name}\n"
    assert run("replay", "--all").stdout == f"5 receipts became pending in {service.database_name}\n"


def test_replay_of_everything_has_to_be_meant(service: Service, run: Run) -> None:
    keep_dead(service, 0)
    for arguments in ((), ("--reason", "mended"), ("--json",)):
        result = run("replay", *arguments)
        assert result.exit_code == 2
        assert "--all" in result.stderr
    assert run("replay", "--dry-run").stdout == f"1 receipt would be pending in {service.database_name}\n"
    assert run("replay", "--all").stdout == f"1 receipt became pending in {service.database_name}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--outcome", "applied"),
        ("--since", "soon"),
        ("--until", "2026-13-05"),
        ("--since", "0001-01-01T00:00+14:00"),
    ],
)
def test_replay_refuses_a_wrong_outcome_or_time(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("replay", *arguments).exit_code == 2


def test_replay_without_tables_is_one_line(run: Run) -> None:
    result = run("replay", "--all")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
