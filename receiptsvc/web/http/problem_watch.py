"""What each web process sees of problems by itself: its host's spool and clock, and that the database is away."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from threading import Event
from typing import TypeAlias

from receiptsvc import logs, problem_looks
from receiptsvc.config import Settings
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.domain.problems import Kind, Seen
from receiptsvc.problem_looks import ProblemLooks
from receiptsvc.spool.backlog import Backlog
from receiptsvc.store.core.clock import describe_skew
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import ProblemRow
from receiptsvc.store.health import problems
from receiptsvc.web.http import deadlines

_SECONDS = 2.0  # that an answer waits for the database

Rows: TypeAlias = Sequence[ProblemRow]


class ProblemWatch:
    """The looks of one web process, and what it tells while the database is away."""

    def __init__(self, settings: Settings, database: Database, backlog: Backlog | None) -> None:
        self._database, self._backlog = database, backlog
        self._looks = ProblemLooks(settings, database)
        self._away_since: datetime | None = None

    def note_away(self) -> datetime:
        """Note that somebody could not use the database; returns since when nobody could, as far as is known."""
        self._away_since = self._away_since or self._database.clock.now()
        return self._away_since

    def note_back(self) -> None:
        """Note that the database was used."""
        self._away_since = None

    def keep_looking(self, stop: Event) -> None:
        """Look from time to time until `stop`. For a thread of its own."""
        seconds = problem_looks.SECONDS
        while not stop.wait(seconds):
            seconds = problem_looks.SECONDS if self.look() else problem_looks.SOON_SECONDS

    def look(self) -> bool:
        """Look once, and keep what is seen, if the database can be used. Returns whether a worker is at work."""
        is_any_worker = False
        try:
            is_any_worker = self._looks.look_beside_workers(list(self._see_own()))
        except StorageUnavailable:
            self.note_away()
        except Exception as error:  # noqa: BLE001 - a thread that dies unnoticed is worse than one that logs errors
            logs.error("health.look_failed", error)
        else:
            self.note_back()
        return is_any_worker

    def read(self, task: Callable[[], Rows]) -> tuple[Rows, bool]:
        """What a task reads in the database, and whether it did: else what this process sees by itself."""
        try:
            rows = deadlines.within(_SECONDS, task, self)
        except StorageUnavailable as error:
            return self._see_without_database(error), False
        self.note_back()
        return rows, True

    def _see_without_database(self, error: StorageUnavailable) -> Rows:
        first_at, now = self.note_away(), self._database.clock.now()
        away = Seen(kind=Kind.DATABASE_AWAY, first_at=first_at, last_at=now, detail=str(error))
        return [ProblemRow(**problems.values_of(seen, now)) for seen in (away, *self._see_own())]

    def _see_own(self) -> Iterator[Seen]:
        now, cause = self._database.clock.now(), {"host": self._looks.host}
        skew = describe_skew("its", self._database.clock.ahead_seconds)
        if skew is not None:
            yield Seen(kind=Kind.WEB_CLOCK, cause=cause, first_at=now, last_at=now, detail=skew)
        try:
            spool = self._backlog.look() if self._backlog is not None else None
        except StorageUnavailable as error:
            yield Seen(kind=Kind.SPOOL_UNREADABLE, cause=cause, first_at=now, last_at=now, detail=str(error))
            return
        if spool is not None and spool.records:
            first_at = spool.oldest_at or now
            yield Seen(kind=Kind.SPOOL_WAITING, cause=cause, first_at=first_at, last_at=now, count=spool.records)
        if spool is not None and spool.aside_files:
            yield Seen(kind=Kind.SPOOL_ASIDE, cause=cause, first_at=now, last_at=now, count=spool.aside_files)
