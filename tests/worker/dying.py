"""A worker that a certain receipt kills, started again and again until it ends well: `python -m tests.worker.dying URL`.

Each start is a process of its own, whose end is printed: `killed` or `well`. Time jumps between two starts.
"""

import os
import signal
import sys

from receiptsvc.domain.messages import Callback
from receiptsvc.dynmark.inbound import parser
from receiptsvc.store.core.db import Database
from receiptsvc.store.health import heartbeats
from receiptsvc.worker.pending_queue import PendingQueue
from receiptsvc.worker.receipt_processor import process
from tests.support.rows import seconds
from tests.support.work import RULES

DEADLY = b"clientref=deadly"
JUMP = 10_000  # seconds: more than the longest gap
MAX_STARTS = 20


def die_on(callback: Callback, *settings: object) -> object:
    if DEADLY in callback.query:
        os.kill(os.getpid(), signal.SIGKILL)
    return _read(callback, *settings)  # type: ignore[arg-type]  # passed on


def start(url: str, at: float) -> None:
    """Run one worker until the queue is empty."""
    parser.read_receipts = die_on  # type: ignore[assignment]  # it gives what the other gives, if anything
    database, name = Database(url), f"worker:here:{os.getpid()}"
    with database.transaction() as session:
        reaped = heartbeats.reap(session, "worker", lambda _: True)
        heartbeats.beat(session, name, seconds(at))
    queue = PendingQueue(rows_to_mark=reaped * 100)
    while process(database, RULES, seconds(at), 100, queue):
        pass
    with database.transaction() as session:
        heartbeats.deregister(session, name, seconds(at))
    database.close()


def main(url: str) -> None:
    """Start workers until one ends well."""
    for number in range(MAX_STARTS):
        child = os.fork()
        if not child:
            start(url, JUMP * (number + 1))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        ended = {0: "well", signal.SIGKILL: "killed"}[status]
        sys.stdout.write(f"{ended}\n")
        if ended == "well":
            break


_read = parser.read_receipts

if __name__ == "__main__":
    main(sys.argv[1])
