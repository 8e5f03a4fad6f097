"""Checks whether SQLite's files are still those that its connections opened.

SQLite continues to write to files that were removed or replaced, and reports success; all of that is lost when the last
connection closes. Never open these files here, only stat their paths: closing any descriptor of a file drops the locks
(POSIX) that SQLite holds on it in this process.
"""

import sqlite3
import threading
import time
from functools import cache
from pathlib import Path

from receiptsvc.domain.errors import StorageUnavailable

_Identity = tuple[int, int]  # device and inode
_PATIENCE_SECONDS = 1.0


class SqliteFiles:
    """The files that all connections of this process to one database share: the database itself, its -wal and its -shm.

    Their identities are held from the first connection to the end of the last one. While one is open, no inode of
    theirs can be reused by another file, and SQLite itself removes none of them.
    """

    def __init__(self, path: str) -> None:
        self._paths = tuple(Path(f"{path}{suffix}") for suffix in ("", "-wal", "-shm"))
        self._opened: tuple[_Identity | None, ...] | None = None
        self._connections = 0
        self.are_lost = False  # by the last check
        self._lock = threading.Lock()

    def opened(self) -> None:
        """Note that a connection was opened and has been prepared, which makes all three files."""
        with self._lock:
            self._connections += 1
            if self._opened is None:
                self._opened = tuple(map(_identity, self._paths))

    def closed(self) -> None:
        """Note that a connection was closed. After the last one SQLite may remove -wal and -shm, as it should."""
        with self._lock:
            self._connections -= 1
            if self._connections == 0:
                self._opened = None

    def check(self) -> None:
        """Raise StorageUnavailable if a file is not the one that was opened. If it comes back, all is well again."""
        opened = self._opened
        self.are_lost = opened is not None and any(
            identity is None or identity != _identity(path) for identity, path in zip(opened, self._paths, strict=True)
        )
        if self.are_lost:
            raise StorageUnavailable(
                "the SQLite file, its -wal or its -shm was removed or replaced while this process had it open: "
                "put the same files back, or stop every process before another file takes their place"
            )


@cache
def files_of(path: str) -> SqliteFiles:
    """The files of the database at this path, one object a process: a new connection must not open replaced files."""
    return SqliteFiles(path)


def uri(path: str) -> str:
    """A URI with which SQLite opens only a file that exists: otherwise it would silently make an empty one."""
    return f"{Path(path).absolute().as_uri()}?mode=rw"


def prepare(connection: sqlite3.Connection) -> None:
    """Set a new connection, whose own BEGINs are off, to commits that are durable; its -wal and -shm are open then.

    Raises sqlite3.OperationalError if the file can't be read, or if another process has it for itself.
    """
    _use_wal(connection)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _use_wal(connection: sqlite3.Connection) -> None:
    # SQLite does not wait for a file that another process is changing to WAL mode at this moment: a new database, which
    # `migrate` makes while others look for it.
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            # The connection that has changed the mode opens -wal and -shm when it reads first, all others at once.
            connection.execute("SELECT 1 FROM sqlite_schema").fetchall()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _identity(path: Path) -> _Identity | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
