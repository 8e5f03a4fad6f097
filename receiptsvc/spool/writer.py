"""The spool: files in which a process keeps callbacks that the database can't take. Appending to them and owning them.

A process writes to one file, which it keeps locked for as long as it may write to it; no other process ever appends to
that file. `records` owns the bytes of a file, `drainer` empties files, `backlog` counts what waits. Nothing here uses
the event loop: every call may block, and belongs on a native thread.
"""

import errno
import fcntl
import os
import secrets
import stat
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from receiptsvc import ids, logs
from receiptsvc.domain.errors import SettingsError, StorageUnavailable
from receiptsvc.domain.inbox import Arrival
from receiptsvc.spool import records

SUFFIX = ".spool"  # callbacks that wait for the database
TORN_SUFFIX = ".torn"  # bytes that are no readable record
REFUSED_SUFFIX = ".refused"  # a spool file of records that the database refused even alone

_TRIAL_BYTES = 4096  # a block of most disks: a few bytes may fit where no callback does
_MAX_FILE_BYTES = 16 * 1024 * 1024  # so that the callbacks of a long outage leave the disk file by file


@dataclass(eq=False, slots=True)
class _OpenFile:
    path: Path
    descriptor: int
    marker: bytes
    durable_bytes: int = 0


class Spool:
    """Appends one process's callbacks to the spool. It must be made after a fork: a forked child shares its lock.

    `fsync` and `max_file_bytes` are there for tests.
    """

    def __init__(
        self,
        folder: Path,
        *,
        fsync: Callable[[int], None] = os.fsync,
        max_file_bytes: int = _MAX_FILE_BYTES,
    ) -> None:
        """Make the folder and try it. Raises SettingsError if no file there can be made, written, synced and locked."""
        self._folder = folder
        self._fsync = fsync
        self._max_file_bytes = max_file_bytes
        self._lock = threading.Lock()
        self._file: _OpenFile | None = None
        self._is_closed = False
        try:
            self._try_folder()
        except OSError as error:
            raise SettingsError(
                [
                    "SPOOL_DIR: must be a folder in which files can be written, synced and locked, and "
                    f"{folder} is not ({error.strerror}): see its rights and its disk"
                ]
            ) from error

    def append(self, arrivals: Sequence[Arrival]) -> None:
        """Keep `arrivals` (not empty), and return when all of them are on the disk. Raises StorageUnavailable.

        After an error nothing new is in the file, as far as the disk still works, and the file is never written again:
        a system that failed to sync a page may report success the next time.
        """
        with self._lock:
            if self._is_closed:
                raise StorageUnavailable("the spool is closed")
            try:
                file = self._file or self._create_file()
                self._write(file, arrivals)
            except OSError as error:
                self._abandon_file()
                raise _unwritable(error) from error
            if file.durable_bytes >= self._max_file_bytes:
                self._release()

    def try_appending(self) -> None:
        """Write and sync as much as a callback takes, and leave nothing. Raises StorageUnavailable."""
        if self._is_closed:
            raise StorageUnavailable("the spool is closed")
        try:
            self._try_folder()
        except OSError as error:
            raise _unwritable(error) from error

    def seal(self) -> None:
        """Write no more to the current file, so that it can be drained. The next append makes a new one."""
        with self._lock:
            self._release()

    def close(self) -> None:
        """Seal the current file, and refuse every later append."""
        with self._lock:
            self._is_closed = True
            self._release()

    def _try_folder(self) -> None:
        missing = [folder for folder in (self._folder, *self._folder.parents) if not folder.exists()]
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in missing:
            sync_folder(folder.parent, self._fsync)
        with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".probe-") as probe:
            unwritten = memoryview(bytes(_TRIAL_BYTES))
            while unwritten:
                unwritten = unwritten[os.write(probe.fileno(), unwritten) :]
            self._fsync(probe.fileno())
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        sync_folder(self._folder, self._fsync)

    def _create_file(self) -> _OpenFile:
        """Make and lock a new file. Names sort by the time they were made."""
        while True:
            path = self._folder / f"{ids.to_text(ids.new())}{SUFFIX}"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            self._file = _OpenFile(path, descriptor, secrets.token_bytes(records.MARKER_BYTES))
            if try_lock(descriptor):
                return self._file
            self._release()  # a drainer locked it first, and removes it because it is empty

    def _write(self, file: _OpenFile, arrivals: Sequence[Arrival]) -> None:
        is_new = file.durable_bytes == 0
        unwritten = memoryview(
            (records.header(file.marker) if is_new else b"")
            + b"".join(records.encode(file.marker, arrival) for arrival in arrivals)
        )
        while unwritten:
            unwritten = unwritten[os.write(file.descriptor, unwritten) :]
        self._fsync(file.descriptor)
        if is_new:
            sync_folder(self._folder, self._fsync)
        status = os.fstat(file.descriptor)
        if not os.path.samestat(status, file.path.stat()):  # removed or moved: it would never be drained
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        file.durable_bytes = status.st_size

    def _abandon_file(self) -> None:
        """Cut the current file back to its durable bytes, and never write to it again."""
        if self._file is None:
            return
        with suppress(OSError):
            if self._file.durable_bytes:
                logs.error("spool.file_given_up", file=self._file.path.name, bytes=self._file.durable_bytes)
                os.ftruncate(self._file.descriptor, self._file.durable_bytes)
            else:
                self._file.path.unlink()
        self._release()

    def _release(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # everything that was promised is on the disk already
                os.close(file.descriptor)


def _unwritable(error: OSError) -> StorageUnavailable:
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = "make room on its disk" if is_full else "see its rights and its disk"
    kind = "SPOOL_DIR full" if is_full else "SPOOL_DIR not writable"
    return StorageUnavailable(f"SPOOL_DIR: the spool could not be written ({error.strerror}): {remedy}", kind)


def open_file(path: Path, flags: int) -> int:
    """A descriptor of a file in the folder. Raises OSError, also for what is no file: a folder, a pipe. Never waits."""
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o600)  # a pipe's other end may never come
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "Not a regular file")
    return descriptor


def try_lock(descriptor: int) -> bool:
    """Lock an open file for as long as it stays open. Returns False if another process has locked or removed it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(descriptor).st_nlink > 0


def sync_folder(folder: Path, fsync: Callable[[int], None] = os.fsync) -> None:
    """Make a folder's list of files durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fsync(descriptor)
    finally:
        os.close(descriptor)
