"""A person's page: all of one number, and its suppressions."""

import logging

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from receiptsvc import ids
from receiptsvc.domain.statuses import Status
from receiptsvc.store.core import audits
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Audit, Reply
from receiptsvc.store.outbound import suppressions
from receiptsvc.store.outbound.suppressions import Pair
from receiptsvc.store.queries import persons
from receiptsvc.web.ops import lists
from receiptsvc.worker.receipt_processor import process
from tests.support import rows, stories
from tests.support.reader import Reader
from tests.support.rows import seconds
from tests.support.work import RULES

NUMBER = "447700900123"
MASKED = "+44 ••• •••123"


@pytest.fixture
def reader(browser: FlaskClient) -> Reader:
    return Reader(browser)


def open_person(reader: Reader, number: str = NUMBER) -> Reader:
    reader.open("/ops").submit("Search", q=number)
    return reader if "/people/" in reader.path else reader.submit("Open this person")


def test_a_person_has_all_conversations_messages_replies_and_parked_receipts(
    reader: Reader, database: Database
) -> None:
    rows.accept(database, rows.message(NUMBER, "secret words", client_ref="a"), rows.message(NUMBER, originator="ACME"))
    stories.reply(database, "b", seconds(5), sender=NUMBER, content="thank you")
    rows.accept(database, rows.message("447700900456", client_ref="elsewhere"))
    kept = rows.keep(database, "recipient=07700900123&transactionid=4711&statusid=1&statusdescription=Delivered")
    process(database, RULES, seconds(6), 100)
    open_person(reader)
    assert [words for words in reader.links() if "clientRef" in words or "with" in words] == [
        "clientRef b",
        "with ACME",
        "clientRef a",
    ]
    for words in (f"Reply from {MASKED}", f"To {MASKED}", "For ••• •••123", "may be written to"):
        assert words in reader.text
    assert f"receipts/{ids.public('rcp', kept)}" in reader.source
    for hidden in (NUMBER, "07700900123", "secret words", "thank you", "elsewhere"):
        assert hidden not in reader.source
    reader.submit("Show numbers and texts")
    for shown in (NUMBER, "07700900123", "secret words", "thank you"):
        assert shown in reader.text


def test_a_long_history_goes_on_from_page_to_page(
    reader: Reader, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "PAGE_SIZE", 2)
    for number in range(5):
        rows.accept(database, rows.message(NUMBER, client_ref="a"), now=seconds(number))
    open_person(reader)
    assert "Conversations" in reader.text
    found = sum(row.count("To +44") for row in reader.rows())
    while "Look further back" in reader.links():
        reader.follow("Look further back")
        assert "Conversations" not in reader.text
        found += len([row for row in reader.rows() if "To +44" in row])
    assert found == 5
    assert reader.follow("Back to the newest").status == 200
    assert "cut or changed" in reader.open("?after=x", 422).text


def test_a_person_is_opened_from_a_message_a_reply_and_a_receipt(reader: Reader, database: Database) -> None:
    [message] = rows.accept(database, rows.message(NUMBER))
    stories.reply(database, "b", seconds(5), sender=NUMBER)
    kept = rows.keep(database, "recipient=%2B447700900123&statusid=1&statusdescription=Delivered")
    process(database, RULES, seconds(6), 100)
    with database.reading() as session:
        reply = session.scalars(select(Reply)).one()
    for of in (ids.public("msg", message), ids.public("rpl", reply.id), ids.public("rcp", kept)):
        reader.open("/ops").post("/ops/people", of=of)
        assert (reader.path.startswith("/ops/people/srch_"), MASKED in reader.text) == (True, True), of
    for of in ("", "msg_x", ids.public("msg", ids.new()), ids.public("cnv", message)):
        assert "There is no such message" in reader.post("/ops/people", 404, of=of).text


def test_a_national_writing_lists_the_numbers_that_may_be_meant(reader: Reader, database: Database) -> None:
    rows.accept(database, rows.message(NUMBER), rows.message("17700900123"))
    reader.open("/ops").submit("Search", q="07700900123")
    assert len(reader.rows()) == 2
    assert MASKED in reader.submit(MASKED).text


