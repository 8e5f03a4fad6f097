"""Every error is a problem document, and only our own faults are 500."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from marshmallow import fields
from sqlalchemy import select

from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Transition
from receiptsvc.web.app import create_app
from receiptsvc.web.http.auth import public
from receiptsvc.web.schemas.base import Request
from tests.support.callers import ALL, SECRETS, client_of, make_settings

JSON = "application/json"
MAX_BODY = make_settings().max_body_bytes


def is_problem(answer: Any, status: int) -> bool:
    body = answer.json
    assert answer.status_code == status, body
    assert answer.content_type == "application/problem+json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert {"type", "title", "status", "detail"} <= set(body)
    assert body["status"] == status
    return True


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b" ", 422),
        (b"{", 422),
        (b"not json", 422),
        (b"\xff\xfe", 422),
        (b"\xef\xbb\xbf{}", 422),
        (b'{"messages": NaN}', 422),
        (b'{"messages": -Infinity}', 422),
        (b'{"messages": ' + b"9" * 5000 + b"}", 422),
        (b"[" * 100_000, 422),
        (b'{"messages":' * 50_000, 422),
        (b"null", 422),
        (b"[]", 422),
        (b'"text"', 422),
        (b"{}", 422),
        (b'{"messages": []}', 422),
        (b'{"messages": {}}', 422),
        (b'{"messages": [null]}', 422),
        (b'{"messages": [[]]}', 422),
        (b'{"\\ud800": 1, "messages": []}', 422),
        (b'{"messages": [{"recipients": ["\\ud800"], "text": "\\ud800", "\\ud800": 1}]}', 422),
        (b"[" + b"[]," * 400_000 + b"[]]", 422),
        (b"[" + b"1," * (MAX_BODY // 2) + b"1]", 413),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else str(value),
)
def test_a_malformed_body_is_refused(desk: FlaskClient, body: bytes, status: int) -> None:
    assert is_problem(desk.post("/v1/messages", data=body, content_type=JSON), status)


def test_the_number_of_values_is_bounded_whatever_stands_in_texts(desk: FlaskClient) -> None:
    answer = desk.post("/v1/messages", data=b"[" + b"[]," * 400_000 + b"[]]", content_type=JSON)
    assert is_problem(answer, 422)
    assert answer.get_json()["detail"] == "The body holds more than 400000 values; send several requests."
    text = json.dumps({"messages": [{"recipients": ["447700900001"], "text": 'a,[{\\"' * 100_000}]})
    answer = desk.post("/v1/messages", data=text, content_type=JSON)
    assert answer.get_json()["errors"].keys() == {"messages[0].text"}, "the text is too long, and that is all"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "json"},
        {"Content-Type": JSON, "Content-Encoding": "gzip"},
    ],
    ids=str,
)
def test_a_body_of_another_content_type_is_415(desk: FlaskClient, headers: dict[str, str]) -> None:
    assert is_problem(desk.post("/v1/messages", data=b"{}", headers=headers), 415)


def test_a_charset_in_the_content_type_is_accepted(desk: FlaskClient) -> None:
    body = json.dumps({"messages": [{"recipients": ["447700900000"], "text": "caf\u00e9"}]}, ensure_ascii=False)
    answer = desk.post("/v1/messages", data=body.encode(), content_type=f"{JSON}; charset=utf-8")
    assert answer.status_code == 202


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/v1", "/v1/", "/v2/messages", "/static/", "/static/../app.py", "//"]
)
def test_an_unknown_address_is_404_under_every_prefix(desk: FlaskClient, path: str) -> None:
    answer = desk.get("/", environ_overrides={"PATH_INFO": path})  # a client would take `//` for a host
    assert is_problem(answer, 404)


def test_a_wrong_method_is_405_and_names_the_right_ones(desk: FlaskClient) -> None:
    answer = desk.delete("/v1/messages")
    assert is_problem(answer, 405)
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "POST"}


def failing(database: Database, error: Exception) -> Flask:
    app = create_app(make_settings(), database)

    @public
    def fail(**_: str) -> str:
        raise error

    app.add_url_rule("/fail/<number>", view_func=fail)
    return app


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was logged, without the errors' own texts, which the formatter leaves out."""
    caplog.set_level(logging.INFO, "receiptsvc")
    return lambda: [f"{record.getMessage()} {vars(record).get('fields')}" for record in caplog.records]


