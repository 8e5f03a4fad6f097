"""Appending to the spool: after `append` returns, its group survives any end of the process or failure of its disk."""

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from receiptsvc.domain.errors import SettingsError, StorageUnavailable
from receiptsvc.domain.inbox import Arrival
from receiptsvc.spool import drainer
from receiptsvc.spool.writer import Spool
from tests.spool import disks
from tests.spool.spooling import arrivals, drain_all, line, only_file, process, uuids


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


class Fsync:
    """Syncs, records each call, and fails from the call with index `failing_at` on."""

    def __init__(self, *, failing_at: int | None = None) -> None:
        self.failing_at = failing_at
        self.calls: list[tuple[str, int]] = []

    def __call__(self, descriptor: int) -> None:
        if self.failing_at is not None and len(self.calls) >= self.failing_at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fsync(descriptor)
        status = os.fstat(descriptor)
        kind = "folder" if stat.S_ISDIR(status.st_mode) else "file"
        self.calls.append((kind, status.st_size if kind == "file" else 0))

    def reset(self, *, failing_at: int | None = None) -> None:
        self.failing_at = failing_at
        self.calls.clear()


def append_until_refused(spool: Spool, number: int, body: bytes) -> list[Arrival]:
    kept: list[Arrival] = []
    for _ in range(1000):
        group = arrivals(number, body=body)
        try:
            spool.append(group)
        except StorageUnavailable:
            return kept
        kept += group
    raise AssertionError("the disk was never full")


def test_a_group_takes_one_sync_and_a_new_file_one_more_of_the_folder(folder: Path) -> None:
    fsync = Fsync()
    spool = Spool(folder, fsync=fsync)
    fsync.reset()
    spool.append(arrivals(50))
    first = only_file(folder).stat().st_size
    assert fsync.calls == [("file", first), ("folder", 0)]
    fsync.reset()
    spool.append(arrivals(50))
    assert fsync.calls == [("file", only_file(folder).stat().st_size)]
    assert fsync.calls[0][1] > first
    spool.close()


def test_all_groups_go_to_one_file_until_it_is_sealed(folder: Path) -> None:
    spool = Spool(folder)
    spool.append(arrivals(1))
    spool.append(arrivals(1))
    assert len(list(folder.glob("*.spool"))) == 1
    spool.seal()
    spool.append(arrivals(1))
    assert len(list(folder.glob("*.spool"))) == 2
    spool.close()


def test_a_file_beyond_max_file_bytes_is_followed_by_another(folder: Path) -> None:
    spool = Spool(folder, max_file_bytes=2000)
    group = [callback for _ in range(10) for callback in arrivals(3)]
    for start in range(0, len(group), 3):
        spool.append(group[start : start + 3])
    spool.close()
    sizes = [path.stat().st_size for path in folder.glob("*.spool")]
    assert len(sizes) > 2
    assert max(sizes) < 4000
    assert drain_all(folder) == group


def test_a_callback_of_any_bytes_is_drained_as_it_was_appended(folder: Path) -> None:
    spool = Spool(folder)
    group = arrivals(3, body=bytes(range(256)) * 4096)
    spool.append(group)
    spool.close()
    assert drain_all(folder) == group


def test_many_threads_may_append_at_once(folder: Path) -> None:
    spool = Spool(folder, max_file_bytes=4000)
    groups = [arrivals(5) for _ in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(spool.append, groups))
    spool.close()
    drained = drain_all(folder)
    assert {callback.id for callback in drained} == {callback.id for group in groups for callback in group}
    assert len(drained) == 200


def test_only_the_user_of_the_process_may_read_the_spool(folder: Path) -> None:
    before = os.umask(0)
    try:
        spool = Spool(folder)
        spool.append(arrivals(1))
        path = only_file(folder)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.with_name("0.spool").write_bytes(b"rubbish")
        spool.close()
        drain_all(folder)
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in folder.iterdir()} == {
        "0.torn": "0o600",
        drainer.LOCK_NAME: "0o600",
    }


def test_a_closed_spool_refuses_every_append(folder: Path) -> None:
    spool = Spool(folder)
    spool.close()
    with pytest.raises(StorageUnavailable):
        spool.append(arrivals(1))


def test_a_start_leaves_nothing_behind_and_makes_the_folders_it_needs(tmp_path: Path) -> None:
    fsync = Fsync()
    folder = tmp_path / "a" / "b"
    Spool(folder, fsync=fsync)
    assert list(folder.iterdir()) == []
    assert [kind for kind, _ in fsync.calls] == ["folder", "folder", "file", "folder"]


