"""The page of codes: what each means and why, those first that nobody named; and what would change if it meant another."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from lxml import html

from receiptsvc import ids
from receiptsvc.domain.statuses import Status
from receiptsvc.dynmark.readers import open_reader
from receiptsvc.store.core.db import Database
from receiptsvc.store.queries import codes as codes_store
from receiptsvc.store.queries import rereading
from receiptsvc.web.app import create_app
from receiptsvc.web.ops import codes
from receiptsvc.worker.receipt_batch import ReceiptRules
from receiptsvc.worker.receipt_processor import process
from receiptsvc.worker.reprocess import reprocess
from tests.support import rows
from tests.support.callers import SECRETS, make_settings
from tests.support.reader import Reader
from tests.support.rows import seconds
from tests.support.work import RULES

NUMBER = "447700900123"


@pytest.fixture
def reader(browser: FlaskClient) -> Reader:
    return Reader(browser)


def receive(
    database: Database, said: Sequence[tuple[str | None, str | None]], begin: datetime = rows.T0
) -> list[tuple[UUID, UUID]]:
    """Have a receipt come every second, each for a message of its own; the ids of messages and receipts."""
    kept = []
    for second, (code, words) in enumerate(said):
        at = begin + timedelta(seconds=second)
        (message_id,) = rows.accept(database, now=at)
        fields = {"recipient": "447700900001", "statusid": code, "statusdescription": words}
        query = urlencode({name: value for name, value in fields.items() if value is not None})
        kept.append((message_id, rows.keep(database, query, message_id=message_id, now=at)))
    while process(database, RULES, begin + timedelta(minutes=9), 200):
        pass
    return kept


def table(reader: Reader) -> list[str]:
    """The lines of the table, without its head."""
    lines = html.document_fromstring(reader.source).xpath("//tbody/tr")
    return [" ".join(line.text_content().split()) for line in lines]


def with_setting(database: Database, status_map: str) -> Reader:
    """Somebody who is signed in where this is STATUS_MAP."""
    browser = create_app(make_settings(STATUS_MAP=status_map), database).test_client()
    browser.environ_base["HTTP_SEC_FETCH_SITE"] = "same-origin"
    assert browser.post("/ops/sign-in", data={"secret": SECRETS["ops"]}).status_code == 303
    return Reader(browser)


def page_of(receipt_id: UUID) -> str:
    return f"/ops/codes/{ids.public('rcp', receipt_id)}"


def test_codes_that_nobody_named_come_first_and_each_says_what_it_means_and_why(
    reader: Reader, database: Database
) -> None:
    now = database.clock.now() - timedelta(minutes=30)
    receive(database, [("1", "Delivered")] * 3 + [("77", "Foo"), (None, "Expired")], now)
    lines = table(reader.open("/ops").follow("Codes"))
    assert [line.split()[0].rstrip(":") for line in lines] == ["77", "1", "no"]
    assert "? unmapped: its code has no known meaning, so it changes nothing “Foo” 1 " in lines[0]
    assert "✓ delivered: on the handset by its words “Delivered” 3 " in lines[1]
    assert "by its words “Expired” –" in lines[2], "only codes are counted"
    assert (
        "Words were looked for among the newest receipts (all 5) and among those that nobody could read (all 1)."
        in reader.text
    )
    assert "recorded as unmapped and would be read today" not in reader.text


def test_times_are_as_on_all_pages_and_the_exact_ones_stand_in_them(reader: Reader, database: Database) -> None:
    receive(database, [("77", "Foo")])
    line = html.document_fromstring(reader.open("/ops/codes").source).xpath("//tbody/tr")[0]
    for time in line.iter("time"):
        assert (time.text, time.get("title")) == ("05 Jan 2026 12:00:00 UTC", "2026-01-05 12:00:00.000 UTC")


def test_a_code_that_the_setting_names_says_so_and_that_rebuild_is_due(database: Database) -> None:
    receive(database, [("77", "Foo"), ("77", "Bar"), ("1", "Delivered")])
    reader = with_setting(database, '{"77": "rejected"}').open("/ops/codes")
    assert table(reader)[0].count("⊘ rejected: a network or the gateway refused to carry it by STATUS_MAP") == 2
    assert "2 receipts were recorded as unmapped and would be read today: run python -m receiptsvc rebuild" in (
        reader.text
    )


def test_where_none_has_come_it_says_so(reader: Reader, database: Database) -> None:
    rows.accept(database)
    assert "No receipt that fits a message has come yet." in reader.open("/ops/codes").text


def test_it_says_how_far_it_has_looked(reader: Reader, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    now = database.clock.now() - timedelta(minutes=30)
    receive(database, [("9", "Rejected"), ("77", "Foo"), ("5", "Expired"), ("1", "Delivered")], now)
    monkeypatch.setattr(codes_store, "LOOKED_THROUGH", 1)
    lines = {line.split()[0].rstrip(":"): line for line in table(reader.open("/ops/codes"))}
    assert "1 as it was read then; its words were not looked for so far back" in lines["9"]
    assert "among the newest receipts (1, back to" in reader.text
    assert "among those that nobody could read (all 1)." in reader.text
    monkeypatch.setattr(codes, "MAX_COUNTS", 1)
    assert "Too much was counted in 30 days" in reader.open("/ops/codes").text


def test_of_very_many_codes_with_long_words_the_most_frequent_are_shown(reader: Reader, database: Database) -> None:
    hostile = "<script>alert(1)</script>\u202e" + "x" * 400
    receive(database, [(f"c{number}", hostile) for number in range(210)])
    assert len(table(reader.open("/ops/codes"))) == 200
    assert "10 more codes are left out, which were seen least." in reader.text
    assert "<script>alert" not in reader.source
    assert "x" * 200 not in reader.source


def test_of_ever_new_codes_only_the_most_frequent_are_counted(
    reader: Reader, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = database.clock.now() - timedelta(minutes=30)
    receive(database, [(f"c{number}", "Delivered") for number in range(9)] + [("1", "Delivered")] * 2, now)
    monkeypatch.setattr(codes_store, "LOOKED_THROUGH", 1)
    monkeypatch.setattr(codes, "_MAX_LABELS", 3)
    assert [line.split()[0].rstrip(":") for line in table(reader.open("/ops/codes"))] == ["1", "c0", "c1"]
    assert "More codes are left out, which were seen least." in reader.text


def test_what_it_would_change_is_told_with_examples_and_nothing_is_written(reader: Reader, database: Database) -> None:
    kept = receive(database, [("77", "Foo")] * 12 + [("1", "Message sent")])
    reader.open("/ops/codes").follow("77: what if it meant …")
    assert "Neither STATUS_MAP nor the words say what it means." in reader.text
    text = reader.open(f"{reader.path}?status=undelivered").text
    assert "12 receipts with this code were read again: all there are." in text
    assert "12 messages: ○ accepted: recorded here" in text
    assert "→ ✗ undelivered" in text
    examples = [address for address in reader.links().values() if "/messages/msg_" in address]
    assert [address.rpartition("/")[2] for address in examples] == [
        ids.public("msg", message_id) for message_id, _ in kept[11:1:-1]
    ]
    assert 'STATUS_MAP={"77": "undelivered"}' in text
    assert rows.read_message(database, kept[0][0]).status == "accepted"
    assert "receipts with this code" not in reader.open(reader.path.partition("?")[0]).text


def test_the_setting_is_told_whole_and_does_what_was_told(database: Database) -> None:
    kept = receive(database, [("77", "Foo"), ("1", "Delivered")])
    reader = with_setting(database, '{"5": "expired", "77": "sent"}')
    text = reader.open(f"{page_of(kept[0][1])}?status=rejected").text
    told = 'STATUS_MAP={"5": "expired", "77": "rejected"}'
    assert told in text
    assert "1 message: ○ accepted" in text
    settings = make_settings(STATUS_MAP=told.removeprefix("STATUS_MAP="))
    rules = ReceiptRules.of(settings, open_reader(settings))
    assert len(list(reprocess(database, rules, seconds(999), is_applied=True))) == 1
    assert rows.read_message(database, kept[0][0]).status == Status.REJECTED
    reader = with_setting(database, told.removeprefix("STATUS_MAP="))
    text = reader.open(f"{page_of(kept[0][1])}?status=rejected").text
    assert "⊘ rejected: a network or the gateway refused to carry it by STATUS_MAP" in text
    assert "Nothing would change among them: they are read so already." in text


def test_a_message_that_others_decide_about_keeps_its_status(reader: Reader, database: Database) -> None:
    (message_id, _), *_ = receive(database, [("1", "Delivered")])
    second = rows.keep(database, "recipient=447700900001&statusid=77&statusdescription=Foo", message_id=message_id)
    process(database, RULES, seconds(999), 100)
    text = reader.open(f"{page_of(second)}?status=expired").text
    assert "1 message keeps its status: other reports decide" in text
    assert "Such as" not in text


def test_what_a_page_does_not_look_at_is_told(
    reader: Reader, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = receive(database, [("77", "Foo")] * 3)
    monkeypatch.setattr(rereading, "MAX_RECEIPTS", 2)
    monkeypatch.setattr(rereading, "_MAX_REPORTS", 1)
    text = reader.open(f"{page_of(kept[0][1])}?status=expired").text
    assert "2 receipts with this code were read again: the newest, back to 05 Jan 2026 12:00:01 UTC." in text
    assert "2 messages have too many reports to tell here" in text
    monkeypatch.setattr(rereading, "_MAX_BYTES", 1)
    assert "2 more are left out here" in reader.open(reader.path).text


def test_a_code_that_is_a_number_is_in_no_address_and_masked(reader: Reader, database: Database) -> None:
    receive(database, [(NUMBER, f"call {NUMBER}"), ("1", "Delivered")])
    reader.open("/ops/codes").follow("[number]: what if it meant …")
    reader.open(f"{reader.path}?status=expired")
    assert NUMBER not in reader.source
    assert "STATUS_MAP=" not in reader.text, "a masked one would name another code"
    assert not [text for text in reader.seen if NUMBER in text]
    assert f'STATUS_MAP={{"{NUMBER}": "expired"}}' in reader.submit("Show numbers and texts").text
    assert NUMBER in reader.open("/ops/codes").submit("Show numbers and texts").text


def test_words_without_a_code_can_not_be_named(reader: Reader, database: Database) -> None:
    [(_, receipt_id)] = receive(database, [(None, "Foo")])
    assert "STATUS_MAP names codes. This receipt has none" in reader.open(f"{page_of(receipt_id)}?status=expired").text
    assert "What if it meant …" not in reader.text


def test_a_receipt_that_fits_no_message_tells_its_code_too(reader: Reader, database: Database) -> None:
    waiting = rows.keep(database, "transactionid=5&statusid=78&statusdescription=Bar")
    process(database, RULES, seconds(9), 100)
    text = reader.open(f"{page_of(waiting)}?status=expired").text
    assert "0 receipts with this code were read again: all there are." in text


def test_what_is_no_status_of_the_gateway_is_said_at_the_choice(reader: Reader, database: Database) -> None:
    [(_, receipt_id)] = receive(database, [("77", "Foo")])
    for word in ("lost", "accepted"):
        assert "Choose one of these." in reader.open(f"{page_of(receipt_id)}?status={word}", 422).text
    assert "STATUS_MAP=" not in reader.text


@pytest.mark.parametrize("public_id", ["rcp_x", ids.public("rcp", UUID(int=1))])
def test_what_is_not_there_is_said_so(reader: Reader, public_id: str) -> None:
    assert "There is no receipt with this id" in reader.open(f"/ops/codes/{public_id}", 404).text
