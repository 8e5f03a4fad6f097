"""The bodies that clients really send: JSON in every encoding that has a mark, and no body where none is needed."""

import codecs
import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from receiptsvc import ids
from receiptsvc.store.core.db import Database
from tests.support import rows
from tests.web.test_errors import JSON, is_problem

SENT = json.dumps({"messages": [{"recipients": ["447700900000"], "text": "caf\u00e9 \u2019"}]}, ensure_ascii=False)

# kind, what comes, and the word of its refusal; None: it is read
ENCODED: list[tuple[str, bytes, str | None]] = [
    ("UTF-8", SENT.encode(), None),
    ("UTF-8 with a byte order mark, as PowerShell and .NET write it", codecs.BOM_UTF8 + SENT.encode(), None),
    ("a mark and a line break before the JSON", codecs.BOM_UTF8 + b"\r\n" + SENT.encode(), None),
    ("a mark within a text is a character of it", SENT.replace("caf", "\ufeffcaf").encode(), None),
    ("two marks: the second is no JSON", codecs.BOM_UTF8 * 2 + SENT.encode(), "is not JSON: line 1, column 1"),
    ("a mark alone", codecs.BOM_UTF8, "is not JSON"),
    ("UTF-16 LE with a mark", codecs.BOM_UTF16_LE + SENT.encode("utf-16-le"), "is UTF-16; JSON is sent as UTF-8"),
    ("UTF-16 BE with a mark", codecs.BOM_UTF16_BE + SENT.encode("utf-16-be"), "is UTF-16; JSON is sent as UTF-8"),
    ("UTF-16 LE without a mark", SENT.encode("utf-16-le"), "is UTF-16"),
    ("UTF-16 BE without a mark", SENT.encode("utf-16-be"), "is UTF-16"),
    ("UTF-32 LE with a mark", codecs.BOM_UTF32_LE + SENT.encode("utf-32-le"), "is UTF-32"),
    ("UTF-32 BE without a mark", SENT.encode("utf-32-be"), "is UTF-32"),
    ("Windows-1252", SENT.encode("cp1252"), "is not UTF-8"),
    ("a zero byte in UTF-8", SENT.replace("caf", "\0caf").encode(), "is not JSON"),
]

TO = '"recipients": ["447700900000"]'

# kind, what comes, and the name that is given twice; None: it is read
REPEATED: list[tuple[str, str, str | None]] = [
    ("of a message", f'{{"messages": [{{{TO}, "text": "a", "text": "b"}}]}}', "text"),
    ("of a message, with the same value", f'{{"messages": [{{{TO}, {TO}, "text": "a"}}]}}', "recipients"),
    ("of the body", f'{{"messages": [], "messages": [{{{TO}, "text": "a"}}]}}', "messages"),
    ("written otherwise", f'{{"messages": [{{{TO}, "text": "a", "te\\u0078t": "b"}}]}}', "text"),
    ("a long name", f'{{"messages": [], "{"n" * 60}": 1, "{"n" * 60}": 1}}', "n" * 50),
    ("in two objects", f'{{"messages": [{{{TO}, "text": "a"}}, {{{TO}, "text": "b"}}]}}', None),
]

# what can be asked for without a body; the first argument is a message's id, the second a receipt's
WITHOUT_A_BODY = (
    *("/v1/messages/{0}/cancel", "/v1/receipts/{1}/retry", "/v1/receipts/{1}/restore"),
    "/v1/sending/resume",
)

# kind, body, headers
NO_BODY: list[tuple[str, bytes | None, dict[str, str]]] = [
    ("curl -X POST, requests.post(url)", None, {}),
    ("curl -d ''", b"", {"Content-Type": "application/x-www-form-urlencoded"}),
    ("axios.post(url)", b"", {"Content-Type": JSON}),
    ("fetch with an empty text", b"", {"Content-Type": "text/plain;charset=UTF-8"}),
    ("a client that marks everything as compressed", b"", {"Content-Type": JSON, "Content-Encoding": "gzip"}),
    ("a length of nothing", b"", {"Content-Length": "0"}),
    ("an empty object", b"{}", {"Content-Type": JSON}),
]