def test_a_bug_is_500_without_details_and_logged_by_the_pattern_of_its_address(
    desk_database: Database, logged: Callable[[], list[str]]
) -> None:
    answer = client_of(failing(desk_database, RuntimeError("secret"))).get("/fail/447700900000")
    assert is_problem(answer, 500)
    assert "secret" not in answer.get_data(as_text=True)
    assert logged() == ["request.failed {'method': 'GET', 'route': '/fail/<number>'}"]


def test_an_unreachable_database_is_503_with_retry_after(
    desk_database: Database, logged: Callable[[], list[str]]
) -> None:
    answer = client_of(failing(desk_database, StorageUnavailable("gone"))).get("/fail/447700900000")
    assert is_problem(answer, 503)
    assert int(answer.headers["Retry-After"]) > 0
    assert logged() == [
        "storage.unavailable {'error': 'StorageUnavailable: gone', 'method': 'GET', 'route': '/fail/<number>'}"
    ]


@pytest.mark.parametrize("value", [2**70, "\ud800", "a\0b"], ids=["a number", "half a character", "NUL"])
def test_a_value_that_the_database_cannot_take_is_422_and_logged_without_it(
    database: Database, logged: Callable[[], list[str]], value: int | str
) -> None:
    if database.is_sqlite and value == "a\0b":
        value = 2**63  # the first that it can't take; a NUL it can
    app = create_app(make_settings(), database)

    @public
    def look_up(**_: str) -> str:
        column = Transition.id if isinstance(value, int) else Transition.rule
        with database.reading() as session:
            session.scalars(select(Transition.id).where(column == value)).all()
        return ""

    app.add_url_rule("/look/<number>", view_func=look_up)
    answer = client_of(app).get("/look/447700900000")
    assert is_problem(answer, 422)
    assert str(value) not in answer.get_data(as_text=True)
    assert "SELECT" not in answer.get_data(as_text=True)
    assert logged() == ["request.value_refused {'method': 'GET', 'route': '/look/<number>'}"]


@pytest.mark.parametrize("field", [fields.String(), fields.List(fields.String()), fields.Dict(values=fields.String())])
def test_no_request_can_hold_text_that_is_not_checked(field: fields.Field[Any]) -> None:
    with pytest.raises(TypeError, match=r"Loose\.text: text that comes in"):
        type("Loose", (Request,), {"text": field})()


@pytest.mark.parametrize("text", ["\0", "a\x0bb", "\ud800", "\ufffe"])
def test_text_that_cannot_be_stored_is_refused_by_its_field_with_the_remedy(desk: FlaskClient, text: str) -> None:
    answers = [desk.post("/v1/messages/lookup", json={"clientRefs": ["good", text]})]
    if text.isprintable() or text.isascii():  # an address can't hold half a character
        answers.append(desk.get("/v1/stats", query_string={"originator": text}))
    for answer, name in zip(answers, ("clientRefs[1]", "originator"), strict=False):
        assert is_problem(answer, 422)
        assert answer.json is not None
        (fault,) = answer.json["errors"][name]
        assert fault.startswith("Holds U+")
        assert fault.endswith(": leave it out.")


def test_a_real_outage_is_503_and_tells_operators_alone_which_database_and_what_to_do() -> None:
    app = create_app(make_settings(), Database("postgresql+psycopg://nobody:sesame@127.0.0.1:1/nowhere"))
    answers = [client_of(app, secret).get("/v1/messages") for secret in (SECRETS["read"], ALL)]
    assert all(is_problem(answer, 503) for answer in answers)
    done = "What was asked for may or may not have been done."
    line = "the database nowhere at 127.0.0.1:1: nothing listens there: start it, or correct the database's URL"
    assert [answer.json and answer.json["detail"] for answer in answers] == [
        f"The database can't be used now (unreachable). {done}",
        f"The database can't be used now: {line}. {done}",
    ]
