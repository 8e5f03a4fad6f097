"""`verify`: checks statuses, outcomes and counters against the kept receipts. What is checked: `store.health`."""

import json
from collections import Counter
from dataclasses import asdict
from datetime import datetime

import click

from receiptsvc.cli.terminal import databases, display
from receiptsvc.cli.terminal.options import json_option
from receiptsvc.config import Settings
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.store.core import database_faults
from receiptsvc.store.core.db import Database
from receiptsvc.store.health import last_verification, verification


@click.command()
@json_option
@click.pass_context
def verify(ctx: click.Context, *, as_json: bool) -> None:
    """Prove that statuses, outcomes and counters add up.

    Derives again what was derived from the kept receipts, counts again what was counted, and names each difference.
    It may run beside the service. Exit code 1 if there is any fault.
    """
    tally: Counter[str] = Counter()
    faults: list[verification.Fault] = []
    settings = Settings.from_env()
    name = database_faults.describe(settings.database_url)
    with databases.opened(settings) as database:
        database.read_clock()
        began_at = database.clock.now()
        for fault in verification.verify(database, tally=tally):
            faults.append(fault)
            if not as_json:
                click.echo(f"{fault.what}, {fault.where}: expected {fault.expected}, found {fault.found}")
        _keep(database, began_at, faults=len(faults), receipts=tally["receipts"])
    if as_json:
        click.echo(
            json.dumps({"database": name, "checked": tally, "faults": [asdict(fault) for fault in faults]}, indent=2)
        )
    else:
        checked = ", ".join(f"{kind} {count}" for kind, count in tally.items())
        click.echo(f"{display.count(len(faults), 'fault')} in {name} ({checked})")
    ctx.exit(1 if faults else 0)


def _keep(database: Database, began_at: datetime, *, faults: int, receipts: int) -> None:
    """Keep how it ended, for the ops page. A database that takes no writes, such as a standby, can be verified too."""
    try:
        with database.transaction() as session:
            last_verification.keep(
                session, began_at=began_at, ended_at=database.clock.now(), faults=faults, receipts=receipts
            )
    except StorageUnavailable as error:
        click.echo(f"the ops page will not show this: {error}", err=True)
