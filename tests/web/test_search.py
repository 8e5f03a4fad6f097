"""Search, lookup, and the lists of conversations, replies and a person's history."""

from typing import Any
from urllib.parse import quote, urlencode

import pytest
from flask.testing import FlaskClient

from receiptsvc import ids
from receiptsvc.store.core.db import Database
from receiptsvc.store.queries import hits
from receiptsvc.worker.receipt_processor import process
from tests.support import rows, stories
from tests.support.rows import seconds
from tests.support.work import RULES


def get(client: FlaskClient, path: str, status: int = 200) -> Any:
    answer: Any = client.get(path)
    assert answer.status_code == status, answer.json
    return answer.json


def look_up(client: FlaskClient, body: dict[str, list[str]], status: int = 200) -> Any:
    answer: Any = client.post("/v1/messages/lookup", json=body)
    assert answer.status_code == status, answer.json
    return answer.json


@pytest.mark.on_postgresql
@pytest.mark.parametrize(
    "query",
    [
        "clientRefPrefix=order%2F",
        "recipientEnds=0001",
        "recipientEnds=00%2090-0001",
        "messageGuid=guid-1",
        "changedSince=2026-01-05T12:00:00Z&order=changed",
        "order=changed&changedSince=2026-01-05T12:00:00Z&status=accepted",
        "clientRefPrefix=order&recipient=447700900001&order=created",
    ],
)
def test_the_list_has_further_filters_and_orders(client: FlaskClient, database: Database, query: str) -> None:
    [wanted] = rows.accept(database, rows.message(client_ref="order/1", message_guid="guid-1"))
    rows.accept(database, rows.message("447700900002"), now=seconds(-60))
    assert [item["id"] for item in get(client, f"/v1/messages?{query}")["items"]] == [ids.public("msg", wanted)]


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("recipientEnds=001", "recipientEnds"),
        ("recipientEnds=12a4", "recipientEnds"),
        ("order=latest", "order"),
        ("order=created&changedSince=2026-01-05T12:00:00Z", "order"),
        ("order=created&clientRefPrefix=a&status=failed", "order"),
        ("order=clientRef", "order"),
        ("changedsince=2026-01-05T12:00:00Z", "changedsince"),
    ],
)
def test_an_impossible_filter_or_order_is_refused_by_its_parameter(desk: FlaskClient, query: str, fault: str) -> None:
    assert list(get(desk, f"/v1/messages?{query}", 422)["errors"]) == [fault]


def test_a_cursor_continues_only_in_its_own_order(client: FlaskClient, database: Database) -> None:
    made = rows.accept(database, *(rows.message(client_ref=f"r/{number}.\u00e9") for number in range(3)))
    for order in ("order=created", "order=changed", "clientRefPrefix=r%2F"):
        first = get(client, f"/v1/messages?limit=2&{order}")
        rest = get(client, f"/v1/messages?limit=2&{order}&cursor={first['nextCursor']}")
        assert {item["id"] for item in [*first["items"], *rest["items"]]} == {ids.public("msg", one) for one in made}
        other = "order=changed" if order == "order=created" else "order=created"
        assert list(get(client, f"/v1/messages?{other}&cursor={first['nextCursor']}", 422)["errors"]) == ["cursor"]


def test_the_number_of_messages_is_estimated_on_request(client: FlaskClient, database: Database) -> None:
    rows.accept(database, rows.message(message_guid="g", client_ref="a"))
    filters = "clientRef=a&messageGuid=g&transactionID=7&status=accepted&since=2026-01-05T12:00:00Z&recipientEnds=0001"
    assert get(client, "/v1/messages")["estimatedCount"] is None
    guess = get(client, f"/v1/messages?estimate=true&{filters}")["estimatedCount"]
    assert guess is None if database.is_sqlite else guess >= 0


