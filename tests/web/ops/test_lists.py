"""The lists of the ops page: their filters, how far they have looked, and that they skip and repeat nothing."""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from receiptsvc import ids
from receiptsvc.domain.statuses import Status
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Message
from receiptsvc.web.ops import lists
from receiptsvc.worker.receipt_processor import process
from tests.support import rows, stories
from tests.support.reader import Reader
from tests.support.rows import seconds
from tests.support.work import RULES

NUMBER = "447700900123"


@pytest.fixture
def reader(browser: FlaskClient) -> Reader:
    return Reader(browser)


@pytest.fixture
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "PAGE_SIZE", 3)


def narrow(reader: Reader, expected: int = 200, **values: Any) -> Reader:
    return reader.open("/ops/messages").submit("Show these", expected, **values)


def message_ids(reader: Reader) -> list[str]:
    return [href.rpartition("/")[2] for href in re.findall('href="([^"]+/messages/msg_[^"]+)"', reader.source)]


def test_messages_are_narrowed_down_by_each_filter_and_all_together(reader: Reader, database: Database) -> None:
    wanted = rows.message(NUMBER, client_ref="order/1", originator="ACME")
    rows.accept(database, wanted, now=seconds(60))
    rows.accept(database, rows.message("33600900456", client_ref="order/2", originator="Other"))
    stories.give_transaction(database, wanted.id, "4711")
    stories.report(database, wanted.id, Status.DELIVERED, seconds(90))
    filters: dict[str, Any] = {
        "number": "+44 7700 900123",
        "clientRef": "order/1",
        "transactionID": "04711",
        "originator": "ACME",
        "since": "2026-01-05T12:01",
        "until": "2026-01-05T12:02",
        "status": ["delivered", "failed"],
    }
    assert len(message_ids(reader.open("/ops/messages"))) == 2
    for values in ({name: value} for name, value in filters.items() if name != "until"):
        assert message_ids(narrow(reader, **values)) == [ids.public("msg", wanted.id)], values
    assert len(message_ids(narrow(reader, until="2026-01-05T12:01"))) == 1
    assert message_ids(narrow(reader, **filters)) == [ids.public("msg", wanted.id)]
    assert message_ids(narrow(reader, number="0123")) == [ids.public("msg", wanted.id)]
    assert message_ids(narrow(reader, number="07700 900123")) == [ids.public("msg", wanted.id)]


def test_a_narrowed_list_is_narrowed_further_without_its_number_being_shown(reader: Reader, database: Database) -> None:
    rows.accept(
        database,
        rows.message(NUMBER, client_ref="a"),
        rows.message(NUMBER, client_ref="b"),
        rows.message(client_ref="a"),
    )
    narrow(reader, number=NUMBER)
    assert (len(message_ids(reader)), NUMBER in reader.source) == (2, False)
    reader.submit("Show these", clientRef="a")
    assert (len(message_ids(reader)), NUMBER in reader.source) == (1, False)
    reader.submit("Show these", keep=None)
    assert len(message_ids(reader)) == 2


def test_a_filter_that_can_not_be_understood_is_said_beside_its_field(reader: Reader) -> None:
    for values, words in (
        ({"number": "12"}, "Must be at least the last 4 digits"),
        ({"number": "+44 12"}, "Is no possible phone number"),
        ({"transactionID": "x"}, "Must be 1 to 40 digits"),
        ({"since": "yesterday"}, "Must be a time"),
        ({"status": "lost"}, "Must be one or several of"),
        ({"clientRef": "x" * 65}, "Length must be between 1 and 64"),
    ):
        narrow(reader, 422, **values)
        assert words in reader.text, values
        [(name, typed)] = values.items()
        assert name == "status" or f'value="{typed}"' in reader.source, "what was typed stays"


@pytest.mark.usefixtures("short_pages")
def test_a_list_says_how_far_it_has_looked(reader: Reader, database: Database) -> None:
    for number in range(5):
        rows.accept(database, rows.message(NUMBER), now=seconds(number))
    reader.open("/ops/messages")
    assert "Looked back to 05 Jan 2026 12:00:02 UTC. Look further back" in reader.text
    reader.follow("Look further back")
    assert len(reader.rows()) == 2
    assert "That is all: there is nothing before." in reader.text
    assert len(reader.follow("Back to the newest").rows()) == 3