def test_a_person_is_suppressed_and_allowed_again_for_a_reason(reader: Reader, database: Database) -> None:
    open_person(reader)
    reader.submit("Suppress", originator="ACME", reason="asked by phone")
    assert "acme may not write to this person." in reader.text
    assert "asked by phone" in reader.text
    with database.reading() as session:
        held = suppressions.get(session, Pair(NUMBER, "acme"))
        assert held is not None
        assert (held.created_by, held.reason) == ("key opser", "asked by phone")
    reader.submit("Lift", reason="asked for it again")
    assert "may be written to" in reader.text
    with database.reading() as session:
        acts = [(audit.actor, audit.action, audit.reason) for audit in session.scalars(select(Audit))]
    assert acts[1:] == [  # after the sign-in
        ("key opser", "suppressed", "asked by phone"),
        ("key opser", "allowed again", "asked for it again"),
    ]


def test_a_suppression_of_the_accounts_own_number_is_chosen_like_any_other(reader: Reader, database: Database) -> None:
    open_person(reader).submit("Suppress", 422, reason="asked by phone")
    assert "Choose for whom" in reader.text
    with database.reading() as session:
        assert not suppressions.read(session, recipient=NUMBER, limit=1).items
    reader.submit("Suppress", sender="", reason="asked by phone")
    assert "for the account's own number" in reader.text
    reader.submit("Lift", reason="a slip")
    assert "may be written to" in reader.text
    assert "key opser allowed again for the account's own number: a slip" in reader.text


def test_those_who_wrote_to_a_person_can_be_chosen_and_are_named(reader: Reader, database: Database) -> None:
    for number, sender in enumerate(["ACME", "Bookings", "Mayflower"]):
        rows.accept(database, rows.message(NUMBER, originator=sender, client_ref=f"order-{number}"))
    open_person(reader)
    reader.submit("Suppress", sender=["acme", "mayflower"], reason="asked by phone")
    assert "acme, mayflower may not write to this person; " in reader.text
    assert "bookings" in reader.text.partition("this person; ")[2].partition(" may.")[0]
    with database.reading() as session:
        held = {each.originator for each in suppressions.read(session, recipient=NUMBER, limit=9).items}
    assert held == {"acme", "mayflower"}


def test_nothing_is_suppressed_or_lifted_without_a_reason(reader: Reader, database: Database) -> None:
    open_person(reader)
    reader.submit("Suppress", 422, originator="ACME", reason=" ")
    assert "Say why" in reader.text
    assert 'value="ACME"' in reader.source, "what was typed stays"
    reader.submit("Suppress", 422, originator="far too long a name", reason="asked")
    assert 'id="sender-fault"' in reader.source
    reader.submit("Suppress", originator="ACME", reason="asked")
    reader.submit("Lift", 422)
    assert "Say why" in reader.text
    with database.reading() as session:
        assert suppressions.get(session, Pair(NUMBER, "acme")) is not None


def test_what_somebody_else_has_lifted_is_said(reader: Reader) -> None:
    open_person(reader).submit("Suppress", originator="ACME", reason="asked")
    page = reader.path
    reader.post(f"{page}/allow", sender="acme", reason="again")
    assert "Somebody else has lifted it" in reader.post(f"{page}/allow", 404, sender="acme", reason="again").text


def test_an_opt_out_that_is_only_marked_is_said(reader: Reader, database: Database) -> None:
    stories.reply(database, "b", seconds(5), sender=NUMBER, content="stop")
    assert "opted out" in open_person(reader).text


def test_an_opt_out_that_somebody_has_lifted_counts_no_more(reader: Reader, database: Database) -> None:
    stories.reply(database, "b", seconds(5), sender=NUMBER, content="stop")
    open_person(reader).submit("Suppress", originator="447700900999", reason="said stop")
    assert "may not write to this person" in reader.text
    reader.submit("Lift", reason="asked by phone")
    assert "may be written to" in reader.text
    assert "opted out" not in reader.text
    stories.reply(database, "b", seconds(10**9), sender=NUMBER, content="stop")
    assert "opted out" in open_person(reader).text


def test_a_list_says_when_a_message_came_to_its_status(reader: Reader, database: Database) -> None:
    message = rows.message(NUMBER)
    rows.accept(database, message)
    [row] = [row for row in open_person(reader).rows() if f"To {MASKED}" in row]
    assert row.count("2026") == 1
    stories.report(database, message.id, Status.DELIVERED, seconds(3600))
    [row] = [row for row in open_person(reader).rows() if f"To {MASKED}" in row]
    assert "delivered 05 Jan 2026 13:00:00 UTC" in row
    assert row.endswith("05 Jan 2026 12:00:00 UTC"), "when it was accepted"


