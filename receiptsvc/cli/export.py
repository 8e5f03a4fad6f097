"""`export`: writes all messages or transitions that fit into a file or to standard output, over the API.

An export that breaks off leaves no file behind, and never a part of one in place of an older whole one.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import mkstemp
from typing import BinaryIO

import click

from receiptsvc.cli.terminal import display, national
from receiptsvc.cli.terminal.answers import api_errors_shown
from receiptsvc.cli.terminal.options import (
    Word,
    client_ref_option,
    client_ref_prefix_option,
    from_option,
    since_option,
    to_ends_option,
    to_option,
    transaction_option,
    until_option,
    with_all,
    without_none,
    words_option,
)
from receiptsvc.cli.terminal.wrong_use import WrongUse
from receiptsvc.client import Client, Unreachable
from receiptsvc.domain.statuses import Status

_FILTER_OPTIONS = (
    to_option("recipient", "To this number, in any usual writing."),
    to_ends_option,
    from_option("Of this sender, exactly as it was given."),
    client_ref_option,
    client_ref_prefix_option,
    transaction_option,
    words_option("--status", "status", [status.value for status in Status], "Of this status."),
    since_option("Accepted"),
    until_option("Accepted"),
)


@click.command(short_help="Give me all of it as a table.")
@click.argument("table", type=Word(["messages", "transitions"]), default="messages")
@with_all(_FILTER_OPTIONS)
@click.option("--format", "form", type=Word(["csv", "jsonl"]), default="csv", show_default=True, help="The form.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format jsonl: one object a line.")
@click.option("--bom", "has_bom", is_flag=True, help="Begin CSV with a byte order mark, by which Excel knows UTF-8.")
@click.option("--timezone", metavar="ZONE", help="Write CSV's times in this zone, such as Europe/London; else UTC.")
@click.option(
    "-o",
    "--output",
    "target",
    default="-",
    metavar="FILE",
    help="Where to; a new file may be read by its owner only. Unset or -: standard output.",
)
def export(
    *, table: str, form: str, as_json: bool, has_bom: bool, target: str, timezone: str | None, **filter_options: object
) -> None:
    """Give me all of it as a table. Messages, or their transitions, that fit every option, as CSV or JSON lines.

    The file is there only when it is whole. Exit code 1 if the export breaks off: what standard output then has is not
    all.

    \b
      python -m receiptsvc export --since 7d --output messages.csv
      python -m receiptsvc export --since yesterday --until today --bom --output yesterday.csv
      python -m receiptsvc export transitions --client-ref order-1
    """
    form = "jsonl" if as_json else form
    if form == "jsonl" and (has_bom or timezone):
        raise click.UsageError("--bom and --timezone go with CSV.")
    filters = without_none({**filter_options, "bom": "true" if has_bom else None, "timezone": timezone})
    client = Client.from_env()
    counted = _Lines(client.export(table, form, **filters))
    pieces = iter(counted)
    with api_errors_shown(hint=partial(national.describe, client, filters.get("recipient"))):
        try:
            if target == "-":
                _write(sys.stdout.buffer, pieces)
            else:
                with _new_file(Path(target)) as file:
                    _write(file, pieces)
        except Unreachable as error:
            left = "what was written is not all" if target == "-" else f"{display.plain(target)} was not written"
            raise click.ClickException(f"{error}; {left}") from error
    if target != "-":
        noun = "message" if table == "messages" else "transition"
        number = max(0, counted.lines - (form == "csv"))
        fit = "" if number else "".join(f" {name} {filters[name]}" for name in ("since", "until") if name in filters)
        click.echo(f"Written to {display.plain(target)}: {display.count(number, noun)}{fit}.", err=True)


class _Lines:
    """Pieces of CSV or JSON lines, and how many lines they had that are in no quotes (a text may have some)."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces, self.lines = pieces, 0

    def __iter__(self) -> Iterator[bytes]:
        is_quoted = False
        for piece in self._pieces:
            for number, part in enumerate(piece.split(b'"')):
                is_quoted ^= number > 0
                self.lines += 0 if is_quoted else part.count(b"\n")
            yield piece


def _write(file: BinaryIO, pieces: Iterable[bytes]) -> None:
    file.writelines(pieces)
    file.flush()


@contextmanager
def _new_file(target: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `target` when it is whole, mode 0600. A pipe or device is written as it is."""
    path = target.resolve()
    try:
        if path.exists() and not path.is_file():
            file, part = path.open("wb"), None
        else:
            descriptor, name = mkstemp(prefix=f".{path.name}.", dir=path.parent)
            file, part = os.fdopen(descriptor, "wb"), Path(name)
    except OSError as error:
        raise WrongUse(f"{display.plain(target)}: can't be written ({error.strerror})") from error
    try:
        with file:
            yield file
        if part is not None:
            part.replace(path)
    except OSError as error:
        raise click.ClickException(f"{display.plain(target)}: can't be written ({error.strerror})") from error
    finally:
        if part is not None:
            with suppress(OSError):  # it has taken its place
                part.unlink()