@pytest.mark.parametrize("sync", range(4))
def test_a_folder_that_cannot_be_synced_stops_the_start(folder: Path, sync: int) -> None:
    fsync = Fsync(failing_at=sync)
    if sync < 3:
        with pytest.raises(SettingsError, match=r"SPOOL_DIR: must be a folder .*\(Input/output error\)"):
            Spool(folder, fsync=fsync)
        assert not list(folder.iterdir())
    else:
        Spool(folder, fsync=fsync)


def test_a_file_where_the_folder_should_be_stops_the_start(folder: Path) -> None:
    folder.write_bytes(b"")
    with pytest.raises(SettingsError, match="SPOOL_DIR"):
        Spool(folder)


def test_a_read_only_folder_stops_the_start(tmp_path: Path) -> None:
    with disks.mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=64k,ro", "tmpfs") as disk:
        with pytest.raises(SettingsError, match=r"SPOOL_DIR.*Read-only"):
            Spool(disk)
        with pytest.raises(SettingsError, match=r"SPOOL_DIR.*Read-only"):
            Spool(disk / "spool")


def test_a_full_disk_stops_the_start(tmp_path: Path) -> None:
    with disks.small_disk(tmp_path / "disk", 64) as disk:
        fill(disk)
        with pytest.raises(SettingsError, match=r"SPOOL_DIR.*No space left"):
            Spool(disk)


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return ballast


@pytest.mark.parametrize(("what", "failing_at"), [("file", 0), ("folder", 1)])
def test_a_new_file_that_cannot_be_synced_is_removed(folder: Path, what: str, failing_at: int) -> None:
    fsync = Fsync()
    spool = Spool(folder, fsync=fsync)
    fsync.reset(failing_at=failing_at)
    with pytest.raises(StorageUnavailable, match="Input/output error"):
        spool.append(arrivals(3))
    assert len(fsync.calls) == failing_at, what
    assert list(folder.glob("*.spool")) == []


