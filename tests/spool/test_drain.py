"""Emptying the spool: nothing leaves it before it is in the database or set aside, whatever shape the files are in."""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

import pytest

from receiptsvc import logs
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.domain.inbox import Arrival
from receiptsvc.spool import records
from receiptsvc.spool.drain import drain
from receiptsvc.spool.writer import Spool
from receiptsvc.store.core.db import Database
from receiptsvc.store.health.verification import verify
from receiptsvc.store.inbox.pending import keep
from tests.spool import disks
from tests.spool.spooling import arrival, arrivals, drained, line, only_file, process, uuids

HEADER_BYTES = len(records.header(b"\0" * 8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def spooled(folder: Path, group: Sequence[Arrival]) -> Path:
    """A new, sealed file of these callbacks."""
    before = set(folder.glob("*.spool"))
    spool = Spool(folder)
    spool.append(group)
    spool.close()
    (path,) = set(folder.glob("*.spool")) - before
    return path


def spans(path: Path) -> list[range]:
    """Where each record of a sound file stands."""
    with path.open("rb") as file:
        return [range(piece.start, piece.end) for piece in records.read_pieces(file, path.stat().st_size)]


def actions(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.ERROR]


class Base:
    """A database that refuses what it is told to, and keeps the rest once."""

    def __init__(self, *, poison: Sequence[Arrival] = (), outage_at: int | None = None) -> None:
        self.poison = {one.id for one in poison}
        self.outage_at = outage_at
        self.kept: dict[UUID, Arrival] = {}
        self.group_sizes: list[int] = []

    def write(self, group: Sequence[Arrival]) -> None:
        self.group_sizes.append(len(group))
        if self.outage_at is not None and len(self.group_sizes) > self.outage_at:
            raise StorageUnavailable("out of order")
        if any(one.id in self.poison for one in group):
            raise ValueError("447700900123 is a value that no log may show")
        self.kept |= {one.id: one for one in group}


def never() -> bool:
    return False


def test_files_are_drained_in_the_order_they_were_begun(folder: Path) -> None:
    groups = [arrivals(4) for _ in range(5)]
    for group in groups:
        spooled(folder, group)
    assert drained(folder) == [one for group in groups for one in group]
    assert not list(folder.glob("*.spool"))


def test_groups_are_as_large_as_asked_for_and_within_bounds_of_memory(folder: Path) -> None:
    spooled(folder, arrivals(25))
    base = Base()
    assert drain(folder, base.write, group=10, stop=never) == 25
    assert base.group_sizes == [10, 10, 5]
    spooled(folder, arrivals(20, body=b"x" * 1_000_000))
    base = Base()
    assert drain(folder, base.write, group=500, stop=never) == 20
    assert base.group_sizes == [9, 9, 2]


def test_a_file_goes_only_when_its_last_record_was_taken(folder: Path) -> None:
    path = spooled(folder, arrivals(10))
    whole = path.read_bytes()

    def write(_group: Sequence[Arrival]) -> None:
        assert path.read_bytes() == whole

    assert drain(folder, write, group=3, stop=never) == 10
    assert not path.exists()


def test_an_outage_ends_draining_and_leaves_the_file(folder: Path) -> None:
    group = arrivals(10)
    path = spooled(folder, group)
    untouched = spooled(folder, arrivals(3))
    whole = path.read_bytes()
    base = Base(outage_at=2)
    assert drain(folder, base.write, group=3, stop=never) == 6
    assert len(base.group_sizes) == 3  # the other file was not even tried
    assert path.read_bytes() == whole
    assert untouched.exists()
    base.outage_at = None
    assert drain(folder, base.write, group=3, stop=never) == 13
    assert [base.kept[one.id] for one in group] == group
    assert not list(folder.glob("*.spool"))


def test_draining_stops_between_groups_when_it_is_told_to(folder: Path) -> None:
    path = spooled(folder, arrivals(10))
    base = Base()
    assert drain(folder, base.write, group=3, stop=lambda: len(base.group_sizes) == 2) == 6
    assert path.exists()


def test_draining_twice_keeps_nothing_twice(folder: Path, database: Database) -> None:
    group = arrivals(7)
    path = spooled(folder, group)
    again = path.read_bytes()
    new: list[int] = []

    def write(group: Sequence[Arrival]) -> None:
        with database.transaction() as session:
            new.append(keep(session, group))

    assert drain(folder, write, stop=never) == 7
    path.write_bytes(again)
    assert drain(folder, write, stop=never) == 7
    assert new == [7, 0]
    assert list(verify(database)) == []


def test_a_file_cut_off_at_any_byte_gives_all_its_whole_records(folder: Path) -> None:
    group = arrivals(2)
    path = spooled(folder, group)
    torn = path.with_suffix(".torn")
    whole, places = path.read_bytes(), spans(path)
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        sound = [one for one, place in zip(group, places, strict=True) if place.stop <= size]
        assert drained(folder) == sound, size
        end_of_sound = places[len(sound) - 1].stop if sound else HEADER_BYTES if size >= HEADER_BYTES else 0
        rest = whole[end_of_sound:size]
        assert (torn.read_bytes() if torn.exists() else b"") == rest, size
        assert not path.exists()
        torn.unlink(missing_ok=True)


@pytest.mark.parametrize("tail", [b"\0" * 5000, os.urandom(5000)], ids=["zeros", "noise"])
def test_a_tail_that_was_never_written_is_set_aside(
    folder: Path, tail: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    group = arrivals(3)
    path = spooled(folder, group)
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(tail)
    assert drained(folder) == group
    assert path.with_suffix(".torn").read_bytes() == tail
    assert actions(caplog) == ["spool.torn"]
    assert caplog.records[0].__dict__["fields"] == {"file": path.name, "offset": size, "bytes": 5000}


def test_a_flipped_bit_anywhere_costs_at_most_the_record_it_is_in(folder: Path) -> None:
    group = arrivals(3)
    path = spooled(folder, group)
    torn = path.with_suffix(".torn")
    whole, places = path.read_bytes(), spans(path)
    for offset in range(len(whole)):
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << offset % 8
        path.write_bytes(damaged)
        taken = drained(folder)
        if offset >= HEADER_BYTES:
            (hit,) = [place for place in places if offset in place]
            assert taken == [one for one, place in zip(group, places, strict=True) if place is not hit], offset
            assert torn.read_bytes() == damaged[hit.start : hit.stop], offset
        elif offset == 7:  # a file of another version is not ours to touch
            assert taken == []
            assert path.read_bytes() == damaged
        else:
            assert taken == []
            assert torn.read_bytes() == (damaged if offset < 7 else damaged[HEADER_BYTES:]), offset
        assert path.exists() == (offset == 7)
        torn.unlink(missing_ok=True)


def test_a_file_of_another_version_is_left_alone_and_told_of(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = spooled(folder, arrivals(1))
    later = arrivals(2)
    spooled(folder, later)
    newer = bytearray(path.read_bytes())
    newer[7] = 2
    path.write_bytes(newer)
    assert drained(folder) == later
    assert path.read_bytes() == newer
    assert actions(caplog) == ["spool.not_drained"]


def test_a_record_hidden_in_a_body_is_never_taken_for_one(folder: Path, tmp_path: Path) -> None:
    forged = spooled(tmp_path / "forged", arrivals(2)).read_bytes()
    before, after = arrival(), arrival()
    path = spooled(folder, [before, arrival(body=forged * 3), after])
    place = spans(path)[1]
    damaged = bytearray(path.read_bytes())
    damaged[place.start + 20] ^= 1
    path.write_bytes(damaged)
    assert drained(folder) == [before, after]
    assert path.with_suffix(".torn").read_bytes() == damaged[place.start : place.stop]


def test_records_that_the_database_refuses_alone_are_set_aside_alone(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    group = arrivals(10)
    poison = [group[2], group[7]]
    path = spooled(folder, group)
    base = Base(poison=poison)
    assert drain(folder, base.write, group=5, stop=never) == 8
    assert list(base.kept.values()) == [one for one in group if one not in poison]
    assert not path.exists()
    assert actions(caplog) == ["spool.refused", "spool.refused"]
    shown = "".join(logs.JsonFormatter("test").format(record) for record in caplog.records)
    assert "447700900123" not in shown
    assert str(poison[0].id) in shown


def test_what_was_refused_can_be_offered_again_by_renaming_its_file(folder: Path) -> None:
    group = arrivals(5)
    path = spooled(folder, group)
    drain(folder, Base(poison=group[1:3]).write, stop=never)
    refused = path.with_suffix(".refused")
    refused.rename(path)
    assert drained(folder) == group[1:3]
    assert list(folder.glob("*.refused")) == []


def test_an_outage_while_records_are_tried_alone_refuses_none(folder: Path) -> None:
    group = arrivals(4)
    path = spooled(folder, group)
    base = Base(poison=[group[0]], outage_at=2)
    assert drain(folder, base.write, stop=never) == 0
    assert path.exists()
    base.outage_at = None
    assert drain(folder, base.write, stop=never) == 3
    refused = path.with_suffix(".refused")
    refused.rename(path)
    assert drained(folder) == [group[0]]


def test_an_interrupted_drain_sets_a_torn_record_aside_once(folder: Path) -> None:
    group = arrivals(4)
    path = spooled(folder, group)
    with path.open("ab") as file:
        file.write(b"torn")
    drain(folder, Base(outage_at=0).write, stop=never)
    drain(folder, Base(outage_at=1).write, group=3, stop=never)
    assert drained(folder) == group
    assert path.with_suffix(".torn").read_bytes() == b"torn"


def test_what_cannot_be_set_aside_stays_where_it_is(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    group, later = arrivals(3), arrivals(2)
    path = spooled(folder, group)
    with path.open("ab") as file:
        file.write(b"torn")
    spooled(folder, later)
    whole = path.read_bytes()
    base = Base(poison=group[:1])
    with disks.files_no_larger_than(0):
        assert drain(folder, base.write, stop=never) == 4
    assert only_file(folder).read_bytes() == whole
    assert actions(caplog) == ["spool.torn", "spool.refused", "spool.not_drained"]
    assert all(one.id in base.kept for one in later)  # nor does it hold up what comes after it
    assert drain(folder, base.write, stop=never) == 2
    assert not path.exists()
    assert path.with_suffix(".torn").read_bytes() == b"torn"
    path.with_suffix(".refused").rename(path)
    assert drained(folder) == group[:1]


@pytest.mark.parametrize("content", [b"", b"rcspo", b"something else entirely"], ids=["empty", "cut", "foreign"])
def test_a_file_without_a_header_is_never_silently_removed(folder: Path, content: bytes) -> None:
    Spool(folder)
    path = folder / "0.spool"
    path.write_bytes(content)
    assert drained(folder) == []
    assert not path.exists()
    torn = path.with_suffix(".torn")
    assert (torn.read_bytes() if torn.exists() else b"") == content


def test_a_living_owners_file_is_left_alone_and_a_dead_ones_adopted(folder: Path) -> None:
    living = Spool(folder)
    mine = arrivals(2)
    living.append(mine)
    with process("append", str(folder), "1000000") as appender:
        theirs = uuids(line(appender) + "\n")
        assert len(list(folder.glob("*.spool"))) == 2
        assert drained(folder) == []
        appender.kill()
        appender.wait()
        assert [one.id for one in drained(folder)][:20] == theirs
    living.append(mine)
    assert drained(folder) == []
    living.seal()
    assert drained(folder) == mine + mine
    living.close()


def test_of_two_drainers_one_drains(folder: Path) -> None:
    group = arrivals(3)
    spooled(folder, group)
    with process("drain", str(folder)) as other:
        assert line(other) == "writing"
        assert drained(folder) == []
        assert only_file(folder).exists()
        assert other.stdin is not None
        other.stdin.write("go on\n")
        other.stdin.flush()
        assert uuids(line(other) + "\n") == [one.id for one in group]
        assert other.wait(20) == 0
    assert not list(folder.glob("*.spool"))


def test_a_dead_drainer_is_followed_by_the_next(folder: Path) -> None:
    group = arrivals(3)
    spooled(folder, group)
    with process("drain", str(folder)) as other:
        assert line(other) == "writing"
        other.kill()
        other.wait()
    assert drained(folder) == group


@pytest.mark.slow
@pytest.mark.parametrize("seal", [(), ("--seal",)], ids=["one file", "many files"])
def test_draining_while_others_append_loses_nothing(folder: Path, seal: tuple[str, ...]) -> None:
    Spool(folder)
    taken: list[Arrival] = []
    add: Callable[[Sequence[Arrival]], None] = taken.extend
    with process("append", str(folder), "30", *seal) as first, process("append", str(folder), "30", *seal) as second:
        while first.poll() is None or second.poll() is None:
            drain(folder, add, stop=never)
        assert first.stdout is not None
        assert second.stdout is not None
        promised = uuids(first.stdout.read()) + uuids(second.stdout.read())
    drain(folder, add, stop=never)
    assert len(promised) == 2 * 30 * 20
    assert sorted(one.id for one in taken) == sorted(promised)
    assert not list(folder.glob("*.spool"))
    assert not list(folder.glob("*.torn"))


def test_an_empty_folder_is_drained_at_once(folder: Path) -> None:
    Spool(folder)
    assert drained(folder) == []


def test_where_there_is_no_folder_there_is_nothing_to_drain(folder: Path) -> None:
    assert drained(folder) == []