@pytest.mark.usefixtures("short_pages")
def test_a_list_that_has_not_looked_everywhere_does_not_say_nothing(reader: Reader, database: Database) -> None:
    [wanted] = rows.accept(database, rows.message("447709990123"))
    rows.accept(database, *(rows.message(f"44770{number:03}0123") for number in range(70)), now=seconds(60))
    narrow(reader, number="9990123")
    pages = 1
    while not message_ids(reader):
        assert "Nothing yet. Looked back to" in reader.text
        reader.follow("Look further back")
        pages += 1
    assert pages > 2
    assert message_ids(reader) == [ids.public("msg", wanted)]
    assert "That is all" in reader.text
    narrow(reader, clientRef="nobody")
    assert "Nothing: no message fits." in reader.text


@pytest.mark.usefixtures("short_pages")
def test_a_list_by_client_ref_goes_on_without_one_in_its_address(reader: Reader, database: Database) -> None:
    rows.accept(database, *(rows.message(client_ref=f"order/{number}") for number in range(8)))
    reader.open("/ops").submit("Search", q="order/")
    found = message_ids(reader)
    while "Look further" in reader.text:
        reader.submit("Look further")
        found += message_ids(reader)
    assert len(found) == len(set(found)) == 8
    assert not [address for address in reader.seen if "order" in address or "after" in address]


@pytest.mark.usefixtures("short_pages")
def test_replies_are_listed_page_by_page(reader: Reader, database: Database) -> None:
    for number in range(4):
        stories.reply(database, f"r{number}", seconds(number), content="stop" if number == 3 else "secret words")
    reader.open("/ops/replies")
    assert [row.split(" Reply")[0] for row in reader.rows()] == ["↩ opt-out", "↩ reply", "↩ reply"]
    assert "secret words" not in reader.source
    assert len(reader.follow("Look further back").rows()) == 1


@pytest.mark.parametrize("path", ["messages", "replies", "audit"])
def test_an_address_that_was_cut_says_so(reader: Reader, path: str) -> None:
    assert "cut or changed" in reader.open(f"/ops/{path}?after=x", 422).text


@pytest.mark.usefixtures("short_pages")
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.lists(st.integers(0, 3), min_size=1, max_size=12), meanwhile=st.lists(st.integers(0, 3), max_size=6))
def test_no_row_is_skipped_or_repeated_while_others_arrive(
    reader: Reader, database: Database, at: list[int], meanwhile: list[int]
) -> None:
    """Rows of one time too, and such as are accepted while somebody reads: those come before all that were there."""
    reference = str(ids.new())[-12:]
    there = [accept(database, reference, seconds(second)) for second in at]
    narrow(reader, clientRef=reference)
    found, later = message_ids(reader), iter(meanwhile)
    while "Look further back" in reader.links():
        for second in arriving(later):
            accept(database, reference, seconds(10 + second))
        reader.follow("Look further back")
        found += message_ids(reader)
    assert sorted(found) == sorted(there)


def arriving(later: Iterator[int]) -> list[int]:
    return [second for second, _ in zip(later, range(2), strict=False)]


def accept(database: Database, reference: str, at: datetime) -> str:
    [made] = rows.accept(database, rows.message(client_ref=reference), now=at)
    return ids.public("msg", made)


def test_what_was_not_delivered_today_is_one_step_away(reader: Reader, database: Database) -> None:
    now = database.clock.now()
    today, before = rows.message(NUMBER, client_ref="today"), rows.message(NUMBER, client_ref="before")
    rows.accept(database, today, rows.message(NUMBER, client_ref="waits"), now=now)
    rows.accept(database, before)
    for each in (today, before):
        stories.report(database, each.id, Status.UNDELIVERED, now)
    reader.open("/ops/messages").submit("Not delivered today")
    assert message_ids(reader) == [ids.public("msg", today.id)]
    assert message_ids(reader.submit("Not yet sent")) == [
        ids.public("msg", message.id) for message in waiting(database)
    ]
    assert message_ids(reader.submit("Answer lost")) == []
    assert not [address for address in reader.seen if "order" in address or NUMBER in address]


def waiting(database: Database) -> list[Message]:
    with database.reading() as session:
        return list(session.scalars(select(Message).where(Message.status == Status.ACCEPTED)))


@pytest.mark.usefixtures("short_pages")
def test_receipts_that_fit_no_message_are_listed_page_by_page(reader: Reader, database: Database) -> None:
    for number in range(4):
        rows.keep(database, f"recipient={NUMBER}&transactionid={number}&statusid=1&statusdescription=Delivered")
    process(database, RULES, seconds(9), 100)
    reader.open("/ops").follow("Parking lot")
    assert len(reader.rows()) == 3
    assert "They name" not in reader.text
    assert NUMBER not in reader.source
    assert len(reader.follow("Look further back").rows()) == 1
    assert "/receipts/rcp_" in reader.source
    assert NUMBER in reader.open("/ops/receipts").submit("Show numbers and texts").text
