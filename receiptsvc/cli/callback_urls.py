"""`urls` and `callback-keys`: the addresses at which the gateway reaches us, and the keys that protect them."""

import json

import click

from receiptsvc import tokens
from receiptsvc.cli.terminal import databases, display
from receiptsvc.cli.terminal.options import json_option
from receiptsvc.config import Settings
from receiptsvc.store.access import key_uses
from receiptsvc.store.access.key_uses import Kind
from receiptsvc.store.inbox import rejected


@click.command()
@json_option
def urls(*, as_json: bool) -> None:
    """Print the gateway portal's addresses.

    They go into the gateway's portal once, and they hold secrets. The last part of the receipts' address also opens
    /callbacks/receipts, as ?key= or as the password of HTTP Basic.
    """
    static = tokens.static_urls(Settings.from_env())
    addresses = {"receipts": static.receipts, "replies": static.inbound}
    if as_json:
        click.echo(json.dumps(addresses, indent=2))
        return
    for name, address in addresses.items():
        click.echo(f"{name:<10}{address}")
    click.echo("Keep these addresses secret: with them anyone can report receipts and replies.", err=True)


@click.command(name="callback-keys")
@json_option
def callback_keys(*, as_json: bool) -> None:
    """Show the keys of callback URLs, when a callback last came with each, and what came with others.

    Only their kids; no secret is shown. A kid that was refused and is not listed was removed too early: messages whose
    URLs it signed are still on their way. List it again, behind the first.
    """
    settings = Settings.from_env()
    with databases.opened(settings) as database, database.reading() as session:
        refused, seen = rejected.count_by_kid(session), key_uses.read(session, Kind.CALLBACK)
    listed = [key.kid for key in settings.callback_keys]
    if as_json:
        entries = [
            {"kid": entry.kid, "callbacks": entry.callbacks, "lastAt": entry.last_at.isoformat()} for entry in refused
        ]
        last_seen = {kid: seen[kid].isoformat() for kid in listed if kid in seen}
        click.echo(json.dumps({"listed": listed, "lastSeenAt": last_seen, "refused": entries}, indent=2))
        return
    for index, kid in enumerate(listed):
        last = f", last seen {seen[kid]:%Y-%m-%d %H:%MZ}" if kid in seen else ""
        click.echo(f"{kid:<10}{'signs and verifies' if index == 0 else 'verifies'}{last}")
    for entry in refused:
        callbacks = f"{display.count(entry.callbacks, 'callback')}, last {entry.last_at:%Y-%m-%d %H:%M:%SZ}"
        click.echo(f"{entry.kid or '-':<10}refused {callbacks}: {rejected.explain(entry.kid, listed)}")
