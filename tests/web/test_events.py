"""Opening an event stream: scopes, filters, where it starts, and the form of an event."""

import json
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from flask.testing import FlaskClient

from receiptsvc import ids
from receiptsvc.domain.statuses import Status
from receiptsvc.server import event_streams
from receiptsvc.store.core.db import Database
from receiptsvc.store.messages import change_feed
from tests.support import rows, stories
from tests.support.callers import SECRETS, bearer
from tests.support.rows import seconds

pytestmark = pytest.mark.on_postgresql  # nothing here is the database's

BEGINNING = "000000000000.000"


def read(client: FlaskClient, count: int, query: str = "", **headers: str) -> list[tuple[str, str, Any]]:
    """The first events of a stream: id, name, data."""
    answer = client.get(f"/v1/events{query}", headers=headers, buffered=False)
    assert answer.status_code == 200, answer.json
    pieces: Iterator[Any] = iter(answer.response)
    text = ""
    with gevent.Timeout(20):
        while text.count("data: ") < count:
            text += next(pieces).decode()
        answer.close()
        feed = client.application.extensions["receiptsvc.feed"]
        while feed.is_polling:
            gevent.sleep(0.01)
    found = []
    for block in text.split("\n\n"):
        said = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "data" in said:
            found.append((said["id"], said["event"], json.loads(said["data"])))
    return found


def refuse(client: FlaskClient, status: int, query: str = "", **headers: str) -> Any:
    answer = client.get(f"/v1/events{query}", headers=headers)
    assert answer.status_code == status, answer.json
    assert answer.content_type == "application/problem+json"
    return answer


def test_an_event_is_one_line_of_json(client: FlaskClient, database: Database) -> None:
    [message] = rows.accept(database, rows.message(client_ref="a\nb", originator="ACME"))
    stories.give_transaction(database, message, "7")
    stories.report(database, message, Status.DELIVERED, seconds(6), occurred_at=seconds(5))
    stories.reply(database, "a\nb", seconds(9), content="thanks,\nreally")
    found = read(client, 3, f"?lastEventId={BEGINNING}")
    assert [name for _, name, _ in found] == ["status", "status", "reply"]
    conversation = found[0][2]["conversationId"]
    assert conversation.startswith("cnv_")
    assert found[1][2] == {
        "id": ids.public("msg", message),
        "recipient": "447700900001",
        "clientRef": "a\nb",
        "originator": "ACME",
        "status": "delivered",
        "previousStatus": "accepted",
        "statusAt": "2026-01-05T12:00:05.000000Z",
        "transactionID": "7",
        "conversationId": conversation,
    }
    reply = found[2][2]
    assert reply.pop("id").startswith("rpl_")
    assert reply.pop("receiptId").startswith("rcp_")
    assert reply == {
        "conversationId": conversation,
        "messageId": ids.public("msg", message),
        "link": "clientRef",
        "clientRef": "a\nb",
        "sender": "447700900001",
        "recipient": "447700900999",
        "content": "thanks,\nreally",
        "occurredAt": None,
        "receivedAt": "2026-01-05T12:00:09.000000Z",
        "conflict": False,
        "isOptOut": False,
        "isOptIn": False,
    }


def test_it_continues_after_the_last_event_id_and_the_header_takes_precedence(
    client: FlaskClient, database: Database
) -> None:
    rows.accept(database, *(rows.message(client_ref=f"{serial}") for serial in range(4)))
    every = read(client, 4, f"?lastEventId={BEGINNING}")
    places = [place for place, _, _ in every]
    assert places == sorted(places)
    assert read(client, 2, f"?lastEventId={places[1]}") == every[2:]
    assert read(client, 1, f"?lastEventId={places[0]}", **{"Last-Event-ID": places[2]}) == every[3:]


def test_no_character_of_a_text_ends_a_line_for_any_client(client: FlaskClient, database: Database) -> None:
    content = "a\u2028b\u2029c\u0085d\x0be\x1cf\r\ng\rh"  # each ends a line for `str.splitlines`
    rows.accept(database, rows.message(client_ref="a"))
    stories.reply(database, "a", seconds(9), content=content)
    [_, (_, name, data)] = read(client, 2, f"?lastEventId={BEGINNING}")
    assert (name, data["content"]) == ("reply", content)


