"""When a worker next has something to do: the heads of its queues, and what holds all sending."""

from datetime import datetime

from receiptsvc.domain.messages import SendOutcome
from receiptsvc.store.core.db import Database
from receiptsvc.store.inbox import pending
from receiptsvc.store.outbound import next_due, send_gate
from receiptsvc.store.outbound.next_due import NextDue
from tests.support.rows import accept, keep, seconds
from tests.support.work import work


def find(database: Database, at: float, per_second: float | None = None) -> NextDue:
    with database.glance() as connection:
        return next_due.find(connection, seconds(at), per_second)


def message_at(database: Database, at: float, per_second: float | None = None) -> datetime | None:
    return find(database, at, per_second).message_at


def test_the_first_of_each_queue_counts_and_nothing_is_due_in_empty_ones(database: Database) -> None:
    assert find(database, 0) == NextDue(None, None)
    kept = [keep(database, "transactionid=1", now=seconds(at)) for at in (7, 5, 9)]
    accept(database, now=seconds(4))
    accept(database, now=seconds(3))
    assert find(database, 0) == NextDue(seconds(5), seconds(3))
    work(database, at=8)
    assert find(database, 10).receipt_at is None
    with database.transaction() as session:
        pending.reopen(session, kept[:1], seconds(20))
    assert find(database, 10).receipt_at == seconds(20)


def test_no_message_is_due_while_sending_is_paused(database: Database) -> None:
    accept(database, now=seconds(0))
    with database.transaction() as session:
        send_gate.pause(session, "test", "because", seconds(1))
    assert message_at(database, 2) is None
    with database.transaction() as session:
        send_gate.resume(session, "test", None, seconds(3))
    assert message_at(database, 4) == seconds(4)


def test_while_our_credentials_are_refused_the_next_probe_is_due(database: Database) -> None:
    accept(database, now=seconds(0))
    with database.transaction() as session:
        send_gate.record_outcome(session, {SendOutcome.ACCOUNT_REFUSED}, seconds(1), was_probe=False)
    assert message_at(database, 2) == seconds(31)


def test_a_used_up_rate_is_due_when_it_has_room_for_one_message(database: Database) -> None:
    accept(database, now=seconds(0))
    with database.transaction() as session:
        assert send_gate.request(session, seconds(10), 250, 5).most == 5
        send_gate.spend(session, seconds(10), 5, 5)
    due_at = message_at(database, 10, per_second=5)
    assert due_at == seconds(10.2)
    with database.transaction() as session:
        assert send_gate.request(session, seconds(10.1), 250, 5).most == 0
        assert send_gate.request(session, due_at, 250, 5).most == 1
