"""A receipt's page: what became of it, what it says as it came and as it is read, and what it might belong to."""

from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from receiptsvc import ids
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import InboxRow
from receiptsvc.web.ops.display import OUTCOME_SHAPES
from tests.support import rows, stories, work
from tests.support.rows import seconds
from tests.web.ops.test_messages import RECIPIENT, audits, deliver, words


def page_of(receipt_id: UUID) -> str:
    return f"/ops/receipts/{ids.public('rcp', receipt_id)}"


def read(browser: FlaskClient, receipt_id: UUID) -> str:
    answer = browser.get(page_of(receipt_id))
    assert answer.status_code == 200
    return words(answer.text)


def receipts_of(database: Database, message_id: UUID) -> list[UUID]:
    return [each.receipt_id for each in rows.read_transitions(database, message_id) if each.receipt_id is not None]


def park(database: Database) -> UUID:
    receipt_id = rows.keep(database, work.said(to=RECIPIENT, ref="nowhere", tx="99"))
    work.work_off(database)
    return receipt_id


def test_one_that_was_recorded_leads_to_its_message(browser: FlaskClient, database: Database) -> None:
    message_id = deliver(database)
    applied, stale = receipts_of(database, message_id)
    page = read(browser, applied)
    assert "✓ applied : it changed the status since 05 Jan 2026 12:00:09 UTC It changed the status." in page
    assert "Found by token What it did applied" in page
    assert f'href="../../ops/messages/{ids.public("msg", message_id)}"' in browser.get(page_of(applied)).text
    assert "↓ stale : it left the status as it was" in read(browser, stale)


def test_one_that_is_parked_says_why_and_what_is_next(browser: FlaskClient, database: Database) -> None:
    page = read(browser, park(database))
    assert "◌ unmatched : it fits no message, or several; it waits in the parking lot" in page
    assert "Why: No message has its transactionID or its clientRef." in page
    assert "Next: the worker tries to match it again at" in page
    assert "Message none yet" in page
    assert "to the address of the account" in page


def test_it_names_the_messages_that_it_might_belong_to(browser: FlaskClient, database: Database) -> None:
    made = [rows.message(RECIPIENT, client_ref="order/7") for _ in range(2)]
    for at, each in enumerate(made):
        work.send(database, each, at=at * 10)
    receipt_id = rows.keep(database, work.said(to=RECIPIENT, ref="order/7", at=30), now=seconds(31))
    work.work_off(database)
    page = browser.get(page_of(receipt_id)).text
    for each in made:
        assert f'<li><a href="../../ops/messages/{ids.public("msg", each.id)}"' in page


def test_it_is_shown_as_it_came_and_as_it_is_read_hidden_alike(browser: FlaskClient, database: Database) -> None:
    receipt_id = park(database)
    hidden = browser.get(page_of(receipt_id)).text
    assert "recipient=•••&amp;clientref=nowhere&amp;transactionid=99&amp;statusid=1" in hidden
    assert "Number +44 ••• •••123" in words(hidden)
    assert RECIPIENT not in hidden
    shown = browser.post(page_of(receipt_id), data={"action": "reveal"}).text
    assert f"recipient={RECIPIENT}&amp;" in shown
    assert f"Number {RECIPIENT}" in words(shown)
    assert audits(database, ids.public("rcp", receipt_id)) == [("key opser", "reveal", None)]


def test_a_number_where_something_harmless_belongs_is_hidden_on_both_sides(
    browser: FlaskClient, database: Database
) -> None:
    query = f"recipient={RECIPIENT}&transactionid={RECIPIENT}&clientref={RECIPIENT}&statusid=4&statusdescription={RECIPIENT}"
    receipt_id = rows.keep(database, query)
    work.work_off(database)
    assert RECIPIENT not in browser.get(page_of(receipt_id)).text


def test_one_of_several_in_a_callback_is_read_by_its_place(browser: FlaskClient, database: Database) -> None:
    one, other = (
        "transactionid=1&statusid=1&statusdescription=Delivered",
        "transactionid=2&statusid=2&statusdescription=x",
    )
    first = rows.keep(database, f"{one}&{other}")
    work.work_off(database)
    with database.reading() as session:
        second = session.scalars(select(InboxRow.id).where(InboxRow.callback_id == first)).one()
    page = read(browser, second)
    assert f"one of several receipts of {ids.public('rcp', first)}" in page
    assert "transactionID 2" in page
    assert "transactionID 1" in read(browser, first)


def test_one_that_can_not_be_read_says_so(browser: FlaskClient, database: Database) -> None:
    receipt_id = rows.keep(database, b"\xff\xfe<script>\x00")
    work.work_off(database)
    answer = browser.get(page_of(receipt_id))
    assert "! quarantined" in words(answer.text)
    assert "It can’t be read:" in answer.text
    answer = browser.post(page_of(receipt_id), data={"action": "reveal"})
    assert "<script>\\x00" not in answer.text
    assert "&lt;script&gt;" in answer.text


def test_a_reply_is_shown_with_its_text_once_it_is_revealed(browser: FlaskClient, database: Database) -> None:
    stories.reply(database, "order/7", seconds(1), sender=RECIPIENT)
    with database.reading() as session:
        receipt_id = session.scalars(select(InboxRow.id)).one()
    assert "thanks" not in browser.get(page_of(receipt_id)).text
    assert "content=thanks" in browser.post(page_of(receipt_id), data={"action": "reveal"}).text


def test_each_outcome_has_a_shape_of_its_own() -> None:
    assert OUTCOME_SHAPES.keys() == set(ReceiptOutcome)
    assert len({shape for shape, _ in OUTCOME_SHAPES.values()}) == len(ReceiptOutcome)


@pytest.mark.parametrize("receipt_id", ["rcp_x", ids.public("rcp", UUID(int=1))])
def test_what_is_not_there_is_said_so(browser: FlaskClient, receipt_id: str) -> None:
    answer = browser.get(f"/ops/receipts/{receipt_id}")
    assert answer.status_code == 404
    assert "There is no receipt with this id." in answer.text
