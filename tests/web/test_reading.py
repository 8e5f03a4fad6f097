"""The reading endpoints: shapes, filters, pages, addresses."""

from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from receiptsvc import ids
from receiptsvc.domain.statuses import Status
from receiptsvc.store.core.db import Database
from tests.support import rows, stories
from tests.support.rows import seconds

pytestmark = pytest.mark.on_postgresql  # tests/store has these questions on each


def get(client: FlaskClient, path: str, status: int = 200) -> Any:
    answer: Any = client.get(path)
    assert answer.status_code == status, answer.json
    assert answer.headers["Cache-Control"] in {"no-store", "private, no-cache"}
    return answer.json


def test_a_message_has_its_transitions_in_the_order_recorded(client: FlaskClient, database: Database) -> None:
    [message] = rows.accept(database, rows.message(client_ref="a"))
    stories.report(database, message, Status.DELIVERED, seconds(6), occurred_at=seconds(5))
    stories.report(database, message, Status.SENT, seconds(8), occurred_at=seconds(3))
    read = get(client, f"/v1/messages/{ids.public('msg', message)}")
    assert (read["status"], read["statusAt"], read["conflict"]) == ("delivered", "2026-01-05T12:00:05.000000Z", False)
    assert read["conversationId"].startswith("cnv_")
    assert read["text"] == "Hello"
    assert [(step["status"], step["effect"], step["receiptId"]) for step in read["transitions"]] == [
        ("accepted", "applied", None),
        ("delivered", "applied", None),
        ("sent", "stale", None),
    ]
    assert read["transitions"][2] | {"reason": None} == {
        "status": "sent",
        "effect": "stale",
        "rule": "its address",
        "reason": None,
        "source": "gateway",
        "providerStatusId": "1",
        "providerDescription": "sent",
        "occurredAt": "2026-01-05T12:00:03.000000Z",
        "receivedAt": "2026-01-05T12:00:08.000000Z",
        "recordedAt": "2026-01-05T12:00:08.000000Z",
        "receiptId": None,
    }


@pytest.mark.parametrize(
    "path",
    [
        "/v1/messages/msg_00000000000000000000000000",
        "/v1/messages/cnv_00000000000000000000000000",
        "/v1/messages/nonsense",
        "/v1/messages/%00",
        "/v1/messages/msg_%FF",
        "/v1/messages/a/b",
        "/v1/messages/",
        "/v1/transactions/12",
        "/v1/transactions/x",
        "/v1/transactions/-1",
        "/v1/transactions/%D9%A1",
        "/v1/transactions/" + "9" * 100,
        "/v1/conversations/nobody",
        "/v1/conversations/" + "x" * 100,
        "/v1/conversations/cnv_00000000000000000000000000",
        "/v1/conversations/%00",
        "/v1/conversations/",
        "/v1/nothing",
        "/V1/messages",
    ],
)
def test_an_unknown_id_is_404(desk: FlaskClient, path: str) -> None:
    answer: Any = desk.get(path)
    assert answer.status_code == 404
    assert answer.content_type == "application/problem+json"
    assert answer.json["status"] == 404


def test_the_list_pages_by_cursor(client: FlaskClient, database: Database) -> None:
    made = [ids.public("msg", rows.accept(database)[0]) for _ in range(3)]
    first = get(client, "/v1/messages?limit=2")
    assert [item["id"] for item in first["items"]] == [made[2], made[1]]
    second = get(client, f"/v1/messages?limit=2&cursor={first['nextCursor']}")
    assert [item["id"] for item in second["items"]] == [made[0]]
    assert second["nextCursor"] is None


