"""Many receipts at once: the preview's count is what then happens, also while others arrive and a worker works."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select

from receiptsvc import bulk_actions, ids
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.store.core import bulk
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Audit, InboxRow, OutcomeRow, PendingRow
from receiptsvc.store.inbox import receipts
from receiptsvc.web.http import deadlines
from receiptsvc.web.ops import chosen
from tests.support import rows
from tests.support.parked import park
from tests.support.processes import until
from tests.support.reader import Reader
from tests.support.rows import seconds
from tests.support.work import assert_sound, outcomes, said, sweep, work, work_off
from tests.worker.test_reprocess import UNKNOWN

GROUP = 10_000
NUMBER = "447700900123"


@pytest.fixture
def reader(browser: FlaskClient) -> Reader:
    return Reader(browser)


def rcp(receipt_id: UUID) -> str:
    return ids.public("rcp", receipt_id)


def preview(reader: Reader, do: str = "dismiss", *, expected: int = 200, **values: object) -> Reader:
    given = {"which": "all", "reason": "a test"} | values
    return reader.open("/ops/receipts").submit("Preview", expected, do=do, **given)


def count_of(reader: Reader) -> int:
    found = re.search(r"Preview: ([\d,]+) receipts?\.", reader.text)
    assert found, reader.text
    return int(found[1].replace(",", ""))


def audits_of(database: Database, subject: str) -> list[tuple[str, str, str | None]]:
    with database.reading() as session:
        found = session.scalars(select(Audit).where(Audit.subject == subject).order_by(Audit.id))
        return [(each.actor, each.action, each.reason) for each in found]


def test_a_preview_changes_nothing_and_says_what_will_happen(reader: Reader, database: Database) -> None:
    made = park(database, 3)
    preview(reader)
    assert count_of(reader) == 3
    assert re.fullmatch("/ops/receipts/chosen/srch_[0-9a-z]{26}", reader.path)
    assert "It can be undone here" in reader.text
    assert len(reader.rows()) == 3
    assert outcomes(database, made) == ["unmatched"] * 3
    preview(reader, "retry", reason="")
    assert "It can’t be undone." in reader.text


def test_all_that_a_filter_finds_is_dismissed_and_undone(reader: Reader, database: Database) -> None:
    made, dead = park(database, 4), park(database, 2, ReceiptOutcome.DEAD)
    reader.open("/ops/receipts").submit("Fit no message")
    reader.submit("Preview", which="all", do="dismiss", reason="a test")
    assert count_of(reader) == 4
    reader.submit("Dismiss 4 receipts")
    assert "4 of 4 receipts dismissed. By key opser" in reader.text
    assert outcomes(database, [*made, *dead]) == ["dismissed"] * 4 + ["dead"] * 2
    assert audits_of(database, rcp(made[0])) == [("key opser", "dismissed", "a test")]
    assert audits_of(database, reader.path.rpartition("/")[2]) == [("key opser", "dismissed", "a test")]
    reader.submit("Undo")
    assert "4 of 4 receipts restored. By key opser" in reader.text
    assert "Undo" not in reader.text
    assert outcomes(database, made) == ["pending"] * 4
    work_off(database, 10**9)
    assert_sound(database, unmatched=4, dead=2)


def test_those_that_are_ticked_are_worked_on_again(reader: Reader, database: Database) -> None:
    made = park(database, 4)
    preview(reader, "retry", which="ticked", receipt=[rcp(each) for each in made[:2]])
    assert count_of(reader) == 2
    reader.submit("Work again on 2 receipts")
    assert "2 of 2 receipts given to the worker again." in reader.text
    assert "Undo" not in reader.text
    assert outcomes(database, made) == ["pending"] * 2 + ["unmatched"] * 2


def test_one_that_was_ticked_and_has_moved_on_is_said_in_the_preview(reader: Reader, database: Database) -> None:
    gone, stays = park(database, 2)
    reader.open("/ops/receipts")
    with database.transaction() as session:
        receipts.dismiss(session, gone, Actor(actor="ben", reason="mine"), seconds(9))
    reader.submit("Preview", which="ticked", do="retry", receipt=[rcp(gone), rcp(stays)])
    assert count_of(reader) == 1
    assert "1 receipt more that was ticked can’t be worked on again any more" in reader.text


def test_what_moved_on_between_preview_and_confirmation_is_counted_and_named(
    reader: Reader, database: Database
) -> None:
    gone, *_ = park(database, 3)
    preview(reader)
    with database.transaction() as session:
        receipts.dismiss(session, gone, Actor(actor="ben", reason="mine"), seconds(9))
    later = park(database, 2)
    reader.submit("Dismiss 3 receipts")
    assert "2 of 3 receipts dismissed." in reader.text
    assert "1 of them had moved on meanwhile and was left alone: 1 dismissed." in reader.text
    assert rcp(gone) in reader.links()
    assert audits_of(database, rcp(gone)) == [("ben", "dismissed", "mine")]
    assert outcomes(database, later) == ["unmatched"] * 2
    reader.submit("Undo")
    assert "2 of 2 receipts restored." in reader.text
    assert outcomes(database, [gone]) == ["dismissed"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"do": ""}, "Choose what is to be done."),
        ({"reason": " "}, "Say why: it is kept with your name."),
        ({"reason": "x" * 1001}, "Length must be between 1 and 1000."),
        ({"which": "ticked"}, "Tick at least one row, or choose all that this filter finds."),
        ({"which": "ticked", "receipt": "rcp_00000000000000000000000000"}, "None of those that were ticked can be"),
    ],
)
def test_a_choice_that_can_not_be_understood_is_said_beside_its_field(
    reader: Reader, database: Database, values: dict[str, str], words: str
) -> None:
    park(database, 1)
    preview(reader, **({"do": "dismiss", "expected": 422} | values))  # type: ignore[arg-type]
    assert words in reader.text
    assert "Nothing was chosen: mend what is marked." in reader.text
    assert reader.rows(), "the list is still there"


def test_what_can_not_be_done_with_what_a_filter_finds_is_not_offered(reader: Reader, database: Database) -> None:
    made = park(database, 2)
    with database.transaction() as session:
        receipts.dismiss(session, made[0], Actor(actor="ben", reason="mine"), seconds(9))
    assert "Preview" in reader.open("/ops/receipts").text
    assert "Many at once" not in reader.submit("Set aside").text
    reader.post(reader.path, 422, action="preview", which="all", do="retry")
    assert "What this filter finds can't be retried." in reader.text
    assert outcomes(database, made) == ["dismissed", "unmatched"]


def test_a_long_one_goes_on_step_by_step_and_says_how_far_it_is(
    reader: Reader, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_actions, "_RECEIPTS", 2)
    monkeypatch.setattr(chosen, "_SHARE", 0)
    made = park(database, 5)
    preview(reader)
    reader.submit("Dismiss 5 receipts")
    assert "2 of 5 receipts dismissed so far." in reader.text
    assert 'data-go-on="0.2"' in reader.source
    reader.submit("Go on")
    assert "4 of 5 receipts dismissed so far." in reader.text
    reader.submit("Go on")
    assert "5 of 5 receipts dismissed. By key opser" in reader.text
    assert "Go on" not in reader.text
    assert outcomes(database, made) == ["dismissed"] * 5


def test_an_undo_ends_what_it_undoes(reader: Reader, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_actions, "_RECEIPTS", 2)
    made = park(database, 5)
    preview(reader)
    monkeypatch.setattr(chosen, "_SHARE", 0)
    reader.submit("Dismiss 5 receipts").submit("Undo")
    while "Go on" in reader.text:
        reader.submit("Go on")
    assert "2 of 2 receipts restored." in reader.text
    reader.post(reader.path, 409, action="go")
    assert "It is being undone, or was" in reader.text
    assert outcomes(database, made) == ["pending"] * 2 + ["unmatched"] * 3


def test_a_confirmation_in_two_tabs_is_one(reader: Reader, browser: FlaskClient, database: Database) -> None:
    made = park(database, 3)
    preview(reader, "retry")
    other = Reader(browser).open(reader.path)
    reader.submit("Work again on 3 receipts")
    work_off(database, 10**9)
    other.submit("Work again on 3 receipts")
    assert "3 of 3 receipts given to the worker again." in other.text
    assert outcomes(database, made) == ["unmatched"] * 3, "they were not given to it twice"


def test_what_was_never_dismissed_can_not_be_undone(reader: Reader, database: Database) -> None:
    park(database, 1)
    for do in ("dismiss", "retry"):
        preview(reader, do)
        reader.post(reader.path, 409, action="undo")
        assert "There is nothing that could be undone." in reader.text


def test_a_choice_that_is_gone_says_so(reader: Reader) -> None:
    reader.open(f"/ops/receipts/chosen/{ids.public('srch', UUID(int=1))}", 404)
    assert "This choice is no longer kept" in reader.text


@contextmanager
def arriving(database: Database) -> Iterator[None]:
    """While others arrive, and a worker has its look at those that wait, the group's among them."""
    stop, faults = Event(), []

    def run() -> None:
        number = 0
        while not stop.is_set():
            try:
                number += 1
                rows.keep(database, said(tx=f"88{number}"), now=seconds(300 + number))
                database.let_others_write()
                sweep(database, 400, limit=99)
                database.let_others_write()
                work(database, 10_000)
                database.let_others_write()
            except Exception as fault:  # noqa: BLE001 - the test says it
                faults.append(fault)
                return

    thread = Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        assert faults == []


