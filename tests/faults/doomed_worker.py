"""A worker that is killed at a named point of its work, the so-many-th time that it comes there: `python -m` this."""

import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

from receiptsvc.dynmark import codes
from receiptsvc.store import inbox, messages, parking
from receiptsvc.store.db import Database
from receiptsvc.worker import correlation
from receiptsvc.worker.process import Queue, Reading, process

AFTERWARDS, NEVER = "committed", "never"
# Between the claim and the commit of a batch, in order.
POINTS: dict[str, tuple[ModuleType, str]] = {
    "claimed": (inbox, "claim"),
    "looked up": (correlation, "look_up"),
    "noted": (messages, "note_transactions"),
    "recorded": (messages, "record"),
    "parked": (parking, "park"),
    "settled": (inbox, "settle"),
    "left": (parking, "leave"),
}


def doom(point: str, times: int) -> Callable[[], None]:
    """Arrange for this process's end; gives what counts a visit to a point that is no function's end."""
    left = times

    def visit() -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    if point in POINTS:
        module, name = POINTS[point]
        real = getattr(module, name)

        def doomed(*args: Any, **kwargs: Any) -> Any:
            result = real(*args, **kwargs)
            visit()
            return result

        setattr(module, name, doomed)
    return visit if point == AFTERWARDS else lambda: None


def main() -> None:
    """Arguments: the database's URL, the point, the times, the rows at once."""
    url, point, times, limit = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    database = Database(url)
    reading = Reading(words=codes.load({}), zone=ZoneInfo("UTC"))
    visit, queue = doom(point, times), Queue()
    while process(database, reading, datetime.now(UTC), limit, queue):
        visit()


if __name__ == "__main__":
    main()
