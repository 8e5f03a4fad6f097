"""`worker`: runs the worker process until it is told to stop. Its duties are in `worker.loop`."""

import gc
import os
import signal
import threading
from queue import SimpleQueue

import click

from receiptsvc import logs, private_files
from receiptsvc.config import Settings
from receiptsvc.domain.errors import NotMigrated, StorageUnavailable
from receiptsvc.dynmark.gateways import open_gateways
from receiptsvc.dynmark.readers import open_reader
from receiptsvc.log_handler import StderrHandler
from receiptsvc.store.core import time_limits
from receiptsvc.store.core.db import Database
from receiptsvc.worker import loop

_NICENESS = 10  # web processes may share the processors, and callers wait for their answers
_LOOK_SECONDS = 0.5  # between two looks whether the database is there
GC_THRESHOLDS = (50_000, 10, 10)  # a batch's many objects live together and are then freed by reference counts


@click.command()
def worker() -> None:
    """Process receipts and send messages, until SIGTERM."""
    logs.set_up("worker", StderrHandler())
    stop = threading.Event()
    set_at_signals(stop)
    settings = Settings.from_env()
    private_files.warn_of_open(settings.private_paths)
    if settings.unknown_names:
        logs.warning("settings.unknown", names=settings.unknown_names)
    database = Database(
        settings.database_url, pool_size=settings.connection_shares.worker, is_worker=True, limits=time_limits.WORK
    )
    if not _await_database(database, stop):
        logs.info("worker.stopped", unfinished=[])
        return
    gateways, reader = open_gateways(settings), open_reader(settings)
    os.nice(_NICENESS)
    gc.set_threshold(*GC_THRESHOLDS)
    loop.run(settings, database, gateways, reader, stop)


def set_at_signals(stop: threading.Event) -> None:
    """Set `stop` when the process is told to end, from a thread that waits for that.

    A handler runs between any two steps of the main thread, which may hold the event's lock, or may be in the handler
    of the signal before: where a whole process group is told to end, there are several.
    """
    told: SimpleQueue[None] = SimpleQueue()  # whose `put` may interrupt itself

    def wait() -> None:
        told.get()
        stop.set()

    threading.Thread(target=wait, name="signals", daemon=True).start()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: told.put(None))


def _await_database(database: Database, stop: threading.Event) -> bool:
    """Wait until the database is there and has the tables that this release needs. False: `stop` was set before that.

    Raises SettingsError if its commits are not durable, and TooNew.
    """
    while not stop.is_set():
        try:
            database.check_durability()
            database.check_schema()
        except NotMigrated as error:
            logs.fault("worker.waits_for_migrations", error, kind=NotMigrated.kind)  # one by one they are done
        except StorageUnavailable as error:
            logs.fault("worker.storage_unavailable", error, source="start")
        else:
            logs.over("worker.waits_for_migrations")
            logs.over("worker.storage_unavailable", source="start")
            return True
        stop.wait(_LOOK_SECONDS)
    return False
