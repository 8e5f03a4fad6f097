"""`migrate`: brings the database to this release's tables. The work is in `upgrade`."""

from contextlib import closing

import click

from receiptsvc.config import Settings
from receiptsvc.store.core import database_faults, schema, time_limits
from receiptsvc.store.core.db import Database
from receiptsvc.upgrade.runner import Outcome, Upgrade

_ENDS = {
    Outcome.NOTHING_TO_DO: f"nothing to do: {{database}} has migration {schema.REVISION}",
    Outcome.UPGRADED: f"{{database}} has migration {schema.REVISION}",
    Outcome.NEWER: "nothing to do: {database} is newer than this release, which may use it all the same",
}


@click.command()
def migrate() -> None:
    """Bring the database to the tables of this release.

    It may be run at any time, and several times at once: one does it, the others wait for it. A database that is newer
    is left alone: exit code 0 if this release may use it, else 1.
    """
    settings = Settings.from_env()
    try:
        database = Database(settings.database_url, pool_size=2, may_create=True, limits=time_limits.MIGRATION)
        with closing(database):
            end = _ENDS[Upgrade(database, click.echo).run()]
            click.echo(end.format(database=database_faults.describe(settings.database_url)))
    except database_faults.ERRORS as error:
        raise click.ClickException(database_faults.explain(error, settings.database_url)) from error