@pytest.mark.parametrize(
    "path",
    [
        "/v1/ledger?x=1",
        "/v1/messages/msg_00000000000000000000000000?limit=1",
        "/v1/transactions/1?limit=1",
    ],
)
def test_an_unknown_parameter_is_refused_where_none_is_known(desk: FlaskClient, path: str) -> None:
    [name] = get(desk, path, 422)["errors"]
    assert name in path


def test_messages_are_looked_up_by_ids_client_refs_and_transaction_ids(client: FlaskClient, database: Database) -> None:
    made = rows.accept(database, rows.message(client_ref="a"), rows.message("447700900002", client_ref="b"))
    first, second = (ids.public("msg", one) for one in made)
    stories.give_transaction(database, made[1], "42")
    stranger = ids.public("msg", ids.new())
    found = look_up(client, {"ids": [second, stranger, first, second]})
    assert [item["id"] for item in found["items"]] == [second, first]
    assert (found["missing"], found["cut"]) == ([stranger], [])
    found = look_up(client, {"transactionIDs": ["0042", "7"]})
    assert ([item["id"] for item in found["items"]], found["missing"]) == ([second], ["7"])
    found = look_up(client, {"clientRefs": ["b", "nobody", "a"]})
    assert ([item["clientRef"] for item in found["items"]], found["missing"]) == (["b", "a"], ["nobody"])


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ({}, "body"),
        ({"ids": []}, "ids"),
        ({"ids": ["rcp_00000000000000000000000000"]}, "ids[0]"),
        ({"ids": ["msg_00000000000000000000000000"] * 501}, "ids"),
        ({"ids": ["msg_00000000000000000000000000"], "clientRefs": ["a"]}, "body"),
        ({"transactionIDs": ["1", "x"]}, "transactionIDs[1]"),
        ({"clientRef": ["a"]}, "clientRef"),
    ],
)
def test_a_wrong_lookup_is_refused(desk: FlaskClient, body: Any, fault: str) -> None:
    assert list(look_up(desk, body, 422)["errors"]) == [fault]


def test_a_search_lists_everything_that_the_term_may_mean(client: FlaskClient, database: Database) -> None:
    message = rows.message(client_ref="order/1", message_guid="guid-1")
    rows.accept(database, message, rows.message("447700900002", client_ref="order/12"))
    stories.give_transaction(database, message.id, "900001")
    stories.reply(database, "order/1", seconds(5), msgid="mid-9")

    def hits(term: str) -> dict[str, Any]:
        found = get(client, f"/v1/search?q={quote(term, safe='')}")["items"]
        for hit in found:
            address = hit["url"].removeprefix("http://127.0.0.1:8000")
            assert client.get(address).status_code == 200, address
        return {hit["as"]: hit for hit in found}

    public = ids.public("msg", message.id)
    assert list(hits(public)) == ["message"]
    assert list(hits("+44 (7700) 900 001")) == ["recipient", "recipientEnds"]
    assert list(hits("900001")) == ["recipientEnds", "transactionID"]
    assert list(hits("guid-1")) == ["messageGuid"]
    assert list(hits("order/")) == ["clientRefPrefix"]
    both = hits("order/1")
    assert list(both) == ["clientRef", "clientRefPrefix"]
    assert [item["id"] for item in both["clientRef"]["messages"]] == [public]
    assert [reply["content"] for reply in both["clientRef"]["replies"]] == ["thanks"]
    assert [item["clientRef"] for item in both["clientRefPrefix"]["messages"]] == ["order/12"]
    reply = both["clientRef"]["replies"][0]
    assert list(hits(reply["id"])) == ["reply"]
    assert list(hits(reply["receiptId"])) == ["receipt"]
    assert list(hits(reply["conversationId"])) == ["conversation"]
    assert hits("mid-9")["reply"]["replies"] == [reply]
    assert hits("nothing at all") == {}
    assert hits(" ") == {}


