"""The search box of the ops page, and the pages that it leads to."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select, update

from receiptsvc import ids
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Audit, OpsSearch, Reply
from receiptsvc.store.outbound import suppressions
from receiptsvc.store.outbound.suppressions import Pair
from receiptsvc.store.queries import hits, listing
from receiptsvc.store.queries.hits import Hit
from receiptsvc.web.ops.pages import PanelLate
from receiptsvc.worker.receipt_processor import process
from tests.support import rows, stories
from tests.support.reader import Reader
from tests.support.rows import seconds
from tests.support.work import RULES

NUMBER = "447700900123"
WRITINGS = (
    *("447700900123", "+447700900123", "00447700900123", "+44 7700 900123", "+44 (0)7700 900 123", "+44-7700-900-123"),
    *("07700900123", "07700 900 123"),
)


@pytest.fixture
def reader(browser: FlaskClient) -> Reader:
    return Reader(browser)


def ask(reader: Reader, term: str, status: int = 200) -> Reader:
    return reader.open("/ops").submit("Search", status, q=term)


@pytest.mark.parametrize("written", WRITINGS)
def test_a_number_in_any_writing_opens_its_person(reader: Reader, database: Database, written: str) -> None:
    rows.accept(database, rows.message(NUMBER), rows.message("447700900456"))
    ask(reader, written)
    assert re.fullmatch("/ops/people/srch_[0-9a-z]{26}", reader.path)
    assert "To +44 ••• •••123" in reader.text
    assert "456" not in reader.text


def test_last_digits_open_the_one_person_that_has_them(reader: Reader, database: Database) -> None:
    rows.accept(database, rows.message(NUMBER))
    assert ask(reader, "0123").path.startswith("/ops/people/")


def test_last_digits_of_several_people_list_them(reader: Reader, database: Database) -> None:
    rows.accept(database, rows.message(NUMBER), rows.message(NUMBER), rows.message("33600900123"))
    ask(reader, "0123")
    assert [row.split(" last")[0] for row in reader.rows()] == ["☎ person +33 ••• •••123", "☎ person +44 ••• •••123"]
    assert ask(reader, "0123").submit("+44 ••• •••123").path.startswith("/ops/people/")
    assert len([row for row in reader.rows() if "To +44" in row]) == 2


def test_what_names_one_thing_opens_it(browser: FlaskClient, database: Database) -> None:
    message = rows.message(client_ref="order/1", message_guid="3f2c1a52-7a0e-4a54-9a0b-3f9ad5d0c1de")
    rows.accept(database, message)
    stories.give_transaction(database, message.id, "900777")
    stories.reply(database, "order/1", seconds(5), msgid="mid-9")
    with database.reading() as session:
        reply = session.scalars(select(Reply)).one()
    page, conversation = (
        f"messages/{ids.public('msg', message.id)}",
        f"conversations/{ids.public('cnv', message.conversation_id)}",
    )
    for term, target in (
        (ids.public("msg", message.id), page),
        ("3F2C1A52-7A0E-4A54-9A0B-3F9AD5D0C1DE", page),
        ("{3f2c1a52-7a0e-4a54-9a0b-3f9ad5d0c1de}", page),
        ("900777", page),
        ("order/1", conversation),
        (ids.public("cnv", message.conversation_id), conversation),
        (ids.public("rpl", reply.id), conversation),
        (ids.public("rcp", reply.receipt_id), f"receipts/{ids.public('rcp', reply.receipt_id)}"),
        ("mid-9", conversation),
        ("order", page),
    ):
        answer = browser.post("/ops/search", data={"q": f" {term} "})
        assert (answer.status_code, answer.headers["Location"]) == (303, f"../ops/{target}"), term


def test_a_term_that_means_several_things_lists_them_by_kind(reader: Reader, database: Database) -> None:
    made = [rows.message(client_ref="order/1"), *(rows.message(client_ref=f"order/1{number}") for number in range(25))]
    rows.accept(database, *made)
    ask(reader, "order/1")
    assert "clientRef 1 message " in reader.text
    assert "clientRefs that begin so 20 or more messages" in reader.text
    reader.submit("All their messages")
    assert len(reader.rows()) == 26


def test_a_message_that_two_keys_find_is_listed_once_and_both_are_named(reader: Reader, database: Database) -> None:
    guid = "3f2c1a52-7a0e-4a54-9a0b-3f9ad5d0c1de"
    [message] = rows.accept(database, rows.message(client_ref=guid, message_guid=guid))
    ask(reader, guid)
    assert len(reader.rows()) == 1
    assert "messageGuid and clientRef 1 message" in reader.text
    assert reader.links()["Open the message"].endswith(f"/messages/{ids.public('msg', message)}")
    assert "Open the conversation" in reader.links()


def test_of_several_that_two_keys_find_each_is_listed_once(reader: Reader, database: Database) -> None:
    both, other = rows.message(client_ref="7001"), rows.message(client_ref="7001")
    rows.accept(database, both, other)
    stories.give_transaction(database, both.id, "7001")
    ask(reader, "7001")
    listed = [row for row in reader.rows() if "To +44" in row]
    assert len(listed) == 2
    assert "transactionID 1 message" in reader.text
    assert "clientRef 2 messages" in reader.text
    assert "1 of these stands above, found by another name too." in reader.text


def test_a_parked_receipt_is_found_by_all_that_it_names(
    reader: Reader, browser: FlaskClient, database: Database
) -> None:
    query = "recipient={}&clientref=lost%2F7&transactionid=4711&statusid=1&statusdescription=Delivered"
    kept = rows.keep(database, query.format("07700900123"))
    process(database, RULES, seconds(5), 100)
    page = f"../ops/receipts/{ids.public('rcp', kept)}"
    for term in ("+44 7700 900123", "0123", "4711", "lost/7", "07700900123"):
        assert browser.post("/ops/search", data={"q": term}).headers["Location"] == page, term
    rows.keep(database, query.format("07700900123"), now=seconds(1))
    process(database, RULES, seconds(6), 100)
    ask(reader, "lost/7")
    assert [row.split(" transactionID")[0].rpartition(" For ")[2] for row in reader.rows()] == ["••• •••123"] * 2
    assert "That is all" in reader.text


def test_a_search_without_a_hit_says_that_all_was_looked_through(reader: Reader) -> None:
    ask(reader, "nobody")
    assert reader.title == "Nothing found · receiptsvc"
    assert reader.text.startswith("Nothing found for nobody")
    assert "All of it was looked through" in reader.text
    assert "Open this person" not in reader.text
    ask(reader, NUMBER)
    reader.submit("Open this person")
    assert (reader.path.startswith("/ops/people/"), "+44 ••• •••123" in reader.text) == (True, True)


def test_a_number_that_is_only_suppressed_opens_its_person(reader: Reader, database: Database) -> None:
    with database.transaction() as session:
        by = Actor(actor="desk", reason="asked by phone")
        suppressions.add(session, [Pair(NUMBER, "shop")], by, seconds(1))
    ask(reader, "+44 7700 900123")
    assert reader.path.startswith("/ops/people/")
    assert "asked by phone" in reader.text


def test_the_start_page_asks_what_became_of_a_text(reader: Reader, database: Database) -> None:
    message = rows.message(NUMBER, client_ref="order/1")
    rows.accept(database, message)
    reader.open("/ops").submit("Look for it", q=ids.public("msg", message.id))
    assert reader.path.endswith(f"/messages/{ids.public('msg', message.id)}")


def test_a_search_that_has_not_looked_everywhere_does_not_say_nothing(
    reader: Reader, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hits, "_MAX_ENDINGS", 3)
    [wanted] = rows.accept(database, rows.message("447709990123"))
    rows.accept(database, *(rows.message(f"44770{number:03}0123") for number in range(70)), now=seconds(60))
    ask(reader, "9990123")
    assert "Nothing yet: looked back to 05 Jan 2026 12:01:00 UTC." in reader.text
    assert reader.text.startswith("Nothing found yet for ••• •••123")
    assert reader.title == "Search · receiptsvc"
    reader.submit("Look further back")
    assert ids.public("msg", wanted) in reader.source


def test_a_national_writing_finds_a_number_however_many_end_alike(
    reader: Reader, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hits, "_MAX_ENDINGS", 3)
    monkeypatch.setattr(listing, "_MAX_ALIKE", 3)
    rows.accept(database, rows.message("447709990123"))
    rows.accept(database, *(rows.message(f"44770{number:03}0123") for number in range(70)), now=seconds(60))
    assert ask(reader, "0770 999 0123").path.startswith("/ops/people/")
    assert len(reader.rows()) == 2, "its conversation, and its message"


def test_a_search_that_takes_too_long_is_saved_and_looked_for_again(
    reader: Reader, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take_too_long(*_: object) -> Iterator[Hit]:
        raise PanelLate("the database takes too long")

    rows.accept(database, rows.message(client_ref="a"), rows.message(client_ref="ab"))
    with monkeypatch.context() as slow:
        slow.setattr(hits, "find", take_too_long)
        address = ask(reader, "a", 503).path
        assert "Still looking" in reader.text
    assert "Found for a" in reader.open(address).text


def test_an_empty_or_impossible_term_is_answered_in_words(reader: Reader) -> None:
    assert ask(reader, "  ").path == "/ops/search"
    assert "Not searched" in ask(reader, "x" * 65, 422).text
    assert "Not searched" in ask(reader, "a\x07b", 422).text


def test_whoever_opens_a_search_sees_the_same_masked(reader: Reader, database: Database) -> None:
    rows.accept(
        database, rows.message(NUMBER, text="secret words", client_ref="a"), rows.message(NUMBER, client_ref="ab")
    )
    address = ask(reader, "a").path
    reader.submit("Show numbers and texts")
    assert (reader.path, NUMBER in reader.text, "secret words" in reader.text) == (address, True, True)
    reader.open(address)
    assert NUMBER not in reader.source
    assert "secret words" not in reader.source
    with database.reading() as session:
        audits = [(audit.actor, audit.action, audit.subject) for audit in session.scalars(select(Audit))]
    assert audits[1:] == [("key opser", "reveal", address.rpartition("/")[2])]


def test_an_expired_or_unknown_search_says_so(reader: Reader, database: Database) -> None:
    address = ask(reader, "nothing").path
    with database.transaction() as session:
        session.execute(update(OpsSearch).values(made_at=datetime.now(UTC) - timedelta(days=30, seconds=1)))
    assert "no longer kept" in reader.open(address, 404).text
    assert reader.title == "No longer kept · receiptsvc"
    for path in ("search", "people"):
        assert "no longer kept" in reader.open(f"/ops/{path}/srch_{'0' * 26}", 404).text
        assert "no longer kept" in reader.open(f"/ops/{path}/x", 404).text


@pytest.mark.parametrize(
    "terms",
    [
        {"kind": "later", "asked": {}, "after": None},
        {"kind": "messages", "asked": {"later": 1}, "after": None},
        {"kind": "messages", "asked": {"since": "later"}, "after": None},
        {},
    ],
)
def test_a_search_that_another_release_saved_is_unknown(
    reader: Reader, database: Database, terms: dict[str, Any]
) -> None:
    address = ask(reader, "nothing").path
    with database.transaction() as session:
        session.execute(update(OpsSearch).values(terms=terms))
    assert "no longer kept" in reader.open(address, 404).text
