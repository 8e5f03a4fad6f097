"""The database as a command opens it: closed at the end, and its trouble told in words."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from sqlalchemy.exc import DBAPIError

from receiptsvc import logs
from receiptsvc.config import Settings
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.store.core.db import Database


@contextmanager
def opened(settings: Settings, *, is_written: bool = False) -> Iterator[Database]:
    """The settings' database. Raises ClickException if it is away or not as it should be."""
    database = Database(settings.database_url)
    try:
        yield database
    except (DBAPIError, StorageUnavailable) as error:
        trouble = logs.describe(error)
        raise click.ClickException(
            f"the database did not do it ({trouble}); what was done before that stays done"
            if is_written
            else f"the database can't be read ({trouble}); have its migrations run?"
        ) from error
    finally:
        database.close()
