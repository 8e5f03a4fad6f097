"""Time slices are made ahead, no callback waits for that or is refused because of it, and none comes back."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event, Thread
from time import monotonic
from unittest.mock import Mock

import pytest
from sqlalchemy import event, func, select, text
from sqlalchemy.orm import Session

from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.domain.inbox import Arrival
from receiptsvc.store.core import locks
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.locks import Lock
from receiptsvc.store.core.models import InboxRow
from receiptsvc.store.health.verification import verify
from receiptsvc.store.inbox import time_slices
from receiptsvc.store.inbox.time_slices import Report
from receiptsvc.store.inbox.writer import InboxWriter, open_writer
from tests.support.processes import until
from tests.support.rows import arrival, insert_arrivals
from tests.support.time_slices import arrival_at, drop_all, names, slice_of
from tests.support.work import wait_until_blocked

NOVEMBER = datetime(2031, 11, 30, 23, 59, tzinfo=UTC)
MADE = ["inbox_2031_11", "inbox_2031_12", "inbox_2032_01", "inbox_2032_02"]  # in November
DECEMBER, JANUARY = datetime(2031, 12, 9, tzinfo=UTC), datetime(2032, 1, 9, tzinfo=UTC)
BEFORE = datetime(2031, 10, 9, tzinfo=UTC)
MAX_WAIT = "1s"  # for a lock; measured are some ms, but the tests' machine may be busy


@pytest.fixture
def database(postgresql_database: Database) -> Database:
    """A database without any slice but the default one, as if it was set up before there were any."""
    drop_all(postgresql_database)
    return postgresql_database


@pytest.fixture
def writer(database: Database, postgresql_url: str) -> Iterator[InboxWriter]:
    """An inbox writer that is refused whatever it has to wait for too long."""
    option = f"options=-clock_timeout%3D{MAX_WAIT}"
    url = f"{postgresql_url}{'&' if '?' in postgresql_url else '?'}{option}"
    writer = open_writer(url, database.slot, patience_seconds=2)
    yield writer
    writer.close()


@pytest.fixture(params=["small", "large"])
def default_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether the default slice counts as one that can be scanned under a lock."""
    if request.param == "large":
        treat_default_as_large(monkeypatch)
    return str(request.param)


def treat_default_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_slices, "_SMALL", "false")


def make(database: Database, now: datetime = NOVEMBER) -> Report:
    return time_slices.make_missing(database.transaction, now)


def keep(database: Database, *arrivals: Arrival) -> None:
    with database.transaction() as session:
        insert_arrivals(session, arrivals)


def guards(database: Database) -> list[str]:
    query = text("SELECT conname FROM pg_constraint WHERE conname LIKE 'inbox_guard%'")
    with database.reading() as session:
        return list(session.scalars(query))


@contextmanager
def keeping(writer: InboxWriter) -> Iterator[list[Arrival]]:
    """Callbacks are kept, one after the other, while the block lasts; those that were."""
    kept: list[Arrival] = []
    failures: list[Exception] = []
    stop = Event()

    def run() -> None:
        while not stop.is_set():
            one = arrival("statusid=1")
            try:
                writer.keep([one])
            except Exception as error:  # noqa: BLE001 - whatever it is, the test fails with it
                failures.append(error)
                return
            kept.append(one)

    thread = Thread(target=run)
    thread.start()
    try:
        until("callbacks are kept", lambda: len(kept) > 10 or bool(failures))
        yield kept
        before = len(kept)
        until("callbacks are still kept", lambda: len(kept) > before + 10 or bool(failures))
    finally:
        stop.set()
        thread.join()
    assert failures == []


def test_the_migrations_leave_slices_for_now_and_for_the_months_ahead(postgresql_database: Database) -> None:
    with postgresql_database.reading() as session:
        slices = time_slices.read(session)
        assert time_slices.is_ready(session, datetime.now(UTC))
    assert len(slices) >= 1 + time_slices.MONTHS_AHEAD
    assert slices[0].first.int == 0, "whatever is older than the first month is in its slice"
    assert [each.end for each in slices[:-1]] == [each.first for each in slices[1:]]
    one = arrival("statusid=1")
    keep(postgresql_database, one)
    assert slice_of(postgresql_database, one.id) != time_slices.DEFAULT


