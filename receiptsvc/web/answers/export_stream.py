"""Streams exports: any number of rows as CSV or JSON lines, in slices, each read in a short transaction of its own.

No transaction is open and no thread is held while a slow client reads. If the database goes away meanwhile, the answer
breaks off: the server resets the connection, so that no client or proxy takes a part for the whole.
"""

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from flask import Response
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain import numbers, spreadsheets
from receiptsvc.server.admission import Shares
from receiptsvc.store.core import slices, time_limits
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.paging import Page
from receiptsvc.store.queries import exports
from receiptsvc.store.queries.exports import Form, Line
from receiptsvc.store.queries.listing import MessageFilter
from receiptsvc.web.http.errors import Problem

MEDIA = {Form.CSV: "text/csv; charset=utf-8; header=present", Form.JSON: "application/jsonl"}

_SLICE = 1000  # messages, or messages whose transitions are read
_RETRY_AFTER_SECONDS = 5
_SHARES = Shares(8, of_one=4)  # exports of a process: each holds a slice while its client takes it
_LINE_ENDS = {character: f"\\u{ord(character):04x}" for character in "\x85\u2028\u2029"}
_CELL = re.compile(r'"[^"]*"|(?<![^,])[0-9]{4}-[0-9-]{5}T[0-9:.]{15}Z(?![^,\r])')  # of CSV: a quoted one, or a time

