"""Group commit: all callbacks in flight in this process go into one transaction, and each request waits for its end.

A request joins the group that is forming and waits on the event loop. One greenlet writes one group after the other
with the inbox writer, on a native thread. What the database can't take in time goes to the spool, if there is one.

Between groups the same greenlet keeps the inbox writer's connection open, so that no other client takes its place when
connections are few. When a readiness probe asks, it also tries whether a callback could be kept.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from uuid import UUID

import gevent
from gevent.event import Event
from gevent.lock import Semaphore

from receiptsvc import logs
from receiptsvc.domain.errors import ReadOnly, StorageUnavailable
from receiptsvc.domain.inbox import Arrival, Kept
from receiptsvc.server.threads import AbortableThread
from receiptsvc.spool.writer import Spool
from receiptsvc.store.inbox.writer import InboxWriter

GRACE_SECONDS = 1.0  # beyond its budget, for the spool and for the loop itself

_MAX_BYTES_IN_FLIGHT = 64 * 1024 * 1024
_RETRY_SECONDS = 0.02
_OUTAGE_TRY_SECONDS = 0.3  # how long a database that is known to be away may keep a group from the spool
_IDLE_SECONDS = 0.25  # between checks of the connection while no callback comes
_CONNECT_SECONDS = 0.3  # how long a callback may have to wait for such a check
_OUTCOME_VALID_SECONDS = 2.0  # for how long the outcome of keeping callbacks answers a probe
_TRIAL_VALID_SECONDS = 1.0  # for how long the outcome of a trial answers a probe
_TRIAL_SECONDS = (1.5, 0.6)  # for the database in a trial, without and with a spool
_PROBE_SECONDS = (1.7, 1.2)  # for a probe to wait, without and with a spool; then the spool has GRACE_SECONDS / 2


class _Group:
    """Callbacks that share a commit. `failed_ids`: those that could not be kept, once the group has ended."""

    __slots__ = ("arrivals", "began_at", "ended", "failed_ids")

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.began_at = 0.0  # of the monotonic clock: when its first callback joined
        self.ended = Event()
        self.failed_ids: frozenset[UUID] = frozenset()


class GroupCommit:
    """Keeps the callbacks of one process. Every method must be called on the event loop."""

    def __init__(
        self,
        inbox_writer: InboxWriter,
        *,
        budget_seconds: float,
        spool: Spool | None = None,
        on_commit: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_commit` is called after each commit, on the loop: it must return at once."""
        self._inbox_writer, self._spool, self._budget_seconds = inbox_writer, spool, budget_seconds
        self._database_thread = AbortableThread("the database", inbox_writer.abandon)
        self._spool_thread, self._trial_thread = (
            AbortableThread("the spool's disk"),
            AbortableThread("the spool's disk"),
        )
        self._trial_lock = Semaphore()
        self._forming = _Group()
        self._has_work = Event()
        self._bytes_in_flight = 0
        self._is_closing = False
        self._is_probe_waiting = False
        self._last_outcome: Kept | None = None  # None: the last callback or trial could not be kept
        self._why_not = StorageUnavailable("a callback could not be kept")  # while there is no outcome
        self._outcome_valid_until = 0.0  # of the monotonic clock
        self._next_outcome = Event()
        self.is_database_away = False
        self._on_commit = on_commit
        self._greenlet = gevent.spawn(self._run)

    def keep(self, arrival: Arrival) -> None:
        """Return once the callback is on disk. Raises StorageUnavailable after its budget and a second at most.

        After the error it may still be kept, but never twice: it has its id already.
        """
        size = _size(arrival)
        if self._bytes_in_flight + size > _MAX_BYTES_IN_FLIGHT:
            raise StorageUnavailable("too many bytes are waiting to be kept")
        self._bytes_in_flight += size
        group = self._forming
        if not group.arrivals:
            group.began_at = monotonic()
        group.arrivals.append(arrival)
        self._has_work.set()
        group.ended.wait()  # `_run` ends every group within its budget and the grace, whatever hangs
        if arrival.id in group.failed_ids:
            raise StorageUnavailable("it could not be kept")

    def probe(self) -> Kept:
        """Where a callback would be kept now: where the last ones were, or else where a trial is, within 2 s.

        Raises StorageUnavailable if neither database nor spool can keep one.
        """
        if not self._is_outcome_valid():
            self._is_probe_waiting = True
            outcome = self._next_outcome
            self._has_work.set()
            outcome.wait(_PROBE_SECONDS[self._spool is not None])
        if not self._is_outcome_valid():  # `_run` is busy with a group, which the spool would take in the end
            with self._trial_lock:
                if not self._is_outcome_valid():
                    self._try_spool(StorageUnavailable("keeping takes too long"))
        if self._last_outcome is None:
            raise StorageUnavailable(str(self._why_not), self._why_not.kind)
        return self._last_outcome

    def close(self) -> None:
        """Keep what was handed over, and stop."""
        self._is_closing = True
        self._has_work.set()
        self._greenlet.join(self._budget_seconds + GRACE_SECONDS)

    def _run(self) -> None:
        while self._forming.arrivals or not self._is_closing:
            is_idle = not self._has_work.wait(_IDLE_SECONDS)
            self._has_work.clear()
            while self._forming.arrivals:
                group, self._forming = self._forming, _Group()
                try:
                    group.failed_ids = self._keep_group(group)
                except Exception as error:  # noqa: BLE001 - the process keeps nothing without this greenlet
                    logs.error("intake.writer_failed", error)
                    self._set_outcome(None, _OUTCOME_VALID_SECONDS)
                    group.failed_ids = frozenset(arrival.id for arrival in group.arrivals)
                finally:
                    self._bytes_in_flight -= sum(map(_size, group.arrivals))
                    group.ended.set()
            if self._is_probe_waiting and not self._is_closing:
                self._try_database()
            elif is_idle:
                with suppress(Exception):  # callbacks and trials log the same failure
                    self._database_thread.run(_CONNECT_SECONDS, self._inbox_writer.connect, abort_on_timeout=False)

    def _keep_group(self, group: _Group) -> frozenset[UUID]:
        """Keep a group in the database, or else in the spool. Returns the ids of those that could not be kept."""
        arrivals, deadline = group.arrivals, group.began_at + self._budget_seconds
        try:
            self._write_to_database(arrivals, deadline)
        except StorageUnavailable as error:
            return self._write_to_spool(arrivals, error)
        except Exception as error:  # noqa: BLE001 - one callback that the database refuses must not refuse the others
            logs.warning("intake.group_failed", callbacks=len(arrivals), error=logs.describe(error))
            return frozenset(arrival.id for arrival in arrivals if not self._keep_alone(arrival, deadline))
        return frozenset()

    def _keep_alone(self, arrival: Arrival, deadline: float) -> bool:
        """Keep one callback of a group that failed. Returns whether it is kept."""
        try:
            self._write_to_database([arrival], deadline)
        except StorageUnavailable as error:
            return not self._write_to_spool([arrival], error)
        except Exception as error:  # noqa: BLE001 - its sender is answered 503, and the log says why
            logs.error("intake.not_kept", error, callbacks=1)
            return False
        return True

    def _write_to_database(self, arrivals: Sequence[Arrival], deadline: float) -> None:
        """Commit, with retries until the deadline. Raises StorageUnavailable, and what the content makes it raise."""
        self._retry_until(deadline, lambda: self._inbox_writer.keep(arrivals))
        self._on_commit()
        self._set_outcome(Kept.IN_DATABASE, _OUTCOME_VALID_SECONDS)

    def _retry_until(self, deadline: float, task: Callable[[], None]) -> None:
        if self.is_database_away and self._spool is not None:
            deadline = min(deadline, monotonic() + _OUTAGE_TRY_SECONDS)
        while True:
            try:
                self._database_thread.run(deadline - monotonic(), task)
            except StorageUnavailable as error:
                self.is_database_away = True
                # A demoted primary is read-only until its successor comes up, which each new connection may find.
                may_wait = self._spool is None or not isinstance(error, ReadOnly)
                if not may_wait or monotonic() + _RETRY_SECONDS > deadline:
                    raise
            else:
                if self.is_database_away:
                    self._note_recovery()
                return
            gevent.sleep(_RETRY_SECONDS)

    def _note_recovery(self) -> None:
        self.is_database_away = False
        for action in ("intake.spooled", "intake.not_kept", "intake.trial_not_in_database"):
            logs.over(action)

    def _write_to_spool(self, arrivals: Sequence[Arrival], why: StorageUnavailable) -> frozenset[UUID]:
        """Append to the spool. `why`: what the database said. Returns the ids of those that could not be kept."""
        if self._spool is not None:
            spool = self._spool
            try:
                self._spool_thread.run(GRACE_SECONDS / 2, lambda: spool.append(arrivals))
            except StorageUnavailable as error:
                logs.fault("intake.not_spooled", error, level=logging.ERROR, times=len(arrivals))
                why = _both(why, error)
            else:
                logs.over("intake.not_spooled")
                logs.fault("intake.spooled", why, times=len(arrivals))
                self._set_outcome(Kept.IN_SPOOL, _OUTCOME_VALID_SECONDS)
                return frozenset()
        logs.fault("intake.not_kept", why, times=len(arrivals))
        self._why_not = why
        self._set_outcome(None, _OUTCOME_VALID_SECONDS)
        return frozenset(arrival.id for arrival in arrivals)

    def _try_database(self) -> None:
        """Answer the waiting probes by a commit of what a callback takes; if it fails, by a write to the spool."""
        seconds = min(_TRIAL_SECONDS[self._spool is not None], self._budget_seconds / 2)
        try:
            self._retry_until(monotonic() + seconds, self._inbox_writer.try_keeping)
        except StorageUnavailable as error:
            self._try_spool(error)
        except Exception as error:  # noqa: BLE001 - the process keeps nothing without this greenlet
            logs.error("intake.trial_failed", error)
            self._set_outcome(None, _TRIAL_VALID_SECONDS)
        else:
            self._set_outcome(Kept.IN_DATABASE, _TRIAL_VALID_SECONDS)

    def _try_spool(self, why: StorageUnavailable) -> None:
        outcome = None
        if self._spool is not None:
            try:
                self._trial_thread.run(GRACE_SECONDS / 2, self._spool.try_appending)
            except StorageUnavailable as error:
                logs.fault("intake.spool_trial_failed", error, level=logging.ERROR)
                why = _both(why, error)
            else:
                logs.over("intake.spool_trial_failed")
                outcome = Kept.IN_SPOOL
        logs.fault("intake.trial_not_in_database", why, is_spooled=outcome is not None)
        self._why_not = why
        if not self._is_outcome_valid():
            self._set_outcome(outcome, _TRIAL_VALID_SECONDS)

    def _set_outcome(self, outcome: Kept | None, valid_seconds: float) -> None:
        self._last_outcome, self._outcome_valid_until = outcome, monotonic() + valid_seconds
        self._is_probe_waiting = False
        known, self._next_outcome = self._next_outcome, Event()
        known.set()

    def _is_outcome_valid(self) -> bool:
        return monotonic() < self._outcome_valid_until


def _both(of_database: StorageUnavailable, of_spool: StorageUnavailable) -> StorageUnavailable:
    """Why neither database nor spool could keep a callback."""
    kinds = ", ".join(filter(None, (of_database.kind, of_spool.kind)))
    return StorageUnavailable(f"{of_database}; {of_spool}", kinds or None)


def _size(arrival: Arrival) -> int:
    return len(arrival.callback.query) + len(arrival.callback.body)
