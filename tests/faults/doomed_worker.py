"""A worker that is killed at a named point of its work, the so-many-th time that it comes there: `python -m` this."""

import sys
from datetime import UTC, datetime
from types import ModuleType
from zoneinfo import ZoneInfo

from receiptsvc.dynmark import status_map
from receiptsvc.store.core.db import Database
from receiptsvc.store.inbox import parking, pending
from receiptsvc.store.messages import transitions
from receiptsvc.worker import correlation
from receiptsvc.worker.process import Queue, Reading, process
from tests.faults import doom

AFTERWARDS = "committed"
# Between the claim and the commit of a batch, in order.
POINTS: dict[str, tuple[ModuleType, str]] = {
    "claimed": (pending, "claim"),
    "looked up": (correlation, "look_up"),
    "noted": (transitions, "note_transactions"),
    "recorded": (transitions, "record"),
    "parked": (parking, "park"),
    "settled": (pending, "settle"),
    "left": (parking, "leave"),
}


def main() -> None:
    """Arguments: the database's URL, the point, the times, the rows at once."""
    url, point, times, limit = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    database = Database(url)
    reading = Reading(status_map=status_map.load({}), zone=ZoneInfo("UTC"))
    visit, queue = doom.killer(times), Queue()
    if point in POINTS:
        doom.watch(*POINTS[point], visit)
    while process(database, reading, datetime.now(UTC), limit, queue):
        if point == AFTERWARDS:
            visit()


if __name__ == "__main__":
    main()
