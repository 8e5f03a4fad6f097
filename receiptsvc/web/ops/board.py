"""What the first page shows, read once for all who look: one snapshot a process, made again while somebody looks.

However many pages are open, one thread reads at a time, and at most every few seconds. While the database is away the
last snapshot stays, and says since when it is no more than that.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Lock, Thread
from time import monotonic
from typing import Any
from uuid import UUID

from flask import Flask, render_template
from sqlalchemy.orm import Session

from receiptsvc import logs
from receiptsvc.domain.errors import ReceiptsvcError, StorageUnavailable
from receiptsvc.server.page_feed import Made, PageFeed, Part
from receiptsvc.spool.backlog import SpoolState
from receiptsvc.store.health.service_state import Finding
from receiptsvc.store.outbound import next_due
from receiptsvc.store.queries import statistics
from receiptsvc.store.queries.statistics import By, Line, StatisticsCache, TooManyCounts
from receiptsvc.web.http import caching, context
from receiptsvc.web.http.readiness import Look
from receiptsvc.web.ops import charts, cookies, incident, numbers, pages, verdict
from receiptsvc.web.ops.numbers import History, Numbers

FRESH_SECONDS = 2.0  # a snapshot is not made again sooner
RECENT_SECONDS = 10.0  # a page that opens waits for no newer one
PATIENCE_SECONDS = 0.3  # of who waits for a new one; else the last one is shown
THREAD = "board"
NOT_LIVE_AFTER = timedelta(seconds=10)  # without a new one

_HISTORY_SECONDS = 20.0
_LATE_SECONDS = 3.0  # a step of a reading that takes longer is one of a database that does not answer
_LATE = "the database has not answered in time: see whether it runs and can be reached"
_BROKEN = "this page has a fault of its own, which has been noted"


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """What is known of the service. `fault`: why the last try to read it failed; None: it did not, or is under way.

    `is_slow`: it only took too long. `is_history_late`: whether that of `history` did. `found`: what was amiss at the
    last look at the database; `beside`: with the spool and this process's settings. `look`: the last look that another
    part of this process made; None: it has made none, or there are numbers.
    """

    numbers: Numbers | None = None
    look: Look | None = None
    history: History | None = None
    is_history_late: bool = False
    found: Sequence[Finding] = ()
    beside: Sequence[Finding] = ()
    spool: SpoolState | None = None
    spool_fault: str | None = None
    fault: str | None = None
    is_slow: bool = False

    @property
    def at(self) -> datetime | None:
        """When the numbers were read."""
        return self.numbers.facts.at if self.numbers is not None else None

    @property
    def findings(self) -> Sequence[Finding]:
        """All that is amiss."""
        away = [] if self.fault is None else [Finding("database_away", self.fault)]
        return [*away, *(self.found if self.look is None else self.look.findings), *self.beside]

    @property
    def is_known(self) -> bool:
        """Whether anything is known of the service, of now or of before."""
        return self.numbers is not None or self.look is not None

    def is_live(self, now: datetime) -> bool:
        """Whether the numbers are of now."""
        return self.fault is None and self.at is not None and now - self.at < NOT_LIVE_AFTER


class Board:
    """The snapshot of one process, and the feed of its open pages. Thread-safe."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._lock = Lock()
        self._is_reading = False
        self._read: Future[None] = Future()  # the reading that is under way, or the last one
        self._snapshot = Snapshot()
        self._parts: Mapping[str, Part] = {}  # of the snapshot
        self._charts: tuple[History | None, bool, Part | None] = (None, False, None)  # as they were drawn last
        # By `monotonic`: the last try to read, and its last step; the last look, and the last charts, that succeeded.
        self._tried_at = self._stepped_at = self._read_at = self._history_at = float("-inf")
        self._cache = StatisticsCache()
        self._asked: frozenset[UUID] = frozenset()  # sessions with pages
        self.feed = PageFeed(self.make)

    def make(self, session_ids: Collection[UUID]) -> Made:
        """What the feed sends to the pages of these sessions."""
        self._asked = frozenset(session_ids)
        with self._app.app_context():
            snapshot, parts = self._look()
            tick = Part("", _tell_time(snapshot, context.now()))
        return Made({**parts, "tick": tick}, self._find_open(snapshot, self._asked))

    def show(self) -> tuple[Snapshot, Mapping[str, Part]]:
        """The snapshot, some seconds old at most, and the parts of the page. Its stream brings what is newer."""
        snapshot, parts = self._shown()
        if parts and snapshot.fault is None and monotonic() - self._read_at < RECENT_SECONDS:
            self._begin()
            return snapshot, parts
        return self._look()

    def look(self) -> Snapshot:
        """The snapshot, made again if it is not fresh; the last one, if that takes too long."""
        return self._look()[0]

    def _look(self) -> tuple[Snapshot, Mapping[str, Part]]:
        wait([self._begin()], PATIENCE_SECONDS)
        snapshot, parts = self._shown()
        if self._is_reading and monotonic() - self._stepped_at > _LATE_SECONDS and snapshot.fault is None:
            with self._app.app_context():
                is_slow = context.database().clock.has_answered_since(monotonic() - _LATE_SECONDS)
            self._publish(replace(snapshot, fault=pages.SLOW if is_slow else _LATE, is_slow=is_slow), snapshot)
        elif not parts:  # nothing was read yet
            self._publish(snapshot, instead_of=snapshot)
        return self._shown()

    def _shown(self) -> tuple[Snapshot, Mapping[str, Part]]:
        with self._lock:
            return self._snapshot, self._parts

    def _publish(self, snapshot: Snapshot, instead_of: Snapshot | None = None) -> None:
        """Show a snapshot, unless another one than `instead_of` is shown by now. It is drawn here, for all pages."""
        with self._app.app_context():
            look = context.readiness().last_look if snapshot.numbers is None else None
            snapshot = replace(snapshot, look=look)
            parts = {
                "verdict": _render("verdict", verdict=judge(snapshot), known_at=look.at if look is not None else None),
                "numbers": _render("numbers", **_describe(snapshot)),
                "charts": self._draw_charts(snapshot.history, is_late=snapshot.is_history_late),
            }
        with self._lock:
            if instead_of is None or self._snapshot is instead_of:
                self._snapshot, self._parts = snapshot, parts

    def _draw_charts(self, history: History | None, *, is_late: bool) -> Part:
        drawn, was_late, part = self._charts
        if part is None or drawn is not history or was_late is not is_late:
            part = _render("charts", history=history, is_late=is_late, width=charts.WIDTH, height=charts.HEIGHT)
            self._charts = history, is_late, part
        return part

    def _begin(self) -> "Future[None]":
        with self._lock:
            if not self._is_reading and monotonic() - self._tried_at >= FRESH_SECONDS:
                self._is_reading, self._read, self._tried_at = True, Future(), monotonic()
                self._stepped_at = self._tried_at
                Thread(target=self._run, args=(self._read,), name=THREAD, daemon=True).start()
            return self._read

    def _run(self, read: "Future[None]") -> None:
        with self._app.app_context():
            try:
                snapshot = self._look_again()
                self._publish(snapshot)
                if snapshot.history is not None:
                    read.set_result(None)  # nobody has to wait for newer charts
                if snapshot.fault is None and monotonic() - self._history_at >= _HISTORY_SECONDS:
                    history = self._read_history()
                    is_late = history is None
                    self._publish(replace(snapshot, history=history or snapshot.history, is_history_late=is_late))
            except Exception as error:  # noqa: BLE001 - whatever it is, the pages must say that they stand still
                logs.error("ops.page_not_read", error)
                self._break()
        self._is_reading = False
        if not read.done():
            read.set_result(None)

    def _break(self) -> None:
        """Say that the page is broken, without anything that may be."""
        with self._lock:
            self._snapshot = replace(self._snapshot, fault=_BROKEN)
            self._parts = {**self._parts, "verdict": Part("broken", f"<h1>Wrong: {_BROKEN}</h1>")}

    def _look_again(self) -> Snapshot:
        """Read how things stand. If that fails, what was read before stays, with why."""
        readiness = context.readiness()
        spool, spool_fault = _look_at_spool()
        old = replace(
            self._snapshot,
            beside=readiness.describe_process(),
            spool=spool,
            spool_fault=spool_fault,
            fault=None,
            is_slow=False,
        )
        try:
            with self._step() as session:
                read = numbers.read_numbers(session, context.now(), readiness, self._asked)
            found = readiness.judge(read.facts).findings
        except ReceiptsvcError as error:
            logs.fault("ops.page_not_read", error)
            is_only_late = isinstance(error, pages.PanelLate) and old.is_live(context.now())
            is_slow = pages.is_only_slow(error, self._stepped_at)
            return old if is_only_late else replace(old, fault=str(error), is_slow=is_slow)
        logs.over("ops.page_not_read")
        self._read_at = monotonic()
        return replace(old, numbers=read, found=found)

    def _read_history(self) -> History | None:
        """What was counted over time; None if that takes too long: what was added up by then is kept in memory.

        Each part is a short transaction: others share the connection.
        """
        now = context.now()
        try:
            with self._step() as session:
                kept = numbers.read_minutes(session, now)
            with self._step() as session:
                day = numbers.read_day(session, now, self._cache)
            month: list[Line] = []
            for since, until in numbers.month_pieces(now):
                with self._step() as session:
                    month += statistics.read(session, since, until, By.DAY, cache=self._cache).lines
        except (ReceiptsvcError, TooManyCounts) as error:
            logs.fault("ops.page_not_read", error, source="charts")
            return None
        logs.over("ops.page_not_read", source="charts")
        self._history_at = monotonic()
        return numbers.make_history(now, kept, day, month)

    @contextmanager
    def _step(self) -> Iterator[Session]:
        self._stepped_at = monotonic()
        with pages.reading() as session:
            yield session

    def _find_open(self, snapshot: Snapshot, session_ids: frozenset[UUID]) -> Collection[UUID]:
        """Those of the sessions that may go on. While the database is away nobody knows, and they may for a while."""
        if snapshot.fault is None and snapshot.numbers is not None:
            found = snapshot.numbers
            return found.open_sessions | (session_ids - found.asked_sessions)  # a new one was open a moment ago
        return session_ids if monotonic() - self._read_at < cookies.TRUSTED_FOR.total_seconds() else ()


