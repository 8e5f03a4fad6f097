"""Checks the database's tables for a web process that started while they were not there yet.

The start refuses a database that is newer than this release and may not be used by it. One that was away then, or had
no tables, may turn out to be such a database later.
"""

import os
import sys
import threading

from receiptsvc import logs
from receiptsvc.domain.errors import StorageUnavailable, TooNew
from receiptsvc.store.core.db import Database

HALT = 4  # the exit status after which gunicorn starts no worker again

_AGAIN_SECONDS = 1.0


def check_later(database: Database) -> None:
    """Look from a thread of its own until the tables are there. If this release may not use them, end the server."""
    threading.Thread(target=_check, args=(database,), name="schema", daemon=True).start()


def _check(database: Database) -> None:
    never = threading.Event()
    while not never.wait(_AGAIN_SECONDS):
        try:
            database.check_schema()
        except StorageUnavailable:  # NotMigrated too
            continue
        except TooNew as error:
            sys.stderr.write(f"{error}\n")
            sys.stderr.flush()
            os._exit(HALT)  # what was answered 200 is on disk, as after a kill
        logs.info("web.database_fits")
        return