@pytest.mark.parametrize(
    "query",
    [
        "clientRef=order%2F1",
        "transactionID=0042",
        "recipient=%2B44%207700%20900001",
        "recipient=+447700900001",
        "status=delivered",
        "originator=ACME",
        "since=2026-01-05T12:00:00Z",
        "since=2026-01-05T13:00:00%2B01:00",
        "since=2026-01-05T13:00:00+01:00",
        "until=2026-01-05T12:00:01Z&limit=500",
    ],
)
def test_the_list_filters(client: FlaskClient, database: Database, query: str) -> None:
    [wanted] = rows.accept(database, rows.message(client_ref="order/1", originator="ACME"))
    stories.give_transaction(database, wanted, "42")
    stories.report(database, wanted, Status.DELIVERED, seconds(1))
    late = "until" in query
    rows.accept(database, rows.message("447700900002"), now=seconds(60) if late else seconds(-60))
    assert [item["id"] for item in get(client, f"/v1/messages?{query}")["items"]] == [ids.public("msg", wanted)]


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("/v1/messages?limit=0", "limit"),
        ("/v1/messages?limit=501", "limit"),
        ("/v1/messages?limit=ten", "limit"),
        ("/v1/messages?limit=" + "9" * 5000, "limit"),
        ("/v1/messages?limit=", "limit"),
        ("/v1/messages?cursor=x", "cursor"),
        ("/v1/messages?cursor=%00", "cursor"),
        ("/v1/messages?status=done", "status"),
        ("/v1/messages?recipient=447700900001&recipient=447700900002", "recipient"),
        ("/v1/messages?status=sent&status=done", "status"),
        ("/v1/messages?recipient=12", "recipient"),
        ("/v1/messages?transactionID=12x", "transactionID"),
        ("/v1/messages?since=yesterday", "since"),
        ("/v1/messages?until=2026-01-05", "until"),
        ("/v1/messages?clientRef=%00", "clientRef"),
        ("/v1/messages?clientRef=", "clientRef"),
        ("/v1/messages?originator=a%00", "originator"),
        ("/v1/messages?clientref=a", "clientref"),
        ("/v1/conversations?clientRef=", "clientRef"),
        ("/v1/conversations/x?limit=501", "limit"),
        ("/v1/conversations/x?cursor=MS4wLjAuMA", "cursor"),
        ("/v1/conversations/x?cursor=%C3%A9", "cursor"),
        ("/v1/conversations/x?clientRef=y", "clientRef"),
    ],
)
def test_a_wrong_parameter_is_refused_by_its_name(desk: FlaskClient, path: str, fault: str) -> None:
    assert list(get(desk, path, 422)["errors"]) == [fault]


def test_an_unknown_parameter_is_answered_with_the_nearest_known_one(desk: FlaskClient) -> None:
    assert "clientRef." in get(desk, "/v1/messages?clientref=a", 422)["errors"]["clientref"][0]


def test_a_transaction_has_its_messages_with_their_transitions(client: FlaskClient, database: Database) -> None:
    [message] = rows.accept(database)
    stories.give_transaction(database, message, "42")
    stories.report(database, message, Status.REJECTED, seconds(1))
    for written in ("42", "0042"):
        read = get(client, f"/v1/transactions/{written}")
        assert read["transactionID"] == "42"
        assert read["summary"] == {"messages": 1, "statuses": {"rejected": 1}, "conflicts": 0}
        assert read["messages"][0]["transactionID"] == "42"
        assert [step["status"] for step in read["messages"][0]["transitions"]] == ["accepted", "rejected"]


def test_a_conversation_has_its_timeline_page_by_page(client: FlaskClient, database: Database) -> None:
    message = rows.message(client_ref="order/1", originator="ACME")
    rows.accept(database, message)
    stories.report(database, message.id, Status.DELIVERED, seconds(3))
    stories.reply(database, "order/1", seconds(9))
    path = "/v1/conversations/order%2F1"
    read = get(client, f"{path}?limit=3")
    assert (read["id"], read["clientRef"]) == (ids.public("cnv", message.conversation_id), "order/1")
    assert read["parties"] == [{"number": "447700900001", "messages": 1, "replies": 1}]
    assert read["summary"] == {
        "messages": 1,
        "statuses": {"delivered": 1},
        "conflicts": 0,
        "replies": 1,
        "isBounded": False,
        "firstActivityAt": "2026-01-05T12:00:00.000000Z",
        "lastActivityAt": "2026-01-05T12:00:09.000000Z",
        "isWaitingForReply": False,
    }
    assert read["timelineOrder"] == "time"
    sent, accepted, delivered = read["timeline"]
    assert sent["type"] == "message"
    assert (sent["text"], sent["originator"], sent["status"]) == ("Hello", "ACME", "delivered")
    assert sent["clientRef"] == "order/1"
    assert get(client, "/v1/recipients/447700900001")["items"][-1] == sent
    assert sent["url"] == f"http://127.0.0.1:8000/v1/messages/{sent['id']}"
    assert (accepted["type"], accepted["status"], accepted["messageId"]) == ("transition", "accepted", sent["id"])
    assert (delivered["status"], delivered["recipient"]) == ("delivered", "447700900001")
    rest = get(client, f"{path}?limit=3&cursor={read['nextCursor']}")
    assert [entry["type"] for entry in rest["timeline"]] == ["reply"]
    assert (rest["timeline"][0]["sender"], rest["timeline"][0]["content"]) == ("447700900001", "thanks")
    assert rest["timeline"][0]["at"] == "2026-01-05T12:00:09.000000Z"
    assert rest["timeline"][0]["isOptOut"] is False
    assert rest["nextCursor"] is None