def test_slices_are_made_once_month_by_month(database: Database) -> None:
    assert make(database) == Report(made=MADE, is_complete=True)
    assert make(database) == Report(is_complete=True)
    assert make(database, JANUARY) == Report(made=["inbox_2032_03", "inbox_2032_04"], is_complete=True)
    keep(database, arrival_at(BEFORE), arrival_at(NOVEMBER), arrival_at(DECEMBER))
    assert [slice_of(database, arrival_at(time).id) for time in (BEFORE, NOVEMBER, DECEMBER)] == [
        "inbox_2031_11",
        "inbox_2031_11",
        "inbox_2031_12",
    ]


def test_on_sqlite_there_are_none_and_none_is_missed(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    assert make(database) == Report(is_complete=True)
    with database.reading() as session:
        assert time_slices.read(session) == []
        assert time_slices.is_ready(session, NOVEMBER)
    database.close()


def test_they_are_ready_while_next_month_has_a_slice(database: Database) -> None:
    def is_ready(now: datetime) -> bool:
        with database.reading() as session:
            return time_slices.is_ready(session, now)

    assert not is_ready(NOVEMBER)
    make(database)
    assert is_ready(JANUARY)
    assert not is_ready(datetime(2032, 2, 1, tzinfo=UTC))


def test_a_dropped_slice_does_not_come_back(database: Database) -> None:
    make(database)
    with database.transaction() as session:
        session.execute(text("ALTER TABLE inbox DETACH PARTITION inbox_2031_11"))
        session.execute(text("DROP TABLE inbox_2031_11"))
    assert make(database) == Report(is_complete=True)
    assert names(database) == MADE[1:]


def test_one_process_at_a_time_makes_them(database: Database) -> None:
    with database.transaction() as session:
        assert locks.try_to_take(session, Lock.TIME_SLICES)
        assert make(database) == Report(is_complete=False)
    assert make(database).made == MADE


@pytest.mark.usefixtures("default_size")
def test_rows_of_the_default_slice_do_not_hinder_slices_of_other_months(database: Database) -> None:
    old = [arrival_at(BEFORE, number=number) for number in range(5)]
    keep(database, *old)
    report = make(database, datetime(2031, 11, 20, tzinfo=UTC))
    assert (report.made, report.is_complete) == (MADE[1:], True)
    assert report.left == MADE[:1], "the very first one begins with the oldest rows"
    assert {slice_of(database, each.id) for each in old} == {time_slices.DEFAULT}
    assert guards(database) == []
    assert list(verify(database)) == []


@pytest.mark.usefixtures("default_size")
def test_a_slice_whose_rows_the_default_slice_has_is_left_to_it_and_later_ones_are_made(database: Database) -> None:
    ahead = arrival_at(JANUARY)  # its host's clock was
    keep(database, ahead)
    report = make(database, datetime(2031, 10, 31, tzinfo=UTC))
    assert "inbox_2032_01" in report.left
    assert "inbox_2031_12" in report.made
    assert "inbox_2032_02" in make(database).made
    assert make(database) == Report(is_complete=True), "it is reported while it could still be made"
    assert slice_of(database, ahead.id) == time_slices.DEFAULT
    keep(database, ahead)
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(InboxRow)) == 1
    assert guards(database) == []


