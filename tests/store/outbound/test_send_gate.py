"""What holds all sending: a refused account, loudly and with one probe at a time; a person's pause; a rate."""

import pytest
from sqlalchemy import select

from receiptsvc.domain.messages import SendOutcome
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Audit
from receiptsvc.store.outbound import send_gate
from receiptsvc.store.outbound.send_gate import Allowance
from tests.support.rows import seconds


def allow(database: Database, at: float, *, per_second: float | None = None) -> Allowance:
    with database.transaction() as session:
        return send_gate.request(session, seconds(at), 250, per_second)


def note(database: Database, at: float, *outcomes: SendOutcome, was_probe: bool = False) -> None:
    with database.transaction() as session:
        send_gate.record_outcome(session, set(outcomes), seconds(at), was_probe=was_probe)


def test_a_refused_account_holds_everything_but_one_probe_at_growing_gaps(database: Database) -> None:
    assert allow(database, 0) == Allowance(most=250)
    note(database, 0, SendOutcome.ACCOUNT_REFUSED)
    probes: list[int] = []
    at = 0
    while len(probes) < 6:
        at += 1
        if allow(database, at).is_probe:
            assert allow(database, at).most == 0, "one probe at a time"
            probes.append(at)
            note(database, at, SendOutcome.ACCOUNT_REFUSED, was_probe=True)
    assert probes == [30, 90, 210, 450, 750, 1050]


def test_several_calls_that_learn_of_one_refusal_count_once(database: Database) -> None:
    for _ in range(4):
        note(database, 0, SendOutcome.ACCOUNT_REFUSED)
    assert allow(database, 29).most == 0
    assert allow(database, 30) == Allowance(most=1, is_probe=True)


def test_only_a_message_that_was_taken_frees_the_account(database: Database) -> None:
    note(database, 0, SendOutcome.ACCOUNT_REFUSED)
    note(database, 31, SendOutcome.REFUSED, SendOutcome.NOT_SENT, SendOutcome.UNCLEAR, was_probe=True)
    assert allow(database, 31).most == 1
    note(database, 61, SendOutcome.TAKEN, was_probe=True)
    assert allow(database, 61) == Allowance(most=250)


def test_a_probe_for_which_there_was_no_message_is_not_used_up(database: Database) -> None:
    note(database, 0, SendOutcome.ACCOUNT_REFUSED)
    with database.transaction() as session:
        assert send_gate.request(session, seconds(30), 250, None).is_probe
        session.rollback()
    assert allow(database, 31).is_probe


def test_a_pause_holds_everything_and_is_told_and_audited(database: Database) -> None:
    with database.transaction() as session:
        send_gate.pause(session, "anna", "wrong texts", seconds(0))
    with database.transaction() as session:
        held = send_gate.pause(session, "bob", "me too", seconds(1))
        assert (held.paused_by, held.pause_reason, held.paused_at) == ("anna", "wrong texts", seconds(0))
    assert allow(database, 2).most == 0
    with database.reading() as session:
        assert send_gate.describe(send_gate.read(session)) == ["sending is paused by anna"]
    with database.transaction() as session:
        send_gate.resume(session, "bob", None, seconds(3))
    assert allow(database, 4).most == 250
    with database.reading() as session:
        audits = session.scalars(select(Audit).order_by(Audit.id)).all()
    assert [(one.actor, one.action, one.reason) for one in audits] == [
        ("anna", "pause", "wrong texts"),
        ("bob", "resume", None),
    ]


@pytest.mark.parametrize(("per_second", "first"), [(10.0, 10), (0.5, 1), (100_000.0, 250)])
def test_a_rate_holds_whoever_sends(database: Database, per_second: float, first: int) -> None:
    sent, at = 0, 0.0
    while at < 60:
        with database.transaction() as session:
            most = send_gate.request(session, seconds(at), 250, per_second).most
            send_gate.spend(session, seconds(at), most, per_second)
        assert at or most == first, "what was unused before is made up for by a second's worth"
        sent += most
        at += 0.125
    assert min(60 * per_second, 480 * 250) - 1 <= sent <= first + 60 * per_second


def test_a_rate_that_a_wrong_clock_has_used_up_holds_nothing(database: Database) -> None:
    with database.transaction() as session:
        send_gate.spend(session, seconds(3600), 1, 10.0)
    assert allow(database, 0, per_second=10.0).most == 10
