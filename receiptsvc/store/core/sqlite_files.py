"""Whether SQLite's files still stand where its connections opened them.

SQLite goes on writing to files that were removed or replaced under it and reports success; all of that is gone when
the last connection closes. Don't open these files here, only look at their names: closing any descriptor of a file
drops the locks (POSIX) that SQLite holds on it in this process.
"""

import threading
from functools import cache
from pathlib import Path

from receiptsvc.domain.errors import StorageUnavailable

_Identity = tuple[int, int]  # device and inode


class SqliteFiles:
    """The files that all connections of this process to one database share: the database itself, its -wal and its -shm.

    They are known from the first connection to the last one's end. As long as one is open, no inode of theirs can be
    given to another file, and SQLite itself removes none of them.
    """

    def __init__(self, path: str) -> None:
        self._paths = tuple(Path(f"{path}{suffix}") for suffix in ("", "-wal", "-shm"))
        self._known: tuple[_Identity | None, ...] | None = None
        self._connections = 0
        self.are_lost = False  # at the last check
        self._lock = threading.Lock()

    def opened(self) -> None:
        """Note that a connection was opened and is in WAL mode, which makes all three files."""
        with self._lock:
            self._connections += 1
            if self._known is None:
                self._known = tuple(map(_identity, self._paths))

    def closed(self) -> None:
        """Note that a connection was closed. After the last one SQLite may remove -wal and -shm, as it should."""
        with self._lock:
            self._connections -= 1
            if self._connections == 0:
                self._known = None

    def check(self) -> None:
        """Raise StorageUnavailable if a file is not the one that was opened. One that comes back is fine again."""
        known = self._known
        self.are_lost = known is not None and any(
            identity is None or identity != _identity(path) for identity, path in zip(known, self._paths, strict=True)
        )
        if self.are_lost:
            raise StorageUnavailable(
                "the SQLite file, its -wal or its -shm was removed or replaced while this process had it open: "
                "put the same files back, or stop every process before another file takes their place"
            )


@cache
def files_of(path: str) -> SqliteFiles:
    """Those of the database at this path. One for a process: a new connection must not open what others have lost."""
    return SqliteFiles(path)


def uri(path: str) -> str:
    """How SQLite is told to open a file that must be there already: it would make an empty one in silence."""
    return f"{Path(path).absolute().as_uri()}?mode=rw"


def _identity(path: Path) -> _Identity | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
