"""Exports: the list's messages, or their transitions, in one answer of any length."""

from typing import Any

from flask import Response

from receiptsvc.store.queries.exports import Form
from receiptsvc.store.queries.listing import MessageFilter
from receiptsvc.web.api import export_stream
from receiptsvc.web.http import context
from receiptsvc.web.http.auth import requires
from receiptsvc.web.http.endpoints import endpoint, new_blueprint
from receiptsvc.web.schemas.exports import ExportQuery

blueprint = new_blueprint("export", "All that fits, as CSV or JSON lines, however much that is.")

_FAILS = (422, 503, 505)


def _object(table: export_stream.Table) -> str:
    return "{" + ", ".join(f'"{name}": …' for name in table.columns) + "}"


@endpoint(
    blueprint,
    "GET",
    "/export/messages.csv",
    query=ExportQuery,
    streams="text/csv",
    sample=",".join(export_stream.MESSAGES.columns),
    response=None,
    errors=_FAILS,
)
@requires("read")
def export_messages_csv(query: dict[str, Any]) -> Response:
    """Export messages as CSV

    Those that fit every filter, the newest first, with the names of the columns in the first line; by RFC 4180, in
    UTF-8. A cell that a spreadsheet would take for a formula (`=`, `+`, `-`, `@`, a tab or line end at its beginning)
    begins with an apostrophe. Numbers of phones and transactionIDs stand there as digits: import these columns as text.
    Text stands in quotes; a value that is null is nothing at all.

    Messages accepted after the export began are not in it, and each one's status is that of the moment at which its
    line was written. An answer that breaks off (its chunked transfer has no end) is not whole.
    """
    return _answer(export_stream.MESSAGES, query, Form.CSV)


@endpoint(
    blueprint,
    "GET",
    "/export/messages.jsonl",
    query=ExportQuery,
    streams="application/jsonl",
    sample=_object(export_stream.MESSAGES),
    response=None,
    errors=_FAILS,
)
@requires("read")
def export_messages_jsonl(query: dict[str, Any]) -> Response:
    """Export messages as JSON lines

    The same as CSV, an object a line, and every value as it is.
    """
    return _answer(export_stream.MESSAGES, query, Form.JSON)


@endpoint(
    blueprint,
    "GET",
    "/export/transitions.csv",
    query=ExportQuery,
    streams="text/csv",
    sample=",".join(export_stream.TRANSITIONS.columns),
    response=None,
    errors=_FAILS,
)
@requires("read")
def export_transitions_csv(query: dict[str, Any]) -> Response:
    """Export transitions as CSV

    What was recorded of the messages that fit every filter: of the newest message first, and of each in the order
    recorded. Written as messages are.
    """
    return _answer(export_stream.TRANSITIONS, query, Form.CSV)


@endpoint(
    blueprint,
    "GET",
    "/export/transitions.jsonl",
    query=ExportQuery,
    streams="application/jsonl",
    sample=_object(export_stream.TRANSITIONS),
    response=None,
    errors=_FAILS,
)
@requires("read")
def export_transitions_jsonl(query: dict[str, Any]) -> Response:
    """Export transitions as JSON lines

    The same as CSV, an object a line, and every value as it is.
    """
    return _answer(export_stream.TRANSITIONS, query, Form.JSON)


def _answer(table: export_stream.Table, query: dict[str, Any], form: Form) -> Response:
    return export_stream.answer(context.database(), table, MessageFilter(**query), form)