def test_receipts_that_fit_no_message_are_found_by_the_beginning_of_their_client_ref(
    client: FlaskClient, database: Database
) -> None:
    names = ["lost/7", "lost/7a", "lost/7b", "lost/8", "Lost/7", "lost", *(f"many/{number}" for number in range(9))]
    for name in names:
        rows.keep(database, urlencode({"recipient": "447700900123", "clientref": name, "statusid": 1}))
    process(database, RULES, seconds(5), 100)

    def find(term: str) -> list[tuple[str, list[str]]]:
        hits = get(client, f"/v1/search?q={quote(term)}")["items"]
        return [(hit["as"], [item["clientRef"] for item in hit["receipts"]]) for hit in hits]

    assert find("lost/7") == [
        ("parkedReceipts", ["lost/7"]),
        *(("parkedReceiptsPrefix", [name]) for name in ("lost/7a", "lost/7b")),
    ]
    assert find("Lost") == [("parkedReceiptsPrefix", ["Lost/7"])]
    assert find("lost/9") == find("st/7") == find("lost_") == []
    assert len(find("many")) == 5


def test_a_national_writing_finds_a_number_however_many_end_alike(
    client: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hits, "_MAX_ENDINGS", 3)
    [wanted] = rows.accept(database, rows.message("447709990123"))
    rows.accept(database, *(rows.message(f"44770{number:03}0123") for number in range(70)), now=seconds(60))
    [hit] = get(client, "/v1/search?q=07709990123")["items"]
    assert (hit["as"], [item["id"] for item in hit["messages"]]) == ("nationalNumber", [ids.public("msg", wanted)])
    assert get(client, "/v1/recipients/07709990123")["endsAlike"] == ["447709990123"]
    assert get(client, "/v1/search?q=9990123")["items"] == []


def test_a_receipt_that_fits_no_message_is_found_by_what_it_names(client: FlaskClient, database: Database) -> None:
    receipt_id = rows.keep(
        database, "recipient=07700900123&clientref=lost%2F7&transactionid=4711&statusid=1&statusdescription=Delivered"
    )
    process(database, RULES, seconds(5), 100)
    public = ids.public("rcp", receipt_id)
    for term, named in (
        ("+44 7700 900123", {"recipient": "447700900123"}),
        ("0123", {"recipientEnds": "0123"}),
        ("4711", {"transactionID": "4711"}),
        ("lost/7", {"clientRef": "lost/7"}),
    ):
        [hit] = [hit for hit in get(client, f"/v1/search?q={quote(term)}")["items"] if hit["as"] == "parkedReceipts"]
        assert [(item["id"], item["outcome"]) for item in hit["receipts"]] == [(public, "unmatched")], term
        assert hit["query"]["body"] == named
        assert get(client, hit["url"].removeprefix("http://127.0.0.1:8000"))["items"] == hit["receipts"]
        asked: Any = client.post(hit["query"]["url"].removeprefix("http://127.0.0.1:8000"), json=named).json
        assert asked["items"] == hit["receipts"]
    [hit] = get(client, f"/v1/search?q={public}")["items"]
    assert (hit["as"], [item["recipient"] for item in hit["receipts"]]) == ("receipt", ["07700900123"])
    person = get(client, "/v1/recipients/447700900123")
    assert (person["items"], [item["id"] for item in person["parkedReceipts"]]) == ([], [public])
    rows.accept(database, rows.message("447700900123"), rows.message("447700900123"))
    first = get(client, "/v1/recipients/447700900123?limit=1")
    assert (len(first["items"]), len(first["parkedReceipts"])) == (1, 1)
    assert get(client, f"/v1/recipients/447700900123?cursor={first['nextCursor']}")["parkedReceipts"] == []


def test_a_batch_is_found_by_its_idempotency_key(client: FlaskClient) -> None:
    def send(recipients: list[str], **headers: str) -> list[str]:
        body = {"messages": [{"recipients": recipients, "text": "Hello"}]}
        answer: Any = client.post("/v1/messages", json=body, headers=headers)
        assert answer.status_code == 202, answer.json
        return [item["id"] for item in answer.json["messages"]]

    people = [f"44770090000{number}" for number in range(7)]
    send(people[:1])
    batch = send(people, **{"Idempotency-Key": "monday-news"})
    send(people[:2], **{"Idempotency-Key": "tuesday-news"})
    [hit] = get(client, "/v1/search?q=monday-news")["items"]
    assert (hit["as"], [item["id"] for item in hit["messages"]]) == ("batch", batch[:5])
    listed = get(client, hit["url"].removeprefix("http://127.0.0.1:8000"))
    assert {item["id"] for item in listed["items"]} == set(batch)


