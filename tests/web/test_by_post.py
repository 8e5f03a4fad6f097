"""What is asked by POST, so that nothing personal is in a URL: the same answers, and as strict about its fields."""

import re
from typing import Any

import pytest
from flask.testing import FlaskClient

from receiptsvc.server.event_streams import Feed, Stream
from receiptsvc.store.core.db import Database
from receiptsvc.store.messages.change_feed import FeedPosition, Label
from receiptsvc.web.http import auth
from receiptsvc.worker.receipt_processor import process
from tests.support import rows, stories
from tests.support.callers import SECRETS, bearer
from tests.support.rows import seconds
from tests.support.work import RULES
from tests.web.test_errors import is_problem

NUMBER = "+44 7700 900-001"

# kind, what is asked by GET, its query, where by POST, what stands in its body beside the query
TWINS: list[tuple[str, str, dict[str, Any], str, dict[str, Any]]] = [
    ("messages of a number", "/v1/messages", {"recipient": NUMBER}, "/v1/messages/query", {}),
    ("messages of the last digits", "/v1/messages", {"recipientEnds": "0001"}, "/v1/messages/query", {}),
    ("messages of a clientRef", "/v1/messages", {"clientRef": "a/../b"}, "/v1/messages/query", {}),
    ("messages by its beginning", "/v1/messages", {"clientRefPrefix": "a/"}, "/v1/messages/query", {}),
    ("a page and an estimate", "/v1/messages", {"limit": 1, "estimate": True}, "/v1/messages/query", {}),
    ("times with an offset", "/v1/messages", {"since": "2026-01-05T13:00:00+01:00"}, "/v1/messages/query", {}),
    ("search by a number", "/v1/search", {"q": NUMBER}, "/v1/search", {}),
    ("search by a clientRef", "/v1/search", {"q": "a/"}, "/v1/search", {}),
    ("a person", f"/v1/recipients/{NUMBER}", {}, "/v1/recipients/query", {"number": NUMBER}),
    ("a page of a person", f"/v1/recipients/{NUMBER}", {"limit": 1}, "/v1/recipients/query", {"number": NUMBER}),
    ("a conversation", "/v1/conversations", {"clientRef": "a/../b"}, "/v1/conversations/query", {}),
    ("all conversations", "/v1/conversations", {"limit": 1}, "/v1/conversations/query", {}),
    ("replies of a sender", "/v1/inbound", {"sender": NUMBER}, "/v1/inbound/query", {}),
    ("replies that opt out", "/v1/inbound", {"isOptOut": False, "clientRef": "a/../b"}, "/v1/inbound/query", {}),
    ("suppressions of a number", "/v1/suppressions", {"recipient": NUMBER}, "/v1/suppressions/query", {}),
    ("who suppressed a number", "/v1/audit", {"subject": "suppression:447700900001:"}, "/v1/audit/query", {}),
    ("receipts of a number", "/v1/receipts", {"recipient": NUMBER}, "/v1/receipts/query", {}),
    ("several statuses", "/v1/messages", {"status": ["accepted", "sent"]}, "/v1/messages/query", {}),
    ("an export", "/v1/export/messages.csv", {"recipient": NUMBER, "bom": True}, "/v1/export/messages.csv", {}),
    ("an export as JSON", "/v1/export/messages.jsonl", {"clientRef": "a/../b"}, "/v1/export/messages.jsonl", {}),
    ("transitions", "/v1/export/transitions.csv", {"recipient": NUMBER}, "/v1/export/transitions.csv", {}),
    ("transitions as JSON", "/v1/export/transitions.jsonl", {"recipient": NUMBER}, "/v1/export/transitions.jsonl", {}),
]


WAITING = re.compile(rb'"waitingSeconds": ?\d+')  # it may grow between two questions


@pytest.fixture
def told(client: FlaskClient, database: Database) -> FlaskClient:
    """A caller of a service that has something of everything."""
    rows.accept(
        database, rows.message(client_ref="a/../b", originator="ACME"), rows.message("447700900002", client_ref="c")
    )
    stories.reply(database, "a/../b", seconds(9))
    rows.keep(database, "recipient=447700900001&statusid=1&statusdescription=Delivered")
    process(database, RULES, seconds(10), 100)
    for number in (NUMBER, "447700900002"):
        assert client.post("/v1/suppressions", json={"recipient": number}).status_code == 201
    return client


@pytest.mark.parametrize(
    ("path", "query", "post", "more"), [case[1:] for case in TWINS], ids=[case[0] for case in TWINS]
)
def test_the_answer_is_that_of_the_get(
    told: FlaskClient, path: str, query: dict[str, Any], post: str, more: dict[str, Any]
) -> None:
    words = {name: str(value).lower() if isinstance(value, bool) else value for name, value in query.items()}
    by_get, by_post = told.get(path, query_string=words), told.post(post, json={**query, **more})
    assert (by_get.status_code, by_post.status_code) == (200, 200), by_post.json
    assert WAITING.sub(b"", by_post.get_data()) == WAITING.sub(b"", by_get.get_data())
    assert len(by_get.get_data()) > 40, "something was found"
    for header in ("Content-Type", "Content-Disposition", "Cache-Control"):
        assert by_post.headers.get(header) == by_get.headers.get(header)


