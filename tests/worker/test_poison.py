"""A receipt that can't be processed fails alone, even if it kills the worker; killed workers are noticed."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.domain.messages import Callback
from receiptsvc.dynmark.inbound import parser
from receiptsvc.locations import PROJECT
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Heartbeat
from receiptsvc.store.health import heartbeats
from receiptsvc.store.inbox import pending
from receiptsvc.worker import match_context
from receiptsvc.worker.pending_queue import PendingQueue
from receiptsvc.worker.receipt_batch import ParsedReceipt
from tests.support.rows import accept, keep, message, read_inbox, read_pending, seconds
from tests.support.work import assert_sound, outcome, outcomes, said, work

GOOD, BAD = "fine", "poison"


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Whether reading a receipt with the clientRef `poison` fails: at first it does."""
    real, is_on = parser.read_receipts, [True]

    def read(callback: Callback, *settings: object) -> object:
        if is_on[0] and b"poison" in callback.query:
            raise ZeroDivisionError
        return real(callback, *settings)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(parser, "read_receipts", read)
    return lambda is_poison: is_on.__setitem__(0, is_poison)


def conversation(database: Database, *refs: str) -> list[UUID]:
    """A receipt for each clientRef, about a message of its own."""
    made = accept(database, *(message(f"4477009000{number:02}") for number in range(len(refs))))
    return [
        keep(database, said(ref=ref, to=None), message_id=message_id)
        for ref, message_id in zip(refs, made, strict=True)
    ]


def kill(*_: object, **__: object) -> NoReturn:
    """End the process, as far as a test can: nothing of the product catches it."""
    raise KeyboardInterrupt