def test_conversations_are_listed_by_latest_activity_page_by_page(client: FlaskClient, database: Database) -> None:
    rows.accept(database, rows.message(client_ref="a", originator="ACME"))
    rows.accept(database, rows.message("447700900002"), now=seconds(10))
    stories.reply(database, "a", seconds(20))
    first = get(client, "/v1/conversations?limit=1")
    [item] = first["items"]
    assert item | {"id": "", "url": ""} == {
        "id": "",
        "url": "",
        "clientRef": "a",
        "party": "447700900001",
        "originator": "ACME",
        "messages": 1,
        "replies": 1,
        "statuses": {"accepted": 1},
        "firstActivityAt": "2026-01-05T12:00:00.000000Z",
        "lastActivityAt": "2026-01-05T12:00:20.000000Z",
        "isWaitingForReply": False,
    }
    assert item["url"].endswith(f"/v1/conversations/{item['id']}")
    rest = get(client, f"/v1/conversations?cursor={first['nextCursor']}")
    assert [(item["clientRef"], item["isWaitingForReply"]) for item in rest["items"]] == [(None, True)]
    assert rest["nextCursor"] is None
    for cursor in ("x", first["nextCursor"]):
        path = f"/v1/conversations?clientRef=a&cursor={cursor}"
        assert list(get(client, path, 422)["errors"]) == ["cursor"]
    one = get(client, "/v1/conversations?clientRef=a&limit=1")
    assert "items" not in one
    assert len(get(client, f"/v1/conversations?clientRef=a&cursor={one['nextCursor']}")["timeline"]) == 2


def test_replies_are_listed_with_the_reason_of_their_link(client: FlaskClient, database: Database) -> None:
    stories.reply(database, "a", seconds(1))
    stories.reply(database, "b", seconds(2), sender="447700900002", content="stop")
    first = get(client, "/v1/inbound?limit=1")
    assert [(reply["clientRef"], reply["link"], reply["isOptOut"]) for reply in first["items"]] == [
        ("b", "clientRef", True)
    ]
    elsewhere = get(client, f"/v1/conversations?cursor={first['nextCursor']}", 422)
    assert elsewhere["errors"] == {"cursor": ["Must be a nextCursor of this list; this one is of another list."]}
    rest = get(client, f"/v1/inbound?cursor={first['nextCursor']}")
    assert [reply["sender"] for reply in rest["items"]] == ["447700900001"]
    assert get(client, "/v1/inbound?sender=%2B44%207700%20900002&isOptOut=true")["items"] == first["items"]
    assert len(get(client, "/v1/inbound?recipient=0044+7700+900999")["items"]) == 2
    assert list(get(client, "/v1/inbound?sender=ab%20c", 422)["errors"]) == ["sender"]


@pytest.mark.on_postgresql
@pytest.mark.parametrize("number", ["447700900001", "%2B44%207700%20900001", "0044-7700/900001"])
def test_a_person_is_read_by_any_writing_of_the_number(client: FlaskClient, database: Database, number: str) -> None:
    rows.accept(database, rows.message())
    stories.reply(database, "a", seconds(1))
    read = get(client, f"/v1/recipients/{number}?limit=1")
    assert read["number"] == "447700900001"
    assert [entry["type"] for entry in read["items"]] == ["reply"]
    rest = get(client, f"/v1/recipients/{number}?cursor={read['nextCursor']}")
    assert [(entry["type"], entry["status"]) for entry in rest["items"]] == [("message", "accepted")]
    for nobody in ("447700900009", "somebody"):
        get(client, f"/v1/recipients/{nobody}", 404)
