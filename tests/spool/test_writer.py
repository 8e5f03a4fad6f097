"""Appending to the spool: what `append` returned for is there, whatever happens to the process or its disk."""

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
from receiptsvc.spool import drain
from receiptsvc.spool.writer import Spool
from tests.spool import disks
from tests.spool.spooling import arrivals, drained, line, only_file, process, uuids


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


class Syncs:
    """A sync that really syncs, remembers of what, and fails where it is told to."""

    def __init__(self, *, failing_at: int | None = None) -> None:
        self.failing_at = failing_at
        self.calls: list[tuple[str, int]] = []

    def __call__(self, descriptor: int) -> None:
        if self.failing_at is not None and len(self.calls) >= self.failing_at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fsync(descriptor)
        found = os.fstat(descriptor)
        kind = "folder" if stat.S_ISDIR(found.st_mode) else "file"
        self.calls.append((kind, found.st_size if kind == "file" else 0))

    def forget(self, *, failing_at: int | None = None) -> None:
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


def test_a_group_is_one_sync_and_a_new_file_one_of_the_folder(folder: Path) -> None:
    syncs = Syncs()
    spool = Spool(folder, fsync=syncs)
    syncs.forget()
    spool.append(arrivals(50))
    first = only_file(folder).stat().st_size
    assert syncs.calls == [("file", first), ("folder", 0)]
    syncs.forget()
    spool.append(arrivals(50))
    assert syncs.calls == [("file", only_file(folder).stat().st_size)]
    assert syncs.calls[0][1] > first
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


def test_a_large_file_is_followed_by_another(folder: Path) -> None:
    spool = Spool(folder, largest_file_bytes=2000)
    group = [spooled for _ in range(10) for spooled in arrivals(3)]
    for start in range(0, len(group), 3):
        spool.append(group[start : start + 3])
    spool.close()
    sizes = [path.stat().st_size for path in folder.glob("*.spool")]
    assert len(sizes) > 2
    assert max(sizes) < 4000
    assert drained(folder) == group


def test_a_callback_of_any_bytes_comes_out_as_it_went_in(folder: Path) -> None:
    spool = Spool(folder)
    group = arrivals(3, body=bytes(range(256)) * 4096)
    spool.append(group)
    spool.close()
    assert drained(folder) == group


def test_many_threads_may_append_at_once(folder: Path) -> None:
    spool = Spool(folder, largest_file_bytes=4000)
    groups = [arrivals(5) for _ in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(spool.append, groups))
    spool.close()
    taken = drained(folder)
    assert {one.id for one in taken} == {one.id for group in groups for one in group}
    assert len(taken) == 200


def test_nobody_but_the_owner_may_read_what_is_spooled(folder: Path) -> None:
    before = os.umask(0)
    try:
        spool = Spool(folder)
        spool.append(arrivals(1))
        path = only_file(folder)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.with_name("0.spool").write_bytes(b"rubbish")
        spool.close()
        drained(folder)
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in folder.iterdir()} == {
        "0.torn": "0o600",
        drain.LOCK_NAME: "0o600",
    }


def test_a_closed_spool_takes_nothing(folder: Path) -> None:
    spool = Spool(folder)
    spool.close()
    with pytest.raises(StorageUnavailable):
        spool.append(arrivals(1))


def test_a_start_leaves_nothing_behind_and_makes_the_folders_it_needs(tmp_path: Path) -> None:
    syncs = Syncs()
    folder = tmp_path / "a" / "b"
    Spool(folder, fsync=syncs)
    assert list(folder.iterdir()) == []
    assert [kind for kind, _ in syncs.calls] == ["folder", "folder", "file", "folder"]


@pytest.mark.parametrize("sync", range(4))
def test_a_folder_that_cannot_be_synced_stops_the_start(folder: Path, sync: int) -> None:
    fails = Syncs(failing_at=sync)
    if sync < 3:
        with pytest.raises(SettingsError, match=r"SPOOL_DIR: must be a folder .*\(Input/output error\)"):
            Spool(folder, fsync=fails)
        assert not list(folder.iterdir())
    else:
        Spool(folder, fsync=fails)


