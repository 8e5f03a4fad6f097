"""Emptying the spool: one elected process on a host hands what waits to the database, and removes files that are done.

How the database is written is the caller's. Nothing leaves the folder before it is in the database, or set aside for
people in a file of its own; handing over a record twice must do no harm, because it happens after every crash.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Self

from receiptsvc import logs
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.domain.inbox import Arrival
from receiptsvc.spool import records, writer

Write = Callable[[Sequence[Arrival]], None]

LOCK_NAME = "drainer.lock"

_GROUP_BYTES = 8 * 1024 * 1024  # of records held in memory at once, besides their number


def drain(folder: Path, write: Write, *, group: int = 500, stop: Callable[[], bool]) -> int:
    """Hand the records of every file that nobody writes to over to `write`, oldest file first; how many it took.

    `write` keeps a group and may be given one again. If it raises StorageUnavailable, draining ends and the rest waits;
    so it must for whatever is not a record's own fault, since a record that makes it raise anything else on its own is
    set aside. `stop` is asked between groups. Returns 0 at once if another process on this host is draining, and leaves
    files that their owners still write to. Raises OSError if the lock can't be made or the folder not be read.
    """
    taken = 0

    def write_and_count(arrivals: Sequence[Arrival]) -> None:
        nonlocal taken
        write(arrivals)
        taken += len(arrivals)

    with _locked(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT) as lock:
        if lock is None:
            return 0
        for path in sorted(folder.glob(f"*{writer.SUFFIX}")):
            try:
                if not _drain_file(path, write_and_count, group, stop):
                    break
            except StorageUnavailable as error:
                logs.warning("spool.drain_stopped", file=path.name, error=logs.describe(error))
                break
            except (OSError, records.OtherVersion) as error:
                logs.error("spool.not_drained", error, file=path.name)
    return taken


def _drain_file(path: Path, write: Write, group: int, stop: Callable[[], bool]) -> bool:
    """Empty a file and remove it, unless its owner has it; False if draining was stopped first."""
    with ExitStack() as open_files:
        file = open_files.enter_context(_locked(path, os.O_RDWR))
        if file is None:
            return True
        torn = open_files.enter_context(_Aside(path.with_suffix(writer.TORN_SUFFIX)))
        refused = open_files.enter_context(_Aside(path.with_suffix(writer.REFUSED_SUFFIX)))
        written = 0
        for arrivals in _groups(path, file, group, torn):
            if stop():
                return False
            written += _write(arrivals, write, refused)
        torn.sync()
        refused.sync()
        path.unlink()
        writer.sync_folder(path.parent)
    logs.info("spool.drained", file=path.name, records=written)
    return True


def _groups(path: Path, file: BinaryIO, group: int, torn: "_Aside") -> Iterator[list[Arrival]]:
    """The file's records in their order; what can't be read goes to `torn`."""
    waiting: list[Arrival] = []
    waiting_bytes = 0
    for piece in records.read_pieces(file, os.fstat(file.fileno()).st_size):
        arrival = _arrival(piece)
        if arrival is None:
            logs.error("spool.torn", file=path.name, offset=piece.start, bytes=piece.end - piece.start)
            file.seek(piece.start)
            torn.add(file.read(piece.end - piece.start))
            continue
        waiting.append(arrival)
        waiting_bytes += piece.end - piece.start
        if len(waiting) >= group or waiting_bytes >= _GROUP_BYTES:
            yield waiting
            waiting, waiting_bytes = [], 0
    if waiting:
        yield waiting


def _arrival(piece: records.Piece) -> Arrival | None:
    try:
        return None if piece.content is None else records.decode(piece.content)
    except ValueError:
        return None


def _write(arrivals: Sequence[Arrival], write: Write, refused: "_Aside") -> int:
    """Write a group, or if that fails each of it alone; how many were taken."""
    try:
        write(arrivals)
    except StorageUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - one record that the database refuses must not hold up the others
        if len(arrivals) > 1:
            return sum(_write([arrival], write, refused) for arrival in arrivals)
        logs.error("spool.refused", error, callback=str(arrivals[0].id), aside=refused.path.name)
        refused.add_record(arrivals[0])
        return 0
    return len(arrivals)


@contextmanager
def _locked(path: Path, flags: int) -> Iterator[BinaryIO | None]:
    """The file, open and ours alone; None if somebody else has it or it is gone."""
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileNotFoundError:
        yield None
        return
    with os.fdopen(descriptor, "rb") as file:
        yield file if writer.owns(descriptor) else None


class _Aside:
    """A file beside a spool file for what can't be handed over. It is made when the first of it comes.

    What an earlier, unfinished try set aside is written anew: the spool file still holds all of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        self._mark = os.urandom(records.MARK_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, data: bytes) -> None:
        """Set bytes aside as they are. Raises OSError."""
        if self._file is None:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            self._file = os.fdopen(descriptor, "wb")
        self._file.write(data)

    def add_record(self, arrival: Arrival) -> None:
        """Set a record aside such that the file, renamed, is a spool file again. Raises OSError."""
        head = records.header(self._mark) if self._file is None else b""
        self.add(head + records.encode(self._mark, arrival))

    def sync(self) -> None:
        """Make durable what was set aside. Raises OSError."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            writer.sync_folder(self.path.parent)
