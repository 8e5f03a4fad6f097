"""The API keeps to its OpenAPI document: schemathesis sends what the document allows, and much that it does not.

It asks the same in each run. `RECEIPTSVC_CONTRACT=200` makes up that many requests where the usual run makes a few, and
others each time: five minutes.
"""

import os
import re
from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import pytest
import schemathesis
from flask import Flask
from schemathesis.engine import events, from_schema
from werkzeug.serving import WSGIRequestHandler, make_server

from receiptsvc import ids
from receiptsvc.domain.statuses import Source, Status
from receiptsvc.dynmark.outbound.envelope import BUNDLED_WSDL
from receiptsvc.server.event_streams import Stream
from receiptsvc.store.core.db import Database
from receiptsvc.web.app import create_app
from receiptsvc.web.docs import reference
from receiptsvc.worker.receipt_processor import process
from tests.support import rows, stories
from tests.support.callers import ALL, make_settings
from tests.support.rows import insert_arrivals, seconds
from tests.support.work import RULES

COUNT = os.environ.get("RECEIPTSVC_CONTRACT")

# What a schema can't say, and a request that keeps to its schema is refused for.
BEYOND_SCHEMAS = re.compile(
    r"Must be a nextCursor of this list; .*|Must lie in the years 1970 to 2999\.|There is no such time\."
    r"|Has gone by already\.|Must be before validUntil\.|Must be earlier than until\.|Must be at most \d+ days before .*"
    r"|Must be changed with changedSince\.|Must be clientRef or changed with .*|Can be clientRef only with .*"
    r"|Is no possible phone number.*|Is neither a phone number nor a short code\.|Must be at least the last 4 digits .*"
    r"|Must be a country's three letters .*|Holds characters that are not GSM, and rejectUnicode is set.*"
    r"|Can stand for one recipient only.*|Occurs twice in this request; .*|There is no message with this id\."
    r"|Belongs to another request already.*|Is nothing but blanks: .*|Must be 1 to 36 characters of ASCII.*|Has \d+ characters as the gateway counts them.*"
    r"|Can't be .* with what a receipt names: .*|Must be a list of words\.|Must be one or several of: .*"
    r"|Must be the name of a time zone, such as Europe/London\."
)

# What can be done once with each message or receipt: chance decides which of these finds one to do it with.
ONCE = re.compile(r"/(match|retry|dismiss|resolve|cancel|remove)$|^DELETE ")

# Addresses that are also those of a clientRef or a number: what is allowed there is more than the one operation.
ALSO_READ = {"POST /v1/conversations/query", "POST /v1/recipients/query"}


class Quiet(WSGIRequestHandler):
    """Speaks HTTP/1.1, and logs nothing."""

    protocol_version = "HTTP/1.1"

    def log(self, *_: Any, **__: Any) -> None:
        """Log nothing."""


def ending(app: Flask) -> Callable[..., Any]:
    """The application, with event streams that end at once."""

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        pieces = app(environ, start_response)
        return [b": silence\n\n"] if isinstance(pieces, Stream) else pieces

    return answer


@pytest.fixture
def url(desk_database: Database) -> Iterator[str]:
    """The URL of a served API whose database has a little of everything."""
    known = ids.parse("msg", "msg_01k8z3r5t6e8vbyq0h4n2m7c9d")  # the ids and references of the OpenAPI examples
    first, second, _ = rows.accept(
        desk_database,
        rows.message("447700900000", id=known, client_ref="order/1234", originator="ACME"),
        rows.message(client_ref="order/1234"),
        rows.message(text="d\u00e9j\u00e0 \u2019vu"),
    )
    stories.give_transaction(desk_database, first, "1234567")
    stories.report(desk_database, first, Status.DELIVERED, seconds(3), occurred_at=seconds(2))
    stories.report(desk_database, second, Status.SENT, seconds(4))
    stories.reply(desk_database, "order/1234", seconds(9), sender="447700900000")
    lost = rows.accept(desk_database, *(rows.message(client_ref="lost") for _ in range(5)))
    for message in lost:
        stories.report(desk_database, message, Status.SEND_UNKNOWN, seconds(5), source=Source.OURSELVES)
    received = ids.parse("rcp", "rcp_01k8z4a0b1c2d3e4f5g6h7j8k8")
    assert received is not None
    arrivals = [rows.arrival(f"statusid=4&transactionid={number}") for number in range(10)]
    with desk_database.transaction() as session:
        insert_arrivals(session, [arrivals[0]._replace(id=received), *arrivals[1:]])
    process(desk_database, RULES, rows.T0, 100)
    app = create_app(make_settings(DYNMARK_WSDL=str(BUNDLED_WSDL)), desk_database)
    server = make_server("127.0.0.1", 0, ending(app), threaded=True, request_handler=Quiet)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def is_beyond_schemas(answer: Any) -> bool:
    """Whether a request was refused only for rules that a schema can't express."""
    if answer.status_code == 410:  # a Last-Event-ID must be one that was given
        return True
    faults = answer.json().get("errors", {}).values() if answer.status_code == 422 else ()
    return bool(faults) and all(BEYOND_SCHEMAS.fullmatch(text) for texts in faults for text in texts)


@pytest.mark.slow
@pytest.mark.timeout(0 if COUNT else 300)
def test_no_request_finds_a_fault(url: str) -> None:
    config = schemathesis.Config.from_dict(
        {
            "base-url": url,
            "headers": {"Authorization": f"Bearer {ALL}"},
            "generation": {"deterministic": not COUNT, "max-examples": int(COUNT or 5), "database": "none"},
            "continue-on-failure": True,
            "cache": {"enabled": False},  # of what was found before
        }
    )
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)

    @schema.hook
    def filter_failure(_context: Any, failure: Any, _case: Any, answer: Any) -> bool:
        if failure.title == "Allow header mismatch" and failure.operation in ALSO_READ:
            return False
        return not (type(failure).__name__ == "RejectedPositiveData" and is_beyond_schemas(answer))

    faults: dict[str, str] = {}
    unanswered = {
        f"{method.upper()} {path}"
        for path, methods in schema.raw_schema["paths"].items()
        for method in methods.keys() & set(reference.METHODS)
    }
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            for case, checks in event.recorder.checks.items():
                answer = event.recorder.interactions[case].response
                if answer is not None and answer.status_code < 300:
                    unanswered.discard(event.recorder.cases[case].value.operation.label)
                for found in [check.failure_info for check in checks if check.failure_info is not None]:
                    content = answer.content[:1000] if answer else b""
                    faults[f"{found.failure.operation} {found.failure.title}"] = f"{found.code_sample}\n{content!r}"
        elif isinstance(event, events.NonFatalError | events.FatalError):
            faults[f"{type(event).__name__} {len(faults)}"] = repr(event)
    assert not faults, "\n\n".join(f"{name}: {text}" for name, text in faults.items())
    assert not [call for call in unanswered if not ONCE.search(call)]
