"""What the worker's duties rest on: who wakes them, and how seldom an idle database is asked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from time import monotonic, sleep

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.notify import Notifier
from receiptsvc.store.core.topics import Topic
from receiptsvc.worker import watch as watching
from receiptsvc.worker.watch import WakeUp, Watch
from tests.support.processes import until
from tests.support.rows import accept, keep, message

SECONDS = 20
IDLE_SECONDS = 2.0


def test_a_flag_wakes_one_thread_and_one_that_was_raised_before_ends_the_next_wait() -> None:
    flag = WakeUp()
    woken: list[bool] = []
    threads = [Thread(target=lambda: woken.append(flag.wait())) for _ in range(3)]
    for thread in threads:
        thread.start()
    flag.set()
    until("one is woken", lambda: woken == [True])
    assert not flag.wait(0.05), "it was lowered"
    flag.close()
    for thread in threads:
        thread.join(SECONDS)
    assert woken == [True, False, False]
    flag.set()
    assert flag.wait(0)


class Resting:
    """Duties that rest, one for each topic, and how often each was woken."""

    def __init__(self, watch: Watch) -> None:
        self.woken = dict.fromkeys(Topic, 0)
        self.watch, self._stop = watch, Event()
        loops: list[Callable[[], None]] = [self._look, watch.listen]
        loops += [lambda topic=topic: self._rest(topic) for topic in Topic]  # type: ignore[misc]  # a default
        self._threads = [Thread(target=loop) for loop in loops]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        self.watch.close()
        for thread in self._threads:
            thread.join(SECONDS)
            assert not thread.is_alive()

    def _look(self) -> None:
        while not self._stop.is_set():
            self.watch.look()
            self.watch.rest()

    def _rest(self, topic: Topic) -> None:
        while True:
            self.watch.rest_until(topic)
            if self._stop.is_set():
                return
            self.woken[topic] += 1


@contextmanager
def resting(database: Database, listen_url: str | None = None) -> Iterator[Resting]:
    watch = Watch(database, listen_url=listen_url, is_sending=True, sends_per_second=None, on_due_receipts=lambda: None)
    duties = Resting(watch)
    duties.start()
    try:
        if listen_url is not None:
            until("it listens", lambda: watch.listener is not None and watch.listener.is_listening)
        yield duties
    finally:
        duties.stop()


@pytest.fixture(autouse=True)
def no_safety(monkeypatch: pytest.MonkeyPatch) -> None:
    """No look happens only because the last one was long ago."""
    monkeypatch.setattr(watching, "_SAFETY_SECONDS", 1000.0)


@pytest.fixture
def other(database_url: str) -> Iterator[Database]:
    """The database as another process has it."""
    other = Database(database_url)
    yield other
    other.close()


def listen_url_of(database: Database, url: str) -> str | None:
    return None if database.is_sqlite else url


def now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def statements() -> Iterator[list[str]]:
    """The statements of this process in the block."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_a_notification_alone_wakes_the_duties_of_its_topic(postgresql_url: str, postgresql_database: Database) -> None:
    notifier = Notifier(postgresql_url)
    with resting(postgresql_database, postgresql_url) as duties:
        notifier.notify({Topic.RECEIPTS})
        until("it is woken", lambda: duties.woken == {Topic.RECEIPTS: 1, Topic.MESSAGES: 0})
        notifier.notify({Topic.MESSAGES})
        until("it is woken", lambda: duties.woken == {Topic.RECEIPTS: 1, Topic.MESSAGES: 1})
    notifier.close()


def test_an_idle_database_is_asked_nothing_while_another_way_tells_of_changes(
    database_url: str, database: Database
) -> None:
    with resting(database, listen_url_of(database, database_url)), statements() as sent:
        sleep(IDLE_SECONDS)
    looks = [statement for statement in sent if "send_gate" in statement]
    assert len(looks) <= 2, "what it began with; polling would look at least five times"


def test_sqlite_is_looked_at_when_another_process_has_committed(sqlite_url: str) -> None:
    database, other = Database(sqlite_url), Database(sqlite_url)
    with resting(database) as duties:
        until("it rests", lambda: duties.woken == dict.fromkeys(Topic, 0))
        keep(other, "transactionid=1", now=now())
        until("it is woken", lambda: duties.woken[Topic.RECEIPTS] > 0)
        assert not duties.woken[Topic.MESSAGES]
        accept(other, now=now())
        until("it is woken", lambda: duties.woken[Topic.MESSAGES] > 0)
    for each in (database, other):
        each.close()


def test_without_notifications_postgresql_is_looked_at_often(
    postgresql_url: str, postgresql_database: Database
) -> None:
    other = Database(postgresql_url)
    with resting(postgresql_database) as duties, statements() as sent:
        until("what it looks at in the beginning is over", lambda: len(sent) >= 5)
        keep(other, "transactionid=1", now=now())
        until("it is woken", lambda: duties.woken[Topic.RECEIPTS] > 0)
        accept(other, now=now())
        until("it is woken", lambda: duties.woken[Topic.MESSAGES] > 0)
    other.close()


def test_what_is_due_later_is_waited_for(database_url: str, database: Database) -> None:
    due_at = now() + timedelta(seconds=IDLE_SECONDS)
    keep(database, "transactionid=1", now=due_at)
    accept(database, message(), now=due_at)
    with resting(database, listen_url_of(database, database_url)) as duties, statements() as sent:
        until("both are woken", lambda: min(duties.woken.values()) > 0)
        assert now() >= due_at
        assert len(sent) < 10


def test_what_is_due_and_is_not_taken_is_tried_again_but_not_all_the_time(
    database_url: str, database: Database
) -> None:
    accept(database, now=now())
    started_at = monotonic()
    with resting(database, listen_url_of(database, database_url)) as duties:
        until("it is tried three times", lambda: duties.woken[Topic.MESSAGES] >= 3)
        assert monotonic() - started_at >= 1.0
        assert not duties.woken[Topic.RECEIPTS]


def test_a_look_that_fails_wakes_everything() -> None:
    nowhere = Database("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    watch = Watch(nowhere, listen_url=None, is_sending=True, sends_per_second=None, on_due_receipts=lambda: None)
    with pytest.raises(StorageUnavailable):
        watch.look()
    for topic in Topic:
        watch.rest_until(topic)  # would last for ever
