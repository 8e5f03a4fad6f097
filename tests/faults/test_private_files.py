"""What is on this machine's disk is for its owner alone, whatever the umask; what is not so is named at the start."""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from receiptsvc import locations, private_files
from receiptsvc.config import Settings
from receiptsvc.demo.processes import Stack, answers
from tests.support.processes import until


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """The umask of this process, and of those that it starts, while the block lasts."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):04o}"


@pytest.mark.parametrize("mask", [0, 0o022, 0o077, 0o777])
def test_folders_and_files_are_made_for_their_owner_alone(tmp_path: Path, mask: int) -> None:
    folder = tmp_path / "data" / "jobs"
    with umask(mask):
        private_files.make_folder(folder)
        private_files.make_folder(folder)
        private_files.make_file(folder / "file")
        private_files.make_file(folder / "file")
    assert [mode(path) for path in (folder.parent, folder, folder / "file")] == ["0700", "0700", "0600"]
    (folder / "file").write_text("kept")
    (folder / "file").chmod(0o644)
    private_files.make_file(folder / "file")
    assert ((folder / "file").read_text(), mode(folder / "file")) == ("kept", "0644"), "what is there stays as it is"


def test_keys_are_made_in_a_folder_for_their_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locations, "DATA", tmp_path / "data")
    with umask(0):
        Settings.from_env({})
    assert mode(tmp_path / "data") == "0700"
    assert {path.name: mode(path) for path in (tmp_path / "data").iterdir()} == {
        "api_key": "0600",
        "callback_keys": "0600",
    }


def test_the_files_of_sqlite_are_for_their_owner_alone(tmp_path: Path) -> None:
    with umask(0), Stack(tmp_path / "stack", f"sqlite:///{tmp_path}/data/x.db") as stack:
        stack.start_all()
        until("all are there", lambda: len(list((tmp_path / "data").iterdir())) == 4)
        files = sorted((tmp_path / "data").iterdir())
        assert [path.name for path in files] == ["x.db", "x.db-shm", "x.db-wal", "x.db.worker"]
        assert {mode(path) for path in files} == {"0600"}
        assert mode(tmp_path / "data") == "0700"
        for name in ("web", "worker"):
            assert "files.open_to_others" not in (stack.folder / f"{name}.log").read_text()


def test_what_others_may_read_is_named_at_the_start_and_refused_by_none(sqlite_url: str, tmp_path: Path) -> None:
    path, spool = Path(sqlite_url.removeprefix("sqlite:///")), tmp_path / "spool"
    spool.mkdir()
    spool.chmod(0o750)
    path.chmod(0o644)
    with Stack(tmp_path / "stack", sqlite_url, settings={"SPOOL_DIR": str(spool)}) as stack:
        stack.start("web", "worker")
        stack.wait_until("the web process", lambda: answers(f"{stack.url}/readyz"))
        for name in ("web", "worker"):
            log = stack.folder / f"{name}.log"
            until("it is named", lambda log=log: "files.open_to_others" in log.read_text())  # type: ignore[misc]
            (line, *_) = [
                read
                for read in map(json.loads, log.read_text().splitlines())
                if read["action"] == "files.open_to_others"
            ]
            assert line["level"] == "warning"
            assert {f"{path} (0644)", f"{spool} (0750)"} <= set(line["files"])
