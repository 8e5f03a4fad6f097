"""What a web process for callbacks alone answers beside them: health and metrics, and that the rest is elsewhere.

It imports no API, no pages and no event streams, so that the process is small.
"""

import threading
from wsgiref.types import WSGIApplication

from flask import Flask, Response

from receiptsvc.config import Settings
from receiptsvc.key_uses import KeyUses
from receiptsvc.store.core.db import Database
from receiptsvc.web import base
from receiptsvc.web.api import health, metrics
from receiptsvc.web.http import errors
from receiptsvc.web.http.errors import Problem
from receiptsvc.web.http.readiness import ProbeStorage

_ELSEWHERE = (
    "This process has WEB_ROLE=callbacks: it answers callbacks, /healthz, /readyz and /metrics, and nothing else. Ask "
    "one that serves the API, where WEB_ROLE is api or all."
)


def create_app(
    settings: Settings,
    database: Database,
    *,
    probe_storage: ProbeStorage | None = None,
    uses: KeyUses | None = None,
) -> Flask:
    """The application. Its arguments are those of `app.create_app`."""
    app = base.new_app(settings, database, (health, metrics), probe_storage=probe_storage, uses=uses)
    app.register_error_handler(404, _respond_elsewhere)
    return app


def serve(
    settings: Settings, database: Database, *, probe_storage: ProbeStorage, uses: KeyUses, stop: threading.Event
) -> WSGIApplication:
    """The application as the server calls it, with its threads until `stop`."""
    app = create_app(settings, database, probe_storage=probe_storage, uses=uses)
    return base.bridge(app, settings, stop, max_bytes=0)  # nothing that it answers has a body


def _respond_elsewhere(_: Exception) -> Response:
    return errors.respond(Problem(404, _ELSEWHERE))
