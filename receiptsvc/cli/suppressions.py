"""`suppressions`: lists, adds and deletes opt-outs over the API."""

from contextlib import AbstractContextManager
from functools import partial

import click

from receiptsvc.cli.terminal import display, national, tables
from receiptsvc.cli.terminal.answers import api_errors_shown, print_json
from receiptsvc.cli.terminal.options import from_option, json_option, reason_option, to_option, without_none
from receiptsvc.client import Client, Json

_sender = from_option("Which sender, in any case; unset: the account's own number.")


@click.group(short_help="Who must not be written to?")
def suppressions() -> None:
    """List, add and delete opt-outs: people to whom a sender's messages are not sent.

    \b
      python -m receiptsvc suppressions add 447700900000 --from ACME --reason "asked us by phone"
      python -m receiptsvc suppressions list --to 447700900000
      python -m receiptsvc suppressions delete 447700900000 --from ACME
    """


@suppressions.command("list")
@to_option("recipient", "Of this person, in any usual writing.")
@from_option("Of this sender, in any case.")
@json_option
def list_all(*, recipient: str | None, originator: str | None, as_json: bool) -> None:
    """List opt-outs by number and sender: all, or those that fit every option."""
    filters = without_none({"recipient": recipient, "originator": originator})
    client = Client.from_env()
    with _errors_shown(client, recipient):
        items = list(client.suppressions(**filters))
    if as_json:
        print_json({"items": items})
        return
    out = display.console()
    tables.say(out, f"{display.count(len(items), 'opt-out')}.")
    display.print_suppressions(out, items)


@suppressions.command()
@click.argument("recipient", metavar="NUMBER")
@_sender
@reason_option
@json_option
def add(*, recipient: str, originator: str | None, reason: str | None, as_json: bool) -> None:
    """Stop a sender's messages to NUMBER. What was accepted before is cancelled when its turn comes."""
    client = Client.from_env()
    with _errors_shown(client, recipient):
        _show(client.suppress(recipient, originator, reason), as_json=as_json)


@suppressions.command()
@click.argument("recipient", metavar="NUMBER")
@_sender
@reason_option
@json_option
def delete(*, recipient: str, originator: str | None, reason: str | None, as_json: bool) -> None:
    """Let a sender write to NUMBER again. Exit code 1 if there was no such opt-out."""
    client = Client.from_env()
    with _errors_shown(client, recipient):
        _show(client.allow(recipient, originator, reason), as_json=as_json)


def _errors_shown(client: Client, recipient: str | None) -> AbstractContextManager[None]:
    return api_errors_shown(hint=partial(national.describe, client, recipient))


def _show(suppression: Json, *, as_json: bool) -> None:
    if as_json:
        print_json(suppression)
    else:
        display.print_suppressions(display.console(), [suppression])
