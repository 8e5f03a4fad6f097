"""A transaction that waits for another one ends in time, and no receipt is blamed for what the database took."""

import time
from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from receiptsvc.cli.terminal.databases import opened
from receiptsvc.domain.errors import LockTimeout, StatementTimeout, StorageUnavailable
from receiptsvc.domain.inbox import Channel
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Message
from receiptsvc.store.core.time_limits import TimeLimits
from receiptsvc.store.inbox import parking
from receiptsvc.worker import match_context, receipt_processor
from receiptsvc.worker.pending_queue import PendingQueue
from tests.support.callers import make_settings
from tests.support.rows import accept, keep, message, read_inbox
from tests.support.work import assert_sound, outcome, outcomes, said, work

SHORT = TimeLimits(lock=0.1, statement=1.5, idle=20)


@pytest.fixture
def impatient(postgresql_url: str) -> Iterator[Database]:
    """A worker's database with short limits, on the same data."""
    database = Database(postgresql_url, is_worker=True, limits=SHORT)
    yield database
    database.close()


def received(database: Database, count: int) -> tuple[list[UUID], list[UUID]]:
    """Messages, and a receipt of each."""
    made = accept(database, *(message(f"4477009000{number:02}") for number in range(count)))
    return made, [keep(database, said(to=None), message_id=message_id) for message_id in made]


def test_the_limits_hold_for_one_transaction_and_leave_nothing_behind(impatient: Database) -> None:
    shown = text("SELECT current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout')")
    with impatient.transaction() as session:
        assert session.execute(shown).one() == ("100ms", "20s")
    with impatient.reading(TimeLimits(lock=1, statement=2, idle=3)) as session:
        assert session.execute(shown).one() == ("1s", "3s")
        assert session.scalar(text("SHOW transaction_isolation")) == "repeatable read"
        assert session.scalar(text("SHOW transaction_read_only")) == "on"
    with impatient.glance() as connection:
        assert connection.execute(shown).one() == ("0", "0"), "as a pooler would give it to the next client"


def test_a_command_that_writes_does_not_stand_still_for_long_with_what_it_holds(postgresql_url: str) -> None:
    settings = make_settings(DATABASE_URL=postgresql_url)
    shown = text("SHOW idle_in_transaction_session_timeout")
    with opened(settings, is_written=True) as database, database.transaction() as session:
        assert session.scalar(shown) == "15s"
    with opened(settings) as database, database.reading() as session:
        assert session.scalar(shown) == "10min", "it may be looked at"


def test_each_limit_ends_what_it_is_for(impatient: Database, postgresql_database: Database) -> None:
    [message_id] = accept(postgresql_database)
    lock = select(Message.id).where(Message.id == message_id).with_for_update()
    with postgresql_database.transaction() as other:
        other.execute(lock)
        with pytest.raises(LockTimeout), impatient.transaction() as session:
            session.execute(lock)
    with pytest.raises(StatementTimeout), impatient.transaction() as session:
        session.execute(text("SELECT pg_sleep(9)"))


def test_what_stands_still_with_a_lock_loses_it(impatient: Database, postgresql_database: Database) -> None:
    [message_id] = accept(postgresql_database)
    lock = select(Message.id).where(Message.id == message_id).with_for_update()

    def stand_still() -> None:
        with impatient.transaction(TimeLimits(lock=1, statement=1, idle=0.2)) as session:
            session.execute(lock)
            time.sleep(0.5)
            with postgresql_database.transaction() as other:
                other.execute(lock)
            session.execute(lock)

    with pytest.raises(StorageUnavailable):
        stand_still()


def test_a_locked_message_holds_up_only_its_own_receipt(impatient: Database, postgresql_database: Database) -> None:
    made, kept = received(postgresql_database, 3)
    with postgresql_database.transaction() as other:
        other.execute(select(Message.id).where(Message.id == made[1]).with_for_update())
        assert work(impatient, 10) == 3
        assert outcomes(impatient, kept) == ["applied", "pending", "applied"]
        assert read_inbox(impatient, kept[1]).tries == 0, "it is not to blame"
        assert work(impatient, 14) == 0, "it is left alone for 5 s"
    work(impatient, 15)
    assert outcomes(impatient, kept) == ["applied"] * 3
    assert_sound(impatient, applied=3)