def count_all(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(InboxRow)) or 0


def await_worker(database: Database, made: Sequence[UUID]) -> None:
    """Wait until the worker has looked at what it had taken of a group."""

    def is_done() -> bool:
        with database.reading() as session:
            return session.scalar(select(func.count()).where(bulk.among(session, PendingRow.receipt_id, made))) == 0

    until("the worker has looked at them", is_done)


@pytest.mark.slow
def test_the_count_of_a_preview_is_what_happens_to_ten_thousand_while_others_arrive(
    reader: Reader, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chosen, "_SHARE", 0.4 / deadlines.SECONDS)  # as long as a page has
    made = park(database, GROUP, look_at=seconds(350))
    with arriving(database):
        until("others have arrived", lambda: count_all(database) > GROUP + 3)
        await_worker(database, made)
        preview(reader)
        counted = count_of(reader)
        reader.submit(f"Dismiss {counted:,} receipts")
        while "Go on" in reader.text:
            await_worker(database, made)
            reader.submit("Go on")
    assert f"{counted:,} of {counted:,} receipts dismissed." in reader.text
    with database.reading() as session:
        is_dismissed = OutcomeRow.outcome == ReceiptOutcome.DISMISSED
        assert session.scalar(select(func.count()).where(is_dismissed)) == counted
    assert_sound(database)


def test_of_an_unknown_code_only_the_dismissal_is_offered(reader: Reader, database: Database) -> None:
    [mine] = rows.accept(database)
    unknown = rows.keep(database, UNKNOWN, message_id=mine)
    work_off(database)
    reader.open("/ops/receipts").submit("Unknown code")
    assert 'value="retry"' not in reader.source
    reader.submit("Preview", which="all", reason="a test").submit("Dismiss 1 receipt")
    assert outcomes(database, [unknown]) == ["dismissed"]
    reader.submit("Undo")
    assert outcomes(database, [unknown]) == ["unmapped"]
    assert_sound(database, unmapped=1)


def test_the_audit_leads_to_what_was_chosen_and_its_numbers_are_hidden_until_asked_for(
    reader: Reader, database: Database
) -> None:
    rows.keep(database, said(tx="99", to=NUMBER))
    work_off(database)
    preview(reader).submit("Dismiss 1 receipt")
    page = reader.path
    assert NUMBER not in reader.source
    assert NUMBER in reader.submit("Show numbers and texts").text
    reader.open("/ops/audit").follow(page.rpartition("/")[2])
    assert reader.path == page
    assert not [address for address in reader.seen if NUMBER in address]