def test_a_file_where_the_folder_should_be_stops_the_start(folder: Path) -> None:
    folder.write_bytes(b"")
    with pytest.raises(SettingsError, match="SPOOL_DIR"):
        Spool(folder)


def test_a_folder_that_only_can_be_read_stops_the_start(tmp_path: Path) -> None:
    with disks.mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=64k,ro", "tmpfs") as disk:
        with pytest.raises(SettingsError, match=r"SPOOL_DIR.*Read-only"):
            Spool(disk)
        with pytest.raises(SettingsError, match=r"SPOOL_DIR.*Read-only"):
            Spool(disk / "spool")


def test_a_full_disk_stops_the_start(tmp_path: Path) -> None:
    with disks.small(tmp_path / "disk", 64) as disk:
        fill(disk)
        with pytest.raises(SettingsError, match=r"SPOOL_DIR.*No space left"):
            Spool(disk)


def fill(disk: Path) -> Path:
    filling = disk / "filling"
    with filling.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filling


@pytest.mark.parametrize(("what", "failing_at"), [("file", 0), ("folder", 1)])
def test_what_a_new_file_could_not_sync_is_refused_and_taken_out(folder: Path, what: str, failing_at: int) -> None:
    syncs = Syncs()
    spool = Spool(folder, fsync=syncs)
    syncs.forget(failing_at=failing_at)
    with pytest.raises(StorageUnavailable, match="Input/output error"):
        spool.append(arrivals(3))
    assert len(syncs.calls) == failing_at, what
    assert list(folder.glob("*.spool")) == []


def test_a_file_that_failed_to_sync_is_never_written_again(folder: Path) -> None:
    syncs = Syncs()
    spool = Spool(folder, fsync=syncs)
    kept, later = arrivals(3), arrivals(3)
    spool.append(kept)
    given_up = only_file(folder)
    promised = given_up.read_bytes()
    syncs.forget(failing_at=0)
    with pytest.raises(StorageUnavailable):
        spool.append(arrivals(3))
    syncs.forget()
    spool.append(later)
    assert given_up.read_bytes() == promised
    assert len(list(folder.glob("*.spool"))) == 2
    spool.close()
    assert drained(folder) == kept + later


def test_a_file_that_failed_can_be_drained_while_its_owner_lives(folder: Path) -> None:
    syncs = Syncs()
    spool = Spool(folder, fsync=syncs)
    kept = arrivals(3)
    spool.append(kept)
    assert drained(folder) == []
    syncs.forget(failing_at=0)
    with pytest.raises(StorageUnavailable):
        spool.append(arrivals(1))
    assert drained(folder) == kept
    spool.close()


def test_a_write_that_stops_half_way_keeps_what_was_promised_before(folder: Path) -> None:
    spool = Spool(folder)
    kept, later = arrivals(5), arrivals(5)
    spool.append(kept)
    promised = only_file(folder).stat().st_size
    with disks.files_no_larger_than(promised + 700), pytest.raises(StorageUnavailable, match="File too large"):
        spool.append(arrivals(20))
    assert only_file(folder).stat().st_size == promised
    spool.append(later)
    spool.close()
    assert drained(folder) == kept + later
    assert not list(folder.glob("*.torn"))


def test_a_full_disk_refuses_and_loses_nothing_and_recovers(tmp_path: Path) -> None:
    with disks.small(tmp_path / "disk", 64) as disk:
        spool = Spool(disk)
        kept = append_until_refused(spool, 7, b"x" * 300)
        assert len(kept) > 50
        filling = fill(disk)
        for _ in range(50):
            with pytest.raises(StorageUnavailable, match="No space left"):
                spool.append(arrivals(7, body=b"x" * 300))
        assert len(list(disk.glob("*.spool"))) == 1  # refusals leave nothing behind
        assert drained(disk) == kept  # a full disk can be drained
        filling.unlink()
        again = arrivals(7)
        spool.append(again)
        spool.close()
        assert drained(disk) == again


