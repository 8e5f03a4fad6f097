"""Builds the web process: the intake answers callbacks on the event loop, Flask everything else on threads.

What there is beside callbacks is of its role (`receiptsvc/web_role.py`), and only that is imported.
"""

import atexit
import sys
import threading
from importlib import import_module

from receiptsvc import logs, private_files
from receiptsvc.config import Settings
from receiptsvc.domain.errors import NotMigrated, SettingsError, StorageUnavailable, TooNew
from receiptsvc.intake.ack_stats import AckStats
from receiptsvc.intake.callbacks import Intake
from receiptsvc.intake.group_commit import GroupCommit
from receiptsvc.key_uses import KeyUses, keep_writing
from receiptsvc.log_handler import StderrHandler
from receiptsvc.server import schema_check
from receiptsvc.server.application import Application
from receiptsvc.server.threads import EventLoop
from receiptsvc.spool.drainer import Drainer
from receiptsvc.spool.writer import Spool
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.notify import Notifier
from receiptsvc.store.core.topics import Topic
from receiptsvc.store.health.health_log import watch_for_workers
from receiptsvc.store.inbox.writer import open_writer
from receiptsvc.web.ops import presence
from receiptsvc.web_role import WebRole

_MAX_LEAVE_SECONDS = 1.0  # the database may be away


def make() -> Application:
    """The application of one web process, from the environment. Raises SettingsError and TooNew."""
    logs.set_up("web", StderrHandler())
    settings = Settings.from_env()
    private_files.warn_of_open(settings.private_paths)
    if settings.unknown_names:
        logs.warning("settings.unknown", names=settings.unknown_names)
    if settings.api_key_file is not None:
        logs.info("web.api_key_made_here", file=str(settings.api_key_file))
    connections = settings.connection_shares.api
    database = Database(
        settings.database_url, pool_size=connections, max_writers=max(1, connections - 1), keeps_callbacks=True
    )
    writer = open_writer(settings.database_url, database.slot, patience_seconds=settings.callback_budget_seconds)
    try:
        database.check_schema()
        database.close()  # so that the writer finds a connection free
        writer.connect()  # raises SettingsError if commits are not durable
    except NotMigrated as error:
        logs.fault("web.not_migrated", error)  # the migrations may run at this moment
        schema_check.check_later(database)
    except StorageUnavailable as error:
        logs.fault("web.storage_unavailable", error)  # callbacks are answered 503 or spooled
        schema_check.check_later(database)
    if not settings.is_sqlite:
        notifier = Notifier(settings.database_url)
        database.notify = notifier.notify
        atexit.register(notifier.close)

    def notify_of_receipts() -> None:
        database.notify({Topic.RECEIPTS})

    spool = Spool(settings.spool_dir) if settings.spool_dir else None
    group_commit = GroupCommit(
        writer, budget_seconds=settings.callback_budget_seconds, spool=spool, on_commit=notify_of_receipts
    )
    if spool is not None and settings.spool_dir is not None:
        drain_writer = open_writer(settings.database_url, database.slot, patience_seconds=2)
        drainer = Drainer(settings.spool_dir, spool, drain_writer, notify_of_receipts)
        atexit.register(spool.close)
        atexit.register(drainer.close)
    stop = threading.Event()
    threading.Thread(target=watch_for_workers, args=(database, stop), name="health", daemon=True).start()
    atexit.register(stop.set)
    ack_stats = AckStats(database)
    atexit.register(ack_stats.close)
    atexit.register(group_commit.close)
    loop, uses = EventLoop(), KeyUses()
    api = import_module(settings.web_role.module).serve(
        settings,
        database,
        probe_storage=lambda seconds: loop.run(seconds, group_commit.probe),
        uses=uses,
        stop=stop,
    )
    _show_presence(database, settings.web_role, stop)
    threading.Thread(target=keep_writing, args=(uses, database, stop), name="key uses", daemon=True).start()
    intake = Intake(settings, group_commit, ack_stats, uses)
    return Application(api, intake, intake.is_callback, intake.count_unparsed, settings.public_path)


def _show_presence(database: Database, role: WebRole, stop: threading.Event) -> None:
    """Have the database show that this process runs, until it ends."""
    thread = threading.Thread(target=presence.keep_shown, args=(database, role, stop), name="presence", daemon=True)
    thread.start()

    def leave() -> None:
        stop.set()
        thread.join(_MAX_LEAVE_SECONDS)

    atexit.register(leave)


try:
    application = make()
except (SettingsError, TooNew) as error:
    sys.stderr.write(f"{error}\n")
    sys.exit(schema_check.HALT)
