"""A receipt's page: what became of it, what it says, what it might belong to, and what can be done about it."""

import re
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select, update

from receiptsvc import ids
from receiptsvc.domain.inbox import Channel, ReceiptOutcome
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import InboxRow
from receiptsvc.web.ops.display import OUTCOME_SHAPES
from tests.support import parked, rows, stories, work
from tests.support.reader import Reader
from tests.support.rows import seconds
from tests.web.ops.test_messages import RECIPIENT, audits, deliver, words
from tests.worker.test_reprocess import UNKNOWN

LATER = 10**9  # seconds: after what was reopened by the clock of this machine


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
    assert "Why: No message has its transactionID, and no message has its clientRef and recipient." in page
    assert "It came 05 Jan 2026 12:00:00 UTC ," in page
    assert "ago; the worker last tried it 05 Jan 2026 12:01:40 UTC ." in page
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
        message_id = ids.public("msg", each.id)
        assert f'<a href="../../ops/messages/{message_id}"' in page
        assert f'aria-label="Match with this message: {message_id}"' in page
    assert words(page).count("Its clientRef and recipient fit 2 messages. same number and clientRef") == 2


def test_its_own_time_stands_beside_those_of_its_candidates(browser: FlaskClient, database: Database) -> None:
    alike = rows.message(RECIPIENT, client_ref="order/7")
    work.send(database, alike, at=5)
    receipt_id = rows.keep(database, work.said(to=RECIPIENT, ref="other", at=9), now=seconds(31))
    untimed = rows.keep(database, work.said(to=RECIPIENT, ref="other"), now=seconds(31))
    work.work_off(database)
    page = read(browser, receipt_id)
    assert "its own time 05 Jan 2026 12:00:09 UTC ; came 05 Jan 2026 12:00:31 UTC" in page
    assert "accepted 05 Jan 2026 12:00:05 UTC ; offered 05 Jan 2026 12:00:05 UTC" in page
    assert "its own time is not known; came" in read(browser, untimed)


def test_one_whose_time_only_another_zone_explains_says_what_to_do(browser: FlaskClient, database: Database) -> None:
    work.send(database, rows.message("447700900456", client_ref="right"), tx="1")
    rows.keep(database, work.said(to="447700900456", tx="1", at=5), now=seconds(6))
    work.send(database, rows.message(RECIPIENT, client_ref="order/7"))
    receipt_id = rows.keep(database, work.said(to=RECIPIENT, ref="order/7", at=10 - 3600), now=seconds(20))
    work.work_off(database)
    page = read(browser, receipt_id)
    assert "recipient only if the gateway's clock is an hour behind." in page.replace("&#39;", "'")
    assert "To do: Compare it with the message that has its clientRef and number: is DYNMARK_TIMEZONE right?" in page
    assert "DYNMARK_TIMEZONE is UTC, at UTC+00:00: a zone that was at UTC-01:00 fits." in page
    assert "Nothing: it is matched" not in page


def test_a_reason_that_is_older_than_a_candidate_says_so(browser: FlaskClient, database: Database) -> None:
    receipt_id = rows.keep(database, work.said(to=RECIPIENT, ref="order/7", at=9), now=seconds(10))
    work.work_off(database, 20)
    assert "at the last try" not in read(browser, receipt_id)
    rows.accept(database, rows.message(RECIPIENT, client_ref="order/7"), now=seconds(30))
    page = read(browser, receipt_id)
    assert "no message has its clientRef and recipient. That was so at the last try: a message below is newer." in page


def test_it_is_shown_as_it_came_and_as_it_is_read_hidden_alike(browser: FlaskClient, database: Database) -> None:
    receipt_id = park(database)
    hidden = browser.get(page_of(receipt_id)).text
    assert "recipient=•••&amp;clientref=nowhere&amp;transactionid=99&amp;statusid=1" in hidden
    assert "Number +44 ••• •••123" in words(hidden)
    assert RECIPIENT not in hidden
    shown = browser.post(page_of(receipt_id), data={"action": "reveal"}).text
    assert f"recipient={RECIPIENT}&amp;" in shown
    assert f"Number +{RECIPIENT}" in words(shown)
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


