"""The database killed, frozen or out of connections under load: no answer is late, no answered callback is lost."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests
from sqlalchemy.engine import make_url

from receiptsvc.domain.errors import ReceiptsvcError, StorageUnavailable
from receiptsvc.store.inbox import writer as inbox_writer
from receiptsvc.store.inbox.writer import open_writer
from receiptsvc.web.http.readiness import DATABASE_UNREADABLE, MAX_WAIT_SECONDS
from tests.faults.conftest import Form, StartWeb, callback_url
from tests.faults.proof import assert_nothing_lost, set_aside, wait_until_drained
from tests.support.forked import Stack
from tests.support.load import Load
from tests.support.postgres import MAX_CONNECTIONS, Server
from tests.support.processes import until
from tests.support.rows import arrival

STATEMENT = inbox_writer._STATEMENT.decode()  # noqa: SLF001 - as who uses the same session of a pooler
THREADS = 16  # of a web process, for the API

StartWebHere = Callable[[], Stack]


@pytest.fixture(params=[False, True], ids=["without_spool", "with_spool"])
def spool_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "spool" if request.param else None


@pytest.fixture
def start(start_web: StartWeb, postgresql_url: str, spool_dir: Path | None) -> StartWebHere:
    return lambda: start_web(postgresql_url, SPOOL_DIR=str(spool_dir or ""))


def prove(stack: Stack, url: str, load: Load, spool_dir: Path | None) -> None:
    if spool_dir:
        assert load.statuses == {200}, "the spool stands in for the database"
        stack.start("worker")
        wait_until_drained(spool_dir)
        assert not set_aside(spool_dir)
    assert load.statuses <= {200, 503}
    assert_nothing_lost(url, load.kept)


def test_killing_the_database_loses_nothing(
    server: Server, start: StartWebHere, postgresql_url: str, spool_dir: Path | None, form: Form
) -> None:
    stack = start()
    with Load(callback_url(stack)) as load:
        for _ in range(form.restarts):
            load.wait_for(200, times=200)
            server.kill()
            load.wait_for(200 if spool_dir else 503, times=20)
            server.start()
        load.wait_for(200, times=200)
    assert load.slowest_seconds < form.max_answer_seconds
    prove(stack, postgresql_url, load, spool_dir)


def test_while_the_database_is_frozen_every_answer_is_within_the_budget(
    server: Server, start: StartWebHere, postgresql_url: str, spool_dir: Path | None, form: Form
) -> None:
    stack = start()
    with Load(callback_url(stack), connections=32) as load:
        load.wait_for(200, times=200)
        with server.frozen():
            time.sleep(form.frozen_seconds)  # this is the fault, not a wait
        load.wait_for(200, times=200, seconds=form.max_answer_seconds)
    if not spool_dir:
        assert 503 in load.statuses
    assert load.slowest_seconds < form.max_answer_seconds
    prove(stack, postgresql_url, load, spool_dir)


def take_every_slot(server: Server, held: ExitStack) -> None:
    """End our processes' connections and take their slots, until none is left for them."""
    admin = held.enter_context(server.connect())
    theirs = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'receiptsvc%'"

    for _ in range(1000):  # at once: what is free is theirs again in no time
        with suppress(psycopg.OperationalError):
            for _ in range(MAX_CONNECTIONS):
                held.enter_context(server.connect())
        if not admin.execute(theirs).fetchall():
            return
    raise AssertionError("they come back before their slots are taken")


@pytest.mark.parametrize("spool_dir", [None], ids=["without_spool"])
def test_without_a_free_connection_no_request_hangs(
    server: Server, start: StartWebHere, postgresql_url: str, spool_dir: Path | None, form: Form
) -> None:
    stack = start()
    with Load(callback_url(stack)) as load:
        load.wait_for(200, times=200)
        with ExitStack() as held:
            take_every_slot(server, held)
            load.wait_for(503, times=50)
        load.wait_for(200, times=200)
    assert load.slowest_seconds < form.max_answer_seconds
    prove(stack, postgresql_url, load, spool_dir)


WRITER_BACKENDS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'receiptsvc inbox writer'"


def test_the_inbox_writer_gets_its_connection_back_before_other_clients(
    server: Server, postgresql_url: str, start_web: StartWeb
) -> None:
    stack = start_web(postgresql_url, WEB_CONCURRENCY="1")
    with ExitStack() as held:
        admin = held.enter_context(server.connect())

        def has_another(lost: list[int]) -> bool:
            return not {*lost} & {*writer_pids()} and bool(writer_pids())

        def writer_pids() -> list[int]:
            return [pid for (pid,) in admin.execute(WRITER_BACKENDS).fetchall()]

        opened = writer_pids()
        assert len(opened) == 1, "before any callback came"
        admin.execute("SELECT pg_terminate_backend(%s)", opened)
        until("it is opened again, without a callback", lambda: has_another(opened))
        with suppress(psycopg.OperationalError):
            for _ in range(MAX_CONNECTIONS):
                held.enter_context(server.connect())
        assert requests.get(f"{callback_url(stack)}?serial=1&a=b", timeout=10).status_code == 200
        assert requests.get(f"{stack.url}/readyz", timeout=10).status_code == 200
    assert_nothing_lost(postgresql_url, {1})


