"""`/v1/problems`: what needs attention, by cause, with its rows and remedy; and what people say about it."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from receiptsvc import ids
from receiptsvc.domain.problems import Kind, id_of
from receiptsvc.store.core.db import Database
from receiptsvc.web.app import create_app
from tests.support import rows
from tests.support.callers import SECRETS, client_of, make_settings
from tests.support.looks import note
from tests.support.rows import T0, accept, keep, seconds
from tests.support.work import said, work_off

UNMATCHED = ids.public("prb", id_of(Kind.UNMATCHED, {"channel": "account"}))
NOWHERE = ids.public("prb", id_of(Kind.UNMATCHED, {"channel": "nowhere"}))


def park(database: Database, at: float = 0) -> str:
    """A receipt on the static URL that fits nothing; its id."""
    receipt_id = keep(database, said(ref="nobody"), now=seconds(at))
    work_off(database, at)
    return ids.public("rcp", receipt_id)


def listed(client: FlaskClient, **query: Any) -> list[dict[str, Any]]:
    page: Any = client.get("/v1/problems", query_string=query).json
    assert page["isComplete"]
    found: list[dict[str, Any]] = [item for item in page["items"] if item["kind"] != "time_slice_missing"]
    return found


def change(client: FlaskClient, action: str, problem: str = UNMATCHED, **body: Any) -> tuple[int, Any]:
    answer = client.post(f"/v1/problems/{problem}/{action}", json=body)
    return answer.status_code, answer.json


def test_where_all_is_well_the_list_is_empty(client: FlaskClient, database: Database) -> None:
    note(database, T0)
    assert listed(client) == []


def test_a_problem_says_what_it_is_since_when_how_much_and_what_to_do(client: FlaskClient, database: Database) -> None:
    receipt_ids = [park(database, at) for at in range(7)]
    note(database, seconds(30))
    [problem] = listed(client)
    words = "Those of messages that another system sent are taken over after `ADOPT_AFTER_SECONDS`"
    assert problem.pop("remedy").startswith(words)
    assert problem == {
        "id": UNMATCHED,
        "kind": "unmatched",
        "harm": "waits",
        "title": "7 receipts on the static URL unmatched",
        "detail": None,
        "cause": {"channel": "account"},
        "state": "open",
        "firstAt": "2026-01-05T12:00:00.000000Z",
        "lastAt": "2026-01-05T12:00:06.000000Z",
        "count": 7,
        "isAll": True,
        "changedAt": "2026-01-05T12:00:30.000000Z",
        "changedBy": None,
        "reason": None,
    }
    story: Any = client.get(f"/v1/problems/{UNMATCHED}").json
    assert story["receiptIds"] == receipt_ids[:1:-1]
    assert (story["messages"], story["messageIds"], story["isExact"], story["audits"]) == (None, [], True, [])
    found: Any = client.post("/v1/receipts/query", json=story["receipts"]).json
    assert [item["id"] for item in found["items"]] == receipt_ids[::-1], "what lists its rows does"


def test_the_messages_of_a_sender_are_listed_by_what_is_given(client: FlaskClient, database: Database) -> None:
    sent = [rows.message(originator=originator, conversation_id=ids.new()) for originator in ("ACME", "ACME", "OTHER")]
    accept(database, *sent)
    for each in sent:
        keep(database, "statusid=1&statusdescription=Sent", message_id=each.id)
    work_off(database)
    note(database, seconds(4000))
    problem = next(item for item in listed(client) if item["cause"] == {"originator": "ACME"})
    assert problem["title"] == "2 messages from ACME overdue"
    story: Any = client.get(f"/v1/problems/{problem['id']}").json
    assert story["receipts"] is None
    found: Any = client.post("/v1/messages/query", json=story["messages"]).json
    assert {item["id"] for item in found["items"]} == set(story["messageIds"])
    assert len(story["messageIds"]) == 2


@pytest.mark.parametrize(
    ("query", "kind", "is_exact"),
    [
        ("statusid=17&statusdescription=Foo", {"providerStatusId": "17"}, True),
        ("statusdescription=Foo+Bar", {"providerDescription": "foo bar"}, False),  # others may have it beside a code
    ],
)
def test_unmapped_receipts_are_listed_by_their_code_or_description(
    client: FlaskClient, database: Database, query: str, kind: dict[str, str], is_exact: bool
) -> None:
    [message_id] = accept(database)
    receipt_id = keep(database, query, message_id=message_id)
    work_off(database)
    note(database, seconds(30))
    [problem] = listed(client)
    story: Any = client.get(f"/v1/problems/{problem['id']}").json
    assert story["receipts"] == {"outcome": ["unmapped"], **kind}
    assert story["isExact"] is is_exact
    assert story["receiptIds"] == ([ids.public("rcp", receipt_id)] if is_exact else [])


def test_a_problem_without_rows_lists_none(client: FlaskClient, database: Database) -> None:
    note(database, T0, with_worker=False)
    problem = next(item for item in listed(client) if item["kind"] == "worker_unseen")
    story: Any = client.get(f"/v1/problems/{problem['id']}").json
    assert [story[name] for name in ("receipts", "messages", "isExact", "receiptIds")] == [None, None, None, []]


def test_it_is_acknowledged_resolved_and_reopened_on_record(client: FlaskClient, database: Database) -> None:
    park(database)
    note(database, seconds(20))
    status, story = change(client, "acknowledge", reason="I look")
    assert (status, story["state"], story["changedBy"], story["reason"]) == (200, "acknowledged", "desk", "I look")
    assert [item["state"] for item in listed(client)] == ["acknowledged"]
    assert change(client, "resolve")[1]["state"] == "resolved"
    assert (listed(client), len(listed(client, state="resolved"))) == ([], 1)
    status, story = change(client, "reopen", reason="not yet")
    assert [(each["actor"], each["action"], each["reason"]) for each in story["audits"]] == [
        ("desk", "acknowledged", "I look"),
        ("desk", "resolved", None),
        ("desk", "reopened", "not yet"),
    ]
    assert len(listed(client, state="open,resolved")) == 1


def test_it_opens_by_itself_with_the_next_receipt(client: FlaskClient, database: Database) -> None:
    park(database)
    note(database, seconds(20))
    change(client, "resolve")
    note(database, seconds(40))
    assert listed(client) == []
    park(database, 50)
    note(database, seconds(70))
    [problem] = listed(client)
    assert (problem["state"], problem["count"]) == ("open", 2)


def test_the_second_of_two_tabs_is_told_why_nothing_was_done(client: FlaskClient, database: Database) -> None:
    park(database)
    note(database, seconds(20))
    change(client, "resolve")
    for action, detail in (
        ("resolve", "It is resolved already, by desk."),
        ("acknowledge", "It is resolved by desk: reopen it first."),
    ):
        status, problem = change(client, action)
        assert (status, problem["detail"]) == (409, detail)
    change(client, "reopen")
    assert change(client, "reopen")[1]["detail"] == "It is open already."


@pytest.mark.parametrize("problem", [NOWHERE, "prb_x", "msg_01k8z3r5t6e8vbyq0h4n2m7c9d"])
def test_there_is_no_such_problem(desk: FlaskClient, problem: str) -> None:
    assert desk.get(f"/v1/problems/{problem}").status_code == 404
    for action in ("acknowledge", "resolve", "reopen"):
        assert change(desk, action, problem)[0] == 404


def test_what_cant_be_understood_is_named(desk: FlaskClient) -> None:
    answer: Any = desk.get("/v1/problems", query_string={"state": "new"}).json
    assert answer["errors"] == {"state": ["Must be one or several of: open, acknowledged, resolved."]}
    status, answer = change(desk, "resolve", UNMATCHED, reason="x" * 1001)
    assert (status, list(answer["errors"])) == (422, ["reason"])


def test_only_a_key_with_the_scope_ops_may_see_and_change_them(desk_database: Database) -> None:
    app = create_app(make_settings(), desk_database)
    for scope in ("send", "read"):
        caller = client_of(app, SECRETS[scope])
        assert caller.get("/v1/problems").status_code == 403
        assert change(caller, "resolve")[0] == 403
    assert client_of(app, SECRETS["ops"]).get("/v1/problems").status_code == 200
