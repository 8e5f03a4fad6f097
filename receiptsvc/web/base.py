"""What every web process answers by Flask, whatever its role, and how the server calls it.

The addresses come from `app`, or from `monitoring` alone. Nothing here imports an API.
"""

import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from types import ModuleType
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import Flask, Response, request
from flask.json.provider import DefaultJSONProvider
from werkzeug.routing import BaseConverter

from receiptsvc.config import Settings
from receiptsvc.key_uses import KeyUses
from receiptsvc.server.application import ROUTE
from receiptsvc.server.public_path import UnderPublicPath
from receiptsvc.server.wsgi_bridge import WsgiBridge
from receiptsvc.store.core.db import Database
from receiptsvc.web.http import auth, caching, context, errors
from receiptsvc.web.http.readiness import ProbeStorage
from receiptsvc.web.schemas.base import Installation, SchemaContext

MONITORING_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})  # answered while all threads wait for the database
THREADS = 16  # for Flask

_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class RestOfPath(BaseConverter):
    """The rest of a URL's path, with any characters: slashes, empty segments, dots, line ends."""

    regex = r"[\s\S]+"
    part_isolating = False


class Id(BaseConverter):
    """Any path segment as an id, except those that are routes of their own with other methods."""

    regex = r"(?!(?:cancel|dismiss|lookup|query|replay)\Z)[^/]+"


def new_app(
    settings: Settings,
    database: Database,
    modules: Iterable[ModuleType],
    *,
    probe_storage: ProbeStorage | None = None,
    page_database: Database | None = None,
    uses: KeyUses | None = None,
) -> Flask:
    """An application with the views of these modules, each on a `blueprint`. The rest: see `app.create_app`."""
    app = Flask("receiptsvc.web", static_folder=None, template_folder="docs/templates")
    app.config.update(MAX_CONTENT_LENGTH=settings.max_body_bytes, PROVIDE_AUTOMATIC_OPTIONS=False)
    json = DefaultJSONProvider(app)
    json.sort_keys = False
    app.json = json
    app.url_map.converters |= {"anything": RestOfPath, "id": Id}
    app.url_map.merge_slashes = False  # a clientRef may hold several in a row
    page_database = page_database or database
    page_database.clock = database.clock  # it is the same database
    context.attach(app, settings, database, probe_storage=probe_storage, page_database=page_database)
    auth.guard(app, auth.KnownKeys(settings.api_keys), uses or KeyUses())
    for module in modules:
        app.register_blueprint(module.blueprint)
    errors.register(app, is_operator=partial(auth.shows_scope, "ops"))
    caching.register(app)
    app.after_request(_harden)
    app.wsgi_app = _with_context(app.wsgi_app, installation_of(settings, database.clock.now))  # type: ignore[assignment, method-assign]
    return app


def installation_of(settings: Settings, now: Callable[[], datetime]) -> Installation:
    """What the schemas know of these settings."""
    return Installation(
        public_url=settings.public_url,
        transport=settings.transport,
        has_own_wsdl=settings.wsdl is not None,
        send_only_to=settings.send_only_to,
        max_recipients=settings.max_recipients,
        adopt_after=settings.adopt_after,
        now=now,
    )


def bridge(app: Flask, settings: Settings, stop: threading.Event, **options: Any) -> WSGIApplication:
    """The application as the server calls it, below the path of PUBLIC_URL too. Until `stop` it looks for problems.

    `options`: more of `WsgiBridge`'s.
    """
    with app.app_context():
        look_for_problems = context.problems().keep_looking
    threading.Thread(target=look_for_problems, args=(stop,), name="problems", daemon=True).start()
    roots = {rule.rule.partition("<")[0].lstrip("/").partition("/")[0] for rule in app.url_map.iter_rules()} - {""}
    bridged = WsgiBridge(
        app,
        threads=THREADS,
        connections=settings.connection_shares.api,
        find_key=auth.KnownKeys(settings.api_keys).find_name,
        reserved_paths=MONITORING_PATHS,
        **options,
    )
    return UnderPublicPath(bridged, settings.public_path, roots)


def _with_context(serve: WSGIApplication, installation: Installation) -> WSGIApplication:
    def serve_in_context(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with SchemaContext(installation):
            return serve(environ, start_response)

    return serve_in_context


def _harden(response: Response) -> Response:
    request.environ[ROUTE] = request.url_rule.rule if request.url_rule else None  # for the access log
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    if response.mimetype == "text/html":
        response.headers.setdefault("Content-Security-Policy", _CONTENT_SECURITY_POLICY)
    return response
