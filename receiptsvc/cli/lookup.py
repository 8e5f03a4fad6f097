"""`status` and `conversation`: look up messages and conversations over the API.

How an answer looks on the screen is in `terminal.display`.
"""

from collections.abc import Callable, Iterator
from itertools import islice

import click

from receiptsvc import ids
from receiptsvc.cli.terminal import display
from receiptsvc.cli.terminal.answers import api_errors_shown, print_json
from receiptsvc.client import ApiError, Client, Json
from receiptsvc.domain import numbers

_NOT_FOUND = frozenset({404, 422})  # the term is not a reference of the kind it was tried as
_MAX_CLIENT_REF = 64
_MIN_DIGITS = 5  # of a phone number

_as_json = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")


def _check_term(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """Strip a term, and refuse one that is empty or can't be encoded."""
    value = value.strip()
    if not value or any("\ud800" <= character <= "\udfff" for character in value):
        raise click.BadParameter("must be text in UTF-8, and not empty")
    return value


@click.command()
@click.argument("term", callback=_check_term)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="At most so many a kind.")
@_as_json
@click.pass_context
def status(ctx: click.Context, *, term: str, limit: int, as_json: bool) -> None:
    """Show the statuses of messages.

    TERM is a message id, a transactionID, a phone number or a clientRef. A term that can be several of these lists what
    each of them finds, newest first. Exit code 1 if there is nothing.
    """
    client = Client.from_env()
    items_by_id: dict[str, Json] = {}
    tried: list[str] = []
    with api_errors_shown():
        for kind, look_up in _lookups(client, term):
            tried.append(kind)
            try:
                for item in islice(look_up(), limit):
                    items_by_id.setdefault(str(item.get("id")), item)
            except ApiError as error:
                if error.status not in _NOT_FOUND:
                    raise
        items = list(items_by_id.values())
        if len(items) == 1 and "transitions" not in items[0]:
            items = [client.message(str(items[0].get("id")))]
    if as_json:
        print_json({"items": items})
    elif items:
        out = display.console()
        display.print_messages(out, items)
        if len(items) == 1:
            out.print()
            display.print_transitions(out, items[0])
    if not items:
        click.echo(f"Nothing found for {display.plain(term)}. Tried: {', '.join(tried)}.", err=True)
        ctx.exit(1)


@click.command()
@click.argument("client_ref", callback=_check_term)
@_as_json
def conversation(*, client_ref: str, as_json: bool) -> None:
    """Show a conversation's timeline.

    The messages and replies of CLIENT_REF (or of the conversation with this cnv_ id), and what became of them.
    """
    with api_errors_shown():
        answer = Client.from_env().conversation(client_ref)
    if as_json:
        print_json(answer)
    else:
        display.print_conversation(display.console(), answer)


def _lookups(client: Client, term: str) -> Iterator[tuple[str, Callable[[], Iterator[Json]]]]:
    """Each kind of reference that `term` can be, with the call that looks it up as that."""
    if ids.parse("msg", term) is not None:
        yield "message id", lambda: iter([client.message(term)])
    if term.isascii() and term.isdigit():
        yield "transactionID", lambda: client.messages(transactionID=term)  # not in a URL: it may be a phone number
    number = numbers.read(term)
    if number is not None and len(number) >= _MIN_DIGITS:
        yield "recipient", lambda: client.messages(recipient=number)
    if len(term.strip() or term) <= _MAX_CLIENT_REF:
        yield "clientRef", lambda: client.messages(clientRef=term)