def test_locks_hold_up_only_the_receipts_that_want_them_however_many(
    impatient: Database, postgresql_database: Database
) -> None:
    made, kept = received(postgresql_database, 60)
    crowd = [keep(postgresql_database, said(str(n), to=None), message_id=made[7]) for n in range(40)]
    unknown = keep(postgresql_database, said() + "&transactionid=4711", channel=Channel.ACCOUNT)
    locked = {kept[7], kept[31]}
    began = time.monotonic()
    with postgresql_database.transaction() as other:
        other.execute(select(Message.id).where(Message.id.in_([made[7], made[31]])).with_for_update())
        parking.lock(other, {"4711"}, set())
        queue = PendingQueue()
        for _ in range(3):
            work(impatient, 10, queue=queue)
        took = time.monotonic() - began
        assert [
            one for one, said_of_it in zip(kept, outcomes(impatient, kept), strict=True) if said_of_it == "pending"
        ] == [one for one in kept if one in locked]
        assert set(outcomes(impatient, [*crowd, unknown])) == {"pending"}
    assert took < 10, "it waited for each"
    for _ in range(3):
        work(impatient, 15, queue=queue)
    assert outcomes(impatient, [*kept, *crowd]).count("pending") == 0
    assert outcome(impatient, unknown) == "unmatched"
    assert {read_inbox(impatient, one).tries for one in [*kept, *crowd, unknown]} == {0}
    assert_sound(impatient)


def test_what_holds_up_everything_is_waited_for(impatient: Database, postgresql_url: str) -> None:
    _, kept = received(impatient, 10)
    with psycopg.connect(postgresql_url.replace("+psycopg", "")) as other:
        other.execute("LOCK TABLE transitions IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        with pytest.raises(LockTimeout):
            work(impatient, 10)
        assert time.monotonic() - began < 5 * SHORT.lock + 1, "it does not wait for each receipt"
    work(impatient, 10)
    work(impatient, 15)
    assert outcomes(impatient, kept) == ["applied"] * 10
    assert {read_inbox(impatient, one).tries for one in kept} == {0}


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> set[UUID]:
    """The receipts for which the database takes too long."""
    chosen: set[UUID] = set()
    real = match_context.load

    def load(session: Session, receipts: object) -> object:
        if any(row.id in chosen for row, _ in receipts):  # type: ignore[attr-defined]
            session.execute(text("SELECT pg_sleep(9)"))
        return real(session, receipts)  # type: ignore[arg-type]

    monkeypatch.setattr(match_context, "load", load)
    return chosen


@pytest.mark.slow
def test_a_receipt_that_alone_takes_too_long_ends_dead(
    impatient: Database, slow: set[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipt_processor, "_MAX_TRIES", 2)
    _, kept = received(impatient, 3)
    slow.add(kept[1])
    queue = PendingQueue()
    for number in range(4):
        work(impatient, 10_000 * (number + 1), queue=queue)
    assert outcomes(impatient, kept) == ["applied", "dead", "applied"]
    assert_sound(impatient, applied=2, dead=1)


@pytest.mark.slow
def test_a_database_that_is_slow_for_everybody_blames_no_receipt(impatient: Database, slow: set[UUID]) -> None:
    _, kept = received(impatient, 2)
    slow.update(kept)
    queue = PendingQueue()
    for number in range(3):
        with pytest.raises(StatementTimeout):
            work(impatient, 10_000 * (number + 1), queue=queue)
    assert {read_inbox(impatient, one).tries for one in kept} == {0}
    slow.clear()
    work(impatient, 1_000_000, queue=queue)
    assert outcomes(impatient, kept) == ["applied"] * 2
