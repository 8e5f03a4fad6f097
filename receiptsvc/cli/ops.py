"""`urls` and `verify`: what ops ask of the settings and the database, without a running service."""

import json
from collections import Counter
from dataclasses import asdict

import click
from sqlalchemy.exc import DBAPIError

from receiptsvc import logs, tokens
from receiptsvc.cli import display
from receiptsvc.config import Settings
from receiptsvc.store import verification
from receiptsvc.store.db import Database


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def urls(*, as_json: bool) -> None:
    """Print the gateway portal's addresses.

    They go into the gateway's portal once, and they hold secrets.
    """
    static = tokens.static_urls(Settings.from_env())
    if as_json:
        click.echo(json.dumps(asdict(static), indent=2))
        return
    click.echo(f"receipts  {static.receipts}")
    click.echo(f"replies   {static.inbound}")
    click.echo("Whoever knows these addresses can report receipts and replies: keep them secret.", err=True)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
@click.pass_context
def verify(ctx: click.Context, *, as_json: bool) -> None:
    """Prove that statuses, outcomes and counters add up.

    Derives again what was derived from the kept receipts, counts again what was counted, and names each difference.
    It may run beside the service. Exit code 1 if there is any fault.
    """
    tally: Counter[str] = Counter()
    faults: list[verification.Fault] = []
    database = Database(Settings.from_env().database_url)
    try:
        for fault in verification.verify(database, tally=tally):
            faults.append(fault)
            if not as_json:
                click.echo(f"{fault.what}, {fault.where}: expected {fault.expected}, found {fault.found}")
    except DBAPIError as error:
        raise click.ClickException(
            f"the database can't be read ({logs.describe(error)}); have its migrations run?"
        ) from error
    finally:
        database.close()
    if as_json:
        click.echo(json.dumps({"checked": tally, "faults": [asdict(fault) for fault in faults]}, indent=2))
    else:
        checked = ", ".join(f"{kind} {count}" for kind, count in tally.items())
        click.echo(f"{display.count(len(faults), 'fault')} ({checked})")
    ctx.exit(1 if faults else 0)
