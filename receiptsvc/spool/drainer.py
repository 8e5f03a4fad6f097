"""Empties the spool: writes what waits to the database once it takes callbacks again, and removes the files.

One process of a host drains at a time. Nothing leaves the folder before it is in the database, or set aside for an
operator in a file of its own. The same record may be written twice, after any crash, so the database must keep it once.
`drain` is blocking and knows no event loop; `Drainer` runs it on a native thread.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Self

import gevent
from gevent.event import Event

from receiptsvc import logs
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.domain.inbox import Arrival
from receiptsvc.server.threads import NativeThreads
from receiptsvc.spool import records, writer
from receiptsvc.store.inbox.writer import InboxWriter

Write = Callable[[Sequence[Arrival]], None]

LOCK_NAME = "drainer.lock"

_INTERVAL_SECONDS = 1.0
_LONG_INTERVAL_SECONDS = 15.0  # after a pass that moved nothing: the files can't be moved, or another process drains
_MAX_GROUP_BYTES = 8 * 1024 * 1024  # of records held in memory at once, besides their number


class Drainer:
    """Drains a spool folder every second, with an inbox writer of its own: no new callback waits for a spooled one."""

    def __init__(
        self, folder: Path, spool: writer.Spool, inbox_writer: InboxWriter, on_commit: Callable[[], None] = lambda: None
    ) -> None:
        """`on_commit` is called, on a native thread, when callbacks have been written to the database."""
        self._folder, self._spool, self._inbox_writer, self._on_commit = folder, spool, inbox_writer, on_commit
        self._thread = NativeThreads(1)
        self._closing = Event()
        with suppress(OSError):  # made now: when there is something to drain, the disk may take no more files
            os.close(writer.open_file(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT))
        gevent.spawn(self._run)

    def close(self) -> None:
        """Stop after the group that is being written; the next process drains the rest."""
        self._closing.set()

    def _run(self) -> None:
        pause = _INTERVAL_SECONDS
        while not self._closing.wait(pause):
            pause = _INTERVAL_SECONDS
            try:
                if not self._thread.run(self._drain):
                    pause = _LONG_INTERVAL_SECONDS
            except StorageUnavailable:
                continue  # `GroupCommit` logs the outage
            except OSError as error:
                logs.fault("spool.drain_failed", f"SPOOL_DIR: {error.strerror}: see its rights and its disk")
            except Exception as error:  # noqa: BLE001 - the next pass is a second away
                logs.error("spool.drain_failed", error)

    def _drain(self) -> bool:
        """On the thread: drain once. Returns False if files wait and none of their records could be moved."""
        if not any(self._folder.glob(f"*{writer.SUFFIX}")):
            return True
        self._inbox_writer.keep([])  # raises StorageUnavailable while the database is away
        self._spool.seal()
        written = drain(self._folder, self._inbox_writer.keep, stop=self._closing.is_set)
        if written:
            self._on_commit()
        return written > 0


def drain(folder: Path, write: Write, *, group_size: int = 500, stop: Callable[[], bool]) -> int:
    """Write the records of every file without an owner, the oldest file first. Returns how many were written.

    `write` must keep a group, and keep it once if it gets it again. If it raises StorageUnavailable, draining ends and
    the rest waits, so it must raise that for every fault that is not a record's own. A record for which it raises
    another error, even alone, is set aside. `stop` is called between groups. Returns 0 at once if another process of
    this host is draining, and leaves files that their owners still write to. Raises OSError if the lock can't be made
    or the folder can't be read.
    """
    written = 0

    def write_and_count(arrivals: Sequence[Arrival]) -> None:
        nonlocal written
        write(arrivals)
        written += len(arrivals)

    with _locked(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT) as lock:
        if lock is None:
            return 0
        for path in sorted(folder.glob(f"*{writer.SUFFIX}")):
            try:
                if not _drain_file(path, write_and_count, group_size, stop):
                    break
            except StorageUnavailable as error:
                logs.fault("spool.drain_stopped", error, file=path.name)
                break
            except OSError as error:
                _log_not_drained(path, f"{error.strerror}: see its rights and its disk")
            except records.OtherVersion as error:
                _log_not_drained(path, str(error))
    return written


def _log_not_drained(path: Path, cause: str) -> None:
    """Name a file that stays: at each pass it is tried again."""
    logs.fault("spool.not_drained", cause, kind=f"{path.name}: {cause}", level=logging.ERROR, file=path.name)


def _drain_file(path: Path, write: Write, group_size: int, stop: Callable[[], bool]) -> bool:
    """Empty a file and remove it, unless its owner still has it. Returns False if draining was stopped first."""
    with ExitStack() as open_files:
        file = open_files.enter_context(_locked(path, os.O_RDWR))
        if file is None:
            return True
        torn = open_files.enter_context(_SetAsideFile(path.with_suffix(writer.TORN_SUFFIX)))
        refused = open_files.enter_context(_SetAsideFile(path.with_suffix(writer.REFUSED_SUFFIX)))
        written = 0
        for arrivals in _read_groups(path, file, group_size, torn):
            if stop():
                return False
            written += _write_group(arrivals, write, refused)
        torn.sync()
        refused.sync()
        path.unlink()
        writer.sync_folder(path.parent)
    logs.info("spool.drained", file=path.name, records=written)
    return True


def _read_groups(path: Path, file: BinaryIO, group_size: int, torn: "_SetAsideFile") -> Iterator[list[Arrival]]:
    """The file's records in their order; bytes that can't be read go to `torn`."""
    group: list[Arrival] = []
    group_bytes = 0
    for piece in records.read_pieces(file, os.fstat(file.fileno()).st_size):
        arrival = _decode(piece)
        if arrival is None:
            logs.error("spool.torn", file=path.name, offset=piece.start, bytes=piece.end - piece.start)
            file.seek(piece.start)
            torn.add(file.read(piece.end - piece.start))
            continue
        group.append(arrival)
        group_bytes += piece.end - piece.start
        if len(group) >= group_size or group_bytes >= _MAX_GROUP_BYTES:
            yield group
            group, group_bytes = [], 0
    if group:
        yield group


def _decode(piece: records.Piece) -> Arrival | None:
    try:
        return None if piece.content is None else records.decode(piece.content)
    except ValueError:
        return None


def _write_group(arrivals: Sequence[Arrival], write: Write, refused: "_SetAsideFile") -> int:
    """Write a group, or each record alone if the group fails. Returns how many were written."""
    try:
        write(arrivals)
    except StorageUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - one record that the database refuses must not hold up the others
        if len(arrivals) > 1:
            return sum(_write_group([arrival], write, refused) for arrival in arrivals)
        logs.error("spool.refused", error, callback=str(arrivals[0].id), aside=refused.path.name)
        refused.add_record(arrivals[0])
        return 0
    return len(arrivals)


@contextmanager
def _locked(path: Path, flags: int) -> Iterator[BinaryIO | None]:
    """The file, open and locked; None if another process has locked it or it is gone."""
    try:
        descriptor = writer.open_file(path, flags)
    except FileNotFoundError:
        yield None
        return
    with os.fdopen(descriptor, "rb") as file:
        yield file if writer.try_lock(descriptor) else None


class _SetAsideFile:
    """A file beside a spool file for what can't be written to the database. It is made when the first of it comes.

    It replaces what an earlier, unfinished drain set aside: the spool file still holds all of that.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        self._marker = os.urandom(records.MARKER_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, data: bytes) -> None:
        """Set bytes aside as they are. Raises OSError."""
        if self._file is None:
            descriptor = writer.open_file(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW)
            self._file = os.fdopen(descriptor, "wb")
        self._file.write(data)

    def add_record(self, arrival: Arrival) -> None:
        """Set a record aside in the form of a spool file: renamed, this file can be drained. Raises OSError."""
        header = records.header(self._marker) if self._file is None else b""
        self.add(header + records.encode(self._marker, arrival))

    def sync(self) -> None:
        """Make durable what was set aside. Raises OSError."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            writer.sync_folder(self.path.parent)
