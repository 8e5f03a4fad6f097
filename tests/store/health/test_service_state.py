"""What is silent in a database is said: late work, missing receipts, refused keys, receipts for a person."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import update

from receiptsvc.domain.inbox import Channel, ReceiptOutcome
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database, plain_url
from receiptsvc.store.core.models import Message
from receiptsvc.store.health import health_log, heartbeats, minutes, service_state
from receiptsvc.store.health.health_log import HealthLog
from receiptsvc.store.health.service_state import Finding
from receiptsvc.store.inbox import counters, receipts, rejected
from receiptsvc.store.inbox.rejected import RejectedCallback
from receiptsvc.store.outbound import send_gate
from tests.support.processes import until
from tests.support.rows import T0, accept, arrival, insert_arrivals, keep, message, seconds
from tests.support.work import work

_AS_WITH_MORE_ROWS = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off"
MINUTE = timedelta(minutes=1)
KEYS = ": see `python -m receiptsvc callback-keys`"
ROUTES = ': see "Callbacks apart from the API" in docs/operations.md'


def findings(database: Database, now: datetime = T0) -> dict[str, str]:
    with database.reading() as session:
        state = service_state.read(session, now, listed_kids={"k1"})
    return {finding.name: finding.text for finding in service_state.describe(state)}


def submit(database: Database, **values: Any) -> None:
    """A message that the gateway has."""
    (message_id,) = accept(database, message(**values), now=T0)
    with database.transaction() as session:
        session.execute(update(Message).where(Message.id == message_id).values(status="submitted", due_at=None))


def test_of_an_empty_service_nothing_is_said(database: Database) -> None:
    assert findings(database) == {}


def test_misrouted_callbacks_are_told_for_an_hour(database: Database) -> None:
    with database.transaction() as session:
        minutes.keep(session, T0)
        counters.add(session, {counters.MISROUTED: 2})
    said = f"misrouted: 2 callbacks since {T0:%Y-%m-%dT%H:%M:%S}Z, kept by processes with WEB_ROLE=api{ROUTES}"
    assert findings(database, T0 + MINUTE) == {"callbacks_misrouted": said}
    with database.transaction() as session:
        minutes.keep(session, T0 + MINUTE)
    assert findings(database, T0 + 60 * MINUTE) == {"callbacks_misrouted": said}
    assert findings(database, T0 + 61 * MINUTE) == {}


def test_a_receipt_that_is_not_worked_on_is_late_after_a_minute(database: Database) -> None:
    keep(database, "statusid=1")
    assert findings(database, T0 + MINUTE) == {}
    assert findings(database, T0 + 5 * MINUTE)["receipts_late"].endswith("the first one for 5 min")


def test_a_message_that_is_due_is_late_after_five_minutes_unless_something_holds_it(database: Database) -> None:
    accept(database, now=T0)
    assert findings(database, T0 + 5 * MINUTE) == {}
    assert findings(database, T0 + 180 * MINUTE) == {"messages_late": "messages wait to be sent, the first one for 3 h"}
    with database.transaction() as session:
        send_gate.spend(session, T0 + 180 * MINUTE, 1, 50)
    assert findings(database, T0 + 180 * MINUTE) == {}, "sending goes on"
    assert "messages_late" in findings(database, T0 + 182 * MINUTE)
    with database.transaction() as session:
        send_gate.pause(session, "anna", "wrong texts", T0)
    assert findings(database, T0 + 182 * MINUTE) == {}


def test_no_receipt_for_half_an_hour_is_told_while_messages_wait_for_theirs(database: Database) -> None:
    submit(database)
    submit(database, deliver_after=T0 + 60 * MINUTE)
    assert findings(database, T0 + 29 * MINUTE) == {}
    stopped = ': see "When receipts stop" in docs/operations.md'
    ever = f"no receipt has come ever, although messages wait for theirs{stopped}"
    assert findings(database, T0 + 31 * MINUTE) == {"no_receipts": ever}
    with database.transaction() as session:
        at = T0 + 30 * MINUTE
        insert_arrivals(session, [arrival("content=Hi", channel=Channel.INBOUND, now=T0 - MINUTE)])
        insert_arrivals(session, [arrival("statusid=1", now=at), arrival("statusid=1", now=at)])
    assert "no_receipts" not in findings(database, T0 + 80 * MINUTE), "one came after the message"
    since = f"since {at:%Y-%m-%dT%H:%M:%S}Z"
    assert since in findings(database, T0 + 91 * MINUTE)["no_receipts"], "the scheduled one waits too"


def test_what_was_held_up_for_long_and_taken_just_now_does_not_wait_for_long(database: Database) -> None:
    submit(database)
    with database.transaction() as session:
        session.execute(update(Message).values(status_at=T0 + 40 * MINUTE))
    assert findings(database, T0 + 41 * MINUTE) == {}


def test_callbacks_with_a_key_that_is_not_listed_are_told_for_an_hour(database: Database) -> None:
    def refused(kid: str | None, at: datetime) -> RejectedCallback:
        return RejectedCallback(received_at=at, method="GET", address="/callbacks/receipts/<token>", kid=kid, query=b"")

    with database.transaction() as session:
        rejected.add(session, [refused("k1", T0), refused(None, T0), refused("old", T0), refused("old", T0)])
    text = f"callbacks are refused for a key that is not listed: old (2) in the last hour{KEYS}"
    assert findings(database, T0 + MINUTE) == {"callbacks_refused": text}
    stopped = "the last one at 2026-01-05T12:00:00Z, none since"
    text = f"callbacks were refused for a key that is not listed: old (2) in the last hour, {stopped}{KEYS}"
    assert findings(database, T0 + 59 * MINUTE) == {"callbacks_refused": text}
    assert findings(database, T0 + 60 * MINUTE) == {}


def test_receipts_for_a_person_are_told_from_the_counters(database: Database) -> None:
    with database.transaction() as session:
        counters.add(session, {ReceiptOutcome.UNMATCHED: 3, ReceiptOutcome.DEAD: 1, ReceiptOutcome.APPLIED: 9})
    assert findings(database) == {"receipts_for_a_person": "receipts need a person: 3 unmatched, 1 dead"}


def test_unmapped_receipts_are_told_with_their_codes_but_not_what_may_be_a_number(database: Database) -> None:
    [message_id] = accept(database)
    for code in ("9", "77", "9", "447700900001"):
        keep(database, f"statusid={code}&statusdescription=Pending+review", message_id=message_id)
    dismissed = keep(database, "statusid=4711&statusdescription=Review", message_id=message_id)
    work(database)
    with database.transaction() as session:
        receipts.dismiss(session, dismissed, Actor(actor="desk", reason="noise"), T0)
    with database.reading() as session:
        (finding,) = service_state.describe(service_state.read(session, T0, listed_kids={"k1"}))
    assert finding.text == "receipts have a code without a meaning: 4 unmapped (code 9, 77): name it in STATUS_MAP"
    assert finding.public == "receipts have a code without a meaning: 4 unmapped"


def test_what_workers_find_of_the_gateway_is_told_once_since_the_first_of_them(database: Database) -> None:
    with database.transaction() as session:
        for number, at in enumerate((T0, T0 - MINUTE)):
            heartbeats.beat(session, f"worker:{number}", T0, gateway_fault="no connection", gateway_fault_at=at)
        heartbeats.beat(session, "worker:3", T0)
        heartbeats.beat(session, "worker:gone", T0 - MINUTE, gateway_fault="a page", gateway_fault_at=T0)
    text = f"calls to the gateway fail since {T0 - MINUTE:%Y-%m-%dT%H:%M:%S}Z: no connection"
    assert findings(database) == {"gateway_amiss": text}
    with database.transaction() as session:
        for number in range(2):
            heartbeats.beat(session, f"worker:{number}", T0)
    assert findings(database) == {}
    with database.glance() as connection:
        assert heartbeats.is_any_alive(connection, "worker", T0)
        assert not heartbeats.is_any_alive(connection, "worker", T0 + MINUTE)


@pytest.mark.parametrize("has_ended", [False, True])
def test_a_worker_that_is_restarted_is_not_missing(database: Database, has_ended: bool) -> None:
    def is_missing(at: float, **options: Any) -> bool:
        with database.reading() as session:
            return service_state.read(session, seconds(at), listed_kids=(), **options).workers.is_missing

    assert is_missing(0), "there never was one"
    with database.transaction() as session:
        heartbeats.beat(session, "worker:here:1", T0)
        if has_ended:
            heartbeats.deregister(session, "worker:here:1", T0)
    assert [is_missing(at) for at in (0, 29, 30)] == [False, False, True]
    assert not is_missing(60, answers_since=seconds(31)), "the database stood still: no worker could report"
    assert is_missing(61, answers_since=seconds(31))


def test_each_look_reads_a_few_rows_however_many_there_are(postgresql_url: str, postgresql_database: Database) -> None:
    with postgresql_database.transaction() as session:
        insert_arrivals(session, [arrival(f"statusid=1&n={number}") for number in range(3_000)])
    accept(postgresql_database, *(message() for _ in range(2_000)), now=T0 + MINUTE)
    with postgresql_database.transaction() as session:
        session.execute(update(Message).values(status="submitted", due_at=None, status_at=T0 + 90 * MINUTE))
    with psycopg.connect(plain_url(postgresql_url), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE messages")
    read = (
        "SELECT relname, seq_tup_read + coalesce(idx_tup_fetch, 0) AS rows FROM pg_stat_xact_user_tables"
        " WHERE seq_tup_read + coalesce(idx_tup_fetch, 0) > 0"
    )
    fresh = Database(postgresql_url)  # whose session has counted nothing yet
    with fresh.reading() as session:
        session.connection().exec_driver_sql(_AS_WITH_MORE_ROWS)
        service_state.read(session, T0 + 91 * MINUTE, listed_kids={"k1"})
        rows = {str(name): int(count) for name, count in session.connection().exec_driver_sql(read)}
    fresh.close()
    assert sum(rows.values()) < 500, rows


def test_the_log_says_what_begins_and_what_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = HealthLog()
    late, silent = Finding("receipts_late", "for 5 min"), Finding("no_receipts", "since noon")
    for found in ([], [late], [Finding("receipts_late", "for 6 min"), silent], [silent], []):
        log.update(found)
    said = [(record.getMessage(), record.fields["name"]) for record in caplog.records]  # type: ignore[attr-defined]
    assert said == [
        ("health.degraded", "receipts_late"),
        ("health.degraded", "no_receipts"),
        ("health.recovered", "receipts_late"),
        ("health.recovered", "no_receipts"),
    ]


@contextmanager
def watching(database: Database) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=health_log.watch_for_workers, args=(database, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_web_process_says_that_no_worker_is_at_work_and_why_it_can_not_look(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(health_log, "_SECONDS", 0.01)
    away = Database("postgresql+psycopg://nobody@127.0.0.1:1/nowhere")

    def said() -> list[str]:
        return [record.getMessage() for record in caplog.records]

    with watching(away):
        until("it is told", lambda: said() == ["health.not_read"])
    with watching(database):
        until("it can look", lambda: said()[1:] == ["fault.over", "health.degraded"])
        with database.transaction() as session:
            heartbeats.beat(session, "worker:1", database.clock.now())
        until("it is over", lambda: said()[3:] == ["health.recovered"])
        with database.transaction() as session:
            heartbeats.deregister(session, "worker:1", database.clock.now() - heartbeats.MISSING_AFTER)
        until("it has been away for longer than a restart takes", lambda: said()[4:] == ["health.degraded"])
    away.close()
