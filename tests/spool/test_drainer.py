"""Draining the spool: nothing leaves it before it is in the database or set aside, however damaged the files are."""

import errno
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

import gevent
import pytest

from receiptsvc import logs
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.domain.inbox import Arrival
from receiptsvc.spool import drainer, records
from receiptsvc.spool.drainer import drain
from receiptsvc.spool.writer import Spool
from receiptsvc.store.core.db import Database
from receiptsvc.store.health.verification import verify
from tests.spool import disks, spooling
from tests.spool.spooling import arrival, arrivals, drain_all, line, only_file, process, uuids
from tests.support.rows import insert_arrivals

HEADER_BYTES = len(records.header(b"\0" * 8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def write_file(folder: Path, group: Sequence[Arrival]) -> Path:
    """A new, sealed file of these callbacks."""
    before = set(folder.glob("*.spool"))
    spool = Spool(folder)
    spool.append(group)
    spool.close()
    (path,) = set(folder.glob("*.spool")) - before
    return path


def find_ranges(path: Path) -> list[range]:
    """The byte range of each record of a sound file."""
    with path.open("rb") as file:
        return [range(piece.start, piece.end) for piece in records.read_pieces(file, path.stat().st_size)]


def error_actions(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.ERROR]


class FakeDatabase:
    """A database that refuses the callbacks in `poison`, goes away at a group, and keeps each other callback once."""

    def __init__(self, *, poison: Sequence[Arrival] = (), outage_at: int | None = None) -> None:
        self.poison = {record.id for record in poison}
        self.outage_at = outage_at
        self.kept: dict[UUID, Arrival] = {}
        self.group_sizes: list[int] = []

    def write(self, group: Sequence[Arrival]) -> None:
        self.group_sizes.append(len(group))
        if self.outage_at is not None and len(self.group_sizes) > self.outage_at:
            raise StorageUnavailable("out of order")
        if any(record.id in self.poison for record in group):
            raise ValueError("447700900123 is a value that no log may show")
        self.kept |= {record.id: record for record in group}


def never() -> bool:
    return False


def test_files_are_drained_in_the_order_they_were_made(folder: Path) -> None:
    groups = [arrivals(4) for _ in range(5)]
    for group in groups:
        write_file(folder, group)
    assert drain_all(folder) == [record for group in groups for record in group]
    assert not list(folder.glob("*.spool"))


def test_a_group_is_bounded_in_records_and_in_bytes(folder: Path) -> None:
    write_file(folder, arrivals(25))
    database = FakeDatabase()
    assert drain(folder, database.write, group_size=10, stop=never) == 25
    assert database.group_sizes == [10, 10, 5]
    write_file(folder, arrivals(20, body=b"x" * 1_000_000))
    database = FakeDatabase()
    assert drain(folder, database.write, group_size=500, stop=never) == 20
    assert database.group_sizes == [9, 9, 2]


def test_a_file_is_removed_only_after_its_last_record_is_written(folder: Path) -> None:
    path = write_file(folder, arrivals(10))
    whole = path.read_bytes()

    def write(_group: Sequence[Arrival]) -> None:
        assert path.read_bytes() == whole

    assert drain(folder, write, group_size=3, stop=never) == 10
    assert not path.exists()


def test_an_outage_ends_draining_and_leaves_the_file(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    group = arrivals(10)
    path = write_file(folder, group)
    untouched = write_file(folder, arrivals(3))
    whole = path.read_bytes()
    database = FakeDatabase(outage_at=2)
    assert drain(folder, database.write, group_size=3, stop=never) == 6
    assert len(database.group_sizes) == 3  # the other file was not tried
    assert [record.message for record in caplog.records] == ["spool.drain_stopped"]
    assert path.read_bytes() == whole
    assert untouched.exists()
    database.outage_at = None
    assert drain(folder, database.write, group_size=3, stop=never) == 13
    assert [database.kept[record.id] for record in group] == group
    assert not list(folder.glob("*.spool"))


def test_draining_can_be_stopped_between_groups(folder: Path) -> None:
    path = write_file(folder, arrivals(10))
    database = FakeDatabase()
    assert drain(folder, database.write, group_size=3, stop=lambda: len(database.group_sizes) == 2) == 6
    assert path.exists()


def test_draining_twice_keeps_nothing_twice(folder: Path, database: Database) -> None:
    group = arrivals(7)
    path = write_file(folder, group)
    content = path.read_bytes()
    kept_counts: list[int] = []

    def write(group: Sequence[Arrival]) -> None:
        with database.transaction() as session:
            kept_counts.append(insert_arrivals(session, group))

    assert drain(folder, write, stop=never) == 7
    path.write_bytes(content)
    assert drain(folder, write, stop=never) == 7
    assert kept_counts == [7, 0]
    assert list(verify(database)) == []


def test_a_file_cut_off_at_any_byte_yields_all_its_whole_records(folder: Path) -> None:
    group = arrivals(2)
    path = write_file(folder, group)
    torn = path.with_suffix(".torn")
    whole, ranges = path.read_bytes(), find_ranges(path)
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        sound = [record for record, span in zip(group, ranges, strict=True) if span.stop <= size]
        assert drain_all(folder) == sound, size
        end_of_sound = ranges[len(sound) - 1].stop if sound else HEADER_BYTES if size >= HEADER_BYTES else 0
        rest = whole[end_of_sound:size]
        assert (torn.read_bytes() if torn.exists() else b"") == rest, size
        assert not path.exists()
        torn.unlink(missing_ok=True)


@pytest.mark.parametrize("tail", [b"\0" * 5000, os.urandom(5000)], ids=["zeros", "noise"])
def test_a_tail_that_was_never_written_is_set_aside(
    folder: Path, tail: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    group = arrivals(3)
    path = write_file(folder, group)
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(tail)
    assert drain_all(folder) == group
    assert path.with_suffix(".torn").read_bytes() == tail
    assert error_actions(caplog) == ["spool.torn"]
    assert caplog.records[0].__dict__["fields"] == {"file": path.name, "offset": size, "bytes": 5000}


def test_a_flipped_bit_costs_at_most_its_own_record(folder: Path) -> None:
    group = arrivals(3)
    path = write_file(folder, group)
    torn = path.with_suffix(".torn")
    whole, ranges = path.read_bytes(), find_ranges(path)
    for offset in range(len(whole)):
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << offset % 8
        path.write_bytes(damaged)
        written = drain_all(folder)
        if offset >= HEADER_BYTES:
            (hit,) = [span for span in ranges if offset in span]
            assert written == [record for record, span in zip(group, ranges, strict=True) if span is not hit], offset
            assert torn.read_bytes() == damaged[hit.start : hit.stop], offset
        elif offset == 7:  # a file of another version is not ours to touch
            assert written == []
            assert path.read_bytes() == damaged
        else:
            assert written == []
            assert torn.read_bytes() == (damaged if offset < 7 else damaged[HEADER_BYTES:]), offset
        assert path.exists() == (offset == 7)
        torn.unlink(missing_ok=True)


def test_a_file_of_another_version_is_left_alone_and_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_file(folder, arrivals(1))
    later = arrivals(2)
    write_file(folder, later)
    newer = bytearray(path.read_bytes())
    newer[7] = 2
    path.write_bytes(newer)
    assert drain_all(folder) == later
    assert path.read_bytes() == newer
    assert error_actions(caplog) == ["spool.not_drained"]


def test_a_forged_record_in_a_body_is_never_read_as_a_record(folder: Path, tmp_path: Path) -> None:
    forged = write_file(tmp_path / "forged", arrivals(2)).read_bytes()
    before, after = arrival(), arrival()
    path = write_file(folder, [before, arrival(body=forged * 3), after])
    span = find_ranges(path)[1]
    damaged = bytearray(path.read_bytes())
    damaged[span.start + 20] ^= 1
    path.write_bytes(damaged)
    assert drain_all(folder) == [before, after]
    assert path.with_suffix(".torn").read_bytes() == damaged[span.start : span.stop]


def test_only_records_that_the_database_refuses_are_set_aside(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    group = arrivals(10)
    poison = [group[2], group[7]]
    path = write_file(folder, group)
    database = FakeDatabase(poison=poison)
    assert drain(folder, database.write, group_size=5, stop=never) == 8
    assert list(database.kept.values()) == [record for record in group if record not in poison]
    assert not path.exists()
    assert error_actions(caplog) == ["spool.refused", "spool.refused"]
    shown = "".join(logs.JsonFormatter("test").format(line) for line in caplog.records)
    assert "447700900123" not in shown
    assert str(poison[0].id) in shown


def test_refused_records_can_be_drained_again_by_renaming_their_file(folder: Path) -> None:
    group = arrivals(5)
    path = write_file(folder, group)
    drain(folder, FakeDatabase(poison=group[1:3]).write, stop=never)
    refused = path.with_suffix(".refused")
    refused.rename(path)
    assert drain_all(folder) == group[1:3]
    assert list(folder.glob("*.refused")) == []


def test_an_outage_while_records_are_written_alone_sets_none_aside(folder: Path) -> None:
    group = arrivals(4)
    path = write_file(folder, group)
    database = FakeDatabase(poison=[group[0]], outage_at=2)
    assert drain(folder, database.write, stop=never) == 0
    assert path.exists()
    database.outage_at = None
    assert drain(folder, database.write, stop=never) == 3
    refused = path.with_suffix(".refused")
    refused.rename(path)
    assert drain_all(folder) == [group[0]]


def test_an_interrupted_drain_sets_a_torn_record_aside_once(folder: Path) -> None:
    group = arrivals(4)
    path = write_file(folder, group)
    with path.open("ab") as file:
        file.write(b"torn")
    drain(folder, FakeDatabase(outage_at=0).write, stop=never)
    drain(folder, FakeDatabase(outage_at=1).write, group_size=3, stop=never)
    assert drain_all(folder) == group
    assert path.with_suffix(".torn").read_bytes() == b"torn"


def test_a_file_stays_if_its_bad_records_cannot_be_set_aside(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    group, later = arrivals(3), arrivals(2)
    path = write_file(folder, group)
    with path.open("ab") as file:
        file.write(b"torn")
    write_file(folder, later)
    whole = path.read_bytes()
    database = FakeDatabase(poison=group[:1])
    with disks.limit_file_size(0):
        assert drain(folder, database.write, stop=never) == 4
    assert only_file(folder).read_bytes() == whole
    assert error_actions(caplog) == ["spool.torn", "spool.refused", "spool.not_drained"]
    assert all(record.id in database.kept for record in later)  # later files are drained all the same
    assert drain(folder, database.write, stop=never) == 2
    assert not path.exists()
    assert path.with_suffix(".torn").read_bytes() == b"torn"
    path.with_suffix(".refused").rename(path)
    assert drain_all(folder) == group[:1]


@pytest.mark.parametrize("content", [b"", b"rcspo", b"something else entirely"], ids=["empty", "cut", "foreign"])
def test_a_file_without_a_header_is_never_silently_removed(folder: Path, content: bytes) -> None:
    Spool(folder)
    path = folder / "0.spool"
    path.write_bytes(content)
    assert drain_all(folder) == []
    assert not path.exists()
    torn = path.with_suffix(".torn")
    assert (torn.read_bytes() if torn.exists() else b"") == content


def test_a_file_is_drained_only_after_its_owner_sealed_it_or_died(folder: Path) -> None:
    living = Spool(folder)
    group = arrivals(2)
    living.append(group)
    with process("append", str(folder), "1000000") as appender:
        other_ids = uuids(line(appender) + "\n")
        assert len(list(folder.glob("*.spool"))) == 2
        assert drain_all(folder) == []
        appender.kill()
        appender.wait()
        assert [record.id for record in drain_all(folder)][:20] == other_ids
    living.append(group)
    assert drain_all(folder) == []
    living.seal()
    assert drain_all(folder) == group + group
    living.close()


def test_what_is_no_file_is_named_and_holds_up_nothing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    group = arrivals(3)
    write_file(folder, group)
    spooling.make_strange_files(folder, ".spool")
    assert drain_all(folder) == group
    assert error_actions(caplog) == 4 * ["spool.not_drained"]
    said = {each["file"]: each["error"] for each in (record.__dict__["fields"] for record in caplog.records[:4])}
    rest = ": see its rights and its disk"
    assert said == {
        "0-folder.spool": f"Is a directory{rest}",
        "0-link.spool": f"Too many levels of symbolic links{rest}",
        "0-pipe.spool": f"Not a regular file{rest}",
        "0-socket.spool": f"No such device or address{rest}",
    }
    assert drain_all(folder) == []
    assert len(error_actions(caplog)) == 4  # once each


@pytest.mark.parametrize("is_link", [True, False], ids=["a link", "a pipe"])
def test_nothing_is_set_aside_into_what_is_no_file(folder: Path, tmp_path: Path, *, is_link: bool) -> None:
    path = write_file(folder, arrivals(2))
    with path.open("ab") as file:
        file.write(b"torn")
    whole, other, torn = path.read_bytes(), tmp_path / "other", path.with_suffix(".torn")
    other.write_text("somebody's")
    if is_link:
        torn.symlink_to(other)
    else:
        os.mkfifo(torn)
    drain_all(folder)
    assert path.read_bytes() == whole
    assert other.read_text() == "somebody's"
    torn.unlink()
    drain_all(folder)
    assert torn.read_bytes() == b"torn"


def test_a_file_that_may_not_be_read_is_named_and_holds_up_nothing(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = arrivals(1), arrivals(2)
    path = write_file(folder, first)
    write_file(folder, second)
    plain_open = os.open

    def refuse(name: Path, *rest: int) -> int:  # whoever runs the tests may be root
        if name == path:
            raise PermissionError(errno.EACCES, "Permission denied")
        return plain_open(name, *rest)

    monkeypatch.setattr(os, "open", refuse)
    assert drain_all(folder) == second
    assert error_actions(caplog) == ["spool.not_drained"]
    monkeypatch.undo()
    assert drain_all(folder) == first


def test_only_one_of_two_drainers_drains(folder: Path) -> None:
    group = arrivals(3)
    write_file(folder, group)
    with process("drain", str(folder)) as other:
        assert line(other) == "writing"
        assert drain_all(folder) == []
        assert only_file(folder).exists()
        assert other.stdin is not None
        other.stdin.write("go on\n")
        other.stdin.flush()
        assert uuids(line(other) + "\n") == [record.id for record in group]
        assert other.wait(20) == 0
    assert not list(folder.glob("*.spool"))


def test_another_drainer_takes_over_from_a_dead_one(folder: Path) -> None:
    group = arrivals(3)
    write_file(folder, group)
    with process("drain", str(folder)) as other:
        assert line(other) == "writing"
        other.kill()
        other.wait()
    assert drain_all(folder) == group


@pytest.mark.slow
@pytest.mark.parametrize("seal", [(), ("--seal",)], ids=["one file", "many files"])
def test_draining_while_processes_append_loses_nothing(folder: Path, seal: tuple[str, ...]) -> None:
    Spool(folder)
    written: list[Arrival] = []
    add: Callable[[Sequence[Arrival]], None] = written.extend
    with process("append", str(folder), "30", *seal) as first, process("append", str(folder), "30", *seal) as second:
        while first.poll() is None or second.poll() is None:
            drain(folder, add, stop=never)
        assert first.stdout is not None
        assert second.stdout is not None
        promised = uuids(first.stdout.read()) + uuids(second.stdout.read())
    drain(folder, add, stop=never)
    assert len(promised) == 2 * 30 * 20
    assert sorted(record.id for record in written) == sorted(promised)
    assert not list(folder.glob("*.spool"))
    assert not list(folder.glob("*.torn"))


def test_draining_an_empty_folder_writes_nothing(folder: Path) -> None:
    Spool(folder)
    assert drain_all(folder) == []


def test_draining_without_a_folder_writes_nothing(folder: Path) -> None:
    assert drain_all(folder) == []


def test_a_folder_that_can_not_be_worked_in_is_named_once_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drainer, "_INTERVAL_SECONDS", 0.01)
    folder = tmp_path / "spool"
    spool = Spool(folder)
    spool.append(arrivals(1))
    (folder / drainer.LOCK_NAME).mkdir()  # where the lock's file should be

    class Writer:
        calls = 0

        def keep(self, _arrivals: object) -> None:
            self.calls += 1

    writer = Writer()
    running = drainer.Drainer(folder, spool, writer)  # type: ignore[arg-type]  # all that it uses
    with gevent.Timeout(10):
        while writer.calls < 3:
            gevent.sleep(0.01)
    running.close()
    said = [record for record in caplog.records if record.message == "spool.drain_failed"]
    assert [record.__dict__["fields"] for record in said] == [
        {"error": "SPOOL_DIR: Is a directory: see its rights and its disk"}
    ]
    spool.close()
