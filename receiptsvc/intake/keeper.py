"""Keeping callbacks: all that are in flight in this process go into one transaction, and each waits for its end.

A request joins the group that is forming and waits, on the event loop, for its end. One greenlet writes group after
group through the door, on a native thread. What the database can't take in time goes to the spool, if there is one.
"""

from collections.abc import Callable, Sequence
from time import monotonic
from uuid import UUID

import gevent
from gevent.event import Event

from receiptsvc import logs
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.intake.spool import Spool
from receiptsvc.intake.threads import Crew, Hand
from receiptsvc.store.door import Door
from receiptsvc.store.inbox import Arrival

GRACE_SECONDS = 1.0  # beyond its budget, for the spool and for the loop itself

_MOST_BYTES_IN_FLIGHT = 64 * 1024 * 1024
_AGAIN_SECONDS = 0.02
_PROBE_SECONDS = 0.3  # how long a database that is known to be away may keep a group from the spool
_NEWS_SECONDS = 0.02


class _Group:
    """Callbacks that share a commit. `lost`: those of it that could not be kept, once it has ended."""

    __slots__ = ("arrivals", "began_at", "ended", "lost")

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.began_at = 0.0  # of the monotonic clock: when its first callback joined
        self.ended = Event()
        self.lost: frozenset[UUID] = frozenset()


class Keeper:
    """The one writer of a process's callbacks."""

    def __init__(
        self,
        door: Door,
        *,
        budget_seconds: float,
        spool: Spool | None = None,
        on_news: Callable[[], None] | None = None,
    ) -> None:
        """`on_news` is called after commits, on a native thread, at most once in 20 ms."""
        self._door, self._spool, self._budget_seconds = door, spool, budget_seconds
        self._at_door, self._at_spool = Hand(door.abandon), Hand()
        self._forming = _Group()
        self._wake = Event()
        self._bytes_in_flight = 0
        self._is_closing = False
        self.is_database_away = False
        self._writer = gevent.spawn(self._write)
        self._news = Event()
        if on_news is not None:
            gevent.spawn(self._tell, on_news)

    def keep(self, arrival: Arrival) -> None:
        """Return once the callback is on disk. Raises StorageUnavailable after its budget and a second at most.

        After the error it may still be kept, but never twice: it has its id already.
        """
        size = _size(arrival)
        if self._bytes_in_flight + size > _MOST_BYTES_IN_FLIGHT:
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

    def close(self) -> None:
        """Keep what was handed over, and stop."""
        self._is_closing = True
        self._wake.set()
        self._writer.join(self._budget_seconds + GRACE_SECONDS)

    def _write(self) -> None:
        while self._forming.arrivals or not self._is_closing:
            self._wake.wait()
            self._wake.clear()
            while self._forming.arrivals:
                group, self._forming = self._forming, _Group()
                try:
                    group.lost = self._settle(group)
                except Exception as error:  # noqa: BLE001 - the one writer of this process must live
                    logs.error("intake.writer_failed", error)
                    group.lost = frozenset(arrival.id for arrival in group.arrivals)
                finally:
                    self._bytes_in_flight -= sum(map(_size, group.arrivals))
                    group.ended.set()

    def _tell(self, on_news: Callable[[], None]) -> None:
        crew = Crew(1)
        while not self._is_closing:
            self._news.wait()
            self._news.clear()
            crew.do(on_news)
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
        if self.is_database_away and self._spool is not None:
            deadline = min(deadline, monotonic() + _PROBE_SECONDS)
        while True:
            try:
                self._at_door.do(deadline - monotonic(), lambda: self._door.keep(arrivals))
            except StorageUnavailable:
                self.is_database_away = True
                if monotonic() + _AGAIN_SECONDS > deadline:
                    raise
            else:
                self.is_database_away = False
                self._news.set()
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
                return frozenset()
        logs.warning("intake.not_kept", callbacks=len(arrivals), error=logs.describe(why))
        return frozenset(arrival.id for arrival in arrivals)

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
