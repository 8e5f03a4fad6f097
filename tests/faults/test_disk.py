"""A disk without space: 503 instead of a promise, and all is well again when there is space."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests import databases
from tests.faults.conftest import Form, StartWeb, callback_url
from tests.faults.load import Load
from tests.faults.postgres import Server
from tests.faults.proof import assert_nothing_lost, set_aside, wait_until_drained
from tests.intake import disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB."""
    with disks.small(tmp_path / "disk", 64 * 1024) as disk:
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
    assert load.slowest_seconds < form.longest_seconds
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
    assert load.slowest_seconds < form.longest_seconds
    stack.start("worker")
    wait_until_drained(spool_dir)
    assert not set_aside(spool_dir)
    assert_nothing_lost(postgresql_url, load.kept)