LineWriter = Callable[[Line], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """What can be exported: its columns, how a slice of rows is read, and how a row becomes a line."""

    name: str
    columns: tuple[str, ...]
    read: Callable[..., Page[Line, Any]]
    write: dict[Form, LineWriter]


@dataclass(frozen=True, kw_only=True, slots=True)
class Style:
    """How an export is written. `has_bom` and `zone` are for CSV; without a zone its times are UTC, ending in Z."""

    form: Form
    has_bom: bool = False
    zone: ZoneInfo | None = None


def _write_transition_csv(line: Line) -> str:
    receipt = ids.public("rcp", line.receipt_id) if line.receipt_id is not None else ""
    return f"msg_{ids.to_text(line.message_id)},{line.text},{receipt}\r\n"


def _write_transition_json(line: Line) -> str:
    receipt = f'"{ids.public("rcp", line.receipt_id)}"' if line.receipt_id is not None else "null"
    return f'{{"messageId":"msg_{ids.to_text(line.message_id)}",{line.text[1:-1]},"receiptId":{receipt}}}\n'


def _write_masked_csv(line: Line) -> str:
    recipient = spreadsheets.write_cell(numbers.mask(line.recipient))
    return f"msg_{ids.to_text(line.message_id)},{recipient},{line.text}\r\n"


MESSAGES = Table(
    name="messages",
    columns=("id", *exports.MESSAGE),
    read=exports.read_messages,
    write={
        Form.CSV: lambda line: f"msg_{ids.to_text(line.message_id)},{line.text}\r\n",
        Form.JSON: lambda line: f'{{"id":"msg_{ids.to_text(line.message_id)}",{line.text[1:]}\n',
    },
)


def chosen(message_ids: Sequence[UUID]) -> Table:
    """The table of these messages, in this order, whatever filter is asked for."""

    def read(
        session: Session, _where: MessageFilter, form: Form, *, limit: int, after: int | None = None
    ) -> Page[Line, int]:
        return exports.read_chosen(session, message_ids, form, limit=limit, after=after)

    return replace(MESSAGES, read=read)


MASKED_MESSAGES = Table(
    name="messages-masked",
    columns=("id", "recipient", *exports.MASKED),
    read=exports.read_masked,
    write={Form.CSV: _write_masked_csv},
)


def failed(find: Callable[..., Page[UUID, Any]], *, is_masked: bool) -> Table:
    """The table of failed messages, for CSV, with why each failed. `find`: gives their ids, a slice at a time."""

    def read(session: Session, _where: MessageFilter, _form: Form, *, limit: int, after: Any = None) -> Page[Line, Any]:
        return exports.read_failed(session, find(session, limit=limit, after=after), is_masked=is_masked)

    table = MASKED_MESSAGES if is_masked else MESSAGES
    return replace(table, columns=(*table.columns, *exports.FAILURE), read=read)


TRANSITIONS = Table(
    name="transitions",
    columns=("messageId", *exports.TRANSITION, "receiptId"),
    read=exports.read_transitions,
    write={Form.CSV: _write_transition_csv, Form.JSON: _write_transition_json},
)


def respond(database: Database, table: Table, where: MessageFilter, style: Style, *, holder: str) -> Response:
    """Stream all rows that fit. `holder`: for whom, since few exports of one run at a time.

    Raises Problem 503; StorageUnavailable if the first slice can't be read.
    """
    name = f"{table.name}{_describe_range(where, style.zone, database.clock.now())}.{style.form}"
    pages = _hold(_read_pages(database, table, where, style.form), holder)
    first = next(pages)
    return Response(
        _write_chunks(table, style, chain([first], pages)),
        content_type=MEDIA[style.form],
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _describe_range(where: MessageFilter, zone: ZoneInfo | None, now: datetime) -> str:
    """The range of time of an export, for its file's name; empty without one. One that is open ends now."""
    if where.since is None and where.until is None and where.changed_since is None:
        return ""
    ends = (("from", where.since), ("changed-since", where.changed_since), ("until", where.until or now))
    return "".join(f"-{word}-{_write_for_name(time, zone)}" for word, time in ends if time is not None)


def _write_for_name(time: datetime, zone: ZoneInfo | None) -> str:
    """A time in a file's name, where no system allows a colon; of a midnight only the day."""
    local = time.astimezone(zone or UTC)
    if (local.hour, local.minute, local.second, local.microsecond) == (0, 0, 0, 0):
        return f"{local:%Y-%m-%d}"
    return f"{local:%Y-%m-%dT%H%M%S}" + (f"{local:%z}" if zone else "Z")


def _hold(pages: Iterator[Sequence[Line]], holder: str) -> Iterator[Sequence[Line]]:
    """The pages; while they are read, the export counts against what may run at once."""
    with _SHARES.hold(holder) as has_room:
        if not has_room:
            headers = {"Retry-After": str(_RETRY_AFTER_SECONDS)}
            raise Problem(503, "There are as many exports under way as there may be.", headers=headers)
        yield from pages


def _read_pages(database: Database, table: Table, where: MessageFilter, form: Form) -> Iterator[Sequence[Line]]:
    def step(session: Session, after: Any) -> Page[Line, Any]:
        return table.read(session, where, form, limit=_SLICE, after=after)

    return (page.items for page in slices.walk(lambda: database.reading(time_limits.EXPORT), step))


def _write_chunks(table: Table, style: Style, pages: Iterator[Sequence[Line]]) -> Iterator[bytes]:
    """One chunk a page; CSV's first chunk begins with the header."""
    header = ",".join(table.columns) + "\r\n" if style.form is Form.CSV else ""
    start = BOM_UTF8 if style.has_bom else b""
    write = table.write[style.form]
    for page in pages:
        lines = "".join([write(line) for line in page])
        if style.form is Form.JSON:
            lines = _escape_line_ends(lines)
        elif style.zone:
            lines = _localise(lines, style.zone)
        yield start + (header + lines).encode()
        header, start = "", b""


def _escape_line_ends(lines: str) -> str:
    """JSON lines in which only LF ends a line for any client.

    Many libraries split at these characters too. JSON lets them stand as they are, and so do the databases.
    """
    for character, escape in _LINE_ENDS.items():
        lines = lines.replace(character, escape)
    return lines


def _localise(lines: str, zone: ZoneInfo) -> str:
    """CSV with its times in a zone. Not done by the databases, of which one knows no zones."""

    def write(cell: re.Match[str]) -> str:
        if cell[0].startswith('"'):
            return cell[0]
        return datetime.fromisoformat(cell[0]).astimezone(zone).isoformat(timespec="microseconds")

    return _CELL.sub(write, lines)