def test_it_tells_who_had_the_number_shown(reader: Reader, database: Database) -> None:
    message = rows.message(NUMBER, client_ref="order/7")
    rows.accept(database, message, rows.message("447700900456"))
    stories.reply(database, "order/7", seconds(5), sender=NUMBER)
    assert "Nobody in the last 7 days." in open_person(reader).text
    reader.submit("Show numbers and texts")
    assert "key opser here" in open_person(reader).text
    name = ids.public("msg", message.id)
    reader.open(f"/ops/messages/{name}").submit("Show numbers and texts")
    open_person(reader).follow("clientRef order/7").submit("Show numbers and texts")
    told = open_person(reader).text
    assert f"key opser on {name}" in told
    assert "key opser on cnv_" in told
    assert "Nobody in the last 7 days." in open_person(reader, "447700900456").text


def test_what_is_long_ago_is_left_to_the_audit(reader: Reader, database: Database) -> None:
    with database.transaction() as session:
        for at in (seconds(0), database.clock.now()):
            actor = f"user {at:%Y}-{at:%m}"
            audits.write(session, at=at, actor=actor, action="reveal", subject=persons.subject(NUMBER))
    told = open_person(reader).text
    assert f"user {at:%Y}-{at:%m} here" in told
    assert "user 2026-01 here" not in told
    assert f"the page of {MASKED}" in reader.open("/ops/audit").text
    assert NUMBER not in reader.source


def test_a_short_code_can_not_be_suppressed(reader: Reader, database: Database) -> None:
    stories.reply(database, "b", seconds(5), sender="60777")
    assert "Only a whole number can be suppressed" in open_person(reader, "60777").text


HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    '"><form action=//evil.example><button>Search</button>',
    "\u202egnp.exe\u202c \u2066\u2067 \u200f\u202b",
    "{{ 7 * 7 }}{% raw %}",
)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_texts_and_references_are_shown_as_they_are(reader: Reader, database: Database, hostile: str) -> None:
    reference = hostile[:64]
    rows.accept(
        database,
        rows.message(NUMBER, hostile, client_ref=reference),
        rows.message(NUMBER, "W" * 10_000, client_ref=reference),
    )
    stories.reply(database, reference, seconds(5), sender=NUMBER, content=hostile)
    open_person(reader).submit("Show numbers and texts")
    for words in (hostile, "W" * 10_000):
        assert " ".join(words.split()) in reader.text
    reader.open("/ops/messages").submit("Show numbers and texts")
    assert "<script>alert" not in reader.source
    assert "evil.example>" not in reader.source
    assert reader.source.count("<bdi>") == reader.source.count("</bdi>") >= 4
    reader.open("/ops").submit("Search", q=reference)
    assert reference not in reader.source or hostile == HOSTILE[-1] or hostile == HOSTILE[2]


def test_no_address_title_header_or_log_line_holds_a_number_a_text_or_a_reference(
    reader: Reader, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    written = (
        *("447700900123", "+447700900123", "00447700900123", "07700900123", "7700900123"),
        *("7700 900123", "7700%20900123", "7700-900-123"),
    )
    private = (*written, "secret words", "order/77", "order%2F77")
    rows.accept(
        database,
        rows.message(NUMBER, "secret words", client_ref="order/77"),
        rows.message(NUMBER, client_ref="order/778"),
    )
    for term in ("+44 7700 900123", "07700 900123", "900123", "order/77", "order/7"):
        reader.open("/ops").submit("Search", q=term)
        if "Show numbers and texts" in reader.text:
            reader.submit("Show numbers and texts")
    open_person(reader).submit("Suppress", originator="ACME", reason="secret words")
    reader.submit("Lift", reason="secret words")
    reader.open("/ops/messages").submit("Show these", number=NUMBER, clientRef="order/77")
    reader.open("/ops/messages").submit("Show these", 422, number="+44 7700 900 123 4567890")
    said = [*reader.seen, *(f"{record.getMessage()} {vars(record).get('fields')}" for record in caplog.records)]
    assert len(reader.seen) > 60
    assert [(each, line) for each in private for line in said if each in line] == []
