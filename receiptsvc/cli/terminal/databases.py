"""Opens the database for a command: closes it at the end, and turns its errors into one line."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from receiptsvc.config import Settings
from receiptsvc.domain.errors import NotMigrated, StorageUnavailable
from receiptsvc.store.core import database_faults, time_limits
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.notify import Notifier


@contextmanager
def opened(settings: Settings, *, is_written: bool = False) -> Iterator[Database]:
    """The settings' database. Raises ClickException if it is unreachable or lacks migrations, and TooNew.

    `is_written`: whether the command writes: then the message says what became of that, and a transaction that stands
    still is ended.
    """
    database = Database(settings.database_url, limits=time_limits.CHANGE if is_written else time_limits.COMMAND)
    notifier = None
    if is_written and not database.is_sqlite:
        notifier = Notifier(settings.database_url)
        database.notify = notifier.notify
    try:
        database.check_schema()
        yield database
    except NotMigrated as error:
        raise click.ClickException(str(error)) from error
    except (StorageUnavailable, *database_faults.ERRORS) as error:
        fault = (
            error if isinstance(error, StorageUnavailable) else database_faults.explain(error, settings.database_url)
        )
        after = "; what was done before that stays done" if is_written else ""
        raise click.ClickException(f"{fault}{after}") from error
    finally:
        if notifier is not None:
            notifier.close()
        database.close()
