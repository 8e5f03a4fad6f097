"""The page of problems: what needs attention, by cause; its rows are a step away, and what people say is on record."""

from datetime import timedelta

import pytest
from flask.testing import FlaskClient

from receiptsvc import ids
from receiptsvc.domain.problems import Kind, Seen, id_of
from receiptsvc.store.core.db import Database
from receiptsvc.store.health import heartbeats, problems
from receiptsvc.store.health.causes import Look
from receiptsvc.store.inbox import rejected, time_slices
from receiptsvc.store.inbox.rejected import RejectedCallback
from receiptsvc.web.ops import board
from tests.support import rows
from tests.support.looks import note
from tests.support.reader import Reader
from tests.support.rows import T0, accept, arrival, insert_arrivals, keep, seconds
from tests.support.work import said, work_off

NUMBER = "447700900123"
UNMATCHED = f"/ops/problems/{ids.public('prb', id_of(Kind.UNMATCHED, {'channel': 'account'}))}"
WORKER = f"/ops/problems/{ids.public('prb', id_of(Kind.WORKER_UNSEEN, {}))}"


@pytest.fixture
def reader(browser: FlaskClient) -> Reader:
    return Reader(browser)


def park(database: Database, at: float = 0) -> None:
    keep(database, said(ref="nobody", to=NUMBER), now=seconds(at))
    work_off(database, at)


def late(database: Database, originator: str) -> None:
    """A message that the gateway has had for long."""
    sent = rows.message(NUMBER, originator=originator)
    accept(database, sent)
    keep(database, "statusid=1&statusdescription=Sent", message_id=sent.id)
    work_off(database)


def beat(database: Database) -> None:
    with database.transaction() as session:
        heartbeats.beat(session, "worker:here:1", database.clock.now())


def refuse_callback(database: Database, kid: str, ago: float) -> None:
    at = database.clock.now() - timedelta(seconds=ago)
    refused = RejectedCallback(received_at=at, method="GET", address="/callbacks", kid=kid, query=b"")
    with database.transaction() as session:
        rejected.add(session, [refused])


def test_where_all_is_well_nothing_needs_attention(
    reader: Reader, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_slices, "is_ready", lambda *_: True)
    beat(database)
    assert "Nothing needs attention." in reader.open("/ops").follow("Problems").text
    assert "Nothing was resolved" in reader.follow("What was resolved").text


def test_what_harms_now_is_listed_first_with_its_way_on(reader: Reader, database: Database) -> None:
    park(database)
    note(database, seconds(60), with_worker=False)
    beat(database)
    titles = [row for row in reader.open("/ops/problems").rows() if "time slice" not in row]
    assert "harms now No worker is at work first" in titles[0]
    assert "waits 1 receipt on the static URL unmatched first" in titles[1]
    reader.follow("1 receipt on the static URL unmatched")
    for words in ("What to do", "Those of messages that another system sent", "Its newest rows", "unmatched"):
        assert words in reader.text, words
    assert NUMBER not in reader.source
    assert reader.title.startswith("Receipts fit no message")


def test_what_the_first_page_says_and_no_look_has_kept_yet_is_listed_with_what_to_do(
    reader: Reader, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "FRESH_SECONDS", 0.0)
    beat(database)
    refuse_callback(database, "old", ago=0)
    [row] = [row for row in reader.open("/ops/problems").rows() if "time slice" not in row]
    assert row.startswith("! harms now Callbacks are refused for a key that is not listed: old (1) in the last hour")
    assert "seen just now: its own page follows within half a minute" in row
    assert "What to do: List the key in CALLBACK_KEYS again" in row
    note(database, database.clock.now())
    [row] = [row for row in reader.open("/ops/problems").rows() if "time slice" not in row]
    assert row.startswith("! harms now 1 callback refused for key old"), "a look has kept it"
    reader.follow("1 callback refused for key old, which is not listed").submit("Mark as resolved")
    assert [row for row in reader.open("/ops/problems").rows() if "efused" in row] == [], "somebody has seen to it"


def test_what_has_stopped_says_so_and_since_when(reader: Reader, database: Database) -> None:
    beat(database)
    refuse_callback(database, "k1", ago=100)
    note(database, database.clock.now())
    title = "1 callback refused for key k1, which is listed now"
    [row] = [row for row in reader.open("/ops/problems").rows() if title in row]
    assert row.startswith("○ waits ")
    assert "UTC, none since" in row
    assert "UTC, none since" in reader.follow(title).text


def test_somebody_works_on_it_resolves_it_and_opens_it_again_on_record(reader: Reader, database: Database) -> None:
    note(database, T0, with_worker=False)
    reader.open(WORKER).submit("I am working on it", reason="I restart it")
    assert "Acknowledged" in reader.text
    assert "key opser: I restart it" in reader.text
    assert "key opser is working on it" in reader.open("/ops/problems").text
    reader.open(WORKER).submit("Mark as resolved")
    assert [row for row in reader.open("/ops/problems").rows() if "No worker" in row] == []
    reader.follow("What was resolved").follow("No worker is at work").submit("Open it again", reason="not yet")
    assert "key opser acknowledged: open to acknowledged I restart it" in reader.text
    assert "key opser reopened: resolved to open not yet" in reader.text
    reader.open("/ops/audit")
    assert reader.links()[WORKER.rpartition("/")[2]].endswith(WORKER.removeprefix("/ops"))


