"""`suppressions`: lists, adds and deletes opt-outs over the API."""

import click

from receiptsvc.cli.terminal import display
from receiptsvc.cli.terminal.answers import api_errors_shown, print_json
from receiptsvc.client import Client, Json

_sender = click.option(
    "--from", "--originator", "originator", help="Which sender, in any case; unset: the account's own number."
)
_why = click.option("--reason", help="Why; it is kept with the record of this.")
_as_json = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")


@click.group()
def suppressions() -> None:
    """List, add and delete opt-outs: people to whom a sender's messages are not sent.

    \b
      python -m receiptsvc suppressions add 447700900000 --from ACME --reason "asked us by phone"
      python -m receiptsvc suppressions list --to 447700900000
      python -m receiptsvc suppressions delete 447700900000 --from ACME
    """


@suppressions.command("list")
@click.option("--to", "recipient", metavar="NUMBER", help="Of this person, in any usual writing.")
@click.option("--from", "--originator", "originator", help="Of this sender, in any case.")
@_as_json
def list_all(*, recipient: str | None, originator: str | None, as_json: bool) -> None:
    """List opt-outs by number and sender: all, or those that fit every option."""
    options = {"recipient": recipient, "originator": originator}
    filters = {name: value for name, value in options.items() if value is not None}
    with api_errors_shown():
        items = list(Client.from_env().suppressions(**filters))
    if as_json:
        print_json({"items": items})
    else:
        display.print_suppressions(display.console(), items)


@suppressions.command()
@click.argument("recipient", metavar="NUMBER")
@_sender
@_why
@_as_json
def add(*, recipient: str, originator: str | None, reason: str | None, as_json: bool) -> None:
    """Stop a sender's messages to NUMBER. What was accepted before is cancelled when its turn comes."""
    with api_errors_shown():
        _show(Client.from_env().suppress(recipient, originator, reason), as_json=as_json)


@suppressions.command()
@click.argument("recipient", metavar="NUMBER")
@_sender
@_why
@_as_json
def delete(*, recipient: str, originator: str | None, reason: str | None, as_json: bool) -> None:
    """Let a sender write to NUMBER again. Exit code 1 if there was no such opt-out."""
    with api_errors_shown():
        _show(Client.from_env().allow(recipient, originator, reason), as_json=as_json)


def _show(suppression: Json, *, as_json: bool) -> None:
    if as_json:
        print_json(suppression)
    else:
        display.print_suppressions(display.console(), [suppression])
