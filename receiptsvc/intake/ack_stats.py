"""Counts the answers of one process and adds them to the ledger once a second, if anything has changed."""

from time import monotonic

import gevent
from gevent.event import Event

from receiptsvc import logs
from receiptsvc.server.threads import NativeThreads
from receiptsvc.store.core.db import Database
from receiptsvc.store.inbox import counters, rejected
from receiptsvc.store.inbox.rejected import RejectedCallback

_INTERVAL_SECONDS = 1.0
_MAX_CLOSE_SECONDS = 5.0
_SLOW_SECONDS = 1.0
_MAX_SAMPLES_PER_WRITE = 10


class AckStats:
    """The counts of one process. Only the event loop counts; a native thread writes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counts = {counters.REFUSED: 0, counters.MISROUTED: 0, counters.SLOW_ANSWERS: 0}
        self._refused: list[RejectedCallback] = []
        self._slowest_milliseconds = self._written_milliseconds = 0
        self._thread = NativeThreads(1)
        self._closing = Event()
        self._greenlet = gevent.spawn(self._run)

    def count_refused(self, refused: RejectedCallback | None) -> None:
        """Count a refused callback, and keep a sample of them for operators. None: nothing of it may be kept."""
        self._counts[counters.REFUSED] += 1
        if refused is not None and len(self._refused) < _MAX_SAMPLES_PER_WRITE:
            self._refused.append(refused)

    def count_misrouted(self) -> None:
        """Count a callback that was kept though none is expected here."""
        self._counts[counters.MISROUTED] += 1

    def count_answer(self, seconds: float) -> None:
        """Count how long an answer took."""
        if seconds > _SLOW_SECONDS:
            self._counts[counters.SLOW_ANSWERS] += 1
        self._slowest_milliseconds = max(self._slowest_milliseconds, round(seconds * 1000))

    def close(self) -> None:
        """Write the counts, and stop. Waits for 5 seconds at most."""
        self._closing.set()
        self._greenlet.join(_MAX_CLOSE_SECONDS)

    def _run(self) -> None:
        while not self._closing.wait(_INTERVAL_SECONDS):
            self._write()
        self._write()

    def _write(self) -> None:
        counts = {name: count for name, count in self._counts.items() if count}
        slowest = self._slowest_milliseconds
        if not counts and slowest == self._written_milliseconds:
            return
        started = monotonic()
        try:
            self._thread.run(self._commit, counts, slowest, list(self._refused))
        except Exception as error:  # noqa: BLE001 - the counts stay here, and the next write includes them
            logs.fault("intake.ack_stats_not_kept", error, seconds=round(monotonic() - started, 1))
            return
        logs.over("intake.ack_stats_not_kept")
        self._written_milliseconds = slowest
        self._refused.clear()
        for name, count in counts.items():
            self._counts[name] -= count

    def _commit(self, counts: dict[str, int], slowest: int, refused: list[RejectedCallback]) -> None:
        with self._database.transaction() as session:
            counters.add(session, counts)
            if refused:
                rejected.add(session, refused)
            counters.raise_maximum(session, counters.SLOWEST_ANSWER, slowest)
