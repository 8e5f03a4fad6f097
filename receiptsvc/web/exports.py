"""Exports: any number of rows as CSV or JSON lines, in slices, each read in a short transaction of its own.

No transaction is open and no thread is held while a client takes its time. If the database goes away in the midst, the
answer breaks off without its end, so that nobody takes a part for the whole.
"""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import chain
from typing import Any

from flask import Response, request
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.store import exports
from receiptsvc.store.db import Database
from receiptsvc.store.exports import Values
from receiptsvc.store.listing import MessageFilter, Place
from receiptsvc.store.queries import Page
from receiptsvc.web.errors import Problem

CSV, JSON_LINES = "text/csv; charset=utf-8; header=present", "application/jsonl"

_SLICE = 500  # rows, or messages whose transitions they are
_AT_ONCE = 50  # rows that are written while no other thread gets its turn
_WORDS = ("false", "true")

# A cell that begins so is a formula to a spreadsheet. The last four are the first ones' wide forms.
_RISKY = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")

Write = Callable[[Sequence[Values]], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """What can be exported: the names of its columns, how a slice of rows is read, and a row as the API writes it."""

    name: str
    columns: tuple[str, ...]
    read: Callable[..., Page[Values, Place]]
    public: Callable[[Values], Values]


def _message(row: Values) -> Values:
    return f"msg_{ids.to_text(row[0])}", *row[1:]


def _transition(row: Values) -> Values:
    receipt = row[-1]
    return (
        f"msg_{ids.to_text(row[0])}",
        *row[1:-1],
        f"rcp_{ids.to_text(receipt)}" if receipt is not None else None,
    )


MESSAGES = Table(
    name="messages",
    columns=(
        "id",
        "createdAt",
        "recipient",
        "originator",
        "clientRef",
        "status",
        "statusAt",
        "conflict",
        "transactionID",
        "encoding",
        "segments",
        "text",
    ),
    read=exports.read_messages,
    public=_message,
)
TRANSITIONS = Table(
    name="transitions",
    columns=(
        "messageId",
        "status",
        "effect",
        "rule",
        "reason",
        "source",
        "providerStatusId",
        "providerDescription",
        "occurredAt",
        "receivedAt",
        "recordedAt",
        "receiptId",
    ),
    read=exports.read_transitions,
    public=_transition,
)


def answer(database: Database, table: Table, where: MessageFilter, media: str) -> Response:
    """All rows that fit, as a stream. Raises StorageUnavailable, as long as nothing was written; Problem 505."""
    if request.environ.get("SERVER_PROTOCOL") == "HTTP/1.0":
        raise Problem(505, "An export needs HTTP/1.1: by HTTP/1.0 one that broke off looks like a whole one.")
    pages = _pages(database, table, where)
    first = next(pages)
    write = _writer(table, media)
    ending = "csv" if media == CSV else "jsonl"
    return Response(
        _pieces(table, media, write, chain([first], pages)),
        content_type=media,
        headers={"Content-Disposition": f'attachment; filename="{table.name}.{ending}"'},
    )


def _pages(database: Database, table: Table, where: MessageFilter) -> Iterator[Sequence[Values]]:
    after: Place | None = None
    while True:
        with database.reading() as session:
            page = _read(session, table, where, after)
        yield page.items
        after = page.next
        if after is None:
            return


def _read(session: Session, table: Table, where: MessageFilter, after: Place | None) -> Page[Values, Place]:
    return table.read(session, where, limit=_SLICE, after=after)


def _pieces(table: Table, media: str, write: Write, pages: Iterator[Sequence[Values]]) -> Iterator[bytes]:
    """A slice at a time, the names of the columns before the first."""
    head = write([table.columns]) if media == CSV else ""
    for page in pages:
        text = [head]
        text += [
            write([table.public(row) for row in page[start : start + _AT_ONCE]])
            for start in range(0, len(page), _AT_ONCE)
        ]
        head = ""
        yield "".join(text).encode()


def _writer(table: Table, media: str) -> Write:
    return write_csv if media == CSV else lambda rows: write_json_lines(table.columns, rows)


def write_csv(rows: Sequence[Values]) -> str:
    """Rows by RFC 4180. What a spreadsheet would take for a formula gets an apostrophe before it.

    A column that is empty and one that is null look the same. Digits stay digits, so that programs read them as they
    are; a spreadsheet shows long ones as it likes, and cuts those of more than 15 unless the column comes in as text.
    """
    file = StringIO()
    csv.writer(file).writerows([[_cell(value) for value in row] for row in rows])
    return file.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return f"'{value}" if value and value[0] in _RISKY else value
    return _WORDS[value] if isinstance(value, bool) else value


def write_json_lines(columns: Sequence[str], rows: Sequence[Values]) -> str:
    """One JSON object a line, with the values as they are."""
    return "".join([_ENCODE(dict(zip(columns, row, strict=True))) + "\n" for row in rows])


_ENCODE = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode
