"""A worker that is killed at the n-th visit to a named point of its work: `python -m` this."""

import sys
from datetime import UTC, datetime
from types import ModuleType

from receiptsvc.store.core.db import Database
from receiptsvc.store.inbox import parking, pending
from receiptsvc.store.messages import transitions
from receiptsvc.worker import match_context
from receiptsvc.worker.pending_queue import PendingQueue
from receiptsvc.worker.receipt_processor import process
from tests.faults import doom
from tests.support.work import RULES

AFTERWARDS = "committed"
# Between the claim and the commit of a batch, in order.
POINTS: dict[str, tuple[ModuleType, str]] = {
    "claimed": (pending, "take"),
    "looked up": (match_context, "load"),
    "noted": (transitions, "link_transactions"),
    "recorded": (transitions, "record"),
    "parked": (parking, "park"),
    "settled": (pending, "settle"),
    "left": (parking, "remove"),
}


def main() -> None:
    """Arguments: the database's URL, the point, at which visit to die, the rows per batch."""
    url, point, times, limit = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    database = Database(url)
    visit, queue = doom.killer(times), PendingQueue()
    if point in POINTS:
        doom.watch(*POINTS[point], visit)
    while process(database, RULES, datetime.now(UTC), limit, queue):
        if point == AFTERWARDS:
            visit()


if __name__ == "__main__":
    main()
