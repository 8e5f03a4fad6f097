"""The worker as a whole: its start, its heartbeat and its stop."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Select, select
from sqlalchemy.engine import make_url

from receiptsvc import __version__, ids, problem_looks
from receiptsvc.config import Settings
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.domain.problems import Kind, Seen, State
from receiptsvc.problem_looks import ProblemLooks
from receiptsvc.store.access import searches
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import EventRow, Heartbeat, OpsSearch, ProblemRow
from receiptsvc.store.health import heartbeats, problems
from receiptsvc.store.health.health_log import HealthLog
from receiptsvc.store.health.service_state import Finding, ServiceState
from receiptsvc.store.inbox import pending, time_slices
from receiptsvc.store.messages import change_feed
from receiptsvc.worker import loop
from receiptsvc.worker.slice_maker import SliceMaker
from tests.support.processes import until
from tests.support.rows import T0, accept, insert_arrivals, keep
from tests.support.time_slices import arrival_at, drop_all
from tests.support.time_slices import names as slice_names
from tests.support.work import READER, outcome, said

HERE = socket.gethostname()
OWN = f"worker:{HERE}:{os.getpid()}"
ENDED = "ended:worker"  # when the last one did


@pytest.fixture
def settings(database_url: str) -> Settings:
    return make_settings(database_url)


def make_settings(database_url: str) -> Settings:
    keys = {"CALLBACK_KEYS": "a" * 16, "API_KEYS": "a:read:" + "b" * 16}
    return Settings.from_env({"DATABASE_URL": database_url, **keys})


@contextmanager
def running_worker(settings: Settings, database: Database) -> Iterator[None]:
    stop = Event()
    thread = Thread(target=loop.run, args=(settings, database, None, READER, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def names(database: Database) -> set[str]:
    with database.reading() as session:
        return set(session.scalars(select(Heartbeat.process)))


def test_a_worker_makes_time_slices_ahead(postgresql_url: str, postgresql_database: Database) -> None:
    drop_all(postgresql_database)
    with running_worker(make_settings(postgresql_url), postgresql_database):
        until("there are slices", lambda: len(slice_names(postgresql_database)) > time_slices.MONTHS_AHEAD)


def test_a_slice_that_can_not_be_made_is_logged_once(
    postgresql_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    drop_all(postgresql_database)
    with postgresql_database.transaction() as session:
        insert_arrivals(session, [arrival_at(datetime.now(UTC) + timedelta(days=31 * each)) for each in range(5)])
    slice_maker = SliceMaker(postgresql_database)
    for _ in range(2):
        slice_maker.step()
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "time_slices.left_to_default"
    ]


def test_a_worker_that_stops_properly_leaves_no_heartbeat(
    settings: Settings, database: Database, processed_alone: list[UUID]
) -> None:
    receipt_id = keep(database, said(), message_id=accept(database)[0])
    with running_worker(settings, database):
        until("the receipt is applied", lambda: outcome(database, receipt_id) == "applied")
        assert names(database) == {OWN}
    assert names(database) == {ENDED}
    assert processed_alone == [], "no worker was killed"


def test_a_worker_that_is_stopped_before_its_database_came_never_started(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    stop = Event()
    settings = make_settings("postgresql://nobody@127.0.0.1:1/nowhere")

    def await_outage(action: str, *_: object, **__: object) -> None:
        assert action == "worker.storage_unavailable"
        stop.set()

    monkeypatch.setattr("receiptsvc.logs.fault", await_outage)
    loop.run(settings, Database(settings.database_url), {}, READER, stop)
    assert [record.message for record in caplog.records] == ["worker.stopped"]


def test_killed_workers_are_told_from_live_ones_and_make_a_new_one_mark_rows_first(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked: list[int] = []
    real = pending.select_untried

    def select_untried(now: datetime, limit: int) -> Select[UUID]:
        marked.append(limit)
        return real(now, limit)

    monkeypatch.setattr(pending, "select_untried", select_untried)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    now = datetime.now(UTC)
    silent, alive = now - timedelta(seconds=60), {f"worker:{HERE}:{os.getppid()}", "worker:elsewhere:1"}
    with database.transaction() as session:
        for name in (f"worker:{HERE}:{dead.pid}", OWN, *alive):  # our own name: a container's next process may have it
            heartbeats.beat(session, name, now)
        heartbeats.beat(session, "worker:elsewhere:2", silent)
    receipt_id = keep(database, said(), message_id=accept(database)[0])
    with running_worker(settings, database):
        until("the receipt is applied", lambda: outcome(database, receipt_id) == "applied")
        assert names(database) == {OWN, *alive}
    assert names(database) == {ENDED, *alive}
    assert marked


def test_old_events_are_pruned_in_steps_and_without_a_stream(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_MAX_PRUNED", 1)
    monkeypatch.setattr(loop, "_SQLITE_MAX_PRUNED", 1)
    almost = datetime.now(UTC) - settings.keep_events + timedelta(hours=1)
    for at in (T0, T0, T0, almost):
        accept(database, now=at)
    with database.transaction() as session:
        change_feed.number(session)

    def numbers() -> list[int | None]:
        with database.reading() as session:
            return list(session.scalars(select(EventRow.number).order_by(EventRow.id)))

    with running_worker(settings, database):
        until("the old ones but the last are gone", lambda: numbers() == [3, 4])


def test_expired_searches_are_pruned(settings: Settings, database: Database) -> None:
    made_at = datetime.now(UTC) - searches.KEPT_FOR - timedelta(days=1)
    with database.transaction() as session:
        session.add(OpsSearch(id=ids.first_at(made_at), made_at=made_at, terms={}))

    def are_gone() -> bool:
        with database.reading() as session:
            return session.scalars(select(OpsSearch)).first() is None

    with running_worker(settings, database):
        until("it is gone", are_gone)


def test_it_listens_at_the_database_listen_url(postgresql_url: str) -> None:
    direct = make_url(postgresql_url).set(database="postgres").render_as_string(hide_password=False)
    keys = {"CALLBACK_KEYS": "a" * 16, "API_KEYS": "a:read:" + "b" * 16}
    settings = Settings.from_env({"DATABASE_URL": postgresql_url, "DATABASE_LISTEN_URL": direct, **keys})
    database = Database(settings.database_url)
    listeners = (
        "select pid from pg_stat_activity where datname = 'postgres' and application_name = 'receiptsvc listener'"
    )
    with closing(psycopg.connect(direct.replace("+psycopg", ""), autocommit=True)) as connection:
        before = set(connection.execute(listeners).fetchall())
        with running_worker(settings, database):
            until("the worker listens", lambda: set(connection.execute(listeners).fetchall()) > before)
            receipt_id = keep(database, said(), message_id=accept(database)[0])
            until("the receipt is applied, by polling", lambda: outcome(database, receipt_id) == "applied")
    database.close()


def test_a_duty_that_fails_is_logged_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    stop, calls = Event(), list[int]()

    def fail() -> int:
        calls.append(1)
        if len(calls) == 2:
            stop.set()
        raise ZeroDivisionError

    loop._repeat(loop.Duty(name="tidy", step=fail, rest=stop.wait), stop)  # noqa: SLF001 - one thread of a worker
    assert len(calls) == 2
    assert {record.message for record in caplog.records} == {"worker.duty_failed"}


def test_however_long_the_database_was_away_a_duty_goes_on_within_seconds() -> None:
    pauses: list[float] = []

    class Stop(Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0.0)
            return super().wait(0)

    stop = Stop()

    def fail() -> int:
        if len(pauses) > 12:
            stop.set()
        raise StorageUnavailable("it is away")

    loop._repeat(loop.Duty(name="process", step=fail, rest=stop.wait), stop)  # noqa: SLF001 - one thread of a worker
    assert max(pauses) <= 5


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> list[ServiceState]:
    """A worker that beats and looks all the time; what its looks for problems were given."""
    looked: list[ServiceState] = []
    monkeypatch.setattr(loop, "_HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(loop, "_HEALTH_DELAY_SECONDS", 0.0)
    monkeypatch.setattr(loop, "_HEALTH_SECONDS", 0.0)
    monkeypatch.setattr(problem_looks, "SECONDS", 0.05)
    monkeypatch.setattr(ProblemLooks, "look", lambda _, state: looked.append(state))
    return looked


def test_of_several_workers_only_the_first_looks_for_problems(
    settings: Settings, database: Database, hurried: list[ServiceState], monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[object] = []
    monkeypatch.setattr(HealthLog, "update", lambda _, findings: logged.append(findings))
    first = "worker:!:1"  # of all names
    with database.transaction() as session:
        heartbeats.beat(session, first, datetime.now(UTC) + timedelta(minutes=1), version=__version__)
    with running_worker(settings, database):
        until("it has looked for the health log", lambda: len(logged) > 3)
        assert hurried == []
        with database.transaction() as session:
            heartbeats.deregister(session, first, datetime.now(UTC))
        until("it is the first now", lambda: bool(hurried))


def test_a_worker_of_another_release_is_left_out_as_it_may_not_look(
    settings: Settings, database: Database, hurried: list[ServiceState]
) -> None:
    with database.transaction() as session:
        heartbeats.beat(session, "worker:!:1", datetime.now(UTC) + timedelta(minutes=1), version="0.0")
    with running_worker(settings, database):
        until("it looks", lambda: bool(hurried))


@pytest.mark.usefixtures("hurried")
def test_the_health_log_does_not_wait_for_a_look_that_fails(
    settings: Settings,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    failed: list[bool] = []

    def fail(*_: object) -> None:
        failed.append(True)
        raise ValueError

    monkeypatch.setattr(ProblemLooks, "look", fail)
    monkeypatch.setattr(loop, "_find_degraded", lambda _: [Finding("receipts_late", "they wait")])
    with running_worker(settings, database):
        until("a look has failed", lambda: bool(failed))
    assert "health.degraded" in [record.message for record in caplog.records]


def test_problems_that_ended_long_ago_are_pruned(settings: Settings, database: Database) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=31)
    seen = Seen(kind=Kind.WORKER_UNSEEN, first_at=long_ago, last_at=long_ago)
    ended = {"state": State.RESOLVED, "has_ended": True}
    with database.transaction() as session:
        session.add(ProblemRow(**{**problems.values_of(seen, long_ago), **ended}))

    def are_gone() -> bool:
        with database.reading() as session:
            return session.scalars(select(ProblemRow).where(ProblemRow.id == seen.id)).first() is None

    with running_worker(settings, database):
        until("it is gone", are_gone)
