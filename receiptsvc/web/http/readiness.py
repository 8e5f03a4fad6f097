"""The readiness probe: whether a callback can be kept now, and what else is degraded, within a bounded time.

The group commit answers the first question, because it keeps callbacks. The rest is read from the database, on other
connections.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from datetime import datetime, timedelta
from threading import Lock, Thread
from time import monotonic

from sqlalchemy.exc import SQLAlchemyError

from receiptsvc import ids, logs
from receiptsvc.config import Settings
from receiptsvc.domain import gateway_clock
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.domain.inbox import Kept
from receiptsvc.dynmark.transports import IGNORE_REPEATS
from receiptsvc.spool.backlog import Backlog
from receiptsvc.store.core.clock import describe_skew
from receiptsvc.store.core.db import Database
from receiptsvc.store.health import connection_limits, heartbeats
from receiptsvc.store.inbox import pending, time_slices
from receiptsvc.store.inbox.pending import Crowd
from receiptsvc.store.messages import clock_votes
from receiptsvc.store.outbound import accounts, call_results, send_gate

MAX_WAIT_SECONDS = 2.0

WORKER_UNSEEN = "worker unseen"
DATABASE_AWAY = "database away"
DATABASE_UNREADABLE = "the database can't be looked at"
SPOOL_IN_USE = "spool in use"
SENDING_NOT_CONFIGURED = "sending not configured"
TIME_SLICE_MISSING = "no time slice for next month's receipts"

ACCOUNT_REFUSED, ACCOUNT_SUSPECTED = "sending_account_refused", "sending_account_suspected"
PAUSED, OVERDUE = "sending_paused", "send_unknown_overdue"
CROWD = "receipts_of_one_sender"


ProbeStorage = Callable[[float], Kept]
"""Where a callback would be kept now, within a time limit in seconds. Raises StorageUnavailable if nowhere."""


class ReadinessProbe:
    """Runs one check of the database at a time. While a check hangs, the next caller waits for it and starts none."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        backlog: Backlog | None = None,
        probe_storage: ProbeStorage | None = None,
    ) -> None:
        """Without `probe_storage` (no group commit in this process) readiness means that the database can be read."""
        self._settings, self._database, self._backlog, self._probe_storage = settings, database, backlog, probe_storage
        self._lock = Lock()
        self._check: Future[list[str]] | None = None
        self._gauges: Mapping[str, int] = {}  # as of the last check that succeeded

    def find_degraded(self, now: datetime) -> list[str]:
        """What is degraded, in words. Raises StorageUnavailable if no callback can be kept."""
        deadline = monotonic() + MAX_WAIT_SECONDS
        check = self._begin_check(now)
        destination = self._probe_storage(MAX_WAIT_SECONDS) if self._probe_storage is not None else None
        away = [DATABASE_AWAY] if destination is Kept.IN_SPOOL else []
        spool = self._describe_spool()
        try:
            return away + _wait(check, deadline) + spool
        except StorageUnavailable:
            if self._probe_storage is None:
                raise
            return (away or [DATABASE_UNREADABLE]) + spool

    def read_gauges(self, now: datetime) -> Mapping[str, int]:
        """What holds sending or receipts, as metric → value; of the last check that succeeded, while none can."""
        with suppress(StorageUnavailable):
            _wait(self._begin_check(now), monotonic() + MAX_WAIT_SECONDS)
        return self._gauges

    def _describe_spool(self) -> list[str]:
        try:
            state = self._backlog.look() if self._backlog is not None else None
        except OSError as error:
            return [f"the spool can't be looked at: {logs.describe(error)}"]
        if state is None:
            return []
        waiting = [f"{SPOOL_IN_USE}: {state.records} callbacks wait"] if state.records else []
        return waiting + ([f"spool: {state.aside_files} files need a person"] if state.aside_files else [])

    def _begin_check(self, now: datetime) -> "Future[list[str]]":
        with self._lock:
            if self._check is None or self._check.done():
                self._check = Future()
                Thread(target=self._run, args=(self._check, now), daemon=True).start()
            return self._check

    def _run(self, check: "Future[list[str]]", now: datetime) -> None:
        try:
            check.set_result(self._check_database(now))
        except (StorageUnavailable, SQLAlchemyError) as error:
            logs.error("readiness.failed", error)
            check.set_exception(StorageUnavailable("the database can't be read"))

    def _check_database(self, now: datetime) -> list[str]:
        with self._database.reading() as session:
            workers = heartbeats.find_alive(session, "worker", now)
            degraded = [] if workers else [WORKER_UNSEEN]
            gate, impaired = send_gate.read(session), accounts.read_impaired(session, IGNORE_REPEATS)
            degraded += [] if time_slices.is_ready(session, now) else [TIME_SLICE_MISSING]
            overdue = call_results.count_overdue(session, now - timedelta(seconds=self._settings.resend_for_seconds))
            crowd = pending.find_crowd(session)
            votes = clock_votes.read(session, now - gateway_clock.WINDOW)
            too_many = connection_limits.find_fault(session, self._settings.database_connections, now)
        self._gauges = {
            CROWD: crowd.size if crowd is not None else 0,
            ACCOUNT_REFUSED: (gate.refused_at is not None)
            + sum(account.refused_at is not None for account in impaired),
            ACCOUNT_SUSPECTED: sum(account.suspected_at is not None for account in impaired),
            PAUSED: int(gate.paused_at is not None),
            OVERDUE: overdue,
        }
        gate_reasons = send_gate.describe(gate)
        degraded += [reason for reason in accounts.describe(impaired) if reason not in gate_reasons] + gate_reasons
        degraded += [_describe_crowd(crowd)] if crowd is not None else []
        degraded += [f"{overdue} messages stay send_unknown"] if overdue else []
        degraded += [too_many] if too_many else []
        gateway = gateway_clock.describe(votes, now)
        degraded += [f"{gateway}: DYNMARK_TIMEZONE?"] if gateway else []
        clocks = [("a worker's", worker.clock_ahead_seconds) for worker in workers]
        clocks.append(("the web process's", self._database.clock.ahead_seconds))
        degraded += filter(None, (describe_skew(*clock) for clock in clocks))
        return degraded if self._settings.account else [*degraded, SENDING_NOT_CONFIGURED]


def _describe_crowd(crowd: Crowd) -> str:
    of = ids.public("msg", crowd.message_id) if crowd.message_id else ids.public("rcp", crowd.first_receipt_id)
    return f"the receipts of {of} crowd the queue: {crowd.size} or more of one sender wait"


def _wait(check: "Future[list[str]]", deadline: float) -> list[str]:
    try:
        return check.result(max(0.0, deadline - monotonic()))
    except FutureTimeout:
        raise StorageUnavailable("the database takes too long") from None
