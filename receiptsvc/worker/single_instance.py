"""On SQLite there is one worker: a file lock beside the database, held until the process ends, however it ends."""

import fcntl
import threading
import time
from pathlib import Path
from typing import IO

from sqlalchemy.engine import make_url

from receiptsvc.domain.errors import ReceiptsvcError

_POLL_SECONDS = 0.1


class WorkerAlreadyRunning(ReceiptsvcError):
    """A worker of this database runs already."""


def lock_worker(database_url: str, *, patience_seconds: float, stop: threading.Event) -> IO[str] | None:
    """Become the one worker of a SQLite database. Keep what is given open as long as you work; None: told to stop.

    Waits for another one to end, up to `patience_seconds`, then raises AnotherWorker.
    """
    path = Path(f"{make_url(database_url).database}.worker")
    file = path.open("a")
    deadline = time.monotonic() + patience_seconds
    while not stop.is_set():
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                file.close()
                raise WorkerAlreadyRunning(
                    "another worker is at work on this SQLite database; stop it, or use PostgreSQL for several"
                ) from None
            stop.wait(_POLL_SECONDS)
        else:
            return file
    file.close()
    return None
