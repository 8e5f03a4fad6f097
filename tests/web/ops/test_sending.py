"""The page of sending: what holds it and who did that, what is to go out, and the two buttons."""

from datetime import timedelta

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from receiptsvc.domain.messages import SendOutcome
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Audit
from receiptsvc.store.health import heartbeats
from receiptsvc.store.messages import transitions
from receiptsvc.store.outbound import send_gate
from receiptsvc.store.queries import outlook, overdue
from tests.support import rows, work
from tests.support.reader import Reader
from tests.support.rows import seconds

NUMBER = "447700900123"


@pytest.fixture
def reader(browser: FlaskClient) -> Reader:
    return Reader(browser)


def audits(database: Database) -> list[tuple[str, str, str | None]]:
    with database.reading() as session:
        found = session.scalars(select(Audit).where(Audit.subject == send_gate.SUBJECT).order_by(Audit.id))
        return [(each.actor, each.action, each.reason) for each in found]


def test_sending_is_paused_and_resumed_by_whoever_is_signed_in_and_for_a_reason(
    reader: Reader, database: Database
) -> None:
    reader.open("/ops").follow("Sending")
    assert "Say why: it is kept with your name." in reader.submit("Pause sending", 422).text
    assert audits(database) == []
    reader.submit("Pause sending", reason="wrong price")
    assert reader.path == "/ops/sending"
    assert "paused" in reader.text
    assert "key opser has paused it since" in reader.text
    assert "wrong price" in reader.text
    reader.submit("Resume sending", 422, reason=" ")
    reader.submit("Resume sending", reason="it is mended")
    assert "by key opser (wrong price), resumed" in reader.text
    assert "by key opser (it is mended)" in reader.text
    assert audits(database) == [("key opser", "pause", "wrong price"), ("key opser", "resume", "it is mended")]


def test_it_says_what_a_pause_does_how_long_and_who_ends_it(reader: Reader) -> None:
    reader.open("/ops/sending")
    for words in ("Nothing is sent from then on", "does not end by itself", "who is signed in here can resume it"):
        assert words in reader.text


def test_who_has_an_older_page_is_told_and_changes_nothing(
    reader: Reader, browser: FlaskClient, database: Database
) -> None:
    other = Reader(browser).open("/ops/sending")
    reader.open("/ops/sending").submit("Pause sending", reason="the first")
    other.submit("Pause sending", 409, reason="the second")
    assert "somebody else had paused sending already" in other.text
    assert "the first" in other.text
    assert "the second" not in other.text
    reader.submit("Resume sending", reason="mended")
    other.submit("Resume sending", 409, reason="too late")
    assert "sending was not paused any more" in other.text
    assert [reason for _, _, reason in audits(database)] == ["the first", "mended"]


def test_all_that_holds_sending_is_told_with_its_time(reader: Reader, database: Database) -> None:
    assert "No worker is at work" in reader.open("/ops/sending").text
    now = database.clock.now()
    with database.transaction() as session:
        heartbeats.beat(session, "worker:1", now)
    assert "goes on" in reader.open("/ops/sending").text
    with database.transaction() as session:
        heartbeats.beat(session, "worker:1", now, gateway_fault="no connection", gateway_fault_at=seconds(0))
        send_gate.record_outcome(session, {SendOutcome.ACCOUNT_REFUSED}, seconds(5), was_probe=False)
    reader.open("/ops/sending")
    assert "The gateway refuses our credentials since 05 Jan 2026 12:00:05 UTC" in reader.text
    assert "Calls to the gateway fail since 05 Jan 2026 12:00:00 UTC: no connection" in reader.text


def test_what_is_to_go_out_is_counted_and_leads_to_its_messages(reader: Reader, database: Database) -> None:
    later = database.clock.now() + timedelta(days=1)
    with database.transaction() as session:
        here = rows.message("447700900456", deliver_after=later)
        transitions.accept(session, [here], seconds(0), schedules_messages=True)
    work.send(database, rows.message("447700900789", deliver_after=later, transport="rest"))
    work.send(database, rows.message("447700900999", transport="rest"), SendOutcome.UNCLEAR, at=7)
    rows.accept(database, rows.message(NUMBER, originator="ACME"))
    reader.open("/ops/sending")
    assert "Due now 1, the first for" in reader.spaced
    assert "Scheduled, still here 1, the first for" in reader.spaced
    assert "Scheduled, at the gateway 1, the first for" in reader.spaced
    assert "Answer lost 1 send_unknown, the oldest for" in reader.spaced
    assert "since 05 Jan 2026 12:00:07 UTC" in reader.spaced
    assert "Overdue 2 without a final report" in reader.spaced
    assert [row.startswith(("○ accepted", "◔ submitted")) for row in reader.rows()] == [True, True]
    assert all("scheduled for" in row for row in reader.rows())
    assert "SCHEDULED_BY=service keeps them here" in reader.spaced
    reader.submit("Find them, to cancel them")
    assert "1 message would be cancelled" in reader.text
    assert "those that waited here until their deliverAfter" in reader.text
    reader.open("/ops/sending").submit("Settle them")
    assert [row.split(" ")[1] for row in reader.rows()] == ["send"]
    reader.open("/ops/sending").submit("Show them")
    assert len(reader.rows()) == 1
    assert "from ACME" in reader.rows()[0]
    for text in (NUMBER, "7700900"):
        assert not [address for address in reader.seen if text in address]


def test_counts_end_at_a_bound_and_say_so(reader: Reader, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlook, "MAX_COUNTED", 2)
    monkeypatch.setattr(overdue, "MAX_OF_SENDERS", 2)
    rows.accept(database, *(rows.message(f"44770090000{n}") for n in range(3)))
    reader.open("/ops/sending")
    assert "Due now 2 or more, the first for" in reader.spaced
    assert "Overdue 3 or more without a final report" in reader.spaced
    assert "Of each status the newest" in reader.spaced


def test_a_number_in_a_reason_is_hidden_until_it_is_asked_for(reader: Reader, database: Database) -> None:
    with database.transaction() as session:
        send_gate.pause(session, "desk", f"asked by {NUMBER}", seconds(0))
    rows.accept(database, rows.message(deliver_after=database.clock.now() + timedelta(days=1)))
    reader.open("/ops/sending")
    assert NUMBER not in reader.source
    assert NUMBER in reader.submit("Show numbers and texts").text
    assert [each[1] for each in audits(database)] == ["pause", "reveal"]
