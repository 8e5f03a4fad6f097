"""The Flask application: the API, its documentation, health and metrics. Callbacks don't pass through Flask."""

import threading
from wsgiref.types import WSGIApplication

from flask import Flask

from receiptsvc.config import Settings
from receiptsvc.key_uses import KeyUses
from receiptsvc.store.core.db import Database
from receiptsvc.web import base
from receiptsvc.web.api import (
    audit,
    conversations,
    events,
    exports,
    health,
    ledger,
    messages,
    metrics,
    problems,
    receipts,
    recipients,
    replies,
    search,
    sending,
    statistics,
    suppressions,
    transactions,
)
from receiptsvc.web.docs import pages
from receiptsvc.web.http import auth
from receiptsvc.web.http.readiness import ProbeStorage
from receiptsvc.web.ops import cookies, incident, now, site
from receiptsvc.web.ops.pages import PREFIX

_MODULES = (
    messages,
    sending,
    transactions,
    conversations,
    recipients,
    replies,
    search,
    events,
    statistics,
    exports,
    suppressions,
    ledger,
    audit,
    problems,
    receipts,
    health,
    metrics,
    pages,
)


def create_app(
    settings: Settings,
    database: Database,
    *,
    probe_storage: ProbeStorage | None = None,
    page_database: Database | None = None,
    uses: KeyUses | None = None,
) -> Flask:
    """The application for these settings, on this database. `probe_storage`: see `ReadinessProbe`.

    `page_database`: the same by other connections, for the ops page. `uses`: where it is noted which keys are used.
    """
    app = base.new_app(
        settings,
        database,
        (*_MODULES, site) if settings.has_ops_page else _MODULES,
        probe_storage=probe_storage,
        page_database=page_database,
        uses=uses,
    )
    events.open_feed(app, database)
    return app


def serve(
    settings: Settings, database: Database, *, probe_storage: ProbeStorage, uses: KeyUses, stop: threading.Event
) -> WSGIApplication:
    """The application as the server calls it, with its threads until `stop`."""
    page_database = _open_for_page(settings)
    app = create_app(settings, database, probe_storage=probe_storage, page_database=page_database, uses=uses)
    if settings.has_ops_page:
        threading.Thread(target=incident.keep_looking, args=(app, stop), name="look", daemon=True).start()
        threading.Thread(target=now.prepare, args=(app,), name="first page", daemon=True).start()
    return base.bridge(
        app,
        settings,
        stop,
        max_bytes=settings.max_body_bytes,
        reading_posts=auth.find_reading_posts(app),
        page_path=PREFIX if settings.has_ops_page else None,
        find_person=lambda cookie: cookies.find_person(settings, cookie, database.clock.now()),
    )


def _open_for_page(settings: Settings) -> Database | None:
    """The database by a connection of the ops page's own; None where there is none left for it."""
    connections = settings.connection_shares.page * settings.has_ops_page
    return Database(settings.database_url, pool_size=connections, busy_seconds=0.5) if connections else None
