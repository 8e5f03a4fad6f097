"""The parking lot: what waits, by each filter, and what it may belong to."""

import re
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient

from receiptsvc import ids
from receiptsvc.domain.inbox import Channel, ReceiptOutcome
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database
from receiptsvc.store.inbox import receipts
from receiptsvc.store.inbox.receipt_references import ReferenceFilter
from receiptsvc.store.inbox.receipts import ReceiptFilter
from receiptsvc.web.ops import lists, terms
from tests.support import rows, work
from tests.support.reader import Reader
from tests.support.rows import seconds
from tests.support.work import BOB, said
from tests.worker.test_reprocess import UNKNOWN

NUMBER = "447700900123"


@pytest.fixture
def reader(browser: FlaskClient) -> Reader:
    return Reader(browser)


def narrow(reader: Reader, expected: int = 200, **values: Any) -> Reader:
    return reader.open("/ops/receipts").submit("Show these", expected, **({"outcome": None} | values))


def found(reader: Reader) -> list[str]:
    return re.findall('<a href="[^"]+/receipts/(rcp_[^"#]+)">(?:For|Names)', reader.source)


def rcp(receipt_id: UUID) -> str:
    return ids.public("rcp", receipt_id)


def park(database: Database) -> dict[str, UUID]:
    """One of each kind that waits, by its outcome."""
    [mine] = rows.accept(database)
    made = {
        "unmatched": rows.keep(database, said("Who knows", tx="99", ref="order/1", to=NUMBER), now=seconds(61)),
        "quarantined": rows.keep(database, said(to=BOB, tx="4"), message_id=mine, now=seconds(120)),
        "unmapped": rows.keep(database, UNKNOWN, message_id=mine, now=seconds(180)),
        "dismissed": rows.keep(database, said(tx="5", to=BOB), now=seconds(240)),
    }
    work.work_off(database, 300)
    with database.transaction() as session:
        receipts.dismiss(session, made["dismissed"], Actor(actor="ben", reason="a test"), seconds(301))
    return made


def test_without_a_filter_it_lists_what_waits_for_a_person(reader: Reader, database: Database) -> None:
    made = park(database)
    reader.open("/ops").follow("Parking lot")
    assert found(reader) == [rcp(made["quarantined"]), rcp(made["unmatched"])]
    [_, row] = reader.rows()
    assert re.search(
        r"For \+44 ••• •••123 transactionID 99 clientRef order/1 came .+ ago The gateway says: Who knows code 1", row
    )
    assert "no message has its transactionID, and no message has its clientRef and recipient" in row
    assert NUMBER not in reader.source
    assert NUMBER in reader.submit("Show numbers and texts").text


def test_it_is_narrowed_down_by_each_filter_and_all_together(reader: Reader, database: Database) -> None:
    made = park(database)
    wanted = rcp(made["unmatched"])
    filters: dict[str, Any] = {
        "providerDescription": "who KNOWS",
        "number": "+44 7700 900123",
        "clientRef": "order/1",
        "transactionID": "099",
        "outcome": ["unmatched", "dead"],
        "until": "2026-01-05T12:02",
    }
    for values in ({name: value} for name, value in filters.items()):
        assert found(narrow(reader, **values)) == [wanted], values
    assert found(narrow(reader, **filters, providerStatusId="1", channel="account", since="2026-01-05T12:01")) == [
        wanted
    ]
    assert found(narrow(reader, number="0123")) == [wanted]
    assert found(narrow(reader, providerStatusId="1")) == [rcp(made["quarantined"]), wanted]
    assert found(narrow(reader, channel="message")) == [rcp(made["quarantined"])]
    assert found(narrow(reader, since="2026-01-05T12:02")) == [rcp(made["quarantined"])]
    for outcome in ("unmapped", "dismissed"):
        assert found(narrow(reader, outcome=outcome)) == [rcp(made[outcome])]
    assert found(narrow(reader, outcome="pending")) == []
    assert not [address for address in reader.seen if "7700" in address or "order" in address]


def test_a_shortcut_leads_to_each_kind(reader: Reader, database: Database) -> None:
    made = park(database)
    for words, outcome in (("Fit no message", "unmatched"), ("Unknown code", "unmapped"), ("Set aside", "dismissed")):
        assert found(reader.open("/ops/receipts").submit(words)) == [rcp(made[outcome])]


