"""`worker`: process receipts and send messages until told to stop."""

import signal
import threading
from collections.abc import Mapping

import click

from receiptsvc import logs
from receiptsvc.config import Settings
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.dynmark.gateway import Gateway
from receiptsvc.dynmark.rest import RestGateway
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
    database = Database(settings.database_url, pool_size=settings.calls_at_once + 4, is_worker=True)
    try:
        database.refuse_unsafe()
    except StorageUnavailable as error:
        logs.warning("worker.storage_unavailable", error=logs.describe(error))  # it may come; the duties wait for it
    loop.run(settings, database, _gateways(settings), stop)


def _gateways(settings: Settings) -> Mapping[str, Gateway]:
    """By transport: a message keeps the one that it was accepted for, whatever the setting is today."""
    return {"soap": SoapGateway(settings), "rest": RestGateway(settings)} if settings.account else {}
