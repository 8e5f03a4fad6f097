"""Counts what waits in the spool, of all processes on this host: callbacks, bytes and age. It only reads."""

import os
import stat
import threading
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.spool import records, writer


@dataclass(frozen=True, kw_only=True, slots=True)
class SpoolState:
    """What a spool folder holds. While a file is drained, its records may be in the database already."""

    records: int  # callbacks that wait for the database
    bytes: int  # of their files
    oldest_at: datetime | None  # the earliest arrival among the first records of the files
    aside_files: int  # that an operator must look at: torn, refused by the database, or no files


@dataclass(frozen=True, slots=True)
class _FileCount:
    """How far a file was counted (`offset`) when it was `size` bytes long."""

    size: int = 0
    offset: int = 0
    records: int = 0
    first_at: datetime | None = None


class Backlog:
    """Counts a spool folder. It remembers how far it counted, so that the next look reads only what is new."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._counts: dict[str, _FileCount] = {}

    def look(self) -> SpoolState:
        """What the folder holds now; nothing if there is no such folder. Raises StorageUnavailable."""
        try:
            return self._look()
        except OSError as error:
            raise StorageUnavailable(
                f"the spool can't be looked at ({error.strerror}): see the folder SPOOL_DIR and its rights",
                "SPOOL_DIR not readable",
            ) from error

    def _look(self) -> SpoolState:
        with self._lock:
            counts: dict[str, _FileCount] = {}
            waiting_bytes = aside_files = 0
            for name, size in _sizes(self._folder):
                if name.endswith(writer.SUFFIX) and size is not None:
                    counts[name] = self._count(name, size)
                    waiting_bytes += size
                elif name.endswith((writer.SUFFIX, writer.TORN_SUFFIX, writer.REFUSED_SUFFIX)):
                    aside_files += 1
            self._counts = counts
        return SpoolState(
            records=sum(count.records for count in counts.values()),
            bytes=waiting_bytes,
            oldest_at=min((count.first_at for count in counts.values() if count.first_at), default=None),
            aside_files=aside_files,
        )

    def _count(self, name: str, size: int) -> _FileCount:
        count = self._counts.get(name, _FileCount())
        if size == count.size:
            return count
        if size < count.offset:  # its owner cut off what it could not sync
            count = _FileCount()
        try:
            return _continue_count(self._folder / name, replace(count, size=size))
        except (OSError, records.OtherVersion):  # drained since, or unreadable: its bytes count, and it is tried again
            return count


def _continue_count(path: Path, count: _FileCount) -> _FileCount:
    offset, number, first_at = count.offset, count.records, count.first_at
    with os.fdopen(writer.open_file(path, os.O_RDONLY), "rb") as file:
        for piece in records.read_pieces(file, count.size, offset):
            if piece.content is None:
                continue  # at the end it may be a record that is being written; the next look begins there again
            offset, number = piece.end, number + 1
            first_at = first_at or _received_at(piece.content)
    return _FileCount(count.size, offset, number, first_at)


def _received_at(content: bytes) -> datetime | None:
    try:
        return records.decode(content).received_at
    except ValueError:
        return None


def _sizes(folder: Path) -> list[tuple[str, int | None]]:
    """The names in a folder with their sizes in bytes; None of what is no file."""
    sizes: list[tuple[str, int | None]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    found = entry.stat()
                except FileNotFoundError:  # drained since the folder was listed
                    continue
                except OSError:  # such as a link to itself
                    sizes.append((entry.name, None))
                else:
                    sizes.append((entry.name, found.st_size if stat.S_ISREG(found.st_mode) else None))
    except FileNotFoundError:
        return []
    return sizes