def judge(snapshot: Snapshot) -> verdict.Verdict:
    """What is wrong, as it is said on the first page."""
    found = snapshot.numbers
    problems = found.problems if found is not None else {}
    judged = verdict.judge(snapshot.findings, is_read=snapshot.is_known, problems=problems)
    is_nothing = not judged.items and not judged.meant
    return replace(judged, line=verdict.NOTHING_THEN) if snapshot.look is not None and is_nothing else judged


def _look_at_spool() -> tuple[SpoolState | None, str | None]:
    try:
        return context.spooled(), None
    except StorageUnavailable as error:
        return None, str(error)


def _describe(snapshot: Snapshot) -> dict[str, Any]:
    """What `now_numbers.html` shows."""
    found, history = snapshot.numbers, snapshot.history
    return {
        "snapshot": snapshot,
        "found": found,
        "look": snapshot.look,
        "gauges": incident.describe_gauges(snapshot.look),
        "day": history.day if history is not None else None,
        "rates": numbers.measure_rates(found, history.kept if history else ()) if found is not None else None,
        "p99": numbers.describe_p99,
        "delivery_rate": numbers.delivery_rate,
        "versions": numbers.count_versions,
        "max_waiting": next_due.MAX_WAITING,
        "read_within": numbers.describe_reading(found.seconds) if found is not None else None,
        "has_account": context.settings().account is not None,
        "database": "SQLite" if context.database().is_sqlite else "PostgreSQL",
    }


def _render(name: str, **values: Any) -> Part:
    """A part of the page. The page is at /ops, so that its links need nothing before them."""
    text = render_template(f"ops/now_{name}.html", prefix="", **values)
    return Part(caching.tag_of(text), text)


def _tell_time(snapshot: Snapshot, now: datetime) -> str:
    """When the numbers were read, and whether that is now, for the script of the page."""
    at = snapshot.at.isoformat(timespec="milliseconds") if snapshot.at is not None else None
    return json.dumps({"at": at, "isLive": snapshot.is_live(now)})
