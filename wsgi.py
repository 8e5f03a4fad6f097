"""The web process: callbacks go straight to the intake, on the event loop; everything else to Flask, on threads."""

import atexit
import sys

from receiptsvc import logs
from receiptsvc.config import Settings
from receiptsvc.domain.errors import SettingsError, StorageUnavailable
from receiptsvc.intake.ack_stats import AckStats
from receiptsvc.intake.app import Intake
from receiptsvc.intake.group_commit import GroupCommit
from receiptsvc.server import event_streams
from receiptsvc.server.threads import Loop
from receiptsvc.server.worker import WsgiBridge
from receiptsvc.spool.drainer import Drainer
from receiptsvc.spool.writer import Spool
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.notify import Notifier
from receiptsvc.store.inbox.writer import open_writer
from receiptsvc.web.app import create_app
from receiptsvc.web.http import auth

WATCHED = frozenset({"/healthz", "/readyz", "/metrics"})  # also while every other thread waits for the database
THREADS = 16  # for Flask; each may hold a connection to the database


def make() -> Intake:
    """The application of one web process, from the environment. Raises SettingsError."""
    logs.set_up("web")
    settings = Settings.from_env()
    if settings.api_key_file is not None:
        logs.info("web.api_key_made_here", file=str(settings.api_key_file))
    database = Database(settings.database_url, pool_size=THREADS + event_streams.THREADS)
    door = open_writer(settings.database_url, database.slot, patience_seconds=settings.callback_budget_seconds)
    try:
        door.connect()  # before all others, for whom there may be no connection left; refuses an unsafe database
    except StorageUnavailable as error:
        logs.warning("web.storage_unavailable", error=logs.describe(error))  # until it is back, callbacks are told 503
    ring = None if settings.is_sqlite else Notifier(settings.database_url).notify
    spool = Spool(settings.spool_dir) if settings.spool_dir else None
    keeper = GroupCommit(door, budget_seconds=settings.callback_budget_seconds, spool=spool, on_commit=ring)
    if spool is not None and settings.spool_dir is not None:
        back_door = open_writer(settings.database_url, database.slot, patience_seconds=2)
        drainage = Drainer(settings.spool_dir, spool, back_door)
        atexit.register(spool.close)
        atexit.register(drainage.close)
    tally = AckStats(Database(settings.database_url, pool_size=1))
    atexit.register(tally.close)
    atexit.register(keeper.close)
    loop = Loop()
    app = create_app(settings, database, find_out=lambda seconds: loop.do(seconds, keeper.find_out))
    flask = WsgiBridge(
        app,
        threads=THREADS,
        max_bytes=settings.max_bytes,
        find_key=auth.KnownKeys(settings.api_keys).find_name,
        aside=WATCHED,
    )
    return Intake(flask, settings, keeper, tally)


try:
    application = make()
except SettingsError as error:
    # gunicorn reads this exit status as "do not try again".
    sys.stderr.write(f"{error}\n")
    sys.exit(4)
