"""`status` and `conversation`: a person's way to what is known, over HTTP like any other client's.

What an answer looks like on the screen is `cli.display`'s; what the words mean is the service's.
"""

from collections.abc import Callable, Iterator
from itertools import islice

import click

from receiptsvc import ids
from receiptsvc.cli.terminal import display
from receiptsvc.cli.terminal.answers import print_json, refusals_told
from receiptsvc.client import ApiError, Client, Json

_NOTHING = frozenset({404, 422})  # statuses that say that a term is no reference of the kind it was tried as
_MAX_CLIENT_REF = 64
_MIN_DIGITS = 5  # of a phone number

_as_json = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")


def _reference(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """A term to look up, which must be able to travel."""
    value = value.strip()
    if not value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise click.BadParameter("must be text in UTF-8, and not empty")
    return value


@click.command()
@click.argument("term", callback=_reference)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="At most so many a kind.")
@_as_json
@click.pass_context
def status(ctx: click.Context, *, term: str, limit: int, as_json: bool) -> None:
    """Show where messages stand.

    TERM is a message id, a transactionID, a phone number or a clientRef. One that can be several of these lists what
    each of them finds, newest first. Exit code 1 if there is nothing.
    """
    client = Client.from_env()
    found: dict[str, Json] = {}
    tried: list[str] = []
    with refusals_told():
        for kind, look_up in _kinds(client, term):
            tried.append(kind)
            try:
                for item in islice(look_up(), limit):
                    found.setdefault(str(item.get("id")), item)
            except ApiError as error:
                if error.status not in _NOTHING:
                    raise
        items = list(found.values())
        if len(items) == 1 and "transitions" not in items[0]:
            items = [client.message(str(items[0].get("id")))]
    if as_json:
        print_json({"items": items})
    elif items:
        out = display.console()
        display.print_messages(out, items)
        if len(items) == 1:
            out.print()
            display.print_transitions(out, items[0].get("transitions") or [])
    if not items:
        click.echo(f"Nothing found for {display.plain(term)}. Tried: {', '.join(tried)}.", err=True)
        ctx.exit(1)


@click.command()
@click.argument("client_ref", callback=_reference)
@_as_json
def conversation(*, client_ref: str, as_json: bool) -> None:
    """Show a conversation as it went.

    All that was said under CLIENT_REF (or in the conversation of a cnv_ id), and what became of it.
    """
    with refusals_told():
        told = Client.from_env().conversation(client_ref)
    if as_json:
        print_json(told)
    else:
        display.print_conversation(display.console(), told)


def _kinds(client: Client, term: str) -> Iterator[tuple[str, Callable[[], Iterator[Json]]]]:
    """Everything that `term` can be, and how to look it up as that."""
    if ids.parse("msg", term) is not None:
        yield "message id", lambda: iter([client.message(term)])
    if term.isascii() and term.isdigit():
        yield "transactionID", lambda: iter(client.transaction(term).get("messages") or [])
    if sum(letter.isdigit() for letter in term) >= _MIN_DIGITS and not any(map(str.isalpha, term)):
        yield "recipient", lambda: client.messages(recipient=term)
    if len(term) <= _MAX_CLIENT_REF:
        yield "clientRef", lambda: client.messages(clientRef=term)
