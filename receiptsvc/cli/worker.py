"""`worker`: process receipts and send messages until told to stop."""

import signal
import threading

import click

from receiptsvc import logs
from receiptsvc.config import Settings
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.dynmark.gateway import Gateway
from receiptsvc.dynmark.soap import SoapGateway
from receiptsvc.store.db import Database
from receiptsvc.worker import loop


@click.command()
def worker() -> None:
    """Process receipts and send messages, until SIGTERM."""
    logs.set_up("worker")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    settings = Settings.from_env()
    # One connection for each thread: the duties, and the calls at once.
    database = Database(settings.database_url, pool_size=loop.CALLS_AT_ONCE + 4, is_worker=True)
    try:
        database.refuse_unsafe()
    except StorageUnavailable as error:
        logs.warning("worker.storage_unavailable", error=logs.describe(error))  # it may come; the duties wait for it
    loop.run(settings, database, _gateway(settings), stop)


def _gateway(settings: Settings) -> Gateway | None:
    return SoapGateway(settings) if settings.account else None
