"""What every view may ask of the application that it runs in."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from flask import Flask, current_app

from receiptsvc import ids
from receiptsvc.config import Settings
from receiptsvc.server.event_streams import Feed
from receiptsvc.spool.backlog import Backlog, SpoolState
from receiptsvc.store.core.db import Database
from receiptsvc.web.http.readiness import FindOut, ReadinessProbe

_NAME = "receiptsvc"


@dataclass(frozen=True, slots=True)
class _Context:
    settings: Settings
    database: Database
    readiness: ReadinessProbe
    backlog: Backlog | None
    feed: Feed


def attach(app: Flask, settings: Settings, database: Database, feed: Feed, find_out: FindOut | None) -> None:
    """Give an application its settings, its database, what feeds its event streams, and who knows of keeping."""
    backlog = Backlog(settings.spool_dir) if settings.spool_dir else None
    looker = ReadinessProbe(settings, database, backlog, find_out)
    app.extensions[_NAME] = _Context(settings, database, looker, backlog, feed)


def settings() -> Settings:
    """The settings of the application at work."""
    return _current().settings


def database() -> Database:
    """The database of the application at work."""
    return _current().database


def readiness() -> ReadinessProbe:
    """What tells whether the application at work can do its duty."""
    return _current().readiness


def feed() -> Feed:
    """What feeds the event streams of the application at work."""
    return _current().feed


def spooled() -> SpoolState | None:
    """What waits in the spool of this host; None if there is no spool."""
    backlog = _current().backlog
    return backlog.look() if backlog is not None else None


def now() -> datetime:
    """The time."""
    return datetime.now(UTC)


def message_url(message_id: UUID) -> str:
    """Where a message can be read."""
    return f"{settings().public_url}/v1/messages/{ids.public('msg', message_id)}"


def conversation_url(conversation_id: UUID) -> str:
    """Where a conversation can be read."""
    return f"{settings().public_url}/v1/conversations/{ids.public('cnv', conversation_id)}"


def _current() -> _Context:
    context: _Context = current_app.extensions[_NAME]
    return context
