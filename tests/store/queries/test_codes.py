"""Which codes came with which words: in the newest receipts, and in those that nobody could read."""

from urllib.parse import urlencode
from uuid import UUID

import pytest

from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.store.core.db import Database
from receiptsvc.store.queries import codes
from receiptsvc.store.queries.codes import Look, Words
from receiptsvc.worker.receipt_processor import process
from tests.support import rows
from tests.support.rows import seconds
from tests.support.work import RULES


def receive(database: Database, *said: tuple[str | None, str | None]) -> list[UUID]:
    """Have a receipt come every second, each for a message of its own, and work on them."""
    kept = []
    for second, (code, words) in enumerate(said):
        (message_id,) = rows.accept(database)
        fields = {"recipient": "447700900001", "statusid": code, "statusdescription": words}
        query = urlencode({name: value for name, value in fields.items() if value is not None})
        kept.append(rows.keep(database, query, message_id=message_id, now=seconds(second)))
    while process(database, RULES, seconds(90), 100):
        pass
    return kept


def look(database: Database) -> tuple[Look, Look]:
    with database.reading() as session:
        return codes.find_newest(session), codes.find_unmapped(session)


def words_of(look: Look) -> dict[tuple[str | None, str | None], int]:
    return {(each.status_id, each.description): each.receipts for each in look.items}


def test_every_code_is_told_with_its_words_and_when_it_came(database: Database) -> None:
    kept = receive(database, ("1", "Delivered"), ("77", "Foo"), ("1", "Delivered"), ("1", "Foo"), (None, "Delivered"))
    newest, unmapped = look(database)
    assert words_of(newest) == {("1", "Delivered"): 2, ("77", "Foo"): 1, ("1", "Foo"): 1, (None, "Delivered"): 1}
    assert words_of(unmapped) == {("77", "Foo"): 1, ("1", "Foo"): 1}
    assert (newest.receipts, newest.looked_to, unmapped.receipts, unmapped.looked_to) == (5, None, 2, None)
    first = newest.items[0]
    assert (first.first_at, first.last_at, first.newest) == (seconds(0), seconds(2), kept[2])


def test_without_any_nothing_is_told(database: Database) -> None:
    rows.accept(database)
    assert look(database) == (Look(items=[], receipts=0, looked_to=None),) * 2


def test_it_says_how_far_it_has_looked(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    receive(database, *[("77", "Foo"), ("1", "Delivered")] * 3)
    monkeypatch.setattr(codes, "LOOKED_THROUGH", 2)
    newest, unmapped = look(database)
    assert (newest.receipts, newest.looked_to) == (2, seconds(3))
    assert (unmapped.receipts, unmapped.looked_to) == (2, seconds(0))


def test_what_was_set_aside_waits_for_nobody(database: Database) -> None:
    aside, _ = receive(database, ("77", "Foo"), ("78", "Bar"))
    with database.transaction() as session:
        rows.set_outcome(session, aside, ReceiptOutcome.DISMISSED)
    assert words_of(look(database)[1]) == {("78", "Bar"): 1}


def test_the_words_of_a_receipt_are_found_whether_it_was_recorded_or_waits(database: Database) -> None:
    recorded, wordless = receive(database, ("77", "Foo"), (None, None))
    waiting = rows.keep(database, "transactionid=5&statusid=78&statusdescription=Bar")
    while process(database, RULES, seconds(99), 100):
        pass
    with database.reading() as session:
        assert codes.find_words(session, recorded) == Words("77", "Foo")
        assert codes.find_words(session, waiting) == Words("78", "Bar")
        assert codes.find_words(session, wordless) is None
        assert codes.find_words(session, UUID(int=1)) is None
