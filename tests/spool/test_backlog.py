"""Counting what waits in the spool: the count is right in every process, at every moment."""

from pathlib import Path

import pytest

from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.spool.backlog import Backlog, SpoolState
from receiptsvc.spool.drainer import drain
from receiptsvc.spool.writer import Spool
from tests.spool import spooling
from tests.spool.spooling import arrivals, drain_all, line, only_file, process

EMPTY = SpoolState(records=0, bytes=0, oldest_at=None, aside_files=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def backlog(folder: Path) -> Backlog:
    return Backlog(folder)


def test_without_a_folder_nothing_waits(backlog: Backlog) -> None:
    assert backlog.look() == EMPTY


def test_each_look_adds_what_is_new(folder: Path, backlog: Backlog) -> None:
    spool = Spool(folder)
    first = arrivals(3)
    spool.append(first)
    assert backlog.look().records == 3
    spool.append(arrivals(4))
    spool.seal()
    spool.append(arrivals(5))
    state = backlog.look()
    assert state == SpoolState(
        records=12,
        bytes=sum(path.stat().st_size for path in folder.glob("*.spool")),
        oldest_at=first[0].received_at,
        aside_files=0,
    )
    assert state == backlog.look() == Backlog(folder).look()
    spool.close()
    assert len(drain_all(folder)) == 12
    assert backlog.look() == EMPTY


def test_the_files_of_all_processes_count(folder: Path, backlog: Backlog) -> None:
    Spool(folder).append(arrivals(3))
    with process("append", str(folder), "1") as other:
        assert line(other)
        assert backlog.look().records == 23


def test_a_record_that_is_being_written_counts_when_it_is_whole(folder: Path, backlog: Backlog) -> None:
    spool = Spool(folder)
    spool.append(arrivals(3))
    spool.close()
    path = only_file(folder)
    whole = path.read_bytes()
    counts = []
    for size in range(0, len(whole) + 1, 5):
        path.write_bytes(whole[:size])
        counts.append(backlog.look().records)
    path.write_bytes(whole)
    counts.append(backlog.look().records)
    assert counts == sorted(counts)
    assert set(counts) == {0, 1, 2, 3}


def test_a_file_that_has_not_grown_is_not_read_again(folder: Path, backlog: Backlog) -> None:
    spool = Spool(folder)
    spool.append(arrivals(3))
    spool.close()
    state = backlog.look()
    path = only_file(folder)
    path.write_bytes(bytes(path.stat().st_size))
    assert backlog.look() == state
    assert Backlog(folder).look().records == 0


def test_records_that_the_owner_cut_off_are_not_counted(folder: Path, backlog: Backlog) -> None:
    spool = Spool(folder)
    spool.append(arrivals(2))
    path = only_file(folder)
    durable_bytes = path.stat().st_size
    spool.append(arrivals(2))
    assert backlog.look().records == 4
    with path.open("r+b") as file:
        file.truncate(durable_bytes)
    assert backlog.look().records == 2
    spool.close()


def test_records_after_a_damaged_one_are_counted(folder: Path, backlog: Backlog) -> None:
    spool = Spool(folder)
    spool.append(arrivals(3))
    spool.close()
    path = only_file(folder)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert backlog.look().records == 2


def test_files_set_aside_are_counted_separately(folder: Path, backlog: Backlog) -> None:
    spool = Spool(folder)
    group = arrivals(3)
    spool.append(group)
    spool.close()
    path = only_file(folder)
    with path.open("ab") as file:
        file.write(b"torn")

    def refuse(_group: object) -> None:
        raise ValueError("not this one")

    assert drain(folder, refuse, stop=lambda: False) == 0
    state = backlog.look()
    assert (state.records, state.bytes, state.aside_files) == (0, 0, 2)


def test_only_the_bytes_of_a_file_of_another_version_are_counted(folder: Path, backlog: Backlog) -> None:
    spool = Spool(folder)
    spool.append(arrivals(3))
    spool.close()
    path = only_file(folder)
    data = bytearray(path.read_bytes())
    data[7] = 2
    path.write_bytes(data)
    state = backlog.look()
    assert (state.records, state.bytes) == (0, len(data))


def test_what_is_no_file_needs_a_person_and_the_others_are_counted(folder: Path, backlog: Backlog) -> None:
    spool = Spool(folder)
    spool.append(arrivals(3))
    size = only_file(folder).stat().st_size
    spooling.make_strange_files(folder, ".spool")
    state = backlog.look()
    assert (state.records, state.bytes, state.aside_files) == (3, size, 4)
    spool.close()


def test_a_folder_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file")
    with pytest.raises(StorageUnavailable, match=r"Not a directory.*: see the folder SPOOL_DIR") as caught:
        Backlog(tmp_path / "spool").look()
    assert caught.value.kind == "SPOOL_DIR not readable"
