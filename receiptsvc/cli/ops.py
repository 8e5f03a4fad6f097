"""`urls`, `keys` and `verify`: what ops ask of the settings and the database, without a running service."""

import json
from collections import Counter
from dataclasses import asdict

import click
from sqlalchemy.exc import DBAPIError

from receiptsvc import logs, tokens
from receiptsvc.cli import display
from receiptsvc.config import Settings
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.store import strangers, verification
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
def keys(*, as_json: bool) -> None:
    """Show the keys of callback URLs, and what came with others.

    By their kids: the secrets stay where they are. A kid that was refused and is not listed was taken away too early:
    messages that it signed are still on their way. List it again, behind the first.
    """
    settings = Settings.from_env()
    database = Database(settings.database_url)
    try:
        with database.reading() as session:
            refused = strangers.by_kid(session)
    finally:
        database.close()
    listed = [key.kid for key in settings.callback_keys]
    if as_json:
        seen = [{"kid": one.kid, "callbacks": one.callbacks, "lastAt": one.last_at.isoformat()} for one in refused]
        click.echo(json.dumps({"listed": listed, "refused": seen}, indent=2))
        return
    for place, kid in enumerate(listed):
        click.echo(f"{kid:<10}{'signs and verifies' if place == 0 else 'verifies'}")
    for one in refused:
        what = "not listed"
        if one.kid is None or one.kid in listed:
            what = "not of our form" if one.kid is None else "its secret is another"
        came = f"{display.count(one.callbacks, 'callback')}, last {one.last_at:%Y-%m-%d %H:%M:%SZ}"
        click.echo(f"{one.kid or '-':<10}refused {came}: {what}")


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
    except (DBAPIError, StorageUnavailable) as error:
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