@pytest.mark.usefixtures("poisoned")
def test_a_failing_receipt_is_retried_alone_at_growing_gaps_and_ends_dead(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    before, poison, after = conversation(database, GOOD, BAD, GOOD)
    assert work(database, 10) == 3
    assert outcomes(database, [before, poison, after]) == ["applied", "pending", "applied"]
    at, gaps = 10.0, list[float]()
    while (row := read_inbox(database, poison)).outcome == "pending":
        assert row.reason == "ZeroDivisionError"
        waiting = read_pending(database, poison)
        assert waiting.next_at is not None
        assert waiting.tries == len(gaps) + 1
        gaps.append((waiting.next_at - seconds(at)).total_seconds())
        at += gaps[-1]
        assert work(database, at - 0.001) == 0, "not before its time"
        later = keep(database, said("Message+sent", to=None), message_id=accept(database)[0])
        assert work(database, at) == 2
        assert outcome(database, later) == "applied", "others are not held up"
    assert gaps == [5, 10, 20, 40, 80, 160, 320]
    assert (row.outcome, row.reason) == ("dead", "ZeroDivisionError")
    assert work(database, 1_000_000) == 0
    assert_sound(database, applied=9, dead=1)
    said_in_log = {"process.batch_failed", "process.row_failed", "process.names_unread"}
    assert {record.message for record in caplog.records} == said_in_log


def test_a_receipt_that_stops_failing_is_applied(database: Database, poisoned: Callable[[bool], None]) -> None:
    (poison,) = conversation(database, BAD)
    work(database, 10)
    work(database, 1000)
    poisoned(False)
    work(database, 10_000)
    row = read_inbox(database, poison)
    assert (row.outcome, row.reason) == ("applied", "it has no provider time")
    assert_sound(database, applied=1)


@pytest.mark.usefixtures("poisoned")
def test_failing_receipts_do_not_make_each_other_fail(database: Database) -> None:
    kept = conversation(database, BAD, GOOD, BAD, GOOD, BAD)
    for number in range(8):
        work(database, 10_000 * (number + 1))
    assert outcomes(database, kept) == ["dead", "applied", "dead", "applied", "dead"]
    assert_sound(database, applied=2, dead=3)


def test_an_outage_counts_as_no_rows_failure(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StorageUnavailable("away")

    kept, queue = conversation(database, GOOD, GOOD), PendingQueue()
    for away in [(pending, "take")] * 5 + [(match_context, "load")]:
        with monkeypatch.context() as outage:
            outage.setattr(*away, fail)
            with pytest.raises(StorageUnavailable):
                work(database, 10, queue=queue)
    assert [read_inbox(database, one).tries for one in kept] == [0] * 2
    assert work(database, 10, queue=queue) == 2
    assert outcomes(database, kept) == ["applied"] * 2


def test_after_a_worker_was_killed_as_many_rows_are_marked_before_they_are_processed(
    database: Database, processed_alone: list[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = conversation(database, *[GOOD] * 5)
    queue = PendingQueue(rows_to_mark=3)
    seen: list[int | None] = []
    real = match_context.load

    def load(session: Session, receipts: Sequence[ParsedReceipt]) -> object:
        seen.extend(read_inbox(database, row.id).tries for row, _ in receipts)  # as it is committed
        return real(session, receipts)

    monkeypatch.setattr(match_context, "load", load)
    work(database, 10, queue=queue)
    later = conversation(database, GOOD)
    work(database, 20, queue=queue)
    assert seen == [1] * 5 + [0], "one that kills this worker as well would go alone"
    assert outcomes(database, [*kept, *later]) == ["applied"] * 6
    assert processed_alone == []
    assert queue.rows_to_mark == 0
    assert_sound(database, applied=6)


def test_what_two_workers_died_of_is_processed_one_by_one(database: Database, processed_alone: list[UUID]) -> None:
    kept = conversation(database, *[GOOD] * 3)
    queue = PendingQueue(rows_to_mark=3)
    with pytest.MonkeyPatch.context() as dying:
        dying.setattr(match_context, "load", kill)
        with pytest.raises(KeyboardInterrupt):
            work(database, 10, queue=queue)
    assert outcomes(database, kept) == ["pending"] * 3
    new = conversation(database, GOOD)
    work(database, 14, queue=PendingQueue(rows_to_mark=3))
    assert (outcomes(database, new), processed_alone) == (["applied"], []), "the others wait for 5 s"
    work(database, 15, queue=PendingQueue())
    assert (outcomes(database, kept), processed_alone) == (["applied"] * 3, kept)
    assert_sound(database, applied=4)


@pytest.mark.slow
def test_a_receipt_that_kills_its_worker_ends_dead(database: Database, database_url: str) -> None:
    kept = conversation(database, GOOD, GOOD, "deadly", GOOD, GOOD)
    done = subprocess.run(
        [sys.executable, "-m", "tests.worker.dying", database_url],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout.split(), done.stderr) == (["killed"] * 9 + ["well"], "")
    assert outcomes(database, kept) == ["applied", "applied", "dead", "applied", "applied"]
    assert read_inbox(database, kept[2]).reason == "the process that worked on it ended"
    assert names(database) == ["ended:worker"], "who ends well leaves no heartbeat, and who was killed is buried"
    assert_sound(database, applied=4, dead=1)


# Heartbeats


def names(database: Database) -> list[str]:
    with database.reading() as session:
        return list(session.scalars(select(Heartbeat.process).order_by(Heartbeat.process)))


def test_a_killed_worker_is_reaped_once(database: Database) -> None:
    with database.transaction() as session:
        for name, at in (("worker:a:1", 0), ("worker:b:2", 50), ("workers:c:3", 0), ("web:d:4", 0)):
            heartbeats.beat(session, name, seconds(at))
    buried = []
    for _ in range(2):
        with database.transaction() as session:
            buried.append(heartbeats.reap(session, "worker", lambda one: one.seen_at < seconds(30)))
    assert buried == [1, 0]
    assert names(database) == ["web:d:4", "worker:b:2", "workers:c:3"]


def test_two_concurrent_reapers_count_each_worker_once(postgresql_database: Database) -> None:
    database = postgresql_database
    with database.transaction() as session:
        heartbeats.beat(session, "worker:a:1", seconds(0))
    with database.transaction() as one, database.transaction() as other:
        assert [heartbeats.reap(session, "worker", lambda _: True) for session in (one, other)] == [1, 0]
    assert names(database) == []


def test_a_heartbeat_is_one_row_and_is_deleted_with_its_worker(database: Database) -> None:
    with database.transaction() as session:
        for at in (0, 5):
            heartbeats.beat(session, "worker:a:1", seconds(at))
        heartbeats.beat(session, "worker:b:2", seconds(5))
    assert names(database) == ["worker:a:1", "worker:b:2"]
    with database.transaction() as session:
        heartbeats.deregister(session, "worker:a:1", seconds(7))
    assert names(database) == ["ended:worker", "worker:b:2"]
    with database.reading() as session:
        assert heartbeats.find_last_seen(session, "worker") == seconds(7)
        assert [each.process for each in heartbeats.find_alive(session, "worker", seconds(7))] == ["worker:b:2"]
