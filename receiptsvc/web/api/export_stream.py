"""Streams exports: any number of rows as CSV or JSON lines, in slices, each read in a short transaction of its own.

No transaction is open and no thread is held while a slow client reads. If the database goes away meanwhile, the answer
breaks off: the server resets the connection, so that no client or proxy takes a part for the whole.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from flask import Response
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.server.admission import Shares
from receiptsvc.store.core import slices, time_limits
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.paging import Page
from receiptsvc.store.queries import exports
from receiptsvc.store.queries.exports import Form, Line
from receiptsvc.store.queries.listing import MessageFilter
from receiptsvc.web.http import auth
from receiptsvc.web.http.errors import Problem

MEDIA = {Form.CSV: "text/csv; charset=utf-8; header=present", Form.JSON: "application/jsonl"}

_SLICE = 1000  # messages, or messages whose transitions are read
_RETRY_AFTER_SECONDS = 5
_SHARES = Shares(8, of_one=4)  # exports of a process: each holds a slice while its client takes it

LineWriter = Callable[[Line], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """What can be exported: its columns, how a slice of rows is read, and how a row becomes a line."""

    name: str
    columns: tuple[str, ...]
    read: Callable[..., Page[Line, Any]]
    write: dict[Form, LineWriter]


def _write_transition_csv(line: Line) -> str:
    receipt = ids.public("rcp", line.receipt_id) if line.receipt_id is not None else ""
    return f"msg_{ids.to_text(line.message_id)},{line.text},{receipt}\r\n"


def _write_transition_json(line: Line) -> str:
    receipt = f'"{ids.public("rcp", line.receipt_id)}"' if line.receipt_id is not None else "null"
    return f'{{"messageId":"msg_{ids.to_text(line.message_id)}",{line.text[1:-1]},"receiptId":{receipt}}}\n'


MESSAGES = Table(
    name="messages",
    columns=("id", *exports.MESSAGE),
    read=exports.read_messages,
    write={
        Form.CSV: lambda line: f"msg_{ids.to_text(line.message_id)},{line.text}\r\n",
        Form.JSON: lambda line: f'{{"id":"msg_{ids.to_text(line.message_id)}",{line.text[1:]}\n',
    },
)
TRANSITIONS = Table(
    name="transitions",
    columns=("messageId", *exports.TRANSITION, "receiptId"),
    read=exports.read_transitions,
    write={Form.CSV: _write_transition_csv, Form.JSON: _write_transition_json},
)


def respond(database: Database, table: Table, where: MessageFilter, form: Form) -> Response:
    """Stream all rows that fit. Raises Problem 503; StorageUnavailable if the first slice can't be read."""
    pages = _hold(_read_pages(database, table, where, form), auth.key_name())
    first = next(pages)
    return Response(
        _write_chunks(table, form, chain([first], pages)),
        content_type=MEDIA[form],
        headers={"Content-Disposition": f'attachment; filename="{table.name}.{form}"'},
    )


def _hold(pages: Iterator[Sequence[Line]], key: str) -> Iterator[Sequence[Line]]:
    """The pages; while they are read, the export counts against what may run at once."""
    with _SHARES.hold(key) as has_room:
        if not has_room:
            headers = {"Retry-After": str(_RETRY_AFTER_SECONDS)}
            raise Problem(503, "There are as many exports under way as there may be.", headers=headers)
        yield from pages


def _read_pages(database: Database, table: Table, where: MessageFilter, form: Form) -> Iterator[Sequence[Line]]:
    def step(session: Session, after: Any) -> Page[Line, Any]:
        return table.read(session, where, form, limit=_SLICE, after=after)

    return (page.items for page in slices.walk(lambda: database.reading(time_limits.EXPORT), step))


def _write_chunks(table: Table, form: Form, pages: Iterator[Sequence[Line]]) -> Iterator[bytes]:
    """One chunk a page; CSV's first chunk begins with the header."""
    header = ",".join(table.columns) + "\r\n" if form is Form.CSV else ""
    write = table.write[form]
    for page in pages:
        yield (header + "".join([write(line) for line in page])).encode()
        header = ""
