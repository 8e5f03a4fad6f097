"""A worker that is killed at the n-th visit to a named point of its work: for `forked.run`."""

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


def work(url: str, point: str, times: int, limit: int) -> None:
    """Process all receipts in batches of `limit`, or die at this visit to the point."""
    database = Database(url)
    visit, queue = doom.killer(times), PendingQueue()
    if point in POINTS:
        doom.watch(*POINTS[point], visit)
    while process(database, RULES, datetime.now(UTC), limit, queue):
        if point == AFTERWARDS:
            visit()
