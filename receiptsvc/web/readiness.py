"""Whether a callback could be kept now, found out within a bounded time, and what else is not as it should be."""

from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TookTooLong
from contextlib import suppress
from datetime import datetime, timedelta
from threading import Lock, Thread

from sqlalchemy.exc import SQLAlchemyError

from receiptsvc import logs
from receiptsvc.config import Settings
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.intake.backlog import Backlog
from receiptsvc.store import probe, queries, restraint, sending
from receiptsvc.store.db import Database

UNSEEN_AFTER = timedelta(seconds=15)
LONGEST_WAIT_SECONDS = 2.0

WORKER_UNSEEN = "worker unseen"
DATABASE_AWAY = "database away"
SPOOL_IN_USE = "spool in use"
SENDING_NOT_CONFIGURED = "sending not configured"

ACCOUNT_REFUSED, PAUSED, OVERDUE = "sending_account_refused", "sending_paused", "send_unknown_overdue"


class Looker:
    """Looks at a database, once at a time: a look that hangs is waited for again, not started again."""

    def __init__(self, settings: Settings, database: Database, backlog: Backlog | None = None) -> None:
        self._settings, self._database, self._backlog = settings, database, backlog
        self._lock = Lock()
        self._look: Future[list[str]] | None = None
        self._sending: Mapping[str, int] = {}  # as the last look saw it

    def find_degraded(self, now: datetime) -> list[str]:
        """What is not as it should be, in words. Raises StorageUnavailable if no callback can be kept."""
        spool = self._look_at_spool()
        try:
            return self._look_at_database(now) + spool
        except StorageUnavailable:
            if self._backlog is None:
                raise
            return [DATABASE_AWAY, *spool]  # the spool takes what comes

    def look_at_sending(self, now: datetime) -> Mapping[str, int]:
        """What holds sending, as metrics; while the database is away, as it was when it could last be looked at."""
        with suppress(StorageUnavailable):
            self._look_at_database(now)
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

    def _look_at_database(self, now: datetime) -> list[str]:
        with self._lock:
            if self._look is None or self._look.done():
                self._look = Future()
                Thread(target=self._run, args=(self._look, now), daemon=True).start()
            look = self._look
        try:
            return look.result(LONGEST_WAIT_SECONDS)
        except TookTooLong:
            raise StorageUnavailable("the database takes too long") from None

    def _run(self, look: "Future[list[str]]", now: datetime) -> None:
        try:
            look.set_result(self._find_degraded(now))
        except (StorageUnavailable, SQLAlchemyError) as error:
            logs.error("readiness.failed", error)
            look.set_exception(StorageUnavailable("a callback could not be kept"))

    def _find_degraded(self, now: datetime) -> list[str]:
        with self._database.transaction() as session:
            probe.try_keeping(session, now)
        with self._database.reading() as session:
            workers = queries.find_heartbeats(session, "worker", now - UNSEEN_AFTER)
            words = [] if workers else [WORKER_UNSEEN]
            held = restraint.read(session)
            overdue = sending.count_overdue(session, now - timedelta(seconds=self._settings.resend_for_seconds))
        self._sending = {
            ACCOUNT_REFUSED: int(held.refused_at is not None),
            PAUSED: int(held.paused_at is not None),
            OVERDUE: overdue,
        }
        words += restraint.words(held)
        words += [f"{overdue} messages stay send_unknown"] if overdue else []
        return words if self._settings.account else [*words, SENDING_NOT_CONFIGURED]
