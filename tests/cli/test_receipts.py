"""`receipts` and `ledger` against the real API."""

import json

from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.store.inbox import counters
from tests.cli.conftest import Run, Service
from tests.support import rows


def keep_dead(service: Service) -> None:
    """Keep a receipt on which work failed eight times."""
    receipt_id = rows.keep(service.database, "statusid=1&statusdescription=Delivered&recipient=447700900009")
    with service.database.transaction() as session:
        rows.set_outcome(session, receipt_id, ReceiptOutcome.DEAD)
        counters.move(session, {(ReceiptOutcome.PENDING, ReceiptOutcome.DEAD): 1})


def test_receipts_are_listed_shown_matched_retried_dismissed_and_restored(service: Service, run: Run) -> None:
    message = service.accept("Hello")
    service.report(message, statusid="2", statusdescription="delivered")
    keep_dead(service)
    listed = run("receipts", "list")
    assert (listed.exit_code, listed.stdout.splitlines()[0]) == (0, "2 receipts.")
    assert listed.stdout.splitlines()[1].split()[:3] == ["id", "outcome", "receivedAt"]
    dead = run("receipts", "list", "--outcome", "dead", "--since", "2026-01-05T12:00:00Z", "--until", "yesterday")
    assert dead.stdout.splitlines()[0] == "1 receipt."
    receipt = dead.stdout.splitlines()[2].split()[0]
    cut = json.loads(run("receipts", "list", "--limit", "1", "--json").stdout)
    assert (len(cut["items"]), cut["isComplete"]) == (1, False)
    assert run("receipts", "list", "--limit", "1").stdout.splitlines()[0] == "The newest 1; --limit shows more."
    (applied,) = json.loads(run("receipts", "list", "--message", message, "--channel", "message", "--json").stdout)[
        "items"
    ]

    shown = run("receipts", "show", receipt)
    assert shown.stdout.splitlines()[0] == (
        f"{receipt} is dead: working on it failed eight times. To do: look at its reason, then retry it."
    )
    assert "query: statusid=1&statusdescription=Delivered&recipient=447700900009\n" in shown.stdout
    recorded = run("receipts", "show", applied["id"]).stdout
    assert "It was recorded so:\nstatus " in recorded
    assert f"message: {message}\n" in recorded

    retried = run("receipts", "retry", receipt, "--reason", "mended")
    assert retried.stdout.startswith(f"{receipt} is pending: kept; not yet worked on")
    again = run("receipts", "retry", receipt)
    assert (again.exit_code, again.stdout, "Usage" in again.stderr) == (1, "", False)

    keep_dead(service)
    (other,) = json.loads(run("receipts", "list", "--outcome", "dead", "--json").stdout)["items"]
    matched = run("receipts", "match", other["id"], message, "--reason", "the same number", "--json")
    assert (matched.exit_code, json.loads(matched.stdout)["messageId"]) == (0, message)
    assert "What was done to it:\nat " in run("receipts", "show", other["id"]).stdout
    keep_dead(service)
    (third,) = json.loads(run("receipts", "list", "--outcome", "dead", "--json").stdout)["items"]
    assert run("receipts", "match", third["id"], "msg_01h45ytscbebyvny4gc8cr8ma2").exit_code == 2, "no such message"
    assert run("receipts", "dismiss", third["id"]).exit_code == 2, "it must say why"
    dismissed = run("receipts", "dismiss", third["id"], "--reason", "a test")
    assert dismissed.stdout.startswith(f"{third['id']} is dismissed: an operator set it aside")
    restored = run("receipts", "restore", third["id"], "--reason", "it was none")
    assert restored.stdout.startswith(f"{third['id']} is pending: kept; not yet worked on")
    assert run("receipts", "restore", third["id"]).exit_code == 1, "it is not dismissed"
    missing = run("receipts", "show", "rcp_01h45ytscbebyvny4gc8cr8ma2")
    assert (missing.exit_code, "There is no receipt with this id." in missing.stderr) == (1, True)


def test_the_ledger_says_first_whether_it_balances(service: Service, run: Run) -> None:
    service.report(service.accept("Hello"), statusid="2", statusdescription="delivered")
    result = run("ledger")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "1 callbacks kept, 0 refused; the ledger balances."
    assert ["applied", "1"] in [line.split() for line in result.stdout.splitlines()]
    assert json.loads(run("ledger", "--json").stdout)["applied"] == 1
    with service.database.transaction() as session:
        counters.add(session, {ReceiptOutcome.DEAD: 1})
    unbalanced = run("ledger")
    assert (unbalanced.exit_code, "the ledger does not balance." in unbalanced.stdout) == (1, True)
