"""`send`: sends one text to some people over the API. Sending a file is in `send_file`."""

import math
import secrets
import sys
from typing import Any

import click

from receiptsvc.cli.send_file import command
from receiptsvc.cli.terminal import display
from receiptsvc.cli.terminal.answers import api_errors_shown, print_json
from receiptsvc.cli.terminal.message_fields import MESSAGE_FIELDS
from receiptsvc.cli.terminal.options import with_all
from receiptsvc.client import Client, Json, Unreachable

# The options of a single message. Each parameter has the API's name.
_MESSAGE = (
    click.option("--to", "recipients", multiple=True, metavar="NUMBER", help="The recipient; may be repeated."),
    click.option("--text", help="The text; - reads it from standard input."),
    *(field.option() for field in MESSAGE_FIELDS),
)
_HELP = f"""Send a text to one or several people, or a file of messages.

A file's columns (the members of its lines of JSON) are recipient or recipients, text,
{", ".join(field.name for field in MESSAGE_FIELDS)}. The whole file is checked before anything is sent.
If the command is stopped, run it again: it continues, and nothing goes out twice.
"""


@click.command(help=_HELP)
@with_all(_MESSAGE)
@click.option(
    "--idempotency-key", metavar="KEY", help="A name for this send: however often it is run, the text goes out once."
)
@click.option(
    "--file",
    "source",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help="Many messages, one a line of CSV (.csv) or JSON (.jsonl, .ndjson); - is standard input.",
)
@click.option("--format", "form", type=click.Choice(["csv", "jsonl"]), help="The file's form; unset: by its name.")
@click.option("--job", metavar="NAME", help="Keep the file's state in the data folder by this name, not beside it.")
@click.option(
    "--again", "is_again", is_flag=True, help="Send the whole file once more, whatever was sent of it before."
)
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Only check, and show what it would cost.")
@click.option(
    "--wait",
    "wait_seconds",
    is_flag=False,
    flag_value=math.inf,
    type=click.FloatRange(min=0),
    metavar="[SECONDS]",
    help="Follow the receipts until every message is final, or for SECONDS; exit code 1 if some are not final by then.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
def send(
    *,
    source: str | None,
    form: str | None,
    job: str | None,
    is_again: bool,
    is_dry_run: bool,
    wait_seconds: float | None,
    as_json: bool,
    idempotency_key: str | None,
    **described: Any,
) -> None:
    """Send a text to one or several people, or a file of messages."""
    message = {name: value for name, value in described.items() if value not in (None, (), False)}
    if source is not None:
        if message or idempotency_key:
            raise click.UsageError("--file takes no options that describe a message: the file says all that.")
        request = command.SendFileRequest(
            source=source, form=form, job=job, is_again=is_again, wait_seconds=wait_seconds, as_json=as_json
        )
        (command.estimate if is_dry_run else command.send)(request)
        return
    if form or job or is_again:
        raise click.UsageError("--format, --job and --again go with --file.")
    if not {"recipients", "text"} <= message.keys():
        raise click.UsageError("Give a recipient and a text with --to and --text, or a --file.")
    client = Client.from_env()
    message |= {"recipients": list(message["recipients"]), "text": _read_text(message["text"])}
    if is_dry_run:
        _estimate(client, message, as_json=as_json)
    else:
        _send(client, message, idempotency_key or secrets.token_hex(12), wait_seconds=wait_seconds, as_json=as_json)


def _estimate(client: Client, message: Json, *, as_json: bool) -> None:
    with api_errors_shown():
        items = client.send([message], dry_run=True)
    if as_json:
        print_json({"messages": items})
        return
    out = display.console()
    display.print_draft(out, items)
    segments = sum(int(item.get("segments") or 0) for item in items)
    out.print(
        f"{display.count(len(items), 'message')}, {display.count(segments, 'segment')} to pay for. Nothing was sent."
    )


def _send(client: Client, message: Json, key: str, *, wait_seconds: float | None, as_json: bool) -> None:
    try:
        with api_errors_shown():
            items = {str(item["id"]): item for item in client.send([message], key)}
    except Unreachable as error:
        raise click.ClickException(
            f"{error}; it is not known whether anything was sent. Run the same again with --idempotency-key "
            f"{display.plain(key)}, and it goes out once only"
        ) from error
    if not as_json:
        display.print_sent(display.console(), items.values())
    is_settled = True
    if wait_seconds is not None:
        with api_errors_shown():
            is_settled = command.wait(client, items, seconds=wait_seconds, is_shown=not as_json)
    if as_json:
        print_json({"messages": list(items.values())})
    elif wait_seconds is not None:
        display.print_messages(display.console(), items.values())
    if not is_settled:
        raise click.exceptions.Exit(1)


def _read_text(option: str) -> str:
    """The text as given, or for `-` from standard input without its last line break."""
    if option != "-":
        return option
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise click.UsageError("--text: standard input must be UTF-8.") from error