def test_a_locked_heartbeats_table_does_not_make_it_unready(
    server: Server, postgresql_url: str, start_web: StartWeb
) -> None:
    stack = start_web(postgresql_url, WEB_CONCURRENCY="1")
    with server.connect(make_url(postgresql_url).database or "") as other, other.transaction():
        other.execute("LOCK TABLE heartbeats IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        answer = requests.get(f"{stack.url}/readyz", timeout=10)
        assert time.monotonic() - started < MAX_WAIT_SECONDS + 1
        assert (answer.status_code, answer.json()["degraded"]) == (200, [DATABASE_UNREADABLE])


def test_health_and_metrics_are_answered_while_every_thread_waits_for_the_database(
    server: Server, postgresql_url: str, start_web: StartWeb
) -> None:
    stack = start_web(postgresql_url, WEB_CONCURRENCY="1")
    with ThreadPoolExecutor(THREADS) as pool:
        with server.frozen():
            asked = [pool.submit(stack.client().ledger) for _ in range(THREADS)]
            for path in ("healthz", "metrics"):
                assert requests.get(f"{stack.url}/{path}", timeout=5).status_code == 200
            # Not at once: the outcome of the first probe is valid for a second.
            until("it tells", lambda: requests.get(f"{stack.url}/readyz", timeout=5).status_code == 503)
        for one in asked:
            with suppress(ReceiptsvcError):  # a 503, if it waited too long
                one.result(60)


def test_behind_a_pooler_that_mixes_up_sessions_every_callback_is_kept(server: Server, postgresql_url: str) -> None:
    writer = open_writer(postgresql_url, 0, patience_seconds=5)
    writer.keep([arrival("n=1")])
    statements = ("DEALLOCATE ALL", "PREPARE keep AS SELECT 1", f"PREPARE {STATEMENT} AS SELECT 1")
    for statement in statements:  # as in another client's session
        writer._connection.execute(statement)  # type: ignore[attr-defined]  # noqa: SLF001 - as if through a pooler
        with suppress(StorageUnavailable):
            writer.keep([arrival("n=2")])
        writer.keep([arrival("n=3")])
    writer.close()
    with server.connect(make_url(postgresql_url).database or "") as connection:
        kept = {row[0] for row in connection.execute("SELECT query FROM inbox").fetchall()}
    assert {b"n=1", b"n=3"} <= kept


def test_in_a_poolers_session_that_another_process_has_used_a_writer_begins_without_a_word(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = psycopg.connect

    def connect_to_a_used_session(*arguments: Any, **options: Any) -> psycopg.Connection:
        connection = connect(*arguments, **options)
        connection.execute(f"PREPARE {STATEMENT} AS SELECT 1".encode())
        return connection

    monkeypatch.setattr(psycopg, "connect", connect_to_a_used_session)
    writer = open_writer(postgresql_url, 0, patience_seconds=5)
    writer.connect()
    writer.keep([arrival("serial=1&")])
    writer.close()
    assert_nothing_lost(postgresql_url, [1])


@contextmanager
def read_only(server: Server, url: str) -> Iterator[None]:
    """While the block lasts the database takes no writes from who connects, as a demoted primary."""
    name = make_url(url).database
    with server.connect() as admin:
        admin.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'.encode())
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            admin.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only'.encode())


def test_a_read_only_database_sends_callbacks_to_the_spool_at_once(
    server: Server, postgresql_url: str, start_web: StartWeb, tmp_path: Path
) -> None:
    stack = start_web(postgresql_url, SPOOL_DIR=str(tmp_path / "spool"), CALLBACK_BUDGET_SECONDS="8")
    with Load(callback_url(stack)) as load:
        load.wait_for(200, times=50)
        with read_only(server, postgresql_url):
            load.wait_for(200, times=200)
        load.wait_for(200, times=50)
    assert load.slowest_seconds < 2
    prove(stack, postgresql_url, load, tmp_path / "spool")


def test_without_a_spool_a_callback_waits_for_a_read_only_database_as_long_as_it_may(
    server: Server, postgresql_url: str, start_web: StartWeb
) -> None:
    stack = start_web(postgresql_url, CALLBACK_BUDGET_SECONDS="3")
    url = callback_url(stack)
    with ThreadPoolExecutor(1) as pool:
        with read_only(server, postgresql_url):
            began = time.monotonic()
            assert requests.get(f"{url}?serial=1&a=b", timeout=10).status_code == 503
            assert time.monotonic() - began > 2.5, "not early"
            kept = pool.submit(requests.get, f"{url}?serial=2&a=b", timeout=10)
            time.sleep(1)
        assert kept.result().status_code == 200, "the new primary took it"
    assert_nothing_lost(postgresql_url, {2})
