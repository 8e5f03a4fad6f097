"""What waits in the spool, of all processes on this host: how many callbacks, how large, how old. It only reads."""

import os
import threading
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from receiptsvc.spool import records, writer


@dataclass(frozen=True, kw_only=True, slots=True)
class SpoolState:
    """What a spool folder holds. While a file is drained, its records may be in the database already."""

    records: int  # callbacks that wait for the database
    bytes: int  # of the files they stand in
    oldest_at: datetime | None  # when the first record came of the file that begins earliest
    aside_files: int  # files that people must look at: torn, or refused by the database
    aside_bytes: int


@dataclass(frozen=True, slots=True)
class _Counted:
    """How far a file was counted, when it was `size` bytes long."""

    size: int = 0
    place: int = 0
    records: int = 0
    begun_at: datetime | None = None


class Backlog:
    """Counts a spool folder. It remembers how far it counted, so that another look costs only what is new."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._counted: dict[str, _Counted] = {}

    def look(self) -> SpoolState:
        """What the folder holds now; nothing if there is no such folder. Raises OSError if it can't be read."""
        with self._lock:
            files: dict[str, _Counted] = {}
            aside: list[int] = []
            waiting_bytes = 0
            for name, size in _sizes(self._folder):
                if name.endswith(writer.SUFFIX):
                    files[name] = self._count(name, size)
                    waiting_bytes += size
                elif name.endswith((writer.TORN_SUFFIX, writer.REFUSED_SUFFIX)):
                    aside.append(size)
            self._counted = files
        return SpoolState(
            records=sum(file.records for file in files.values()),
            bytes=waiting_bytes,
            oldest_at=min((file.begun_at for file in files.values() if file.begun_at), default=None),
            aside_files=len(aside),
            aside_bytes=sum(aside),
        )

    def _count(self, name: str, size: int) -> _Counted:
        counted = self._counted.get(name, _Counted())
        if size == counted.size:
            return counted
        if size < counted.place:  # its owner took back what it could not sync
            counted = _Counted()
        try:
            return _count_on(self._folder / name, replace(counted, size=size))
        except (OSError, records.OtherVersion):  # drained since, or unreadable: its bytes count, and it is tried again
            return counted


def _count_on(path: Path, counted: _Counted) -> _Counted:
    place, number, begun_at = counted.place, counted.records, counted.begun_at
    with path.open("rb") as file:
        for piece in records.read_pieces(file, counted.size, place):
            if piece.content is None:
                continue  # at the end it may be a record that is being written; the next look begins there again
            place, number = piece.end, number + 1
            begun_at = begun_at or _received_at(piece.content)
    return _Counted(counted.size, place, number, begun_at)


def _received_at(content: bytes) -> datetime | None:
    try:
        return records.decode(content).received_at
    except ValueError:
        return None


def _sizes(folder: Path) -> list[tuple[str, int]]:
    sizes = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    sizes.append((entry.name, entry.stat().st_size))
                except FileNotFoundError:  # drained since the folder was listed
                    continue
    except FileNotFoundError:
        return []
    return sizes
