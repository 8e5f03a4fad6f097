"""Suppressions: a sender's messages to a suppressed person are not sent, and every change is audited."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, event, func, select

from receiptsvc.store.core import audits
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Message
from receiptsvc.store.outbound import suppressions
from receiptsvc.store.outbound.suppressions import Pair
from receiptsvc.web.app import create_app
from tests.support import rows
from tests.support.callers import SECRETS, client_of, make_settings

ALICE, BOB = "447700900001", "447700900002"
PATH = "/v1/suppressions"


def send(client: FlaskClient, *recipients: str, **more: object) -> Any:
    return client.post("/v1/messages", json={"messages": [{"recipients": recipients, "text": "hello"} | more]})


def suppress(client: FlaskClient, recipient: str, **more: object) -> Any:
    return client.post(PATH, json={"recipient": recipient} | more)


def moves(database: Database, recipient: str, originator: str = "") -> list[tuple[str, str, str | None]]:
    with database.reading() as session:
        told = audits.read(session, suppressions.subject(Pair(recipient, originator)))
        return [(audit.actor, audit.action, audit.reason) for audit in told]


def test_a_suppression_is_added_listed_and_removed_with_audits(client: FlaskClient, database: Database) -> None:
    made = suppress(client, "+44 7700 900001", originator="ACME", reason="she called")
    assert made.status_code == 201
    assert made.json == {
        "recipient": ALICE,
        "originator": "acme",
        "createdAt": made.json["createdAt"],
        "createdBy": "desk",
        "reason": "she called",
        "replyId": None,
        "scheduledMessages": [],
    }
    again = suppress(client, ALICE, originator="Acme", reason="another")
    assert (again.status_code, again.json) == (200, made.json)
    own = suppress(client, ALICE).json
    assert own["originator"] is None
    listed: Any = client.get(PATH)
    assert listed.json == {"items": [own, made.json], "nextCursor": None}
    gone: Any = client.delete(PATH, query_string={"recipient": ALICE, "originator": "aCME", "reason": "signed up"})
    assert (gone.status_code, gone.json) == (200, made.json)
    assert client.delete(PATH, query_string={"recipient": ALICE, "originator": "acme"}).status_code == 404
    left: Any = client.get(PATH)
    assert left.json["items"] == [own]
    assert moves(database, ALICE, "acme") == [
        ("desk", "suppressed", "she called"),
        ("desk", "allowed again", "signed up"),
    ]
    assert moves(database, ALICE) == [("desk", "suppressed", None)]


def test_the_list_has_pages_and_filters(client: FlaskClient) -> None:
    for recipient in (BOB, ALICE):
        for originator in ("ACME", None, "447700900999"):
            suppress(client, recipient, originator=originator)
    path, seen = f"{PATH}?limit=2", []
    while True:
        page: Any = client.get(path)
        assert page.status_code == 200
        seen += [(item["recipient"], item["originator"]) for item in page.json["items"]]
        if page.json["nextCursor"] is None:
            break
        path = f"{PATH}?limit=2&cursor={page.json['nextCursor']}"
    assert sorted(seen, key=str) == sorted(
        ((r, o) for r in (ALICE, BOB) for o in ("acme", None, "447700900999")), key=str
    )
    of_bob: Any = client.get(PATH, query_string={"recipient": "+44 7700 900002"})
    assert {item["recipient"] for item in of_bob.json["items"]} == {BOB}
    of_acme: Any = client.get(PATH, query_string={"originator": "ACME"})
    assert [item["recipient"] for item in of_acme.json["items"]] == [ALICE, BOB]
    assert client.get(f"{PATH}?cursor=x").status_code == 422


@pytest.mark.parametrize(("method", "scope"), [("GET", "read"), ("POST", "ops"), ("DELETE", "ops")])
def test_each_call_needs_its_scope(desk: FlaskClient, method: str, scope: str) -> None:
    for other, secret in SECRETS.items():
        answer = client_of(desk.application, secret).open(PATH, method=method)
        assert (answer.status_code == 403) == (other != scope)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "recipient"),
        ({"recipient": "12"}, "recipient"),
        ({"recipient": ALICE, "originator": "?"}, "originator"),
        ({"recipient": ALICE, "reason": ""}, "reason"),
    ],
)
def test_a_wrong_value_is_named_by_its_path(desk: FlaskClient, given: dict[str, str], field: str) -> None:
    for answer in (desk.post(PATH, json=given), desk.delete(PATH, query_string=given)):
        body: Any = answer.json
        assert (answer.status_code, list(body["errors"])) == (422, [field])


@pytest.mark.on_postgresql
@pytest.mark.parametrize(
    ("suppressed", "given", "is_stopped"),
    [
        ("ACME", "acme", True),
        ("acme", "ACME", True),
        ("+447740101097", "447740101097", True),
        ("447740101097", "+447740101097", True),
        (None, None, True),
        (None, "ACME", False),
        ("ACME", None, False),
        ("ACME", "ACME2", False),
    ],
)
def test_an_originator_is_the_same_in_any_case_and_with_or_without_plus(
    client: FlaskClient, suppressed: str | None, given: str | None, is_stopped: bool
) -> None:
    suppress(client, ALICE, originator=suppressed)
    assert send(client, ALICE, originator=given).status_code == (422 if is_stopped else 202)


def test_every_suppressed_recipient_is_refused_by_its_path_and_nothing_is_sent(
    client: FlaskClient, database: Database
) -> None:
    suppress(client, ALICE)
    good = {"recipients": [BOB], "text": "hello"}
    twice = {"recipients": [BOB, ALICE, "+44 7700 900001"], "text": "hello"}
    answer: Any = client.post("/v1/messages", json={"messages": [good, twice, good | {"originator": "ACME"}]})
    assert answer.status_code == 422
    assert list(answer.json["errors"]) == ["messages[1].recipients[1]", "messages[1].recipients[2]"]
    assert "900001" not in answer.get_data(as_text=True)
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Message)) == 0
    client.delete(PATH, query_string={"recipient": ALICE})
    assert send(client, ALICE).status_code == 202


def test_suppressed_recipients_are_left_out_with_a_warning_if_so_set(database: Database) -> None:
    client = client_of(create_app(make_settings(SUPPRESSED_ACTION="skip"), database))
    suppress(client, ALICE)
    answer = send(client, BOB, ALICE, "447700900003")
    assert answer.status_code == 202
    assert [item["recipient"] for item in answer.json["messages"]] == [BOB, "447700900003"]
    [warning] = answer.json["warnings"]
    assert warning.startswith("messages[0].recipients[1] was left out")
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Message)) == 2
    alone = send(client, ALICE)
    assert alone.status_code == 422
    assert list(alone.json["errors"]) == ["messages[0].recipients[0]"]
    assert send(client, BOB).json["warnings"] == []


def test_of_very_many_recipients_left_out_only_some_are_named(database: Database) -> None:
    client = client_of(create_app(make_settings(SUPPRESSED_ACTION="skip"), database))
    numbers = [str(447700900000 + n) for n in range(150)]
    with database.transaction() as session:
        suppressions.add(session, [Pair(number, "") for number in numbers[:-1]], Actor(actor="test"), rows.T0)
    answer = send(client, *numbers)
    assert len(answer.json["messages"]) == 1
    assert len(answer.json["warnings"]) == 101
    assert answer.json["warnings"][-1] == "and 49 more were left out"


@contextmanager
def statements() -> Iterator[list[str]]:
    """The SQL statements of all engines during the block."""
    heard: list[str] = []

    def hear(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        heard.append(statement)

    event.listen(Engine, "before_cursor_execute", hear)
    try:
        yield heard
    finally:
        event.remove(Engine, "before_cursor_execute", hear)


@pytest.mark.slow
def test_ten_thousand_recipients_are_checked_in_one_query(client: FlaskClient) -> None:
    suppress(client, ALICE, originator="other")
    numbers = [str(447700000000 + n) for n in range(10_000)]
    with statements() as heard:
        answer = send(client, *numbers)
    assert answer.status_code == 202
    assert len([one for one in heard if "suppressions" in one]) == 1