def test_a_page_is_continued_in_the_body(told: FlaskClient) -> None:
    first: Any = told.post("/v1/messages/query", json={"limit": 1}).json
    second: Any = told.post("/v1/messages/query", json={"limit": 1, "cursor": first["nextCursor"]}).json
    listed: Any = told.get("/v1/messages").json
    assert first["items"] + second["items"] == listed["items"]


def test_a_hit_says_what_to_post_where_its_url_has_the_term(told: FlaskClient) -> None:
    hits: Any = told.post("/v1/search", json={"q": "447700900001"}).json
    read = {hit["as"]: hit["query"] for hit in hits["items"]}
    assert read["recipient"]["body"] == {"number": "447700900001"}
    assert read["recipientEnds"]["body"] == {"recipientEnds": "447700900001"}
    for query in read.values():
        path = query["url"].removeprefix("http://127.0.0.1:8000")
        assert told.post(path, json=query["body"]).status_code == 200
    [hit] = told.post("/v1/search", json={"q": "a/../b"}).json["items"]  # type: ignore[index] # it has JSON
    assert hit["query"] is None, "a conversation's id is nobody's data"


def test_a_suppression_is_removed_by_post(told: FlaskClient) -> None:
    removed = told.post("/v1/suppressions/remove", json={"recipient": NUMBER, "reason": "asked"})
    assert (removed.status_code, removed.get_json()["recipient"]) == (200, "447700900001")
    assert told.post("/v1/suppressions/remove", json={"recipient": NUMBER}).status_code == 404


def test_a_stream_is_opened_by_post(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[frozenset[Label]] = []

    def note(
        feed: Feed, after: FeedPosition, last: FeedPosition, labels: frozenset[Label], *_: Any, **__: Any
    ) -> Stream:
        opened.append(labels)
        return Stream(feed, after, last, labels)

    monkeypatch.setattr(Feed, "open", note)
    answer = client.post("/v1/events", json={"recipient": NUMBER}, buffered=False)
    assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")
    answer.close()
    assert opened == [frozenset({("recipient", "447700900001")})]


POSTS = sorted({case[3] for case in TWINS} | {"/v1/events"})


@pytest.mark.parametrize("path", POSTS)
def test_every_field_is_checked_as_in_a_query(desk: FlaskClient, path: str) -> None:
    assert is_problem(desk.post(path), 415)
    for body, fault in [({"nonsense": 1}, "nonsense"), ([], "body")]:
        answer = desk.post(path, json=body)
        assert is_problem(answer, 422)
        assert answer.json is not None
        assert fault in answer.json["errors"]
    query = desk.post(f"{path}?recipient=447700900001", json={})
    assert is_problem(query, 422)
    assert desk.post(path, json={}, headers=bearer(SECRETS["send"])).status_code == 403


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages/query", {"limit": "10"}),
        ("/v1/messages/query", {"limit": True}),
        ("/v1/messages/query", {"limit": 1.5}),
        ("/v1/messages/query", {"estimate": "true"}),
        ("/v1/messages/query", {"estimate": 1}),
        ("/v1/messages/query", {"recipient": 447700900001}),
        ("/v1/messages/query", {"clientRef": None}),
        ("/v1/messages/query", {"status": []}),
        ("/v1/messages/query", {"status": ["sent", 1]}),
        ("/v1/messages/query", {"status": {"sent": True}}),
        ("/v1/receipts/query", {"outcome": "dead,lost"}),
        ("/v1/inbound/query", {"isOptOut": "false"}),
        ("/v1/export/messages.csv", {"bom": 1}),
        ("/v1/export/messages.csv", {"timezone": ["UTC"]}),
        ("/v1/events", {"positions": "yes"}),
        ("/v1/recipients/query", {"number": ""}),
    ],
    ids=str,
)
def test_a_value_is_of_its_own_kind_in_json(desk: FlaskClient, path: str, body: dict[str, Any]) -> None:
    answer = desk.post(path, json=body)
    assert is_problem(answer, 422)
    assert answer.json is not None
    assert list(answer.json["errors"]) == list(body)


def test_a_clientref_that_is_called_query_is_still_read_by_its_address(client: FlaskClient, database: Database) -> None:
    rows.accept(database, rows.message(client_ref="query"))
    assert client.get("/v1/conversations/query").get_json()["clientRef"] == "query"


def test_posts_that_only_read_do_not_wait_behind_those_that_write(desk: FlaskClient) -> None:
    assert auth.find_reading_posts(desk.application) >= {*POSTS, "/v1/messages/lookup"}
    assert "/v1/messages" not in auth.find_reading_posts(desk.application)