def test_a_conversation_without_a_client_ref_is_read_by_its_id(client: FlaskClient, database: Database) -> None:
    message = rows.message()
    rows.accept(database, message)
    identifier = ids.public("cnv", message.conversation_id)
    assert get(client, f"/v1/conversations/{identifier}")["clientRef"] is None
    assert get(client, f"/v1/conversations?clientRef={identifier}")["id"] == identifier


def test_a_client_ref_that_looks_like_an_id_is_one_only_if_that_conversation_exists(
    client: FlaskClient, database: Database
) -> None:
    pair = rows.message()
    taken = ids.public("cnv", pair.conversation_id)
    rows.accept(database, rows.message("447700900002", client_ref=taken))
    assert get(client, f"/v1/conversations/{taken}")["clientRef"] == taken
    rows.accept(database, pair)
    assert get(client, f"/v1/conversations/{taken}")["clientRef"] is None


CLIENT_REFS = (
    *("a/b", "/a", "a/", "//", "a//b", ".", "..", "a/../b", "?", "a?b=c#d", "%2F", "100%", "a b", "a+b", ";x=1"),
    *("a\nb", "a\\b", "\u00e9\U0001f600", "openapi.json", "\u202e" * 64),
)


def test_any_client_ref_can_be_part_of_the_address(client: FlaskClient, database: Database) -> None:
    rows.accept(database, *(rows.message(client_ref=client_ref) for client_ref in CLIENT_REFS))
    for client_ref in CLIENT_REFS:
        assert get(client, f"/v1/conversations?clientRef={quote(client_ref, safe='')}")["clientRef"] == client_ref
        answer: Any = client.get("/", environ_overrides={"PATH_INFO": path_info(client_ref)})
        assert answer.json["clientRef"] == client_ref


def path_info(client_ref: str) -> str:
    """The path as a WSGI server passes it on: decoded, its bytes as characters (PEP 3333)."""
    return f"/v1/conversations/{client_ref}".encode().decode("latin-1")


def test_the_ledger_has_every_counter(client: FlaskClient, database: Database) -> None:
    empty = get(client, "/v1/ledger")
    assert list(empty) == [
        "callbacks", "received", "pending", "applied", "duplicate", "stale", "conflicting", "unmapped", "unmatched",
        "quarantined", "dead", "dismissed", "spooled", "refused", "oldestPendingSeconds", "slowestAnswerSeconds",
        "answersOver1s", "balanced",
    ]  # fmt: skip
    assert empty["oldestPendingSeconds"] is None
    rows.keep(database, "statusid=1")
    kept = get(client, "/v1/ledger")
    assert (kept["callbacks"], kept["received"], kept["pending"], kept["balanced"]) == (1, 1, 1, True)
    assert kept["oldestPendingSeconds"] > 0


def test_an_opt_out_reply_is_marked(client: FlaskClient, database: Database) -> None:
    stories.reply(database, "theirs", seconds(1), content="Stop!")
    [reply] = get(client, "/v1/conversations/theirs")["timeline"]
    assert reply["isOptOut"] is True


def test_a_conversation_of_a_reply_alone_can_be_read(client: FlaskClient, database: Database) -> None:
    stories.reply(database, "theirs", seconds(1))
    read = get(client, "/v1/conversations/theirs")
    assert read["clientRef"] == "theirs"
    assert [entry["type"] for entry in read["timeline"]] == ["reply"]
