"""What shows a message's transitions stays short, however many there are, and shows those that decide."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from receiptsvc import ids
from receiptsvc.domain.statuses import Report, Source, Status
from receiptsvc.store.core.db import Database
from receiptsvc.store.messages import transitions
from receiptsvc.store.queries.histories import MOST
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


def report_many(database: Database, **more: Any) -> str:
    """A message with as many receipts; its public id."""
    [message_id] = rows.accept(database, rows.message(**more))
    give_transaction(database, message_id, "815")
    entries = [
        (
            message_id,
            transitions.NewTransition(
                report=Report(
                    source=Source.GATEWAY,
                    status=WORDS.get(number, Status.SENT),
                    received_at=seconds(number),
                    occurred_at=seconds(number),
                    provider_status_id=str(number),
                ),
                rule="token",
                receipt_id=ids.new(),
            ),
        )
        for number in range(MANY)
    ]
    with database.transaction() as session:
        transitions.record(session, transitions.lock_messages(session, [message_id]), entries, seconds(MANY))
    return ids.public("msg", message_id)


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
