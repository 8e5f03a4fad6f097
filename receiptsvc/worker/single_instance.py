"""The single-instance lock of the worker on SQLite: a file lock beside the database.

The system releases it when the process ends, however that happens.
"""

import fcntl
import threading
import time
from pathlib import Path
from typing import IO

from sqlalchemy.engine import make_url

from receiptsvc import logs, private_files
from receiptsvc.domain.errors import ReceiptsvcError

_POLL_SECONDS = 0.1


class WorkerAlreadyRunning(ReceiptsvcError):
    """Another worker of this database is running."""


class NotLockable(ReceiptsvcError):
    """The lock's file can't be written."""


def lock_worker(database_url: str, *, patience_seconds: float, stop: threading.Event) -> IO[str] | None:
    """Become the only worker of a SQLite database: the lock is held until the returned file is closed.

    Waits up to `patience_seconds` for another worker to end, then raises WorkerAlreadyRunning. None: `stop` was set.
    Raises NotLockable.
    """
    path = Path(f"{make_url(database_url).database}.worker")
    try:
        private_files.make_file(path)
        file = path.open("a")
    except OSError as error:
        raise NotLockable(
            f"the file {path} can't be written ({error.strerror}): see its rights and its folder's"
        ) from error
    deadline = time.monotonic() + patience_seconds
    has_waited = False
    while not stop.is_set():
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                file.close()
                raise WorkerAlreadyRunning(
                    "another worker is at work on this SQLite database; stop it, or use PostgreSQL for several"
                ) from None
            if not has_waited:
                logs.warning("worker.waits_for_another", file=str(path), seconds=patience_seconds)
                has_waited = True
            stop.wait(_POLL_SECONDS)
        else:
            return file
    file.close()
    return None
