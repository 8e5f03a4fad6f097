"""The current application's settings, database, readiness probe and spool state, for its views."""

from dataclasses import dataclass
from datetime import datetime

from flask import Flask, current_app

from receiptsvc.config import Settings
from receiptsvc.server.admission import Shares
from receiptsvc.spool.backlog import Backlog, SpoolState
from receiptsvc.store.core.db import Database
from receiptsvc.web.http.problem_watch import ProblemWatch
from receiptsvc.web.http.readiness import ProbeStorage, ReadinessProbe

_EXTENSION = "receiptsvc"
_MAX_LONG_READS = 2


@dataclass(frozen=True, slots=True)
class _Context:
    settings: Settings
    database: Database
    readiness: ReadinessProbe
    backlog: Backlog | None
    page_database: Database
    problems: ProblemWatch
    long_reads: Shares


def attach(
    app: Flask,
    settings: Settings,
    database: Database,
    *,
    probe_storage: ProbeStorage | None,
    page_database: Database,
) -> None:
    """Give `app` the context that this module's functions read. `probe_storage`: see `ReadinessProbe`."""
    backlog = Backlog(settings.spool_dir) if settings.spool_dir else None
    probe = ReadinessProbe(settings, database, backlog, probe_storage)
    watch = ProblemWatch(settings, database, backlog)
    long_reads = Shares(max(1, min(_MAX_LONG_READS, settings.connection_shares.api - 1)), of_one=1)
    app.extensions[_EXTENSION] = _Context(settings, database, probe, backlog, page_database, watch, long_reads)


def settings() -> Settings:
    """The current application's settings."""
    return _current().settings


def database() -> Database:
    """The current application's database."""
    return _current().database


def page_database() -> Database:
    """The same, by connections of the ops page's own, for what must not wait behind the API."""
    return _current().page_database


def long_reads() -> Shares:
    """Who has one of the API's connections for what the ops page reads for long: one a person, and one stays free."""
    return _current().long_reads


def readiness() -> ReadinessProbe:
    """The current application's readiness probe."""
    return _current().readiness


def problems() -> ProblemWatch:
    """What the current application's process sees of problems by itself."""
    return _current().problems


def spooled() -> SpoolState | None:
    """The callbacks that wait in this host's spool; None if there is no spool. Raises StorageUnavailable."""
    backlog = _current().backlog
    return backlog.look() if backlog is not None else None


def now() -> datetime:
    """The current time by the database's clock, UTC."""
    return database().clock.now()


def _current() -> _Context:
    context: _Context = current_app.extensions[_EXTENSION]
    return context
