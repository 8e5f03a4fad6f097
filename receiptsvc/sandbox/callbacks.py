"""Schedules callbacks: makes each at its time from a pool of threads, retries it, and counts the answers.

The content of a callback is in `receipts`, the HTTP in `http_client`. The requests of one chain are made one after the
other, each once the one before it has ended, so that they arrive in the planned order.
"""

import heapq
import itertools
import queue
import threading
import time
from collections import deque
from dataclasses import dataclass

from receiptsvc.sandbox.http_client import Answer, Caller, Request

_MAX_FAILURES = 1_000  # shown in the report; all are counted
_WATCH_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One callback of a chain: `wait_seconds` after the one before it, tried up to `tries` times."""

    request: Request
    wait_seconds: float
    tries: int
    transaction_id: int
    status_id: int
    description: str


@dataclass(kw_only=True, slots=True)
class Chain:
    """Callbacks to be made one after the other. `calls`: those made so far; `done` is set after the last."""

    steps: deque[Step]
    calls: list[dict[str, object]]
    done: threading.Event | None = None
    tried: int = 0


class Scheduler:
    """Makes the callbacks of chains at their time, from a bounded number of threads."""

    def __init__(self, *, limit_seconds: float, retry_gap_seconds: float, senders: int) -> None:
        self.limit_seconds = limit_seconds
        self.retry_gap_seconds = retry_gap_seconds
        self._heap: list[tuple[float, int, Chain]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._due: queue.SimpleQueue[Chain | None] = queue.SimpleQueue()
        self._callers: set[Caller] = set()
        self._stopped = False
        self._pending = 0
        self._made = 0
        self._accepted = 0
        self._given_up = 0
        self._slowest = 0.0
        self._failed = 0
        self._failures: deque[dict[str, object]] = deque(maxlen=_MAX_FAILURES)
        self._senders = senders
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads."""
        targets = [("sandbox-clock", self._queue_due), ("sandbox-watch", self._cut_overdue)]
        targets += [(f"sandbox-sender-{number}", self._send_due) for number in range(self._senders)]
        self._threads = [threading.Thread(target=target, name=name, daemon=True) for name, target in targets]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop at once: running requests are cut, planned ones are never made. The counts stay readable."""
        with self._changed:
            self._stopped = True
            planned, self._heap = self._heap, []
            callers = list(self._callers)
            self._changed.notify_all()
        for caller in callers:
            caller.abort()
        for _ in range(self._senders):
            self._due.put(None)
        for _, _, chain in planned:
            _set_done(chain)
        for thread in self._threads:
            thread.join(timeout=2)

    def schedule(self, chain: Chain) -> None:
        """Plan a chain's first callback; the others follow."""
        with self._changed:
            self._pending += len(chain.steps)
            self._plan(chain, chain.steps[0].wait_seconds if chain.steps else None)

    def call_now(self, request: Request) -> Answer:
        """Make one callback from the calling thread, once, and count it."""
        caller = self._new_caller()
        try:
            answer = caller.call(request, self.limit_seconds)
        finally:
            self._drop(caller)
        with self._changed:
            self._count(answer, {}, is_last=True)
        return answer

    def wait_idle(self, seconds: float) -> bool:
        """Whether every planned callback was made (and retried or given up) before `seconds` went by."""
        with self._changed:
            return self._changed.wait_for(lambda: self._pending == 0, timeout=seconds)

    @property
    def pending(self) -> int:
        """How many callbacks are planned or running."""
        return self._pending

    def report(self) -> dict[str, object]:
        """Counts of callbacks; each retry counts as made. `failures` names no person and no address."""
        with self._changed:
            return {
                "made": self._made,
                "answered200": self._accepted,
                "failed": self._failed,
                "givenUp": self._given_up,
                "slowestSeconds": round(self._slowest, 3),
                "failures": list(self._failures),
            }

    def _plan(self, chain: Chain, wait_seconds: float | None) -> None:
        """Put the chain's next callback on the heap, or end the chain if there is none. Needs the lock."""
        if wait_seconds is None or self._stopped:
            _set_done(chain)
            return
        due = time.monotonic() + wait_seconds
        heapq.heappush(self._heap, (due, next(self._order), chain))
        if self._heap[0][2] is chain:
            self._changed.notify_all()

    def _queue_due(self) -> None:
        """Hand chains to the senders when their next callback is due."""
        while True:
            with self._changed:
                if self._stopped:
                    return
                now = time.monotonic()
                if not self._heap or self._heap[0][0] > now:
                    self._changed.wait(self._heap[0][0] - now if self._heap else None)
                    continue
                _, _, chain = heapq.heappop(self._heap)
            self._due.put(chain)

    def _cut_overdue(self) -> None:
        """Cut requests past their limit: a socket's own time-out starts again with each byte."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped, timeout=_WATCH_SECONDS)
                if self._stopped:
                    return
                callers = list(self._callers)
            now = time.monotonic()
            for caller in callers:
                caller.abort_if_past(now)

    def _send_due(self) -> None:
        caller = self._new_caller()
        try:
            while (chain := self._due.get()) is not None:
                if self._stopped:
                    _set_done(chain)
                    continue
                step = chain.steps[0]
                answer = caller.call(step.request, self.limit_seconds)
                self._record(chain, step, answer)
        finally:
            self._drop(caller)

    def _record(self, chain: Chain, step: Step, answer: Answer) -> None:
        call: dict[str, object] = {
            "at": answer.at.isoformat(timespec="milliseconds"),
            "method": step.request.method,
            "statusid": step.status_id,
            "statusdescription": step.description,
            "answer": answer.status,
            "error": answer.error,
            "seconds": round(answer.seconds, 3),
        }
        with self._changed:
            chain.calls.append(call)
            chain.tried += 1
            is_retried = not answer.is_accepted and chain.tried < step.tries
            about: dict[str, object] = {"transactionID": str(step.transaction_id), "statusid": step.status_id}
            self._count(answer, about, is_last=not is_retried)
            if is_retried:
                self._plan(chain, self.retry_gap_seconds)
                return
            chain.steps.popleft()
            chain.tried = 0
            self._pending -= 1
            self._plan(chain, chain.steps[0].wait_seconds if chain.steps else None)
            if self._pending == 0:
                self._changed.notify_all()

    def _count(self, answer: Answer, about: dict[str, object], *, is_last: bool) -> None:
        """Count one answer. `about`: what a failure's entry says of the receipt; `is_last`: no retry follows."""
        self._made += 1
        self._slowest = max(self._slowest, answer.seconds)
        if answer.is_accepted:
            self._accepted += 1
            return
        self._failed += 1
        self._given_up += is_last
        at = answer.at.isoformat(timespec="milliseconds")
        failure = {"at": at, "answer": answer.status, "error": answer.error, "seconds": round(answer.seconds, 3)}
        self._failures.append({**failure, **about, "givenUp": is_last})

    def _new_caller(self) -> Caller:
        caller = Caller()
        with self._changed:
            self._callers.add(caller)
        return caller

    def _drop(self, caller: Caller) -> None:
        with self._changed:
            self._callers.discard(caller)
        caller.close()


def _set_done(chain: Chain) -> None:
    if chain.done is not None:
        chain.done.set()
