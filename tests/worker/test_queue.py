"""Rows that appear before the worker's position in the queue are found too, and soon."""

from contextlib import suppress
from uuid import UUID

import pytest

from receiptsvc.store.core import locks
from receiptsvc.store.core.db import Database
from receiptsvc.worker import pending_queue, receipt_processor
from receiptsvc.worker.pending_queue import PendingQueue
from tests.support.rows import accept, arrival, insert_arrivals, keep, message, seconds
from tests.support.work import RULES, assert_sound, outcome, outcomes, said, work

FULL_SCAN_SECONDS = 10.0  # at the latest


class Clock:
    """The worker's clock, moved by the test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pending_queue, "monotonic", clock)
    return clock


def kept_at(database: Database, message_id: UUID, *times: float) -> list[UUID]:
    return [keep(database, said(to=None), message_id=message_id, now=seconds(at)) for at in times]


def test_a_row_that_is_committed_late_is_processed(
    postgresql_database: Database, postgresql_url: str, clock: Clock
) -> None:
    database, queue = postgresql_database, PendingQueue()
    web = Database(postgresql_url)  # another process
    web.slot = database.slot + 1
    (message_id,) = accept(database)
    late = arrival(said(to=None), message_id=message_id, now=seconds(10))
    with web.transaction() as session:
        insert_arrivals(session, [late])  # and is slow to commit
        kept_at(database, message_id, 20, 30)
        assert work(database, 100, queue=queue) == 2
    kept_at(database, message_id, 99)
    assert work(database, 100, queue=queue) == 1, "it looks behind its place"
    assert outcome(database, late.id) == "pending"
    clock.now += FULL_SCAN_SECONDS
    assert work(database, 100, queue=queue) == 1
    assert outcome(database, late.id) != "pending"
    assert_sound(database)
    web.close()


def test_rows_of_a_drained_spool_are_processed_however_long_the_queue_is(database: Database, clock: Clock) -> None:
    queue = PendingQueue()
    (message_id,) = accept(database)
    kept_at(database, message_id, *range(50, 60))
    assert receipt_processor.process(database, RULES, seconds(100), 1, queue) == 1
    spooled = kept_at(database, message_id, -86_400, -3600, 0)
    assert receipt_processor.process(database, RULES, seconds(100), 1, queue) == 1
    assert outcomes(database, spooled) == ["pending"] * 3
    clock.now += FULL_SCAN_SECONDS
    for _ in spooled:
        receipt_processor.process(database, RULES, seconds(100), 1, queue)
    assert "pending" not in outcomes(database, spooled)
    assert work(database, 100, queue=queue) == 8
    assert_sound(database)


def test_a_new_row_before_the_position_is_found(database: Database, clock: Clock) -> None:
    queue = PendingQueue()
    (message_id,) = accept(database)
    for at in (100, 99.5, 99, 98.5):  # commits overtake each other by less than the lag that is allowed for
        kept_at(database, message_id, at)
        assert work(database, 100, queue=queue) == 1
    assert clock.now == 1000.0


def test_the_first_claim_scans_the_whole_queue(database: Database) -> None:
    (message_id,) = accept(database)
    kept_at(database, message_id, 50)
    work(database, 100, queue=PendingQueue())
    kept_at(database, message_id, 10)
    assert work(database, 100, queue=PendingQueue()) == 1


@pytest.fixture
def pair() -> tuple[PendingQueue, PendingQueue]:
    """The queues of two workers that know of each other."""
    queues = PendingQueue(), PendingQueue()
    for queue in queues:
        queue.has_company = True
    return queues


def take(database: Database, queue: PendingQueue, at: float, limit: int = 10) -> int:
    """How many a worker takes in its usual turn; it then fails, and they come back."""
    with suppress(_Fails), database.transaction() as session:
        taken = len(queue.take_usual(session, seconds(at), limit))
        raise _Fails
    return taken


class _Fails(Exception):
    """The transaction is to be rolled back."""


@pytest.mark.parametrize(
    ("waiting", "seen_at", "taken"),
    [
        (19, 30.2, 0),  # the other worker may have ten of them, and the rest is no full batch
        (20, 30.2, 10),
        (1, 30.7, 1),  # it has waited for long
    ],
)
def test_of_several_workers_one_takes_what_is_no_full_batch_unless_it_waits_for_long(
    postgresql_database: Database,
    pair: tuple[PendingQueue, PendingQueue],
    waiting: int,
    seen_at: float,
    taken: int,
) -> None:
    database, (first, second) = postgresql_database, pair
    with database.transaction() as session:
        assert first.take_usual(session, seconds(0), 10) == [], "it has the turn, though nothing waits yet"
        for number, message_id in enumerate(accept(database, *(message() for _ in range(waiting)))):
            kept_at(database, message_id, 30 + number / 1000)
        assert take(database, second, seen_at) == taken
    assert take(database, second, 30.2) == min(waiting, 10), "the turn ends with its transaction"
    first.has_company = second.has_company = False
    assert work(database, 100, queue=first) == waiting
    assert_sound(database)


def test_a_worker_by_itself_asks_for_no_turn(postgresql_database: Database) -> None:
    database, queue = postgresql_database, PendingQueue()
    (message_id,) = accept(database)
    with database.transaction() as session:
        assert locks.try_to_take(session, locks.Lock.USUAL_TURN)
        kept_at(database, message_id, 30)
        assert take(database, queue, 30.2) == 1
