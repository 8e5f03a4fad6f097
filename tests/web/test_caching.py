"""ETags, gzip and Cache-Control."""

import gzip
import zlib
from collections.abc import Callable

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient
from sqlalchemy import event
from werkzeug.test import TestResponse

from receiptsvc import ids
from receiptsvc.domain.statuses import Status
from receiptsvc.store.core.db import Database
from receiptsvc.web.http import caching
from tests.support import rows, stories
from tests.support.rows import seconds

pytestmark = pytest.mark.on_postgresql  # nothing here is the database's

GZIP = {"Accept-Encoding": "br, gzip;q=0.5"}


def test_an_unchanged_message_is_304(client: FlaskClient, database: Database) -> None:
    [message] = rows.accept(database)
    path = f"/v1/messages/{ids.public('msg', message)}"
    first = client.get(path)
    tag = first.headers["ETag"]
    assert first.headers["Cache-Control"] == "private, no-cache"
    statements: list[str] = []
    with database.reading() as session:
        event.listen(session.connection().engine, "before_cursor_execute", lambda *call: statements.append(call[2]))
    again = client.get(path, headers={"If-None-Match": tag})
    assert (again.status_code, again.get_data(), again.headers["ETag"]) == (304, b"", tag)
    assert again.headers["Cache-Control"] == "private, no-cache"
    assert len([statement for statement in statements if "FROM messages" in statement]) == 1
    assert client.get(path, headers={"If-None-Match": '"other"'}).json == first.json


def test_any_change_of_a_message_changes_its_etag(client: FlaskClient, database: Database) -> None:
    [message] = rows.accept(database)
    path = f"/v1/messages/{ids.public('msg', message)}"
    tags = [client.get(path).headers["ETag"]]
    changes: list[Callable[[], None]] = [
        lambda: stories.give_transaction(database, message, "42"),
        lambda: stories.report(database, message, Status.DELIVERED, seconds(3)),
        lambda: stories.report(database, message, Status.SENT, seconds(4)),  # the status stays
        lambda: stories.report(database, message, Status.UNDELIVERED, seconds(2)),
    ]
    for change in changes:
        change()
        answer = client.get(path, headers={"If-None-Match": ", ".join(tags)})
        assert answer.status_code == 200
        tags.append(answer.headers["ETag"])
    assert len(set(tags)) == 5
    assert client.get(path, headers={"If-None-Match": tags[-1]}).status_code == 304


def test_an_unknown_message_is_404_whatever_the_etag(client: FlaskClient) -> None:
    answer = client.get("/v1/messages/msg_00000000000000000000000000", headers={"If-None-Match": "*"})
    assert answer.status_code == 404


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
def test_unchanged_documentation_is_304(desk: FlaskClient, path: str) -> None:
    first = desk.get(path)
    assert first.headers["Cache-Control"] == "no-cache"
    again = desk.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.get_data()) == (304, b"")
    packed = desk.get(path, headers=GZIP)
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.headers["ETag"] == first.headers["ETag"]
    assert gzip.decompress(packed.get_data()) == first.get_data()
    assert len(packed.get_data()) < len(first.get_data()) / 4


def test_the_page_keeps_its_policy(desk: FlaskClient) -> None:
    assert "default-src 'none'" in desk.get("/docs").headers["Content-Security-Policy"]


def test_personal_and_passing_answers_are_not_cached(client: FlaskClient) -> None:
    for path in (
        "/readyz",
        "/metrics",
        "/nothing",
        "/v1/messages",
        "/v1/stats",
        "/v1/export/messages.csv",
        "/v1/messages/none",
        "/v1/nothing",
    ):
        assert client.get(path).headers["Cache-Control"] == "no-store", path


def test_long_answers_are_compressed_if_the_client_accepts_it(client: FlaskClient, database: Database) -> None:
    rows.accept(database, *(rows.message(f"4477009000{place:02}") for place in range(10)))
    plain = client.get("/v1/messages")
    packed = client.get("/v1/messages", headers=GZIP)
    assert "Content-Encoding" not in plain.headers
    assert "Accept-Encoding" in plain.headers["Vary"]
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.headers["Content-Length"] == str(len(packed.get_data()))
    assert gzip.decompress(packed.get_data()) == plain.get_data()
    refused = client.get("/v1/messages", headers={"Accept-Encoding": "gzip;q=0, identity"})
    assert "Content-Encoding" not in refused.headers


def answered(response: Response, **headers: str) -> TestResponse:
    """An application's answer to a client that accepts gzip."""
    app = Flask(__name__)
    caching.register(app)
    app.add_url_rule("/", view_func=lambda: response)
    return app.test_client(use_cookies=False).get("/", headers={**GZIP, **headers})


def test_short_answers_other_types_and_answers_with_cookies_are_not_compressed() -> None:
    long = "x" * caching.MIN_BYTES
    assert "Content-Encoding" in answered(Response(long, mimetype="application/json")).headers
    cookied = Response(long, mimetype="text/html")
    cookied.set_cookie("session", "1")
    for response in (
        Response(long[1:], mimetype="application/json"),
        Response(long, mimetype="image/png"),
        Response((piece for piece in [long]), mimetype="text/event-stream"),
        Response(long, mimetype="application/json", headers={"Content-Encoding": "br"}),
        cookied,
    ):
        assert answered(response).headers.get("Content-Encoding") != "gzip"
    assert "Content-Encoding" not in answered(Response(long, mimetype="text/html"), Cookie="session=1").headers


def test_each_chunk_of_a_compressed_stream_can_be_read_at_once() -> None:
    pieces = caching.compressed(iter([b"first", b"second"]))
    unpacker = zlib.decompressobj(31)
    assert unpacker.decompress(next(pieces)) == b"first"
    assert unpacker.decompress(next(pieces)) == b"second"
    assert not unpacker.eof
    unpacker.decompress(next(pieces))
    assert unpacker.eof
