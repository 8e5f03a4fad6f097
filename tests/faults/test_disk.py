"""A disk without space: 503 instead of a promise, and all is well again when there is space."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import requests

from receiptsvc.demo.processes import answers
from tests.faults.conftest import Form, StartWeb, callback_url
from tests.faults.proof import assert_nothing_lost, set_aside, wait_until_drained
from tests.spool import disks
from tests.support import databases
from tests.support.forked import Stack
from tests.support.load import Load
from tests.support.postgres import Server
from tests.support.processes import children, until


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB."""
    with disks.small_disk(tmp_path / "disk", 64 * 1024) as disk:
        yield disk


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """While the block lasts, a disk has no space left."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(65_536))
    try:
        yield
    finally:
        ballast.unlink()


def test_sqlite_on_a_full_disk_promises_nothing(small_disk: Path, start_web: StartWeb, form: Form) -> None:
    url = f"sqlite:///{small_disk / 'test.db'}"
    databases.migrate(url)
    stack = start_web(url)
    with Load(callback_url(stack)) as load:
        for _ in range(form.times):
            load.wait_for(200, times=100)
            with filled(small_disk):
                load.wait_for(503, times=20)
            load.wait_for(200, times=100)
    assert load.statuses == {200, 503}
    assert load.slowest_seconds < form.max_answer_seconds
    assert_nothing_lost(url, load.kept)


def test_a_spool_on_a_full_disk_promises_nothing(
    server: Server, small_disk: Path, postgresql_url: str, start_web: StartWeb, form: Form
) -> None:
    spool_dir = small_disk / "spool"
    stack = start_web(postgresql_url, SPOOL_DIR=str(spool_dir))
    with Load(callback_url(stack)) as load:
        load.wait_for(200, times=40)
        server.kill()
        for _ in range(form.times):
            load.wait_for(200, times=40)
            with filled(small_disk):
                load.wait_for(503, times=20)
            load.wait_for(200, times=40)
        server.start()
    assert load.statuses == {200, 503}
    assert load.slowest_seconds < form.max_answer_seconds
    stack.start("worker")
    wait_until_drained(spool_dir)
    assert not set_aside(spool_dir)
    assert_nothing_lost(postgresql_url, load.kept)


def readiness(stack: Stack) -> tuple[int, Any]:
    answer = requests.get(f"{stack.url}/readyz", timeout=10)
    return answer.status_code, answer.json()["degraded"]


@pytest.mark.parametrize("spool", [None, "same disk", "another disk"])
def test_a_full_disk_is_not_ready_unless_a_spool_has_room(
    small_disk: Path, tmp_path: Path, start_web: StartWeb, spool: str | None
) -> None:
    url = f"sqlite:///{small_disk / 'test.db'}"
    databases.migrate(url)
    folders = {"same disk": small_disk / "spool", "another disk": tmp_path / "spool"}
    stack = start_web(url, **({"SPOOL_DIR": str(folders[spool])} if spool else {}))
    kinds = "disk full" if spool is None else "disk full, SPOOL_DIR full"
    full = (200, ["database away", "worker unseen"]) if spool == "another disk" else (503, ["storage", kinds])
    with filled(small_disk):  # and no callback comes
        until("it tells", lambda: readiness(stack) == full)
        assert requests.get(f"{callback_url(stack)}?statusid=1", timeout=10).status_code == full[0]
        assert readiness(stack)[0] == full[0]
    until("it is ready again", lambda: readiness(stack) == (200, ["worker unseen"]))


@contextmanager
def without_inodes(disk: Path) -> Iterator[None]:
    """While the block lasts, a disk takes no more files."""
    ballast = disk / "ballast"
    ballast.mkdir()
    with suppress(OSError):
        for number in count():
            (ballast / str(number)).touch()
    try:
        yield
    finally:
        shutil.rmtree(ballast)


@pytest.mark.parametrize("lacks", [filled, without_inodes])
def test_no_room_for_temporary_files_ends_no_web_process_and_hinders_no_new_one(
    tmp_path: Path, sqlite_url: str, start_web: StartWeb, lacks: Callable[[Path], AbstractContextManager[None]]
) -> None:
    with disks.mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=2m,nr_inodes=60", "tmpfs") as scratch:
        stack = start_web(sqlite_url, TMPDIR=str(scratch), WEB_CONCURRENCY="1")
        with lacks(scratch), requests.Session() as session:
            [first] = children(stack.pid("web"))
            for status in (403, 405):  # which were never counted before, and need more room
                path = "callbacks/receipts/wrong"
                method = "GET" if status == 403 else "PUT"
                assert session.request(method, f"{stack.url}/{path}", timeout=10).status_code == status
            assert children(stack.pid("web")) == [first]
            os.kill(first, signal.SIGKILL)
            until("another one answers", lambda: answers(f"{stack.url}/healthz"))
            for _ in range(3):
                assert requests.get(f"{callback_url(stack)}?statusid=1", timeout=10).status_code == 200
            assert requests.get(f"{stack.url}/metrics", timeout=10).status_code == 200
            assert "web.counts_not_shared" in stack.tail("web")
        assert requests.get(f"{callback_url(stack)}?statusid=1", timeout=10).status_code == 200
        stack.stop("web")


def test_a_spool_whose_disk_takes_no_more_files_is_drained(
    server: Server, tmp_path: Path, postgresql_url: str, start_web: StartWeb
) -> None:
    with disks.mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=8m,nr_inodes=60", "tmpfs") as disk:
        stack = start_web(postgresql_url, SPOOL_DIR=str(disk / "spool"))
        with Load(callback_url(stack)) as load:
            server.kill()
            load.wait_for(200, times=20)
        with without_inodes(disk):
            server.start()
            wait_until_drained(disk / "spool")
        assert_nothing_lost(postgresql_url, load.kept)
        stack.stop("web")
