"""A sender that is killed at a named point between a claim and its result's commit: for `forked.run`."""

import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from types import ModuleType

from receiptsvc.config import Settings
from receiptsvc.dynmark.gateway import Gateway
from receiptsvc.dynmark.outbound import exchange
from receiptsvc.dynmark.outbound.rest import RestGateway
from receiptsvc.dynmark.outbound.soap import SoapGateway
from receiptsvc.store.core.db import Database
from receiptsvc.store.outbound import call_results, claims
from receiptsvc.worker import sender
from tests.faults import doom

# The points in order: the end of a function, or if the last field is true its beginning. None: a method of the gateway.
POINTS: dict[str, tuple[ModuleType | None, str, bool]] = {
    "claimed": (claims, "claim", False),
    "claim committed": (None, "send", True),
    "answered": (exchange, "post", False),
    "answer read": (None, "send", False),
    "recorded": (call_results, "record_results", False),
}


def work(environ: Mapping[str, str], point: str, times: int) -> None:
    """Send what is due with these settings, or die at this visit to the point."""
    os.environ.update(environ)
    settings = Settings.from_env()
    database, stop = Database(settings.database_url), threading.Event()
    gateway: Gateway = RestGateway(settings) if settings.transport == "rest" else SoapGateway(settings)
    with database.transaction() as session:
        while call_results.settle_lost(session, datetime.now(UTC), sender.repeats(settings), all_calls=True):
            pass
    if point != doom.NEVER:
        owner, name, is_before = POINTS[point]
        doom.watch(owner or type(gateway), name, doom.killer(times), is_before=is_before)
    while sender.submit(database, {settings.transport: gateway}, settings, stop):
        pass