WITH_A_BODY = (
    "/v1/messages",
    "/v1/messages/lookup",
    "/v1/messages/cancel",
    "/v1/messages/{0}/resolve",
    "/v1/receipts/{1}/match",
    "/v1/receipts/{1}/dismiss",
    "/v1/receipts/replay",
    "/v1/receipts/dismiss",
    "/v1/sending/pause",
    "/v1/suppressions",
)

A_RECEIPT = "rcp_01k8z4a0b1c2d3e4f5g6h7j8k8"


@pytest.mark.parametrize(("body", "word"), [case[1:] for case in ENCODED], ids=[case[0] for case in ENCODED])
def test_json_is_utf8_with_or_without_its_mark_and_any_other_encoding_is_named(
    desk: FlaskClient, body: bytes, word: str | None
) -> None:
    answer = desk.post("/v1/messages?dryRun=true", data=body, content_type=JSON)
    if word is None:
        assert answer.status_code == 200, answer.json
    else:
        assert is_problem(answer, 422)
        assert answer.json is not None
        assert word in answer.json["detail"]


@pytest.mark.parametrize(("body", "name"), [case[1:] for case in REPEATED], ids=[case[0] for case in REPEATED])
def test_a_member_that_an_object_has_twice_is_refused_by_its_name(
    desk: FlaskClient, body: str, name: str | None
) -> None:
    answer = desk.post("/v1/messages?dryRun=true", data=body, content_type=JSON)
    if name is None:
        assert answer.status_code == 200, answer.json
    else:
        assert is_problem(answer, 422)
        assert answer.json is not None
        assert answer.json["detail"] == f'The body gives "{name}" more than once in one object.'


def test_a_mark_does_not_make_another_request_of_a_repeat(desk: FlaskClient) -> None:
    headers = {"Idempotency-Key": "with-and-without-a-mark"}
    first = desk.post("/v1/messages", data=SENT.encode(), headers=headers, content_type=JSON)
    again = desk.post("/v1/messages", data=codecs.BOM_UTF8 + SENT.encode(), headers=headers, content_type=JSON)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.headers["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize("path", WITHOUT_A_BODY)
@pytest.mark.parametrize(("body", "headers"), [case[1:] for case in NO_BODY], ids=[case[0] for case in NO_BODY])
def test_what_only_takes_a_reason_needs_no_body(
    client: FlaskClient, database: Database, path: str, body: bytes | None, headers: dict[str, str]
) -> None:
    [message] = rows.accept(database, rows.message())
    answer = client.post(path.format(ids.public("msg", message), A_RECEIPT), data=body, headers=headers)
    assert answer.status_code == (404 if "receipts" in path else 200), answer.json


@pytest.mark.parametrize("path", WITHOUT_A_BODY)
@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [(b"null", JSON, 422), (b" ", JSON, 422), (b"[]", JSON, 422), (b'{"reasn": "x"}', JSON, 422), (b"{}", None, 415)],
    ids=str,
)
def test_a_body_that_did_come_is_read_as_strictly_as_any(
    desk: FlaskClient, path: str, body: bytes, content_type: str | None, status: int
) -> None:
    answer = desk.post(path.format("msg_01k8z3r5t6e8vbyq0h4n2m7c9d", A_RECEIPT), data=body, content_type=content_type)
    assert is_problem(answer, status)


@pytest.mark.parametrize("path", WITH_A_BODY)
def test_every_other_post_still_requires_one(desk: FlaskClient, path: str) -> None:
    path = path.format("msg_01k8z3r5t6e8vbyq0h4n2m7c9d", A_RECEIPT)
    assert is_problem(desk.post(path), 415)
    assert is_problem(desk.post(path, data=b"", content_type=JSON), 422)


def test_the_document_says_which_bodies_may_be_left_out(desk: FlaskClient) -> None:
    document: Any = desk.get("/openapi.json").json
    optional = {
        path
        for path, item in document["paths"].items()
        if "requestBody" in item.get("post", {}) and not item["post"]["requestBody"]["required"]
    }
    assert optional == {
        "/v1/messages/{message_id}/cancel",
        "/v1/problems/{problem_id}/acknowledge",
        "/v1/problems/{problem_id}/reopen",
        "/v1/problems/{problem_id}/resolve",
        "/v1/receipts/{receipt_id}/restore",
        "/v1/receipts/{receipt_id}/retry",
        "/v1/sending/resume",
    }
