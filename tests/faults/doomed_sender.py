"""A sender that is killed at a named point between a claim and its result's commit: `python -m` this."""

import sys
import threading
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


def main() -> None:
    """Arguments: the point, and at which visit to die. Sends what is due, with the environment's settings."""
    point, times = sys.argv[1], int(sys.argv[2])
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


if __name__ == "__main__":
    main()
