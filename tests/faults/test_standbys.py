"""PostgreSQL with synchronous standbys: a commit whose wait for them was cancelled does not count as kept."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import requests

from receiptsvc.locations import PROJECT
from receiptsvc.spool import writer
from tests.faults.conftest import StartWeb, callback_url
from tests.faults.proof import assert_nothing_lost, set_aside, wait_until_drained
from tests.support.forked import Stack
from tests.support.postgres import Server
from tests.support.processes import until

WAITING = """
    SELECT pg_cancel_backend(pid) FROM pg_stat_activity
    WHERE wait_event = 'SyncRep' AND application_name LIKE 'receiptsvc%'
"""


def cancel_waits(admin: psycopg.Connection) -> int:
    """Cancel our commits that wait for a standby. Returns how many."""
    return len(admin.execute(WAITING).fetchall())


def call(url: str, serial: int) -> int:
    return requests.get(f"{url}?serial={serial}&statusid=1", timeout=30).status_code


def test_a_cancelled_wait_for_a_standby_is_not_answered_200(
    server: Server, postgresql_url: str, start_web: StartWeb
) -> None:
    url = callback_url(start_web(postgresql_url, WEB_CONCURRENCY="1", CALLBACK_BUDGET_SECONDS="2"))
    with server.connect() as admin, ThreadPoolExecutor(1) as pool:
        with server.waiting_for_a_standby():
            answered = pool.submit(call, url, 1)
            until("the commit waits", lambda: cancel_waits(admin) == 1)
            assert answered.result(30) == 503, "neither its commit nor the try after it, which found the row there"
        until("the standby is not waited for any more", lambda: call(url, 2) == 200)
    assert_nothing_lost(postgresql_url, {2})


def test_a_spooled_callback_stays_until_a_commit_has_reached_a_standby(
    server: Server, postgresql_url: str, start_web: StartWeb, tmp_path: Path
) -> None:
    folder = tmp_path / "spool"
    stack = start_web(postgresql_url, WEB_CONCURRENCY="1", SPOOL_DIR=str(folder))
    cancelled = 0

    def cancel() -> bool:
        nonlocal cancelled
        cancelled += cancel_waits(admin)
        return cancelled >= 5 or not list(folder.glob(f"*{writer.SUFFIX}"))

    with server.connect() as admin, server.waiting_for_a_standby():
        assert call(callback_url(stack), 1) == 200, "the spool has it"
        until("several commits were cut short", cancel)
        assert list(folder.glob(f"*{writer.SUFFIX}")), "the row is in the database, and perhaps nowhere else"
    wait_until_drained(folder)
    assert not set_aside(folder)
    assert_nothing_lost(postgresql_url, {1})


def test_abandoned_commits_do_not_use_up_the_connections(
    server: Server, postgresql_url: str, start_web: StartWeb, tmp_path: Path
) -> None:
    settings = {"WEB_CONCURRENCY": "1", "SPOOL_DIR": str(tmp_path / "spool"), "CALLBACK_BUDGET_SECONDS": "0.3"}
    url = callback_url(start_web(postgresql_url, **settings))
    with server.connect() as admin, server.waiting_for_a_standby():
        for serial in range(15):
            assert call(url, serial) == 200
        counted = admin.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'receiptsvc inbox writer'"
        )
        (connections,) = counted.fetchone() or (0,)
        assert connections < 10
    wait_until_drained(tmp_path / "spool")
    assert_nothing_lost(postgresql_url, range(15))


@pytest.mark.parametrize(
    ("command", "option", "fault"),
    [
        (["-m", "receiptsvc", "worker"], "synchronous_commit=local", "synchronous_commit local"),
        (["-m", "gunicorn", "wsgi"], "synchronous_commit=remote_write", "synchronous_commit remote_write"),
    ],
)
def test_a_session_that_does_not_wait_for_named_standbys_stops_the_start(
    server: Server, postgresql_url: str, tmp_path: Path, command: list[str], option: str, fault: str
) -> None:
    url = f"{postgresql_url}?options=-c{option.replace('=', '%3D')}"
    with server.waiting_for_a_standby():
        done = subprocess.run(
            [sys.executable, *command],
            cwd=PROJECT,
            env=Stack(tmp_path, url).environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode != 0
    assert fault in done.stderr
    if "worker" in command:  # gunicorn's arbiter may be in the middle of its own halt when a second process ends
        assert "Traceback" not in done.stderr
