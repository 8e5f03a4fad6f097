"""What receipts name is written down for the rare outcomes alone, and for as long as it is needed."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete, event, select

from receiptsvc.domain.errors import Unreadable
from receiptsvc.domain.inbox import Channel
from receiptsvc.domain.messages import Callback, Receipt
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import ReceiptReferences
from receiptsvc.store.inbox import receipts
from receiptsvc.worker.receipt_processor import process
from receiptsvc.worker.reprocess import reprocess
from tests.support.rows import accept, arrival, insert_arrivals, keep, message, seconds
from tests.support.work import ALICE, BOB, RULES, answer, assert_sound, offer, outcome, said, work, work_off
from tests.worker.test_reprocess import NEW, UNKNOWN

BY = Actor(actor="test", reason="why not")


def named(database: Database) -> dict[UUID, str | None]:
    """The recipients that receipts name."""
    with database.reading() as session:
        rows = session.execute(select(ReceiptReferences.receipt_id, ReceiptReferences.recipient))
        return {row.receipt_id: row.recipient for row in rows}


def forget_all(database: Database) -> None:
    """As an earlier release left them."""
    with database.transaction() as session:
        session.execute(delete(ReceiptReferences))


def test_each_rare_outcome_leaves_what_it_names_and_no_other_does(database: Database) -> None:
    mine, other = accept(database, message(ALICE), message(BOB))
    expected = {
        keep(database, said(tx="4711", to=BOB)): ("unmatched", BOB),
        keep(database, said(to=BOB), message_id=mine): ("quarantined", BOB),
        keep(database, UNKNOWN, message_id=mine): ("unmapped", ALICE),
    }
    usual = [
        keep(database, said(description, at=at), message_id=mine) for at, description in ((1, "Sent"), (2, "Delivered"))
    ]
    repeated = keep(database, said("Delivered", at=2), message_id=mine)
    unreadable = keep(database, "nonsense=1", message_id=other)
    forged = arrival(f"sender={ALICE}&content=stop&clientref=r", channel=Channel.INBOUND)
    with database.transaction() as session:
        insert_arrivals(session, [forged._replace(claimed_kid="k9")])
    expected[forged.id] = ("quarantined", ALICE)
    work_off(database)
    assert named(database) == {receipt: number for receipt, (_, number) in expected.items()}
    assert [outcome(database, receipt) for receipt in expected] == [each for each, _ in expected.values()]
    assert [outcome(database, receipt) for receipt in (*usual, repeated, unreadable)] == [
        "applied", "applied", "duplicate", "quarantined",
    ]  # fmt: skip
    with database.reading() as session:
        row = session.get_one(ReceiptReferences, forged.id)
        assert (row.client_ref, row.kid) == ("r", "k9")


def test_receipts_that_are_simply_recorded_cost_no_statement(database: Database) -> None:
    mine = accept(database, *(message(f"44770090000{number}") for number in range(5)))
    for number, message_id in enumerate(mine):
        keep(database, said("Delivered", to=f"44770090000{number}"), message_id=message_id)
    statements: list[str] = []
    with database.connection() as connection:
        engine = connection.engine

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        assert work(database) == 5
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert statements
    assert not [statement for statement in statements if "receipt_references" in statement]


def test_it_is_forgotten_once_the_receipt_found_its_message_and_stays_if_a_person_decided(database: Database) -> None:
    [mine] = accept(database)
    offer(database)
    found, matched, dismissed = (keep(database, said(tx=tx)) for tx in ("3", "1", "2"))
    work(database)
    assert set(named(database)) == {found, matched, dismissed}
    answer(database, mine, tx="3")
    with database.transaction() as session:
        receipts.match(session, matched, mine, BY, seconds(200))
        receipts.dismiss(session, dismissed, BY, seconds(200))
    assert set(named(database)) == {found, matched, dismissed}, "two are only pending"
    work(database, 300)
    assert (outcome(database, found), outcome(database, matched)) == ("applied", "duplicate")
    assert set(named(database)) == {matched, dismissed}
    assert_sound(database, applied=1, duplicate=1, dismissed=1)


def test_retry_and_rebuild_write_down_what_an_earlier_release_did_not(database: Database) -> None:
    [mine] = accept(database)
    unmatched, unmapped = keep(database, said(tx="1", to=BOB)), keep(database, UNKNOWN, message_id=mine)
    work(database)
    forget_all(database)
    with database.transaction() as session:
        receipts.retry(session, unmatched, BY, seconds(200))
    work(database, 300)
    assert named(database) == {unmatched: BOB}
    assert list(reprocess(database, RULES, seconds(400))) == []
    assert named(database) == {unmatched: BOB}, "it only looked"
    assert list(reprocess(database, RULES, seconds(400), is_applied=True)) == []
    assert named(database) == {unmatched: BOB, unmapped: ALICE}


def test_a_newer_status_map_forgets_what_it_can_read_and_an_older_one_writes_it_down(database: Database) -> None:
    [mine] = accept(database)
    unmapped = keep(database, UNKNOWN, message_id=mine)
    work(database)
    for rules, expected in ((NEW, {}), (RULES, {unmapped: ALICE})):
        assert len(list(reprocess(database, rules, seconds(200), is_applied=True))) == 1
        assert named(database) == expected


class Breaking:
    """A reader of which each receipt breaks the work, once it is read."""

    version = "1"

    def read_receipts(self, callback: Callback, received_at: Any) -> Sequence[Receipt | Unreadable]:
        return RULES.reader.read_receipts(callback, received_at)

    def read_reply(self, callback: Callback, received_at: Any) -> Any:
        return RULES.reader.read_reply(callback, received_at)

    def status_for(self, *_: object) -> Any:
        raise ZeroDivisionError


@pytest.mark.on_postgresql
def test_a_dead_receipt_is_found_by_its_number(database: Database) -> None:
    [mine] = accept(database)
    dead = keep(database, said(), message_id=mine)
    broken = type(RULES)(reader=Breaking())
    at = 10.0
    while outcome(database, dead) == "pending":
        process(database, broken, seconds(at), 10)
        at += 1000
    assert outcome(database, dead) == "dead"
    assert named(database) == {dead: ALICE}
