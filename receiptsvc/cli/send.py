"""`send`: sends one text to some people over the API. Sending a file is in `send_file`."""

import csv
import math
import secrets
import sys
from collections.abc import Sequence
from typing import Any

import click

from receiptsvc.cli.send_file import command, parser
from receiptsvc.cli.send_file.decoding import ENCODINGS
from receiptsvc.cli.send_file.duplicates import CHOICES, KEEP
from receiptsvc.cli.send_file.template import BadTemplate, Template
from receiptsvc.cli.terminal import display, holds
from receiptsvc.cli.terminal.answers import api_errors_shown, click_error, print_json
from receiptsvc.cli.terminal.message_fields import MESSAGE_FIELDS
from receiptsvc.cli.terminal.options import Word, json_option, with_all
from receiptsvc.cli.terminal.wrong_use import WrongUse
from receiptsvc.client import ApiError, Client, Json, Unreachable

# The options of a single message. Each parameter has the API's name.
_MESSAGE = (
    click.option("--to", "recipients", multiple=True, metavar="NUMBER", help="The recipient; may be repeated."),
    click.option(
        "--text",
        help="The text; - reads it from standard input. With --file: of all its messages, and ((name)) in it is what "
        "the column of that name has.",
    ),
    *(field.option() for field in MESSAGE_FIELDS),
)
_HELP = f"""Send a text to one or several people, or a file of messages.

A file's columns (the members of its lines of JSON) are recipient or recipients, text,
{", ".join(field.name for field in MESSAGE_FIELDS)}. The whole file is checked before anything is sent.
If the command is stopped, run it again: it continues, and nothing goes out twice.
"""


@click.command(help=_HELP, short_help="Send a text, or a file of them.")
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
@click.option("--format", "form", type=Word(["csv", "jsonl"]), help="The file's form; unset: by its name.")
@click.option(
    "--encoding",
    type=Word(list(ENCODINGS), case_sensitive=False),
    help="The file's encoding, where its bytes don't say it.",
)
@click.option(
    "--columns",
    multiple=True,
    metavar="FIELD=NAME,…",
    help="What the file calls our fields, such as recipient=phone,text=message. Its other columns are not sent.",
)
@click.option(
    "--duplicates",
    type=Word(CHOICES),
    default=KEEP,
    show_default=True,
    help="If a file has a person twice: warn and send both, send only the first, or refuse the file.",
)
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
@json_option
def send(
    *,
    source: str | None,
    form: str | None,
    encoding: str | None,
    columns: tuple[str, ...],
    duplicates: str,
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
        if message.keys() - {"text"} or idempotency_key:
            raise click.UsageError(
                "--file takes no options that describe a message but --text: the file says all that."
            )
        options = parser.Options(
            encoding=encoding,
            columns=_read_columns(columns),
            template=_read_template(message.get("text"), source),
            duplicates=duplicates,
        )
        request = command.SendFileRequest(
            source=source,
            form=form,
            job=job,
            is_again=is_again,
            wait_seconds=wait_seconds,
            as_json=as_json,
            options=options,
        )
        (command.estimate if is_dry_run else command.send)(request)
        return
    if form or job or is_again or encoding or columns or duplicates != KEEP:
        raise click.UsageError("--format, --encoding, --columns, --duplicates, --job and --again go with --file.")
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
    again = f"Run the same again with --idempotency-key {display.plain(key)}, and it goes out once only"
    try:
        items = {str(item["id"]): item for item in client.send([message], key)}
    except Unreachable as error:
        raise click.ClickException(f"{error}; it is not known whether anything was sent. {again}") from error
    except ApiError as error:
        raise click_error(error, hint=f"{again}." if error.retry_helps else "") from error
    if not as_json:
        display.print_sent(display.console(), items.values())
        holds.say(client)
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


def _read_columns(options: Sequence[str]) -> dict[str, str]:
    """Our names, and the file's for them. A name with a comma is put into double quotes."""
    named: dict[str, str] = {}
    try:
        pairs = [pair for row in csv.reader(options, strict=True) for pair in row]
    except csv.Error as error:
        raise click.UsageError(
            '--columns: put a name with a comma into double quotes: "text=Message, short".'
        ) from error
    for pair in pairs:
        field, _, name = map(str.strip, pair.partition("="))
        known = next((column for column in parser.COLUMNS if column.lower() == field.lower()), None)
        if known is None or not name:
            raise click.UsageError(
                f"--columns must be such as recipient=phone,text=message; the fields are {', '.join(parser.COLUMNS)}."
            )
        if known in named or name.casefold() in map(str.casefold, named.values()):
            raise click.UsageError(f"--columns: {known} or its column is there twice.")
        named[known] = name
    return named


def _read_template(text: str | None, source: str) -> Template | None:
    """The text of a file's messages; None without one."""
    if text is None:
        return None
    if text == "-" and source == "-":
        raise click.UsageError("--text and --file can't both be read from standard input.")
    try:
        return Template(_read_text(text))
    except BadTemplate as error:
        raise click.UsageError(f"--text {error}") from error


def _read_text(option: str) -> str:
    """The text as given, or for `-` from standard input without its last line break."""
    if option != "-":
        return option
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise WrongUse("--text: standard input must be UTF-8.") from error
