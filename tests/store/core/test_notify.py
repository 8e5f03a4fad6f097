"""Notifications: sent at most every 20 ms and through lost connections, heard by topic, and known to be heard."""

import threading
from collections.abc import Callable, Collection, Iterator
from itertools import pairwise
from queue import Queue
from threading import Event, Thread
from time import monotonic

import psycopg
import pytest
from psycopg.pq.abc import PGresult
from sqlalchemy.engine import make_url

from receiptsvc.store.core import notify, outages
from receiptsvc.store.core.db import Database, plain_url
from receiptsvc.store.core.notify import Listener, Notifier
from receiptsvc.store.core.topics import Topic
from tests.support.processes import until

SECONDS = 20
BUSY_SECONDS = 0.3
CUT = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = %s"""


class Worker:
    """A listener, what it hears, and how often it says that something has changed."""

    def __init__(self, url: str) -> None:
        self.heard: Queue[Topic] = Queue()
        self.changes = 0
        self.listener = Listener(url, self._hear, self._change)

    def _hear(self, topics: Collection[Topic]) -> None:
        for topic in topics:
            self.heard.put(topic)

    def _change(self) -> None:
        self.changes += 1

    def hears(self, database: Database) -> bool:
        """Whether it is listening; it gets its echo from this database."""
        if self.listener.needs_echo():
            with database.glance() as connection:
                self.listener.send_echo(connection)
        return self.listener.is_listening


Work = Callable[[str], Worker]


@pytest.fixture
def work() -> Iterator[Work]:
    """Have a worker listen at a URL until the end of the test, when it must stop."""
    stop = Event()
    threads: list[Thread] = []

    def start(url: str) -> Worker:
        worker = Worker(url)
        threads.append(Thread(target=worker.listener.run, args=(stop,)))
        threads[-1].start()
        return worker

    yield start
    stop.set()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()


@pytest.fixture
def notifier(postgresql_url: str) -> Iterator[Notifier]:
    notifier = Notifier(postgresql_url)
    yield notifier
    notifier.close()


@pytest.fixture
def admin(postgresql_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(plain_url(postgresql_url), autocommit=True) as connection:
        yield connection


def test_each_topic_is_heard_as_such(
    postgresql_url: str, postgresql_database: Database, notifier: Notifier, work: Work
) -> None:
    worker = work(postgresql_url)
    until("it listens", lambda: worker.hears(postgresql_database))
    for topic in Topic:
        notifier.notify({topic})
        assert worker.heard.get(timeout=SECONDS) is topic
    notifier.notify(set(Topic))
    assert {worker.heard.get(timeout=SECONDS) for _ in Topic} == set(Topic)


def test_many_commits_share_a_notification(notifier: Notifier, monkeypatch: pytest.MonkeyPatch) -> None:
    sent_at: list[float] = []
    check = outages.check

    def note(result: PGresult) -> None:
        check(result)
        sent_at.append(monotonic())

    monkeypatch.setattr(outages, "check", note)
    started_at, commits, last_at = monotonic(), 0, 0.0
    while last_at < started_at + BUSY_SECONDS:
        last_at = monotonic()
        notifier.notify({Topic.RECEIPTS})
        commits += 1
    notifier.close()
    assert min(later - sooner for sooner, later in pairwise(sent_at)) >= 0.02
    assert commits > len(sent_at) > 1
    assert sent_at[-1] >= last_at, "what came last is sent too"


def test_what_was_notified_last_is_sent_before_it_closes(
    postgresql_url: str, postgresql_database: Database, work: Work
) -> None:
    worker = work(postgresql_url)
    until("it listens", lambda: worker.hears(postgresql_database))
    command = Notifier(postgresql_url)
    command.notify({Topic.RECEIPTS})
    command.close()
    assert worker.heard.get(timeout=SECONDS) is Topic.RECEIPTS


def test_a_notifier_whose_connection_was_cut_notifies_all_the_same(
    postgresql_url: str, postgresql_database: Database, notifier: Notifier, work: Work, admin: psycopg.Connection
) -> None:
    worker = work(postgresql_url)
    until("it listens", lambda: worker.hears(postgresql_database))
    notifier.notify({Topic.MESSAGES})
    assert worker.heard.get(timeout=SECONDS) is Topic.MESSAGES
    assert admin.execute(CUT, ["receiptsvc notifier"]).fetchall() == [(True,)]
    notifier.notify({Topic.MESSAGES})
    assert worker.heard.get(timeout=SECONDS) is Topic.MESSAGES


def test_a_notifier_without_a_database_disturbs_nobody() -> None:
    notifier = Notifier("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    notifier.notify({Topic.RECEIPTS})
    notifier.close()
    assert "notify" not in {thread.name for thread in threading.enumerate()}


def test_a_listener_that_is_cut_off_says_so_and_listens_again(
    postgresql_url: str, postgresql_database: Database, notifier: Notifier, work: Work, admin: psycopg.Connection
) -> None:
    worker = work(postgresql_url)
    until("it listens", lambda: worker.hears(postgresql_database))
    until("it has said so", lambda: worker.changes == 2)  # it has connected; it listens
    assert admin.execute(CUT, ["receiptsvc listener"]).fetchall() == [(True,)]
    until("it knows", lambda: not worker.listener.is_listening)
    until("it has said so", lambda: worker.changes >= 3)
    until("it listens again", lambda: worker.hears(postgresql_database))
    until("it has said so", lambda: worker.changes == 5)
    notifier.notify({Topic.MESSAGES})
    assert worker.heard.get(timeout=SECONDS) is Topic.MESSAGES


def test_a_listener_whose_notifications_go_elsewhere_knows_that_it_hears_none(
    postgresql_url: str, postgresql_database: Database, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "_MAX_DEAF_SECONDS", 0.1)
    monkeypatch.setattr(notify, "ECHO_SECONDS", 0.05)
    worker = work(make_url(postgresql_url).set(database="postgres").render_as_string(hide_password=False))

    def has_given_up() -> bool:
        assert not worker.hears(postgresql_database)
        return worker.changes >= 3  # it has connected, given up, and connected anew

    until("it connects anew", has_given_up)
