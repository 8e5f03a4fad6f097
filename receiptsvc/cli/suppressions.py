"""`suppressions`: who may not be written to by whom any more, over HTTP like any other client's."""

import click

from receiptsvc.cli.terminal import display
from receiptsvc.cli.terminal.answers import print_json, refusals_told
from receiptsvc.client import Client, Json

_sender = click.option(
    "--from", "--originator", "originator", help="Which sender, in any case; unset: the account's own number."
)
_why = click.option("--reason", help="Why; it is kept with the record of this.")
_as_json = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")


@click.group()
def suppressions() -> None:
    """List, add and delete people whom a sender may not write to.

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
    """List them by number and sender: all, or those that every option fits."""
    given = {"recipient": recipient, "originator": originator}
    with refusals_told():
        items = list(Client.from_env().suppressions(**{name: word for name, word in given.items() if word is not None}))
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
    """Keep a sender from writing to NUMBER. What was accepted before still goes out."""
    with refusals_told():
        _show(Client.from_env().suppress(recipient, originator, reason), as_json=as_json)


@suppressions.command()
@click.argument("recipient", metavar="NUMBER")
@_sender
@_why
@_as_json
def delete(*, recipient: str, originator: str | None, reason: str | None, as_json: bool) -> None:
    """Let a sender write to NUMBER again. Exit code 1 if nothing kept it from that."""
    with refusals_told():
        _show(Client.from_env().allow(recipient, originator, reason), as_json=as_json)


def _show(suppression: Json, *, as_json: bool) -> None:
    if as_json:
        print_json(suppression)
    else:
        display.print_suppressions(display.console(), [suppression])
