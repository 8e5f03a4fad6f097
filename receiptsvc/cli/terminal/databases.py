"""Opens the database for a command: closes it at the end, and turns its errors into one line."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from sqlalchemy.exc import DBAPIError

from receiptsvc import logs
from receiptsvc.config import Settings
from receiptsvc.domain.errors import NotMigrated, StorageUnavailable
from receiptsvc.store.core import time_limits
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.notify import Notifier


@contextmanager
def opened(settings: Settings, *, is_written: bool = False) -> Iterator[Database]:
    """The settings' database. Raises ClickException if it is unreachable or lacks migrations, and TooNew.

    `is_written`: whether the command writes, so that the message says what became of that.
    """
    database = Database(settings.database_url, limits=time_limits.COMMAND)
    notifier = None
    if is_written and not database.is_sqlite:
        notifier = Notifier(settings.database_url)
        database.notify = notifier.notify
    try:
        database.check_schema()
        yield database
    except NotMigrated as error:
        raise click.ClickException(str(error)) from error
    except (DBAPIError, StorageUnavailable) as error:
        description = logs.describe(error)
        raise click.ClickException(
            f"the database did not do it ({description}); what was done before that stays done"
            if is_written
            else f"the database can't be read ({description})"
        ) from error
    finally:
        if notifier is not None:
            notifier.close()
        database.close()
