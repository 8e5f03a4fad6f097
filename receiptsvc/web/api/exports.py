"""Exports: the list's messages or their transitions as one streamed answer, CSV or JSON lines."""

import json
from collections.abc import Mapping
from typing import Any

from flask import Response

from receiptsvc.store.queries.exports import Form
from receiptsvc.store.queries.listing import MessageFilter
from receiptsvc.web.answers import export_stream
from receiptsvc.web.answers.export_stream import Style
from receiptsvc.web.http import auth, context
from receiptsvc.web.http.auth import requires
from receiptsvc.web.http.endpoints import endpoint, new_blueprint
from receiptsvc.web.schemas.base import example_of, in_body
from receiptsvc.web.schemas.exports import CsvExportQuery, ExportQuery
from receiptsvc.web.schemas.messages import Message, Transition

blueprint = new_blueprint("export", "Everything that fits, as CSV or JSON lines, however much it is.")

_ERRORS = (422, 503)
_MESSAGE_ID = "msg_01k8z3r5t6e8vbyq0h4n2m7c9d"
_MESSAGE_ROW = (
    f'{_MESSAGE_ID},2026-01-31T09:30:00.000000Z,"447700900000","ACME","order/1234","delivered",'
    '2026-01-31T09:30:04.120000Z,false,"1234567","GSM",1,"Your parcel arrives today."'
)
_TRANSITION_ROW = (
    f'{_MESSAGE_ID},"delivered","applied","token",,"gateway","4","Delivered",2026-01-31T09:30:04.120000Z,'
    "2026-01-31T09:30:05.310000Z,2026-01-31T09:30:05.420000Z,rcp_01k8z4a0b1c2d3e4f5g6h7j8k8"
)


def _make_csv_sample(table: export_stream.Table, row: str) -> str:
    return f"{','.join(table.columns)}\n{row}"


def _make_json_sample(table: export_stream.Table, example: Mapping[str, object]) -> str:
    return json.dumps({name: example[name] for name in table.columns}, separators=(",", ":"))


@endpoint(
    blueprint,
    "GET",
    "/export/messages.csv",
    query=CsvExportQuery,
    by_post=("/export/messages.csv", in_body(CsvExportQuery)),
    streams="text/csv",
    sample=_make_csv_sample(export_stream.MESSAGES, _MESSAGE_ROW),
    response=None,
    errors=_ERRORS,
)
@requires("read")
def export_messages_csv(query: dict[str, Any]) -> Response:
    """Export messages as CSV

    Those that fit every filter, the newest first, with the names of the columns in the first line; by RFC 4180, in
    UTF-8. Excel reads that right if the file begins with a byte order mark: `bom=true`. Times are UTC, or by `timezone`
    those of a zone. With `since`, `until` or `changedSince` the file's name has the range. A cell that a spreadsheet
    would take for a formula (`=`, `+`, `-`, `@`, a tab or line end at its beginning) begins with an apostrophe. Phone
    numbers and transactionIDs are plain digits: import these columns as text. Text is
    quoted; a null value is an empty cell without quotes.

    Messages accepted after the export began are not in it, and each status is that of the time at which its line was
    written. An answer that breaks off is not complete: its connection is reset, and a client or proxy reports an error.
    """
    return _export(export_stream.MESSAGES, query, Form.CSV)


@endpoint(
    blueprint,
    "GET",
    "/export/messages.jsonl",
    query=ExportQuery,
    by_post=("/export/messages.jsonl", in_body(ExportQuery)),
    streams="application/jsonl",
    sample=_make_json_sample(export_stream.MESSAGES, example_of(Message, text="Your parcel arrives today.")),
    response=None,
    errors=_ERRORS,
)
@requires("read")
def export_messages_jsonl(query: dict[str, Any]) -> Response:
    """Export messages as JSON lines

    The same as CSV, one object a line, and every value unchanged. No text has a line break of any kind in it but as
    JSON's escape, so whatever reads lines gets whole objects.
    """
    return _export(export_stream.MESSAGES, query, Form.JSON)


@endpoint(
    blueprint,
    "GET",
    "/export/transitions.csv",
    query=CsvExportQuery,
    by_post=("/export/transitions.csv", in_body(CsvExportQuery)),
    streams="text/csv",
    sample=_make_csv_sample(export_stream.TRANSITIONS, _TRANSITION_ROW),
    response=None,
    errors=_ERRORS,
)
@requires("read")
def export_transitions_csv(query: dict[str, Any]) -> Response:
    """Export transitions as CSV

    The transitions of the messages that fit every filter: those of the newest message first, each message's in the
    order recorded. In the same form as messages.
    """
    return _export(export_stream.TRANSITIONS, query, Form.CSV)


@endpoint(
    blueprint,
    "GET",
    "/export/transitions.jsonl",
    query=ExportQuery,
    by_post=("/export/transitions.jsonl", in_body(ExportQuery)),
    streams="application/jsonl",
    sample=_make_json_sample(export_stream.TRANSITIONS, example_of(Transition, messageId=_MESSAGE_ID)),
    response=None,
    errors=_ERRORS,
)
@requires("read")
def export_transitions_jsonl(query: dict[str, Any]) -> Response:
    """Export transitions as JSON lines

    The same as CSV, one object a line, and every value unchanged.
    """
    return _export(export_stream.TRANSITIONS, query, Form.JSON)


def _export(table: export_stream.Table, query: dict[str, Any], form: Form) -> Response:
    style = Style(form=form, has_bom=query.pop("bom", False), zone=query.pop("timezone", None))
    where = MessageFilter(**query)
    return export_stream.respond(context.database(), table, where, style, holder=auth.key_name())
