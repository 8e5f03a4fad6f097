"""`worker`: process receipts and send messages until told to stop."""

import gc
import os
import signal
import threading
from collections.abc import Mapping

import click

from receiptsvc import logs
from receiptsvc.config import Settings
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.dynmark.gateway import Gateway
from receiptsvc.dynmark.outbound.rest import RestGateway
from receiptsvc.dynmark.outbound.soap import SoapGateway
from receiptsvc.store.core.db import Database
from receiptsvc.worker import loop

_GIVES_WAY = 10  # where web processes share the processors: somebody waits for their answers
_SELDOM = (50_000, 10, 10)  # a batch has many objects, which are alive together and then go without its help


@click.command()
def worker() -> None:
    """Process receipts and send messages, until SIGTERM."""
    logs.set_up("worker")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    settings = Settings.from_env()
    # One connection for each thread: the duties, and the calls at once.
    database = Database(settings.database_url, pool_size=settings.send_concurrency + 4, is_worker=True)
    try:
        database.refuse_unsafe()
    except StorageUnavailable as error:
        logs.warning("worker.storage_unavailable", error=logs.describe(error))  # it may come; the duties wait for it
    gateways = _gateways(settings)
    os.nice(_GIVES_WAY)
    gc.collect()
    gc.freeze()  # else each full collection looks through all that was imported, with Python's lock held
    gc.set_threshold(*_SELDOM)
    loop.run(settings, database, gateways, stop)


def _gateways(settings: Settings) -> Mapping[str, Gateway]:
    """By transport: a message keeps the one that it was accepted for, whatever the setting is today."""
    return {"soap": SoapGateway(settings), "rest": RestGateway(settings)} if settings.account else {}
