"""Whether a callback could be kept now, found out within a bounded time, and what else is not as it should be.

The first is the group commit's to say: it keeps them. The rest is read from the database, on other connections.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TookTooLong
from contextlib import suppress
from datetime import datetime, timedelta
from threading import Lock, Thread
from time import monotonic

from sqlalchemy.exc import SQLAlchemyError

from receiptsvc import logs
from receiptsvc.config import Settings
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.domain.inbox import Kept
from receiptsvc.spool.backlog import Backlog
from receiptsvc.store.core.db import Database
from receiptsvc.store.health import heartbeats
from receiptsvc.store.outbound import accounts, call_results, send_gate

UNSEEN_AFTER = timedelta(seconds=15)
MAX_WAIT_SECONDS = 2.0

WORKER_UNSEEN = "worker unseen"
DATABASE_AWAY = "database away"
NOT_LOOKED_AT = "the database can't be looked at"
SPOOL_IN_USE = "spool in use"
SENDING_NOT_CONFIGURED = "sending not configured"

ACCOUNT_REFUSED, ACCOUNT_SUSPECTED = "sending_account_refused", "sending_account_suspected"
PAUSED, OVERDUE = "sending_paused", "send_unknown_overdue"


ProbeIntake = Callable[[float], Kept]
"""Where a callback would be kept now, found out within so many seconds. Raises StorageUnavailable if nowhere."""


class ReadinessProbe:
    """Looks at a database, once at a time: a look that hangs is waited for again, not started again."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        backlog: Backlog | None = None,
        probe_intake: ProbeIntake | None = None,
    ) -> None:
        """Without `probe_intake` nothing here keeps callbacks; then all depends on whether the database can be read."""
        self._settings, self._database, self._backlog, self._probe_intake = settings, database, backlog, probe_intake
        self._lock = Lock()
        self._look: Future[list[str]] | None = None
        self._sending: Mapping[str, int] = {}  # as the last look saw it

    def find_degraded(self, now: datetime) -> list[str]:
        """What is not as it should be, in words. Raises StorageUnavailable if no callback can be kept."""
        deadline = monotonic() + MAX_WAIT_SECONDS
        look = self._begin_look(now)
        kept = self._probe_intake(MAX_WAIT_SECONDS) if self._probe_intake is not None else None
        away = [DATABASE_AWAY] if kept is Kept.IN_SPOOL else []
        spool = self._look_at_spool()
        try:
            return away + _wait(look, deadline) + spool
        except StorageUnavailable:
            if self._probe_intake is None:
                raise
            return (away or [NOT_LOOKED_AT]) + spool

    def look_at_sending(self, now: datetime) -> Mapping[str, int]:
        """What holds sending, as metrics; while the database is away, as it was when it could last be looked at."""
        with suppress(StorageUnavailable):
            _wait(self._begin_look(now), monotonic() + MAX_WAIT_SECONDS)
        return self._sending

    def _look_at_spool(self) -> list[str]:
        try:
            state = self._backlog.look() if self._backlog is not None else None
        except OSError as error:
            return [f"the spool can't be looked at: {logs.describe(error)}"]
        if state is None:
            return []
        words = [f"{SPOOL_IN_USE}: {state.records} callbacks wait"] if state.records else []
        return words + ([f"spool: {state.aside_files} files need a person"] if state.aside_files else [])

    def _begin_look(self, now: datetime) -> "Future[list[str]]":
        with self._lock:
            if self._look is None or self._look.done():
                self._look = Future()
                Thread(target=self._run, args=(self._look, now), daemon=True).start()
            return self._look

    def _run(self, look: "Future[list[str]]", now: datetime) -> None:
        try:
            look.set_result(self._find_degraded(now))
        except (StorageUnavailable, SQLAlchemyError) as error:
            logs.error("readiness.failed", error)
            look.set_exception(StorageUnavailable("the database can't be read"))

    def _find_degraded(self, now: datetime) -> list[str]:
        with self._database.reading() as session:
            workers = heartbeats.find_alive(session, "worker", now - UNSEEN_AFTER)
            words = [] if workers else [WORKER_UNSEEN]
            held, amiss = send_gate.read(session), accounts.show(session)
            overdue = call_results.count_overdue(session, now - timedelta(seconds=self._settings.resend_for_seconds))
        self._sending = {
            ACCOUNT_REFUSED: (held.refused_at is not None) + sum(one.refused_at is not None for one in amiss),
            ACCOUNT_SUSPECTED: sum(one.suspected_at is not None for one in amiss),
            PAUSED: int(held.paused_at is not None),
            OVERDUE: overdue,
        }
        words += [word for word in accounts.words(amiss) if word not in send_gate.describe(held)] + send_gate.describe(
            held
        )
        words += [f"{overdue} messages stay send_unknown"] if overdue else []
        return words if self._settings.account else [*words, SENDING_NOT_CONFIGURED]


def _wait(look: "Future[list[str]]", deadline: float) -> list[str]:
    try:
        return look.result(max(0.0, deadline - monotonic()))
    except TookTooLong:
        raise StorageUnavailable("the database takes too long") from None
