"""Keeping callbacks: all that are in flight in this process go into one transaction, and each waits for its end.

A request joins the group that is forming and waits, on the event loop, for its end. One greenlet writes group after
group through the door, on a native thread. What the database can't take in time goes to the spool, if there is one.

Between groups the same greenlet sees to it that the door's connection is there, so that nobody else takes its place
when connections are few, and tries, if somebody asks, whether a callback could be kept.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from uuid import UUID

import gevent
from gevent.event import Event
from gevent.lock import Semaphore

from receiptsvc import logs
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.domain.inbox import Arrival, Kept
from receiptsvc.server.threads import AbortableThread, NativeThreads
from receiptsvc.spool.writer import Spool
from receiptsvc.store.inbox.writer import InboxWriter

GRACE_SECONDS = 1.0  # beyond its budget, for the spool and for the loop itself

_MAX_BYTES_IN_FLIGHT = 64 * 1024 * 1024
_AGAIN_SECONDS = 0.02
_PROBE_SECONDS = 0.3  # how long a database that is known to be away may keep a group from the spool
_NEWS_SECONDS = 0.02
_IDLE_SECONDS = 0.25  # between looks after the connection while no callback comes
_CONNECT_SECONDS = 0.3  # how long a callback may have to wait for such a look
_OUTCOME_TELLS_SECONDS = 2.0  # for how long the outcome of keeping callbacks tells whether another could be kept
_TRIAL_TELLS_SECONDS = 1.0  # and the outcome of a trial
_TRIAL_SECONDS = (1.5, 0.6)  # for the database in a trial, without and with a spool
_ANSWER_SECONDS = (1.7, 1.2)  # until somebody who asks has his answer; then the spool has GRACE_SECONDS / 2


class _Group:
    """Callbacks that share a commit. `lost`: those of it that could not be kept, once it has ended."""

    __slots__ = ("arrivals", "began_at", "ended", "lost")

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.began_at = 0.0  # of the monotonic clock: when its first callback joined
        self.ended = Event()
        self.lost: frozenset[UUID] = frozenset()


class GroupCommit:
    """The one writer of a process's callbacks."""

    def __init__(
        self,
        door: InboxWriter,
        *,
        budget_seconds: float,
        spool: Spool | None = None,
        on_commit: Callable[[], None] | None = None,
    ) -> None:
        """`on_commit` is called after commits, on a native thread, at most once in 20 ms."""
        self._door, self._spool, self._budget_seconds = door, spool, budget_seconds
        self._at_door, self._at_spool, self._at_trial = (
            AbortableThread(door.abandon),
            AbortableThread(),
            AbortableThread(),
        )
        self._trial_turn = Semaphore()
        self._forming = _Group()
        self._wake = Event()
        self._bytes_in_flight = 0
        self._is_closing = False
        self._is_asked = False
        self._kept: Kept | None = None  # by the last outcome; none: it was not kept
        self._kept_until = 0.0  # of the monotonic clock: how long that tells something
        self._next_outcome = Event()
        self.is_database_away = False
        self._writer = gevent.spawn(self._write)
        self._news = Event()
        if on_commit is not None:
            gevent.spawn(self._tell, on_commit)

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
        self._wake.set()
        group.ended.wait()  # the writer ends every group within its budget and the grace, whatever hangs
        if arrival.id in group.lost:
            raise StorageUnavailable("it could not be kept")

    def find_out(self) -> Kept:
        """Where a callback would be kept now: where the last ones were, or else where a trial is, within 2 s.

        Raises StorageUnavailable if nowhere.
        """
        if not self._is_known():
            self._is_asked = True
            outcome = self._next_outcome
            self._wake.set()
            outcome.wait(_ANSWER_SECONDS[self._spool is not None])
        if not self._is_known():  # the writer is busy with a group, which the spool would take in the end
            with self._trial_turn:
                if not self._is_known():
                    self._try_spool(StorageUnavailable("keeping takes too long"))
        if self._kept is None:
            raise StorageUnavailable("a callback could not be kept")
        return self._kept

    def close(self) -> None:
        """Keep what was handed over, and stop."""
        self._is_closing = True
        self._wake.set()
        self._writer.join(self._budget_seconds + GRACE_SECONDS)

    def _write(self) -> None:
        while self._forming.arrivals or not self._is_closing:
            is_idle = not self._wake.wait(_IDLE_SECONDS)
            self._wake.clear()
            while self._forming.arrivals:
                group, self._forming = self._forming, _Group()
                try:
                    group.lost = self._settle(group)
                except Exception as error:  # noqa: BLE001 - the one writer of this process must live
                    logs.error("intake.writer_failed", error)
                    self._note(None, _OUTCOME_TELLS_SECONDS)
                    group.lost = frozenset(arrival.id for arrival in group.arrivals)
                finally:
                    self._bytes_in_flight -= sum(map(_size, group.arrivals))
                    group.ended.set()
            if self._is_asked and not self._is_closing:
                self._try_keeping()
            elif is_idle:
                with suppress(Exception):  # callbacks and trials make enough noise about it
                    self._at_door.do(_CONNECT_SECONDS, self._door.connect, is_patient=True)

    def _tell(self, on_commit: Callable[[], None]) -> None:
        crew = NativeThreads(1)
        while not self._is_closing:
            self._news.wait()
            self._news.clear()
            crew.do(on_commit)
            gevent.sleep(_NEWS_SECONDS)

    def _settle(self, group: _Group) -> frozenset[UUID]:
        """Keep a group by whatever means; the ids of those that were not."""
        arrivals, deadline = group.arrivals, group.began_at + self._budget_seconds
        try:
            self._through_door(arrivals, deadline)
        except StorageUnavailable as error:
            return self._into_spool(arrivals, error)
        except Exception as error:  # noqa: BLE001 - one callback that the database refuses must not refuse the others
            logs.warning("intake.group_failed", callbacks=len(arrivals), error=logs.describe(error))
            return frozenset(arrival.id for arrival in arrivals if not self._is_kept_alone(arrival, deadline))
        return frozenset()

    def _through_door(self, arrivals: Sequence[Arrival], deadline: float) -> None:
        """Commit, again and again while somebody waits. Raises StorageUnavailable."""
        self._insist(lambda: self._door.keep(arrivals), deadline)
        self._news.set()
        self._note(Kept.IN_DATABASE, _OUTCOME_TELLS_SECONDS)

    def _insist(self, task: Callable[[], None], deadline: float) -> None:
        if self.is_database_away and self._spool is not None:
            deadline = min(deadline, monotonic() + _PROBE_SECONDS)
        while True:
            try:
                self._at_door.do(deadline - monotonic(), task)
            except StorageUnavailable:
                self.is_database_away = True
                if monotonic() + _AGAIN_SECONDS > deadline:
                    raise
            else:
                self.is_database_away = False
                return
            gevent.sleep(_AGAIN_SECONDS)

    def _into_spool(self, arrivals: Sequence[Arrival], why: StorageUnavailable) -> frozenset[UUID]:
        if self._spool is not None:
            spool = self._spool
            try:
                self._at_spool.do(GRACE_SECONDS / 2, lambda: spool.append(arrivals))
            except StorageUnavailable as error:
                logs.error("intake.not_spooled", error, callbacks=len(arrivals))
            else:
                logs.warning("intake.spooled", callbacks=len(arrivals), error=logs.describe(why))
                self._note(Kept.IN_SPOOL, _OUTCOME_TELLS_SECONDS)
                return frozenset()
        logs.warning("intake.not_kept", callbacks=len(arrivals), error=logs.describe(why))
        self._note(None, _OUTCOME_TELLS_SECONDS)
        return frozenset(arrival.id for arrival in arrivals)

    def _try_keeping(self) -> None:
        """Find out for those who ask, by a commit of what a callback takes, and where it fails by the spool."""
        seconds = min(_TRIAL_SECONDS[self._spool is not None], self._budget_seconds / 2)
        try:
            self._insist(self._door.try_keeping, monotonic() + seconds)
        except StorageUnavailable as error:
            self._try_spool(error)
        except Exception as error:  # noqa: BLE001 - the one writer of this process must live
            logs.error("intake.trial_failed", error)
            self._note(None, _TRIAL_TELLS_SECONDS)
        else:
            self._note(Kept.IN_DATABASE, _TRIAL_TELLS_SECONDS)

    def _try_spool(self, why: StorageUnavailable) -> None:
        kept = None
        if self._spool is not None:
            try:
                self._at_trial.do(GRACE_SECONDS / 2, self._spool.try_appending)
            except StorageUnavailable as error:
                logs.error("intake.spool_trial_failed", error)
            else:
                kept = Kept.IN_SPOOL
        logs.warning("intake.trial_not_in_database", error=logs.describe(why), is_spooled=kept is not None)
        if not self._is_known():
            self._note(kept, _TRIAL_TELLS_SECONDS)

    def _note(self, kept: Kept | None, tells_seconds: float) -> None:
        self._kept, self._kept_until = kept, monotonic() + tells_seconds
        self._is_asked = False
        outcome, self._next_outcome = self._next_outcome, Event()
        outcome.set()

    def _is_known(self) -> bool:
        return monotonic() < self._kept_until

    def _is_kept_alone(self, arrival: Arrival, deadline: float) -> bool:
        try:
            self._through_door([arrival], deadline)
        except StorageUnavailable as error:
            return not self._into_spool([arrival], error)
        except Exception as error:  # noqa: BLE001 - its sender is told 503, and ops why
            logs.error("intake.not_kept", error, callbacks=1)
            return False
        return True


def _size(arrival: Arrival) -> int:
    return len(arrival.callback.query) + len(arrival.callback.body)
