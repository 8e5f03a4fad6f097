"""Keeping callbacks: all that are in flight in this process go into one transaction, and each waits for its end.

One native thread writes. A request hands its callback over and waits, up to its budget, for the commit that holds it.
"""

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic, sleep

from receiptsvc import logs
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.store import inbox, ledger
from receiptsvc.store.db import Database
from receiptsvc.store.inbox import Arrival

_LARGEST_GROUP = 500
_MOST_BYTES_IN_FLIGHT = 64 * 1024 * 1024
_TALLY_SECONDS = 1.0
_AGAIN_SECONDS = 0.02


@dataclass(eq=False, slots=True)
class _Waiting:
    arrival: Arrival
    deadline: float  # of the monotonic clock
    ended: threading.Event = field(default_factory=threading.Event)
    is_kept: bool = False

    @property
    def size(self) -> int:
        return len(self.arrival.callback.query) + len(self.arrival.callback.body)


class Keeper:
    """The one writer of a process's callbacks, and of what it counted of them."""

    def __init__(self, database: Database, *, budget_seconds: float) -> None:
        self._database = database
        self._budget_seconds = budget_seconds
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._bytes_in_flight = 0
        self._tally = {ledger.REFUSED: 0, ledger.SLOW_ANSWERS: 0}
        self._slowest_milliseconds = 0
        self._tallied_slowest = 0
        self._thread = threading.Thread(target=self._write, name="keeper", daemon=True)
        self._thread.start()

    def keep(self, arrival: Arrival) -> None:
        """Return once the callback is on disk. Raises StorageUnavailable if that took longer than the budget.

        After the error it may still be kept later, or have been kept: never twice, because it has its id already.
        """
        waiting = _Waiting(arrival, monotonic() + self._budget_seconds)
        with self._lock:
            if self._bytes_in_flight + waiting.size > _MOST_BYTES_IN_FLIGHT:
                raise StorageUnavailable("too many bytes are waiting to be kept")
            self._bytes_in_flight += waiting.size
        self._queue.put(waiting)
        if not waiting.ended.wait(self._budget_seconds):
            raise StorageUnavailable("the database did not answer in time")
        if not waiting.is_kept:
            raise StorageUnavailable("the database did not take it")

    def count_refused(self) -> None:
        """Count a callback that was answered 403."""
        with self._lock:
            self._tally[ledger.REFUSED] += 1

    def count_answer(self, seconds: float) -> None:
        """Count how long an answer took."""
        with self._lock:
            self._tally[ledger.SLOW_ANSWERS] += seconds > 1
            self._slowest_milliseconds = max(self._slowest_milliseconds, round(seconds * 1000))

    def close(self) -> None:
        """Keep what was handed over, count what was counted, and stop."""
        self._queue.put(None)
        self._thread.join(self._budget_seconds)

    def _write(self) -> None:
        is_open = True
        while is_open:
            group, is_open = self._next_group()
            if group:
                self._keep_group(group)
            self._keep_tally()

    def _next_group(self) -> tuple[list[_Waiting], bool]:
        """All that waits, or nothing after a while; and whether more may come."""
        group: list[_Waiting] = []
        try:
            waiting = self._queue.get(timeout=_TALLY_SECONDS)
            while waiting is not None and len(group) < _LARGEST_GROUP - 1:
                group.append(waiting)
                waiting = self._queue.get_nowait()
        except queue.Empty:
            return group, True
        if waiting is not None:
            group.append(waiting)
        return group, waiting is not None

    def _keep_group(self, group: Sequence[_Waiting]) -> None:
        try:
            self._insist(group)
        except StorageUnavailable as error:
            logs.warning("intake.not_kept", callbacks=len(group), error=logs.describe(error))
        except Exception as error:  # noqa: BLE001 - one callback that the database refuses must not refuse the others
            logs.warning("intake.group_failed", callbacks=len(group), error=logs.describe(error))
            for waiting in group:
                self._keep_alone(waiting)
        finally:
            with self._lock:
                self._bytes_in_flight -= sum(waiting.size for waiting in group)
            for waiting in group:
                waiting.ended.set()

    def _insist(self, group: Sequence[_Waiting]) -> None:
        """Commit a group, again and again as long as somebody waits for it. Twice keeps nothing twice."""
        deadline = max(waiting.deadline for waiting in group)
        while True:
            try:
                return self._commit(group)
            except StorageUnavailable:
                if monotonic() + _AGAIN_SECONDS > deadline:
                    raise
            sleep(_AGAIN_SECONDS)

    def _keep_alone(self, waiting: _Waiting) -> None:
        try:
            self._commit([waiting])
        except Exception as error:  # noqa: BLE001 - its sender is told 503, and ops why
            logs.error("intake.not_kept", error, callbacks=1)

    def _commit(self, group: Sequence[_Waiting]) -> None:
        with self._database.transaction() as session:
            inbox.keep(session, [waiting.arrival for waiting in group])
        for waiting in group:
            waiting.is_kept = True

    def _keep_tally(self) -> None:
        with self._lock:
            counts = {name: count for name, count in self._tally.items() if count}
            slowest = self._slowest_milliseconds
        if not counts and slowest == self._tallied_slowest:
            return
        try:
            with self._database.transaction() as session:
                ledger.add(session, counts)
                ledger.raise_to(session, ledger.SLOWEST_ANSWER, slowest)
        except Exception as error:  # noqa: BLE001 - the counts stay here and go along next time
            logs.warning("intake.tally_not_kept", error=logs.describe(error))
            return
        self._tallied_slowest = slowest
        with self._lock:
            for name, count in counts.items():
                self._tally[name] -= count