@pytest.fixture
def reader(browser: FlaskClient) -> Reader:
    return Reader(browser)


def fit_two(database: Database) -> tuple[UUID, list[UUID]]:
    """A receipt that fits two messages, and these."""
    made = [rows.message(RECIPIENT, client_ref="order/7") for _ in range(2)]
    for at, each in enumerate(made):
        work.send(database, each, at=at * 10)
    receipt_id = rows.keep(database, work.said(to=RECIPIENT, ref="order/7", at=30), now=seconds(31))
    work.work_off(database)
    return receipt_id, [each.id for each in made]


def test_it_is_matched_with_one_of_its_candidates(reader: Reader, database: Database) -> None:
    receipt_id, made = fit_two(database)
    reader.open(page_of(receipt_id))
    first = re.findall('name="message" value="(msg_[^"]+)"', reader.source)[0]
    [chosen], [other] = (
        [each for each in made if (ids.public("msg", each) == first) is is_it] for is_it in (True, False)
    )
    reader.submit("Match with this message")
    assert "○ pending" in reader.text
    assert "Match with" not in reader.text
    work.work_off(database, LATER)
    assert "✓ applied" in reader.open(page_of(receipt_id)).text
    assert work.rules(database, chosen) == ["matched by hand"]
    assert work.rules(database, other) == []
    assert audits(database, ids.public("rcp", receipt_id))[0] == ("key opser", "matched", None)
    work.assert_sound(database, applied=1)


def test_messages_that_have_something_of_it_are_shown_beside_it(reader: Reader, database: Database) -> None:
    alike = rows.message(RECIPIENT, client_ref="order/8")
    work.send(database, alike, tx="4")
    receipt_id = rows.keep(database, work.said(to=RECIPIENT, ref="order/9", tx="5", at=30), now=seconds(31))
    work.work_off(database)
    reader.open(page_of(receipt_id))
    assert "Went to its number. same number; other clientRef and transactionID" in reader.text
    reader.submit("Match with this message")
    assert work.outcome(database, receipt_id) == "pending"


def test_a_number_in_place_of_a_client_ref_is_hidden_beside_its_candidates(
    browser: FlaskClient, database: Database
) -> None:
    for at in range(2):
        work.send(database, rows.message(RECIPIENT, client_ref=RECIPIENT), at=at)
    receipt_id = rows.keep(database, work.said(to=RECIPIENT, ref=RECIPIENT, at=30), now=seconds(31))
    work.work_off(database)
    page = browser.get(page_of(receipt_id)).text
    assert page.count("same number and clientRef") == 2
    assert RECIPIENT not in page


def test_another_message_is_named_by_hand_and_another_number_has_to_be_meant(
    reader: Reader, database: Database
) -> None:
    receipt_id = park(database)
    [other] = rows.accept(database, rows.message("447700900456"))
    reader.open(page_of(receipt_id))
    for typed, fault in (
        ("", "Missing data for required field."),
        ("msg_x", "Must be a message's id"),
        (ids.public("msg", UUID(int=1)), "There is no message with this id."),
    ):
        reader.submit("Match", 422, message=typed)
        assert fault in reader.text
        assert f'value="{typed}"' in reader.source
    reader.submit("Match", 422, message=ids.public("msg", other), reason="seen in the portal")
    assert "The receipt names another number than the message went to." in reader.text
    assert work.outcome(database, receipt_id) == "unmatched"
    reader.submit("Match", anyRecipient="true")
    assert work.outcome(database, receipt_id) == "pending"
    subject = ids.public("rcp", receipt_id)
    assert audits(database, subject) == [("key opser", "matched", "seen in the portal")]