def test_the_second_tab_is_told_that_the_first_was_faster(
    reader: Reader, database: Database, browser: FlaskClient
) -> None:
    note(database, T0, with_worker=False)
    reader.open(WORKER)
    Reader(browser).open(WORKER).submit("Mark as resolved")
    reader.submit("Mark as resolved", 409, reason="mine")
    assert "Nothing was done. It is resolved already, by key opser." in reader.text
    assert 'value="mine"' in reader.source, "what was typed is not lost"
    assert "Open it again" in reader.text


def test_a_reason_that_cant_be_taken_is_said_beside_its_field(reader: Reader, database: Database) -> None:
    note(database, T0, with_worker=False)
    reader.open(WORKER).submit("I am working on it", 422, reason="x" * 1001)
    assert "Length must be between 1 and 1000." in reader.text


def test_a_sender_stands_in_no_address_or_title_and_its_messages_are_a_step_away(
    reader: Reader, database: Database
) -> None:
    late(database, NUMBER[2:])
    note(database, seconds(4000))
    [row] = [row for row in reader.open("/ops/problems").rows() if "overdue" in row]
    assert "1 message from [number] overdue" in row
    reader.follow("1 message from [number] overdue")
    reader.submit("Show numbers and texts")
    assert f"1 message from {NUMBER[2:]} overdue" in reader.text
    reader.submit("Open all messages without a final report, also of other causes")
    assert len(reader.rows()) == 1
    assert not [each for each in reader.seen if NUMBER[2:] in each]


@pytest.mark.parametrize(
    ("query", "button"),
    [
        ("statusid=17&statusdescription=Foo", "Open all in the parking lot"),
        ("statusdescription=Foo", "Open all unmapped receipts, also of other causes"),
    ],
)
def test_receipts_are_opened_by_what_they_have_in_common(
    reader: Reader, database: Database, query: str, button: str
) -> None:
    [message_id] = accept(database)
    keep(database, query, message_id=message_id)
    work_off(database)
    note(database, seconds(30))
    [row] = [row for row in reader.open("/ops/problems").rows() if "unknown" in row]
    title = next(words for words in reader.links() if "unknown" in words)
    reader.follow(title)
    assert ("the unknown code 17" in row) is ("17" in query)
    reader.submit(button)
    assert "/ops/search/srch_" in reader.path


@pytest.mark.parametrize(
    ("query", "has_way"), [("statusid=17&statusdescription=Foo", True), ("statusdescription=Foo", False)]
)
def test_an_unknown_code_leads_to_what_it_might_mean(
    reader: Reader, database: Database, query: str, *, has_way: bool
) -> None:
    [message_id] = accept(database)
    keep(database, query, message_id=message_id)
    work_off(database)
    note(database, seconds(30))
    reader.open("/ops/problems")
    reader.follow(next(words for words in reader.links() if "unknown" in words))
    assert ("What if it meant …" in reader.links()) is has_way
    if has_way:
        assert "Code17" in reader.follow("What if it meant …").text
        assert reader.path.startswith("/ops/codes/rcp_")


def test_where_the_list_has_others_too_the_button_says_so_and_none_is_shown_as_its_own(
    reader: Reader, database: Database
) -> None:
    with database.transaction() as session:
        insert_arrivals(session, [arrival(said(), now=T0)._replace(claimed_kid="old")])
    work_off(database)
    unreadable = Seen(kind=Kind.QUARANTINED, cause={"channel": "account"}, first_at=T0, last_at=T0, count=1)
    with database.transaction() as session:
        problems.note(session, Look(at=T0, seen=[unreadable]))
    reader.open(f"/ops/problems/{ids.public('prb', unreadable.id)}")
    assert reader.rows() == [], "the one that is there has a wrong key"
    assert "can't be told from those of other causes" in reader.text
    reader.submit("Open all quarantined receipts, also of other causes")
    assert len(reader.rows()) == 1


def test_all_on_one_address_are_opened_in_the_parking_lot(reader: Reader, database: Database) -> None:
    park(database)
    note(database, seconds(60))
    reader.open(UNMATCHED).submit("Open all in the parking lot")
    assert reader.path.startswith("/ops/search/srch_")
    assert len(reader.rows()) == 1


@pytest.mark.parametrize("path", ["prb_x", "prb_01k8z3r5t6e8vbyq0h4n2m7c9d", "msg_01k8z3r5t6e8vbyq0h4n2m7c9d"])
def test_what_is_no_problem_is_not_found(reader: Reader, path: str) -> None:
    assert "There is no problem with this id" in reader.open(f"/ops/problems/{path}", 404).text
    reader.post(f"/ops/problems/{path}", 404, action="resolve")
