"""The spool: files in which a process keeps callbacks that the database can't take. Appending, and whose a file is.

A process writes to one file, which it holds locked for as long as it may write to it; nobody else ever appends to that
file. What stands in a file is `records`' business, emptying files is `drain`'s, counting what waits `backlog`'s.
Nothing here knows of an event loop: every call may block, and belongs on a native thread.
"""

import errno
import fcntl
import os
import secrets
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
TORN_SUFFIX = ".torn"  # bytes in which no record could be read
REFUSED_SUFFIX = ".refused"  # whole records, in a spool file's form, that the database would not take even alone

_TRIAL_BYTES = 4096  # a block of most disks: a file of a few bytes may find room where no callback does
_LARGEST_FILE_BYTES = 16 * 1024 * 1024  # so that a long outage's callbacks leave the disk bit by bit


@dataclass(eq=False, slots=True)
class _OpenFile:
    path: Path
    descriptor: int
    mark: bytes
    durable_bytes: int = 0


class Spool:
    """One process's way into the spool folder. To be made after a fork: a lock is shared with a forked child.

    `fsync` and `largest_file_bytes` are there for tests.
    """

    def __init__(
        self,
        folder: Path,
        *,
        fsync: Callable[[int], None] = os.fsync,
        largest_file_bytes: int = _LARGEST_FILE_BYTES,
    ) -> None:
        """Make the folder and try it. Raises SettingsError if no file there can be made, written, synced and locked."""
        self._folder = folder
        self._fsync = fsync
        self._largest_file_bytes = largest_file_bytes
        self._lock = threading.Lock()
        self._file: _OpenFile | None = None
        self._is_closed = False
        try:
            self._try_folder()
        except OSError as error:
            raise SettingsError(
                [f"SPOOL_DIR: must be a folder in which files can be written, synced and locked ({error.strerror})"]
            ) from error

    def append(self, arrivals: Sequence[Arrival]) -> None:
        """Keep `arrivals` (not empty), and return when all of them are on the disk. Raises StorageUnavailable.

        After an error nothing new is in the file, as far as the disk still does what it is told, and the file is never
        written again: a system that failed to sync a page may say the next time that it has.
        """
        with self._lock:
            if self._is_closed:
                raise StorageUnavailable("the spool is closed")
            try:
                file = self._file or self._begin()
                self._write(file, arrivals)
            except OSError as error:
                self._give_up()
                raise StorageUnavailable(f"the spool could not be written: {error.strerror}") from error
            if file.durable_bytes >= self._largest_file_bytes:
                self._release()

    def try_appending(self) -> None:
        """Write and sync what a callback might take, and leave nothing. Raises StorageUnavailable."""
        if self._is_closed:
            raise StorageUnavailable("the spool is closed")
        try:
            self._try_folder()
        except OSError as error:
            raise StorageUnavailable(f"the spool could not be written: {error.strerror}") from error

    def seal(self) -> None:
        """Write no more to the present file, so that it can be drained. The next append begins another."""
        with self._lock:
            self._release()

    def close(self) -> None:
        """Seal, and take nothing more."""
        with self._lock:
            self._is_closed = True
            self._release()

    def _try_folder(self) -> None:
        missing = [folder for folder in (self._folder, *self._folder.parents) if not folder.exists()]
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in missing:
            sync_folder(folder.parent, self._fsync)
        with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".probe-") as probe:
            left = memoryview(bytes(_TRIAL_BYTES))
            while left:
                left = left[os.write(probe.fileno(), left) :]
            self._fsync(probe.fileno())
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        sync_folder(self._folder, self._fsync)

    def _begin(self) -> _OpenFile:
        """A new file that is locked. Its name sorts by the time it was made."""
        while True:
            path = self._folder / f"{ids.to_text(ids.new())}{SUFFIX}"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            self._file = _OpenFile(path, descriptor, secrets.token_bytes(records.MARK_BYTES))
            if owns(descriptor):
                return self._file
            self._release()  # the drainer was quicker with the lock than we; the file is empty, and goes

    def _write(self, file: _OpenFile, arrivals: Sequence[Arrival]) -> None:
        is_new = file.durable_bytes == 0
        left = memoryview(
            (records.header(file.mark) if is_new else b"")
            + b"".join(records.encode(file.mark, arrival) for arrival in arrivals)
        )
        while left:
            left = left[os.write(file.descriptor, left) :]
        self._fsync(file.descriptor)
        if is_new:
            sync_folder(self._folder, self._fsync)
        written = os.fstat(file.descriptor)
        if not os.path.samestat(written, file.path.stat()):  # removed or moved: nobody would ever drain it
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        file.durable_bytes = written.st_size

    def _give_up(self) -> None:
        """Take out of the present file what was not promised, and never write to it again."""
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
            with suppress(OSError):  # what was promised is on the disk already
                os.close(file.descriptor)


def owns(descriptor: int) -> bool:
    """Lock an open file for as long as it stays open; False if somebody else has it, or has removed it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(descriptor).st_nlink > 0


def sync_folder(folder: Path, fsync: Callable[[int], None] = os.fsync) -> None:
    """Make it durable which files a folder holds. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fsync(descriptor)
    finally:
        os.close(descriptor)