def test_no_guard_is_set_for_a_range_that_begins_soon(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    treat_default_as_large(monkeypatch)
    report = make(database)  # a minute before December
    assert (report.left, report.made) == (MADE[:2], MADE[2:])


def test_missing_slices_refuse_no_callback(writer: InboxWriter, database: Database) -> None:
    group = [arrival_at(time) for time in (BEFORE, DECEMBER, JANUARY)]
    writer.keep(group)
    writer.keep(group)
    assert {slice_of(database, each.id) for each in group} == {time_slices.DEFAULT}
    assert list(verify(database)) == []


@pytest.mark.usefixtures("default_size")
def test_callbacks_are_kept_while_slices_are_made(writer: InboxWriter, database: Database) -> None:
    with keeping(writer) as kept:  # in the default slice, which every attach locks
        report = make(database, datetime.now(UTC))
        assert len(report.made) >= time_slices.MONTHS_AHEAD - 1
    assert {slice_of(database, each.id) for each in kept[:3]} == {time_slices.DEFAULT}
    assert list(verify(database)) == []


@pytest.mark.usefixtures("default_size")
def test_nobody_waits_behind_a_long_reader_for_a_slice_to_be_made(writer: InboxWriter, database: Database) -> None:
    with database.connection() as reader:
        reader.execute(text("SELECT count(*) FROM inbox"))
        with keeping(writer):
            began_at = monotonic()
            report = make(database)
            assert (report.made, report.is_complete) == ([], False)
            assert monotonic() - began_at < 5
    assert make(database, datetime(2031, 11, 20, tzinfo=UTC)).is_complete
    assert names(database)


def test_callbacks_with_a_slice_do_not_touch_the_default_slice(writer: InboxWriter, database: Database) -> None:
    make(database)
    with database.connection() as other:
        other.execute(text(f"LOCK TABLE {time_slices.DEFAULT} IN ACCESS EXCLUSIVE MODE"))
        writer.keep([arrival_at(DECEMBER)])
        writer.try_keeping()


def test_a_guard_makes_way_for_a_callback(
    writer: InboxWriter, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that set it may have been killed, or the clock of the callback's host is months ahead."""
    treat_default_as_large(monkeypatch)
    ahead = arrival_at(JANUARY)
    begin = Mock(side_effect=[database.transaction(), KeyboardInterrupt])
    with pytest.raises(KeyboardInterrupt):
        time_slices.make_missing(begin, datetime(2031, 12, 20, tzinfo=UTC))
    assert guards(database) == ["inbox_guard_2032_01"]
    with pytest.raises(StorageUnavailable, match="23514"):
        writer.keep([arrival_at(DECEMBER), ahead])
    assert guards(database) == []
    writer.keep([arrival_at(DECEMBER), ahead])
    assert slice_of(database, ahead.id) == time_slices.DEFAULT
    assert "inbox_2032_01" in make(database, datetime(2031, 12, 20, tzinfo=UTC)).left
    assert list(verify(database)) == []


def test_a_large_default_slice_is_never_scanned_under_the_lock(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guard may be dropped between the look at it and the lock."""
    treat_default_as_large(monkeypatch)
    read_guards, seen = vars(time_slices)["_read_guards"], [{"inbox_guard_2032_01": True}]
    monkeypatch.setattr(time_slices, "_read_guards", lambda session: seen.pop() if seen else read_guards(session))
    with recording(database) as statements:
        assert make(database, datetime(2031, 12, 20, tzinfo=UTC)).made[0] == "inbox_2032_01"
    steps = re.findall("VALIDATE CONSTRAINT inbox_guard_2032_01|ATTACH PARTITION inbox_2032_01", " ".join(statements))
    assert [step.split()[0] for step in steps] == ["ATTACH", "VALIDATE", "ATTACH"]


@contextmanager
def recording(database: Database) -> Iterator[list[str]]:
    """The statements that are executed while the block lasts."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    with database.connection() as connection:
        engine = connection.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)


def test_a_callback_that_meets_its_slice_being_attached_is_kept_at_the_next_try(
    writer: InboxWriter, database: Database
) -> None:
    one = arrival_at(DECEMBER)
    failures: list[StorageUnavailable] = []

    def run() -> None:
        try:
            writer.keep([one])
        except StorageUnavailable as error:
            failures.append(error)

    thread = Thread(target=run)

    @contextmanager
    def begin_and_wait() -> Iterator[Session]:
        with database.transaction() as session:
            yield session
            if "inbox_2031_12" in names_inside(session) and not thread.ident:
                thread.start()
                wait_until_blocked(database, "relation")

    time_slices.make_missing(begin_and_wait, NOVEMBER)
    thread.join()
    assert len(failures) == 1
    writer.keep([one])
    assert slice_of(database, one.id) == "inbox_2031_12"
    assert list(verify(database)) == []


def names_inside(session: Session) -> list[str]:
    """The slices that exist as this transaction sees it."""
    return [each.name for each in time_slices.read(session)]


def test_a_receipt_is_looked_up_in_one_slice(database: Database) -> None:
    make(database)
    query = text("EXPLAIN SELECT * FROM inbox WHERE id = :id")
    with database.reading() as session:
        plan = " ".join(session.scalars(query, {"id": arrival_at(DECEMBER).id}))
    assert "inbox_2031_12" in plan
    assert plan.count(" on inbox") == 1
