"""`send`, `status` and `conversation`: a person's way to the API, over HTTP like any other client's.

What an answer looks like on the screen is `cli.display`'s; what the words mean is the service's.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import click

from receiptsvc import ids
from receiptsvc.cli import display
from receiptsvc.client import ApiError, Client, Json, Unreachable

_WRONG_USE = frozenset({400, 401, 403, 409, 413, 422})  # statuses that tell the caller to ask otherwise
_NOTHING = frozenset({404, 422})  # statuses that say that a term is no reference of the kind it was tried as
_LONGEST_CLIENT_REF = 64
_FEWEST_DIGITS = 5  # of a phone number

_as_json = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")


def _reference(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """A term to look up, which must be able to travel."""
    value = value.strip()
    if not value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise click.BadParameter("must be text in UTF-8, and not empty")
    return value


def _text(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """What to say, from the command line or from standard input without its last line break."""
    if value != "-":
        return value
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise click.BadParameter("standard input must be UTF-8") from error


@click.command()
@click.option("--to", "recipients", multiple=True, required=True, metavar="NUMBER", help="Whom to; may be repeated.")
@click.option("--text", required=True, callback=_text, help="What to say; - reads it from standard input.")
@click.option("--from", "--originator", "originator", help="The sender to show; unset: the account's own number.")
@click.option("--client-ref", help="Your reference, at most 64 characters; it names the conversation.")
@click.option("--deliver-after", metavar="TIME", help="When to try first, such as 2026-01-31T09:30:00Z.")
@click.option("--valid-until", metavar="TIME", help="How long to try.")
@click.option("--country", metavar="CODE", help="Country of local numbers, ISO 3166-1 alpha-3 such as GBR.")
@click.option("--reject-unicode", is_flag=True, help="Refuse a text with characters outside the GSM set.")
@click.option("--include-message-text", is_flag=True, help="Have each receipt carry the text.")
@click.option("--filter-set", metavar="NAME", help="The Intelligent Filtering set to apply.")
@click.option("--impersonate", metavar="USER", help="Resellers: send as this client's account.")
@click.option("--guid", help="Your own messageGuid; unset: one is made for each message.")
@_as_json
def send(
    *,
    recipients: tuple[str, ...],
    text: str,
    originator: str | None,
    client_ref: str | None,
    deliver_after: str | None,
    valid_until: str | None,
    country: str | None,
    reject_unicode: bool,
    include_message_text: bool,
    filter_set: str | None,
    impersonate: str | None,
    guid: str | None,
    as_json: bool,
) -> None:
    """Send a text to one or several people."""
    message: Json = {
        "recipients": list(recipients),
        "text": text,
        "originator": originator,
        "clientRef": client_ref,
        "deliverAfter": deliver_after,
        "validUntil": valid_until,
        "countryIsoCode": country,
        "rejectUnicode": reject_unicode or None,
        "includeMessageText": include_message_text or None,
        "filterSetName": filter_set,
        "impersonateUserName": impersonate,
        "messageGuid": guid,
    }
    client = Client.from_env()
    try:
        with _refusals_told():
            items = client.send([{name: value for name, value in message.items() if value is not None}])
    except Unreachable as error:
        raise click.ClickException(
            f"{error}; it is not known whether anything was sent, so look with `status` before you send again"
        ) from error
    if as_json:
        _print_json({"messages": items})
    else:
        display.print_sent(display.console(), items)


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
    with _refusals_told():
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
        _print_json({"items": items})
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
    with _refusals_told():
        told = Client.from_env().conversation(client_ref)
    if as_json:
        _print_json(told)
    else:
        display.print_conversation(display.console(), told)


def _kinds(client: Client, term: str) -> Iterator[tuple[str, Callable[[], Iterator[Json]]]]:
    """Everything that `term` can be, and how to look it up as that."""
    if ids.parse("msg", term) is not None:
        yield "message id", lambda: iter([client.message(term)])
    if term.isascii() and term.isdigit():
        yield "transactionID", lambda: iter(client.transaction(term).get("messages") or [])
    if sum(letter.isdigit() for letter in term) >= _FEWEST_DIGITS and not any(map(str.isalpha, term)):
        yield "recipient", lambda: client.messages(recipient=term)
    if len(term) <= _LONGEST_CLIENT_REF:
        yield "clientRef", lambda: client.messages(clientRef=term)


@contextmanager
def _refusals_told() -> Iterator[None]:
    """Tell of a refusal in the service's own words, every fault by its path, and exit as the refusal says."""
    try:
        yield
    except ApiError as error:
        lines = [display.plain(error), *([display.plain(error.detail)] if error.detail else [])]
        for path, faults in error.errors.items():
            listed = faults if isinstance(faults, list) else [faults]
            lines += [f"  {display.plain(path)}: {display.plain(fault)}" for fault in listed]
        kind: type[click.ClickException] = click.UsageError if error.status in _WRONG_USE else click.ClickException
        raise kind("\n".join(lines)) from error


def _print_json(answer: dict[str, Any]) -> None:
    click.echo(json.dumps(answer, indent=2))