def test_a_file_that_failed_to_sync_is_never_written_again(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    fsync = Fsync()
    spool = Spool(folder, fsync=fsync)
    kept, later = arrivals(3), arrivals(3)
    spool.append(kept)
    abandoned = only_file(folder)
    durable = abandoned.read_bytes()
    fsync.reset(failing_at=0)
    with pytest.raises(StorageUnavailable, match="SPOOL_DIR: the spool could not be written") as caught:
        spool.append(arrivals(3))
    assert caught.value.kind == "SPOOL_DIR not writable"
    assert [record.message for record in caplog.records] == ["spool.file_given_up"]
    fsync.reset()
    spool.append(later)
    assert abandoned.read_bytes() == durable
    assert len(list(folder.glob("*.spool"))) == 2
    spool.close()
    assert drain_all(folder) == kept + later


def test_a_file_that_failed_to_sync_can_be_drained_while_its_owner_lives(folder: Path) -> None:
    fsync = Fsync()
    spool = Spool(folder, fsync=fsync)
    kept = arrivals(3)
    spool.append(kept)
    assert drain_all(folder) == []
    fsync.reset(failing_at=0)
    with pytest.raises(StorageUnavailable):
        spool.append(arrivals(1))
    assert drain_all(folder) == kept
    spool.close()


def test_a_write_that_stops_half_way_leaves_the_earlier_groups(folder: Path) -> None:
    spool = Spool(folder)
    kept, later = arrivals(5), arrivals(5)
    spool.append(kept)
    durable_bytes = only_file(folder).stat().st_size
    with disks.limit_file_size(durable_bytes + 700), pytest.raises(StorageUnavailable, match="File too large"):
        spool.append(arrivals(20))
    assert only_file(folder).stat().st_size == durable_bytes
    spool.append(later)
    spool.close()
    assert drain_all(folder) == kept + later
    assert not list(folder.glob("*.torn"))


def test_a_full_disk_refuses_and_loses_nothing_and_recovers(tmp_path: Path) -> None:
    with disks.small_disk(tmp_path / "disk", 64) as disk:
        spool = Spool(disk)
        kept = append_until_refused(spool, 7, b"x" * 300)
        assert len(kept) > 50
        ballast = fill(disk)
        for _ in range(50):
            with pytest.raises(StorageUnavailable, match="No space left"):
                spool.append(arrivals(7, body=b"x" * 300))
        assert len(list(disk.glob("*.spool"))) == 1  # refusals leave nothing behind
        assert drain_all(disk) == kept  # a full disk can be drained
        ballast.unlink()
        again = arrivals(7)
        spool.append(again)
        spool.close()
        assert drain_all(disk) == again


def test_appended_groups_are_on_a_disk_that_then_fails_to_sync(tmp_path: Path) -> None:
    failures: list[OSError] = []

    def fsync(descriptor: int) -> None:
        try:
            os.fsync(descriptor)
        except OSError as error:
            failures.append(error)
            raise

    with disks.overcommitted_disk(tmp_path / "backing") as image:
        with disks.mounted(tmp_path / "disk", "-o", "loop", str(image)) as disk:
            spool = Spool(disk / "spool", fsync=fsync, max_file_bytes=400_000)
            kept = append_until_refused(spool, 10, os.urandom(10_000))
            assert len(failures) == 1  # the write succeeded, and only the sync failed
            assert len(kept) > 50
            spool.close()
        disks.add_space(image.parent)
        with disks.mounted(tmp_path / "disk", "-o", "loop", str(image)) as disk:  # nothing is cached any more
            assert drain_all(disk / "spool") == kept


@pytest.mark.slow
@pytest.mark.parametrize("groups_printed", [1, 7, 40])
def test_every_group_that_a_killed_process_appended_is_there(folder: Path, groups_printed: int) -> None:
    with process("append", str(folder), "100000") as appender:
        lines = [line(appender) for _ in range(groups_printed)]
        appender.kill()
        assert appender.stdout is not None
        promised = uuids("\n".join([*lines, appender.stdout.read()]))
    drained_ids = [callback.id for callback in drain_all(folder)]
    assert len(promised) >= 20 * groups_printed
    assert drained_ids[: len(promised)] == promised
    assert len(drained_ids) - len(promised) <= 20  # the group whose append had not returned


def test_a_process_never_appends_to_another_process_s_file(folder: Path) -> None:
    first, second = Spool(folder), Spool(folder)
    first.append(arrivals(1))
    first_file = only_file(folder)
    before = first_file.read_bytes()
    second.append(arrivals(1))
    first.close()
    second.append(arrivals(1))
    Spool(folder).append(arrivals(1))
    assert first_file.read_bytes() == before
    second.close()


def test_a_file_that_the_drainer_locks_first_is_left_to_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(folder)
    stolen: list[Path] = []
    real_open: Callable[..., int] = os.open

    def open_and_drain(path: Path, flags: int, *mode: int) -> int:  # between the open and the lock
        descriptor = real_open(path, flags, *mode)
        if flags & os.O_EXCL and not stolen:
            stolen.append(path)
            assert drain_all(folder) == []
        return descriptor

    monkeypatch.setattr(os, "open", open_and_drain)
    kept = arrivals(2)
    spool.append(kept)
    monkeypatch.undo()
    assert not stolen[0].exists()
    spool.close()
    assert drain_all(folder) == kept


def test_seal_unlocks_the_file(folder: Path) -> None:
    spool = Spool(folder)
    spool.append(arrivals(1))
    with only_file(folder).open("rb") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        spool.seal()
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    spool.close()


def test_a_trial_leaves_nothing_and_fails_on_a_full_disk(tmp_path: Path) -> None:
    with disks.small_disk(tmp_path / "disk", 64) as disk:
        spool = Spool(disk / "spool")
        spool.try_appending()
        assert not list((disk / "spool").iterdir())
        fill(disk)
        with pytest.raises(StorageUnavailable):
            spool.try_appending()
        spool.close()


def test_a_closed_spool_refuses_a_trial(folder: Path) -> None:
    spool = Spool(folder)
    spool.close()
    with pytest.raises(StorageUnavailable):
        spool.try_appending()


@pytest.mark.parametrize("remove", [lambda path: path.unlink(), lambda path: path.parent.rename(f"{path.parent}.away")])
def test_an_append_to_a_removed_file_fails(folder: Path, remove: Callable[[Path], object]) -> None:
    spool = Spool(folder)
    spool.append(arrivals(1))
    remove(only_file(folder))
    with pytest.raises(StorageUnavailable):
        spool.append(arrivals(1))
    folder.mkdir(exist_ok=True)
    later = arrivals(1)
    spool.append(later)
    spool.close()
    assert drain_all(folder) == later
