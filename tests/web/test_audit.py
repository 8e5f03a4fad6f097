"""`GET /v1/audit`: who did what, the newest first, by every filter, a page at a time."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from flask.testing import FlaskClient

from receiptsvc import ids
from receiptsvc.store.core import audits
from receiptsvc.store.core.db import Database
from tests.support import rows
from tests.support.callers import SECRETS, bearer
from tests.support.rows import seconds
from tests.web.test_errors import is_problem


def note(database: Database, at: datetime, actor: str = "desk", action: str = "cancel", subject: str = "a") -> None:
    with database.transaction() as session:
        audits.write(session, at=at, actor=actor, action=action, subject=subject, reason="why", details={"to": "x"})


def read(client: FlaskClient, **query: Any) -> Iterator[dict[str, Any]]:
    """Every entry of the list, page by page."""
    cursor: dict[str, str] = {}
    while True:
        page: Any = client.get("/v1/audit", query_string=query | cursor).json
        yield from page["items"]
        if page["nextCursor"] is None:
            return
        cursor = {"cursor": page["nextCursor"]}


def test_an_entry_says_who_did_what_to_which_object_and_why(client: FlaskClient, database: Database) -> None:
    message = rows.message()
    rows.accept(database, message)
    path = f"/v1/messages/{ids.public('msg', message.id)}"
    assert client.post(f"{path}/cancel", json={"reason": "sold out"}).status_code == 200
    [entry] = read(client)
    assert entry == {
        "at": entry["at"],
        "actor": "desk",
        "action": "cancel",
        "reason": "sold out",
        "details": {},
        "subject": ids.public("msg", message.id),
    }


@pytest.mark.parametrize("limit", [1, 2, 500])
def test_pages_skip_and_repeat_nothing(client: FlaskClient, database: Database, limit: int) -> None:
    """Several have one time; some are written later than they are of."""
    for second in (3, 1, 2, 2, 2, 5, 1):
        note(database, seconds(second), subject=str(second))
    assert [entry["subject"] for entry in read(client, limit=limit)] == ["5", "3", "2", "2", "2", "1", "1"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"actor": "worker"}, ["b"]),
        ({"action": "reveal"}, ["c"]),
        ({"subject": "a"}, ["a", "a"]),
        ({"subject": "a", "action": "cancel"}, ["a"]),
        ({"since": "2026-01-05T12:00:03Z"}, ["c", "a"]),
        ({"until": "2026-01-05T12:00:03Z"}, ["b", "a"]),
        ({"subject": "a", "until": "2026-01-05T12:00:03Z"}, ["a"]),
        ({"actor": "work"}, []),
    ],
    ids=str,
)
def test_each_filter_narrows_it_down(
    client: FlaskClient, database: Database, query: dict[str, str], expected: list[str]
) -> None:
    note(database, seconds(1), subject="a")
    note(database, seconds(2), actor="worker", subject="b")
    note(database, seconds(3), action="resolve", subject="a")
    note(database, seconds(4), action="reveal", subject="c")
    assert [entry["subject"] for entry in read(client, **query)] == expected


@pytest.mark.parametrize("scope", ["send", "read"])
def test_it_is_for_operators(client: FlaskClient, scope: str) -> None:
    answer = client.get("/v1/audit", headers=bearer(SECRETS[scope]))
    assert is_problem(answer, 403)


@pytest.mark.parametrize("query", [{"since": "yesterday"}, {"cursor": "x"}, {"actor": ""}, {"who": "desk"}], ids=str)
def test_what_is_wrong_with_a_question_is_said(client: FlaskClient, query: dict[str, str]) -> None:
    answer: Any = client.get("/v1/audit", query_string=query)
    assert answer.status_code == 422
    assert next(iter(query)) in str(answer.json["errors"])