def test_a_stream_is_not_cached_compressed_or_buffered(client: FlaskClient) -> None:
    answer = client.get("/v1/events", headers={"Accept-Encoding": "gzip"}, buffered=False)
    headers = answer.headers
    answer.close()
    assert headers["Content-Type"] == "text/event-stream"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Accel-Buffering"] == "no"
    assert "Content-Encoding" not in headers
    assert client.head("/v1/events").status_code == 200


@pytest.mark.parametrize(
    ("query", "place", "count"),
    [
        ("clientRef=a", "clientRef", 2),
        ("recipient=%2B44+7700+900002", "recipient", 1),
        ("originator=ACME&status=delivered", "status", 1),
        ("transactionID=007", "transactionID", 1),
    ],
)
def test_filters_are_those_of_the_list(
    client: FlaskClient, database: Database, query: str, place: str, count: int
) -> None:
    [first] = rows.accept(database, rows.message(client_ref="a", originator="ACME"))
    rows.accept(database, rows.message("447700900002", client_ref="b"))
    stories.give_transaction(database, first, "7")
    stories.report(database, first, Status.DELIVERED, seconds(6))
    rows.accept(database, rows.message(client_ref="end"))
    found = read(client, count, f"?lastEventId={BEGINNING}&{query}")
    listed = {json.dumps(data[place]) for _, _, data in found}
    assert len(found) >= count
    assert len(listed) == 1


def test_a_stream_needs_a_key_with_the_scope_read(desk: FlaskClient) -> None:
    answer = desk.get("/v1/events", headers={"Authorization": ""})
    assert answer.status_code == 401
    assert desk.get("/v1/events", headers=bearer(SECRETS["send"])).status_code == 403


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?lastEventId=", "lastEventId"),
        ("?lastEventId=1.2", "lastEventId"),
        ("?lastEventId=000000000001.000%00", "lastEventId"),
        ("?recipient=nobody", "recipient"),
        ("?status=lost", "status"),
        ("?clientref=a", "clientref"),
    ],
)
def test_a_wrong_parameter_is_named(desk: FlaskClient, query: str, field: str) -> None:
    assert list(refuse(desk, 422, query).json["errors"]) == [field]


def test_a_wrong_last_event_id_header_is_named(desk: FlaskClient) -> None:
    assert list(refuse(desk, 422, **{"Last-Event-ID": "7"}).json["errors"]) == ["Last-Event-ID"]


def test_an_event_id_after_which_not_all_is_kept_is_410(client: FlaskClient, database: Database) -> None:
    for age in range(4):
        rows.accept(database, now=seconds(age))
    found = read(client, 4, f"?lastEventId={BEGINNING}")
    with database.transaction() as session:
        assert change_feed.prune(session, seconds(3), limit=9) == 2
    refuse(client, 410, f"?lastEventId={BEGINNING}")
    refuse(client, 410, f"?lastEventId={found[1][0]}")
    answer = refuse(client, 410, **{"Last-Event-ID": found[1][0]})
    assert "without an id" in answer.json["detail"]
    assert read(client, 1, **{"Last-Event-ID": found[2][0]}) == found[3:]


def test_who_has_seen_all_events_goes_on_after_they_were_all_pruned(client: FlaskClient, database: Database) -> None:
    for age in range(2):
        rows.accept(database, now=seconds(age))
    found = read(client, 2, f"?lastEventId={BEGINNING}")
    with database.transaction() as session:
        change_feed.prune(session, seconds(9), limit=9)
    refuse(client, 410, **{"Last-Event-ID": found[0][0]})
    rows.accept(database, rows.message(client_ref="new"), now=seconds(10))
    [(_, _, data)] = read(client, 1, **{"Last-Event-ID": found[1][0]})
    assert data["clientRef"] == "new"


@pytest.mark.parametrize("place", ["000000000001.001", "000000000002.000", "000000000000.001"])
def test_an_event_id_that_never_was_here_is_410(client: FlaskClient, database: Database, place: str) -> None:
    refuse(client, 410, f"?lastEventId={place}")
    rows.accept(database)
    refuse(client, 410, f"?lastEventId={place}")


def test_one_stream_too_many_is_503(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_streams, "MAX_OPEN_STREAMS", 0)
    assert refuse(client, 503).headers["Retry-After"] == "5"
