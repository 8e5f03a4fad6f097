"""What shows a message's transitions stays short, however many there are, and shows those that decide."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import update

from receiptsvc import ids
from receiptsvc.domain.statuses import Report, Source, Status
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Message
from receiptsvc.store.core.paging import Page
from receiptsvc.store.messages import transitions
from receiptsvc.store.messages.transitions import NewTransition
from receiptsvc.store.queries import exports, lookup
from receiptsvc.store.queries.histories import MOST
from receiptsvc.web.answers import export_stream
from receiptsvc.web.app import create_app
from tests.support import rows
from tests.support.callers import client_of, make_settings
from tests.support.rows import seconds
from tests.support.stories import give_transaction

MANY = 1000
WORDS = {500: Status.EXPIRED, 501: Status.DELIVERED}  # amid the others: the deciding one, and another final word


@pytest.fixture
def client(database: Database) -> FlaskClient:
    return client_of(create_app(make_settings(), database))


def gateway_said(number: int, status: Status | None) -> NewTransition:
    report = Report(
        source=Source.GATEWAY,
        status=status,
        received_at=seconds(number),
        occurred_at=seconds(number),
        provider_status_id=str(number),
    )
    return NewTransition(report=report, rule="token", receipt_id=ids.new())


def report_many(database: Database, **more: Any) -> str:
    """A message with as many receipts; its public id."""
    [message_id] = rows.accept(database, rows.message(**more))
    give_transaction(database, message_id, "815")
    record(database, message_id, [gateway_said(number, WORDS.get(number, Status.SENT)) for number in range(MANY)])
    return ids.public("msg", message_id)


def record(database: Database, message_id: UUID, reported: Iterable[NewTransition]) -> None:
    entries = [(message_id, each) for each in reported]
    with database.transaction() as session:
        transitions.record(session, transitions.lock_messages(session, [message_id]), entries, seconds(MANY))


def codes(items: list[dict[str, Any]]) -> list[int]:
    """The numbers of the receipts, which are their codes."""
    return [int(item["providerStatusId"]) for item in items if item["providerStatusId"]]


def get(client: FlaskClient, path: str) -> Any:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def test_a_message_shows_the_first_the_newest_and_those_that_decide(client: FlaskClient, database: Database) -> None:
    message = get(client, f"/v1/messages/{report_many(database)}")
    shown = codes(message["transitions"])
    assert shown == sorted(shown)
    assert len(shown) <= MOST + len(WORDS)
    assert {0, 1, *WORDS, MANY - 2, MANY - 1} <= set(shown)
    assert (message["status"], message["conflict"]) == ("delivered", True)
    assert message["transitionCount"] == MANY + 1


def test_the_rest_is_found_from_where_it_is_left_out(client: FlaskClient, database: Database) -> None:
    message_id = report_many(database)
    message = get(client, f"/v1/messages/{message_id}")
    cursor, listed = message["transitionsCursor"], list[int]()
    while cursor:
        page = get(client, f"/v1/messages/{message_id}/transitions?limit=300&cursor={cursor}")
        listed += codes(page["items"])
        cursor = page["nextCursor"]
    before = [number for number in codes(message["transitions"]) if number < listed[0]]
    assert before + listed == list(range(MANY))


def test_all_transitions_of_a_usual_message_are_shown(client: FlaskClient, database: Database) -> None:
    [message_id] = rows.accept(database)
    message = get(client, f"/v1/messages/{ids.public('msg', message_id)}")
    assert (len(message["transitions"]), message["transitionCount"], message["transitionsCursor"]) == (1, 1, None)
    page = get(client, f"/v1/messages/{ids.public('msg', message_id)}/transitions")
    assert (page["items"], page["nextCursor"]) == (message["transitions"], None)


def test_the_transitions_of_no_message_are_not_found(client: FlaskClient) -> None:
    assert client.get(f"/v1/messages/{ids.public('msg', ids.new())}/transitions").status_code == 404


def test_an_explanation_is_as_short_and_still_true(client: FlaskClient, database: Database) -> None:
    message_id = report_many(database)
    explained = get(client, f"/v1/messages/{message_id}/explain")
    assert len(explained["reports"]) <= MOST + len(WORDS)
    assert explained["transitionCount"] == MANY + 1
    [winner] = [each for each in explained["reports"] if each["isWinner"]]
    assert winner["providerStatusId"] == "501"
    assert "delivered counts more than any other final word" in explained["because"]
    after = [each for each in explained["reports"] if each["providerStatusId"] == str(MANY - 1)]
    assert after[0]["why"] == "It left the status as it was."


def test_a_step_of_our_own_amid_many_receipts_is_shown_if_it_decides(client: FlaskClient, database: Database) -> None:
    [message_id] = rows.accept(database)
    ours = NewTransition(report=transitions.own_report(Status.FAILED, seconds(500)), rule="answer", reason="barred")
    unmapped = [gateway_said(number, None) for number in range(MANY)]
    record(database, message_id, [*unmapped[:500], ours, *unmapped[500:]])
    explained = get(client, f"/v1/messages/{ids.public('msg', message_id)}/explain")
    [winner] = [each for each in explained["reports"] if each["isWinner"]]
    assert winner["status"] == "failed"
    assert "We recorded failed" in explained["because"]
    message = get(client, f"/v1/messages/{ids.public('msg', message_id)}")
    page = get(client, f"/v1/messages/{message['id']}/transitions?limit=1&cursor={message['transitionsCursor']}")
    assert page["items"][0]["providerStatusId"] == str(MOST // 2 - 1), "the first of those left out"


def test_a_message_with_fewer_transitions_than_were_counted_is_shown_whole(
    client: FlaskClient, database: Database
) -> None:
    [message_id] = rows.accept(database)
    with database.transaction() as session:
        session.execute(update(Message).values(transition_count=MANY))
    message = get(client, f"/v1/messages/{ids.public('msg', message_id)}")
    assert (len(message["transitions"]), message["transitionsCursor"]) == (1, None)


def test_a_transaction_of_many_such_messages_is_bounded(client: FlaskClient, database: Database) -> None:
    for number in range(3):
        report_many(database, recipient=f"44770090000{number}")
    for number in range(60):
        [message_id] = rows.accept(database, rows.message(recipient=f"4477009001{number:02}"))
        give_transaction(database, message_id, "815")
    messages = get(client, "/v1/transactions/815")["messages"]
    assert len(messages) == 63
    assert sum(len(message["transitions"]) for message in messages) < 1000
    assert all({*WORDS} <= set(codes(message["transitions"])) for message in messages[:3])


def test_a_timeline_with_such_a_message_goes_on_page_by_page(client: FlaskClient, database: Database) -> None:
    report_many(database, client_ref="order-1")
    listed, more = list[int](), ""
    for _ in range(5):
        page = get(client, f"/v1/conversations?clientRef=order-1&limit=300{more}")
        listed += [int(each["providerStatusId"]) for each in page["timeline"] if each.get("providerStatusId")]
        if page["nextCursor"] is None:
            break
        more = f"&cursor={page['nextCursor']}"
    assert sorted(listed) == list(range(MANY))


def test_a_conversation_with_very_many_transitions_goes_message_by_message(
    client: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    report_many(database, client_ref="order-1")
    report_many(database, client_ref="order-1", recipient="447700900002")
    monkeypatch.setattr(lookup, "LARGE_TRANSITIONS", 2 * MANY)
    listed, more = list[int](), ""
    while True:
        page = get(client, f"/v1/conversations?clientRef=order-1&limit=300{more}")
        assert (page["timelineOrder"], page["summary"]["isBounded"]) == ("message", False)
        listed += [int(each["providerStatusId"]) for each in page["timeline"] if each.get("providerStatusId")]
        if page["nextCursor"] is None:
            break
        more = f"&cursor={page['nextCursor']}"
    assert listed == 2 * list(range(MANY)), "one message after the other"


@pytest.mark.parametrize("query", ["", "?status=delivered"])
def test_an_export_reads_so_many_transitions_in_slices(
    client: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    [before] = rows.accept(database, rows.message(recipient="447700900001"))
    many = report_many(database)
    [after] = rows.accept(database, rows.message(recipient="447700900003"))
    record(database, before, [gateway_said(number, Status.DELIVERED) for number in range(3)])
    record(database, after, [gateway_said(number, Status.DELIVERED) for number in range(2)])
    sizes: list[int] = []
    read = exports.read_transitions

    def measure(*args: Any, **more: Any) -> Page[exports.Line, Any]:
        page = read(*args, **more)
        sizes.append(len(page.items))
        return page

    monkeypatch.setattr(exports, "_MAX_TRANSITIONS", 300)
    monkeypatch.setattr(export_stream, "TRANSITIONS", replace(export_stream.TRANSITIONS, read=measure))
    lines = [json.loads(line) for line in client.get(f"/v1/export/transitions.jsonl{query}").text.splitlines()]
    exported = [(line["messageId"], line["providerStatusId"]) for line in lines]
    assert exported == [
        (message_id, number)
        for message_id, count in ((ids.public("msg", after), 2), (many, MANY), (ids.public("msg", before), 3))
        for number in (None, *map(str, range(count)))
    ]
    assert (len(sizes), max(sizes)) == (6, 300)