def test_a_dead_one_is_retried(reader: Reader, database: Database) -> None:
    message_id = work.send(database, rows.message(RECIPIENT), tx="99")
    [receipt_id] = parked.park(database, 1, ReceiptOutcome.DEAD)
    with database.transaction() as session:
        session.execute(
            update(InboxRow).where(InboxRow.id == receipt_id).values(query=work.said(to=RECIPIENT, tx="99").encode())
        )
    reader.open(page_of(receipt_id)).submit("Retry", reason="mended")
    assert "○ pending" in reader.text
    work.work_off(database, LATER)
    assert work.rules(database, message_id) == ["transactionID and recipient"]
    assert audits(database, ids.public("rcp", receipt_id))[0] == ("key opser", "retried", "mended")
    work.assert_sound(database, applied=1)


def test_it_is_dismissed_for_a_reason_and_restored(reader: Reader, database: Database) -> None:
    receipt_id = park(database)
    reader.open(page_of(receipt_id)).submit("Dismiss", 422)
    assert "Say why." in reader.text
    assert work.outcome(database, receipt_id) == "unmatched"
    reader.submit("Dismiss", reason="a test")
    assert "⊖ dismissed" in reader.text
    assert {"Retry", "Dismiss"} & buttons(reader) == set()
    reader.submit("Restore")
    assert "○ pending" in reader.text
    assert audits(database, ids.public("rcp", receipt_id)) == [
        ("key opser", "dismissed", "a test"),
        ("key opser", "restored", None),
    ]


def test_of_two_tabs_the_second_is_told_what_it_is_by_now(
    reader: Reader, browser: FlaskClient, database: Database
) -> None:
    receipt_id = park(database)
    reader.open(page_of(receipt_id))
    other = Reader(browser).open(page_of(receipt_id))
    reader.submit("Dismiss", reason="a test")
    other.submit("Retry", 409)
    assert (
        "Nothing was done. It is dismissed; only what is unmatched, quarantined or dead can be retried." in other.text
    )
    assert "Restore" in buttons(other), "it shows what can be done now"
    assert audits(database, ids.public("rcp", receipt_id)) == [("key opser", "dismissed", "a test")]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ("unmatched", {"Match", "Retry", "Dismiss"}),
        ("quarantined", {"Match", "Retry", "Dismiss"}),
        ("dead", {"Match", "Retry", "Dismiss"}),
        ("dismissed", {"Match", "Restore"}),
        ("unmapped", {"Dismiss"}),
        ("applied", set()),
        ("pending", set()),
    ],
)
def test_it_has_the_buttons_that_its_outcome_allows(
    reader: Reader, database: Database, outcome: str, expected: set[str]
) -> None:
    if outcome in {"unmapped", "applied"}:
        [mine] = rows.accept(database)
        receipt_id = rows.keep(database, UNKNOWN if outcome == "unmapped" else work.said(), message_id=mine)
        work.work_off(database)
    elif outcome == "pending":
        receipt_id = rows.keep(database, work.said())
    else:
        [receipt_id] = parked.park(database, 1, ReceiptOutcome(outcome))
    reader.open(page_of(receipt_id))
    assert buttons(reader) & {"Match", "Retry", "Dismiss", "Restore"} == expected


def buttons(reader: Reader) -> set[str]:
    return {
        " ".join(re.sub("<[^>]+>", " ", each).split()) for each in re.findall(r"<button.*?</button>", reader.source)
    }


def test_a_reply_can_not_be_matched(reader: Reader, database: Database) -> None:
    receipt_id = rows.keep(database, b"\xff", channel=Channel.INBOUND)
    work.work_off(database)
    assert work.outcome(database, receipt_id) == "quarantined"
    assert "Match" not in buttons(reader.open(page_of(receipt_id)))


def test_an_unknown_code_leads_to_what_it_may_mean(reader: Reader, database: Database) -> None:
    [mine] = rows.accept(database)
    unknown = rows.keep(database, UNKNOWN, message_id=mine)
    known = rows.keep(database, work.said(), message_id=mine)
    work.work_off(database)
    assert reader.open(page_of(unknown)).follow("Say what its code means").path.startswith("/ops/codes/rcp_")
    assert "STATUS_MAP" in reader.text
    assert "Say what its code means" not in reader.open(page_of(known)).text