def test_a_narrowed_list_is_narrowed_further_without_its_number_being_shown(reader: Reader, database: Database) -> None:
    made = park(database)
    other = rows.keep(database, said(tx="77", to=NUMBER))
    work.work_off(database, 400)
    narrow(reader, number=NUMBER)
    assert (found(reader), NUMBER in reader.source) == ([rcp(made["unmatched"]), rcp(other)], False)
    assert "number +44 ••• •••123" in reader.text
    reader.submit("Show these", transactionID="77")
    assert (found(reader), NUMBER in reader.source) == ([rcp(other)], False)
    reader.submit("Show these", keep=None, transactionID="")
    assert len(found(reader)) == 3


def test_a_filter_that_can_not_be_understood_is_said_beside_its_field(reader: Reader) -> None:
    for values, words in (
        ({"number": "12"}, "Must be at least the last 4 digits"),
        ({"transactionID": "x"}, "Must be 1 to 40 digits"),
        ({"since": "yesterday"}, "Must be a time"),
        ({"channel": "post"}, "Must be one of"),
        ({"outcome": "lost"}, "Must be one or several of"),
        ({"providerStatusId": "x" * 501}, "Length must be between 1 and 500"),
    ):
        narrow(reader, 422, **values)
        assert words in reader.text, values


def test_one_that_fits_several_messages_shows_them_beside_it_and_why(reader: Reader, database: Database) -> None:
    made = [rows.message(NUMBER, client_ref="order/7") for _ in range(2)]
    for at, each in enumerate(made):
        work.send(database, each, at=at * 10, tx=str(at + 1))
    receipt_id = rows.keep(database, said(to=NUMBER, ref="order/7", at=30), now=seconds(31))
    work.work_off(database)
    [row] = reader.open("/ops/receipts").rows()
    assert "its clientRef and recipient fit 2 messages" in row
    assert row.count("To +44 ••• •••123 clientRef order/7 05 Jan 2026 12:00:") == 2
    assert row.count("same number and clientRef") == 2
    assert row.count("submitted") == 2
    reader.follow("Compare and match")
    assert reader.path.endswith(f"{rcp(receipt_id)}#match")


def test_a_row_shows_a_few_messages_and_says_how_many_more(reader: Reader, database: Database) -> None:
    for at in range(5):
        work.send(database, rows.message(NUMBER, client_ref="order/7"), at=at)
    rows.keep(database, said(to=NUMBER, ref="order/7", at=30), now=seconds(31))
    work.work_off(database)
    [row] = reader.open("/ops/receipts").rows()
    assert row.count("same number and clientRef") == 3
    assert "And 2 more." in row


def test_a_list_goes_on_page_by_page(reader: Reader, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "PAGE_SIZE", 3)
    for number in range(4):
        rows.keep(database, said(tx=str(number)))
    work.work_off(database)
    first = found(reader.open("/ops/receipts"))
    rest = found(reader.follow("Look further back"))
    assert (len(first), len(rest)) == (3, 1)
    assert "cut or changed" in reader.open("/ops/receipts?after=x", 422).text


@pytest.mark.parametrize(
    "where",
    [
        ReceiptFilter(),
        ReceiptFilter(
            outcomes=(ReceiptOutcome.DEAD, ReceiptOutcome.CONFLICTING),
            channel=Channel.ACCOUNT,
            message_id=UUID(int=7),
            names=ReferenceFilter(recipient=NUMBER, provider_status_id="4"),
            since=seconds(1),
            until=seconds(2),
        ),
    ],
)
def test_a_filter_is_the_same_once_it_was_saved(where: ReceiptFilter) -> None:
    saved = terms.read(terms.write(where))
    assert saved is not None
    assert saved.asked == where


def test_a_saved_choice_has_the_same_receipts() -> None:
    made = [ids.new() for _ in range(5)]
    packed = terms.PackedIds(terms.pack_ids(made))
    assert (len(packed), list(packed), packed[-1], packed[1:3]) == (5, made, made[-1], made[1:3])