def test_what_was_promised_is_on_a_disk_that_then_fails_to_sync(tmp_path: Path) -> None:
    failures: list[OSError] = []

    def fsync(descriptor: int) -> None:
        try:
            os.fsync(descriptor)
        except OSError as error:
            failures.append(error)
            raise

    with disks.promising_too_much(tmp_path / "backing") as image:
        with disks.mounted(tmp_path / "disk", "-o", "loop", str(image)) as disk:
            spool = Spool(disk / "spool", fsync=fsync, largest_file_bytes=400_000)
            kept = append_until_refused(spool, 10, os.urandom(10_000))
            assert len(failures) == 1  # the write went well, and only the sync told the truth
            assert len(kept) > 50
            spool.close()
        disks.mend(image.parent)
        with disks.mounted(tmp_path / "disk", "-o", "loop", str(image)) as disk:  # nothing of it is cached any more
            assert drained(disk / "spool") == kept


@pytest.mark.slow
@pytest.mark.parametrize("groups_seen", [1, 7, 40])
def test_whatever_a_killed_process_was_told_is_kept_is_there(folder: Path, groups_seen: int) -> None:
    with process("append", str(folder), "100000") as appender:
        seen = [line(appender) for _ in range(groups_seen)]
        appender.kill()
        assert appender.stdout is not None
        promised = uuids("\n".join([*seen, appender.stdout.read()]))
    taken = [one.id for one in drained(folder)]
    assert len(promised) >= 20 * groups_seen
    assert taken[: len(promised)] == promised
    assert len(taken) - len(promised) <= 20  # the group that it had not been told of


def test_a_process_never_appends_to_another_ones_file(folder: Path) -> None:
    first, second = Spool(folder), Spool(folder)
    first.append(arrivals(1))
    begun = only_file(folder)
    before = begun.read_bytes()
    second.append(arrivals(1))
    first.close()
    second.append(arrivals(1))
    Spool(folder).append(arrivals(1))
    assert begun.read_bytes() == before
    second.close()


def test_a_file_that_the_drainer_locks_first_is_left_to_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(folder)
    taken_first: list[Path] = []
    really_open: Callable[..., int] = os.open

    def open_and_lose(path: Path, flags: int, *mode: int) -> int:  # nothing else stops a process between two calls
        descriptor = really_open(path, flags, *mode)
        if flags & os.O_EXCL and not taken_first:
            taken_first.append(path)
            assert drained(folder) == []
        return descriptor

    monkeypatch.setattr(os, "open", open_and_lose)
    kept = arrivals(2)
    spool.append(kept)
    monkeypatch.undo()
    assert not taken_first[0].exists()
    spool.close()
    assert drained(folder) == kept


def test_a_files_lock_ends_with_its_seal(folder: Path) -> None:
    spool = Spool(folder)
    spool.append(arrivals(1))
    with only_file(folder).open("rb") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        spool.seal()
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    spool.close()


def test_a_trial_leaves_nothing_and_tells_of_a_full_disk(tmp_path: Path) -> None:
    with disks.small(tmp_path / "disk", 64) as disk:
        spool = Spool(disk / "spool")
        spool.try_appending()
        assert not list((disk / "spool").iterdir())
        with suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(4096))
        with pytest.raises(StorageUnavailable):
            spool.try_appending()
        spool.close()


def test_a_closed_spool_takes_no_trial(folder: Path) -> None:
    spool = Spool(folder)
    spool.close()
    with pytest.raises(StorageUnavailable):
        spool.try_appending()


@pytest.mark.parametrize(
    "takes_away", [lambda path: path.unlink(), lambda path: path.parent.rename(f"{path.parent}.away")]
)
def test_a_file_that_was_taken_away_keeps_nothing_more(folder: Path, takes_away: Callable[[Path], object]) -> None:
    spool = Spool(folder)
    spool.append(arrivals(1))
    takes_away(only_file(folder))
    with pytest.raises(StorageUnavailable):
        spool.append(arrivals(1))
    folder.mkdir(exist_ok=True)
    later = arrivals(1)
    spool.append(later)
    spool.close()
    assert drained(folder) == later
