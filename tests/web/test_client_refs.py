"""A clientRef has no blanks at its ends, wherever it comes in; what was stored with them stays found."""

from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from receiptsvc import ids
from receiptsvc.store.core.db import Database
from tests.support import rows, stories

REF = "order/1"
# Kind: blanks that are not seen when a reference is pasted or padded.
PADDED = {
    "blanks": f"  {REF} ",
    "a tab and a line break": f"\t{REF}\r\n",
    "a no-break space, from web pages": f"\u00a0{REF}\u00a0",
    "a wide space, from East Asian keyboards": f"{REF}\u3000",
    "other spaces of typography": f"\u2003\u202f{REF}\u2009",
    "a line separator": f"{REF}\u2028",
    "nothing": REF,
}
# Not blanks at its ends: kept as they are.
KEPT = ["order  1", "order/1\u200b", "'order/1'", "-"]
BLANK = ["", " ", "\t\r\n", "\u00a0", "\u3000\u2003", " " * 80]
# A reference and whether it is short enough, as .NET counts.
LENGTHS = {
    "64 of ASCII": ("a" * 64, True),
    "65 of ASCII": ("a" * 65, False),
    "64 between blanks": (f"  {'a' * 64}  ", True),
    "64 of the Basic Multilingual Plane": ("\u4e2d" * 64, True),
    "32 emoji": ("\U0001f600" * 32, True),
    "33 emoji": ("\U0001f600" * 33, False),
    "63 and an emoji": ("a" * 63 + "\U0001f600", False),
    "letters with their accents apart": ("e\u0301" * 32, True),
    "one of them more": ("e\u0301" * 32 + "e", False),
}


def post(client: FlaskClient, client_ref: str) -> Any:
    message = {"recipients": ["447700900000"], "text": "hello", "clientRef": client_ref, "originator": "ACME"}
    return client.post("/v1/messages", json={"messages": [message]})


def found(client: FlaskClient, client_ref: str) -> dict[str, list[str]]:
    """The ids of messages and replies by each way to look a clientRef up."""
    lists = {
        "list": {},
        "with a status": {"status": "accepted"},
        "with an originator": {"originator": "ACME"},
        "with a status and an originator": {"status": "accepted", "originator": "ACME"},
        "with a recipient": {"recipient": "447700900000"},
        "what changed": {"changedSince": "2020-01-01T00:00:00Z"},
        "what changed, with a status": {"changedSince": "2020-01-01T00:00:00Z", "status": "accepted"},
    }
    query = {"clientRef": client_ref}
    ends: dict[str, Any] = {name: client.get("/v1/messages", query_string=query | more) for name, more in lists.items()}
    ends["lookup"] = client.post("/v1/messages/lookup", json={"clientRefs": [client_ref]})
    ends["a few"] = client.get("/v1/messages", query_string=query | {"limit": 1})
    seen = {name: [item["id"] for item in end.json["items"]] for name, end in ends.items()}
    for name, path in (
        ("conversation", "/v1/conversations"),
        ("by its address", f"/v1/conversations/{quote(client_ref, safe='')}"),
    ):
        one: Any = client.get(path, query_string=query if name == "conversation" else {})
        entries = one.json.get("timeline", [])
        seen[name] = list(dict.fromkeys(entry["id"] for entry in entries if entry["type"] == "message"))
    replies: Any = client.get("/v1/inbound", query_string=query)
    seen["replies"] = [item["id"] for item in replies.json["items"]]
    return seen


@pytest.mark.parametrize("padded", PADDED.values(), ids=PADDED)
def test_blanks_at_its_ends_are_trimmed_wherever_it_comes_in(
    client: FlaskClient, database: Database, padded: str
) -> None:
    [made] = post(client, padded).json["messages"]
    assert made["clientRef"] == REF
    stories.reply(database, REF, rows.seconds(1), sender="447700900000")
    for writing in (padded, REF, f" {REF}"):
        seen = found(client, writing)
        [reply] = seen.pop("replies")
        assert reply.startswith("rpl_")
        assert seen == {name: [made["id"]] for name in seen}
    cancelled: Any = client.post("/v1/messages/cancel", json={"clientRef": padded, "dryRun": True})
    assert cancelled.json["cancelled"] == 1


@pytest.mark.parametrize("client_ref", KEPT)
def test_everything_else_in_it_is_kept(desk: FlaskClient, client_ref: str) -> None:
    assert post(desk, client_ref).json["messages"][0]["clientRef"] == client_ref


@pytest.mark.parametrize("client_ref", BLANK)
def test_blanks_alone_are_refused(desk: FlaskClient, client_ref: str) -> None:
    answer = post(desk, client_ref)
    [(path, [said])] = answer.json["errors"].items()
    assert (answer.status_code, path) == (422, "messages[0].clientRef")
    assert "nothing but blanks" in said


@pytest.mark.parametrize(("client_ref", "is_short"), LENGTHS.values(), ids=LENGTHS)
def test_its_length_is_counted_as_the_gateway_s_platform_counts(
    desk: FlaskClient, client_ref: str, is_short: bool
) -> None:
    answer = post(desk, client_ref)
    assert (answer.status_code == 202) is is_short
    if not is_short:
        [(path, [said])] = answer.json["errors"].items()
        assert path == "messages[0].clientRef"
        assert "at most 64" in said


@pytest.mark.parametrize("stored", [*PADDED.values(), "  "], ids=[*PADDED, "blanks alone"])
def test_what_was_stored_untrimmed_is_found_as_it_was_written(
    client: FlaskClient, database: Database, stored: str
) -> None:
    [old] = rows.accept(database, rows.message("447700900000", client_ref=stored, originator="ACME"))
    seen = found(client, stored)
    del seen["replies"]
    assert seen == {name: [ids.public("msg", old)] for name in seen}


def test_old_and_new_rows_of_a_padded_one_are_listed_together_by_pages(client: FlaskClient, database: Database) -> None:
    padded = f"{REF} "
    old = rows.accept(database, *(rows.message(client_ref=padded, originator="ACME") for _ in range(3)))
    new = [post(client, padded).json["messages"][0]["id"] for _ in range(3)]
    for more in ({}, {"originator": "ACME"}, {"status": "accepted"}):
        listed: list[str] = []
        query: dict[str, Any] = {"clientRef": padded, "limit": 2, **more}
        while True:
            page: Any = client.get("/v1/messages", query_string=query)
            listed += [item["id"] for item in page.json["items"]]
            if page.json["nextCursor"] is None:
                break
            query["cursor"] = page.json["nextCursor"]
        assert sorted(listed) == sorted([*new, *(ids.public("msg", each) for each in old)])
        assert len(listed) == 6
