"""The web process: callbacks go straight to the intake, everything else to Flask."""

import atexit
import sys

from receiptsvc import logs
from receiptsvc.config import Settings
from receiptsvc.domain.errors import SettingsError, StorageUnavailable
from receiptsvc.intake.app import Intake
from receiptsvc.intake.keeper import Keeper
from receiptsvc.store.db import Database
from receiptsvc.web.app import create_app


def make() -> Intake:
    """The application of one web process, from the environment. Raises SettingsError."""
    logs.set_up("web")
    settings = Settings.from_env()
    database = Database(settings.database_url, pool_size=8)
    if settings.api_key_file is not None:
        logs.info("web.api_key_made_here", file=str(settings.api_key_file))
    try:
        database.refuse_unsafe()
    except StorageUnavailable as error:
        logs.warning("web.storage_unavailable", error=logs.describe(error))  # until it is back, callbacks are told 503
    # The keeper has a connection of its own, so that a busy API can't keep a receipt waiting.
    door = Database(settings.database_url, pool_size=1, busy_seconds=0.2)
    keeper = Keeper(door, budget_seconds=settings.callback_budget_seconds)
    atexit.register(keeper.close)
    return Intake(create_app(settings, database), settings, keeper)


try:
    application = make()
except SettingsError as error:
    # gunicorn reads this exit status as "do not try again".
    sys.stderr.write(f"{error}\n")
    sys.exit(4)
