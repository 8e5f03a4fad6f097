"""SQLite's files taken away under the service: nothing is promised that would be gone at the next start."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.faults.conftest import StartWeb, callback_url
from tests.faults.proof import assert_nothing_lost, wait_until_drained
from tests.support import databases
from tests.support.forked import Stack
from tests.support.load import Load
from tests.support.processes import until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A migrated SQLite file."""
    path = tmp_path / "data" / "test.db"
    databases.migrate(f"sqlite:///{path}")
    return path


@contextmanager
def away(*paths: Path) -> Iterator[None]:
    """While the block lasts, these files have other names."""
    for path in paths:
        path.rename(path.with_name(f"away-{path.name}"))
    try:
        yield
    finally:
        for path in paths:
            path.with_name(f"away-{path.name}").rename(path)


def files_of(path: Path) -> list[Path]:
    return [path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")]


def is_ready(stack: Stack) -> bool:
    return requests.get(f"{stack.url}/readyz", timeout=10).status_code == 200


def test_without_its_files_or_with_others_nothing_is_kept_and_with_the_same_ones_all_goes_on(
    path: Path, start_web: StartWeb
) -> None:
    stack = start_web(f"sqlite:///{path}")
    with Load(callback_url(stack), connections=2) as load:
        load.wait_for(200, times=10)
        for taken in ([file] for file in files_of(path)):
            with away(*taken):
                load.wait_for(503, times=2)
                assert not is_ready(stack)
                assert not taken[0].exists(), "no other one was made in its place"
            load.wait_for(200, times=10)
        with away(*files_of(path)):
            shutil.copy(path.with_name(f"away-{path.name}"), path)  # as a backup is put back
            load.wait_for(503, times=2)
            assert not is_ready(stack)
        load.wait_for(200, times=10)
    assert is_ready(stack)
    assert load.statuses == {200, 503}
    assert_nothing_lost(f"sqlite:///{path}", load.kept)


def test_a_removed_file_is_not_ready_without_a_callback_either_and_no_new_one_is_made(
    path: Path, start_web: StartWeb
) -> None:
    stack = start_web(f"sqlite:///{path}")
    for file in files_of(path):
        file.unlink()
    until("it is not ready", lambda: not is_ready(stack))
    stack.stop("web")
    stack.start("web")
    until("it lives", lambda: _lives(stack))
    assert requests.get(f"{callback_url(stack)}?statusid=1", timeout=10).status_code == 503
    assert not is_ready(stack)
    assert not path.exists()
    databases.migrate(f"sqlite:///{path}")
    until("it goes on when there is a database", lambda: is_ready(stack))


def test_the_spool_takes_what_comes_while_the_files_are_away(path: Path, start_web: StartWeb, tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    stack = start_web(f"sqlite:///{path}", SPOOL_DIR=str(folder))
    with Load(callback_url(stack), connections=2) as load:
        load.wait_for(200, times=10)
        with away(*files_of(path)):
            load.wait_for(200, times=10)
            assert "database away" in requests.get(f"{stack.url}/readyz", timeout=10).json()["degraded"]
        load.wait_for(200, times=10)
    assert load.statuses == {200}
    wait_until_drained(folder)
    assert_nothing_lost(f"sqlite:///{path}", load.kept)


def _lives(stack: Stack) -> bool:
    try:
        return requests.get(f"{stack.url}/healthz", timeout=2).status_code == 200
    except requests.RequestException:
        return False
