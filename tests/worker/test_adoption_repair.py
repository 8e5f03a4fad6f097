"""An adopted receipt goes to our message once it is shown to be about that one, and nothing is left of its own."""

from sqlalchemy import select

from receiptsvc.domain.correlation import BY_ADOPTED_TRANSACTION, BY_CLIENT_REF, BY_TRANSACTION
from receiptsvc.domain.messages import Origin
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Message
from receiptsvc.worker.reprocess import Move, reprocess
from tests.support.rows import accept, keep, message, read_message, read_transitions, seconds
from tests.support.work import (
    ALICE,
    BOB,
    RULES,
    answer,
    assert_sound,
    moves,
    offer,
    outcomes,
    rules,
    said,
    send,
    work_off,
)

AFTER = 600.0  # how long a receipt waits before it is adopted
LATER = seconds(20_000)


def adopted(database: Database) -> Message:
    """The only message of another system."""
    with database.reading() as session:
        return session.scalars(select(Message).where(Message.origin == Origin.EXTERNAL)).one()


def moved(database: Database, *, is_applied: bool = True) -> list[str]:
    """By which rules receipts are moved."""
    return [
        change.rule for change in reprocess(database, RULES, LATER, is_applied=is_applied) if isinstance(change, Move)
    ]


def test_a_transaction_that_becomes_known_to_be_ours_brings_its_receipts_back(database: Database) -> None:
    (mine,) = accept(database, message(ALICE))
    offer(database)
    kept = [keep(database, said("Message+sent", tx="815", at=5)), keep(database, said(tx="815", at=6))]
    work_off(database, AFTER, adopt_after=AFTER)
    theirs = adopted(database)
    assert theirs.status == "delivered"
    assert moved(database) == []
    answer(database, mine, tx="815", at=AFTER)

    assert moved(database, is_applied=False) == [BY_TRANSACTION] * 2
    assert (rules(database, mine), adopted(database).status) == ([], "delivered"), "it only looks"
    assert moved(database) == [BY_TRANSACTION] * 2
    assert rules(database, mine) == [BY_TRANSACTION] * 2
    row, left = read_message(database, mine), adopted(database)
    assert (row.status, row.status_at) == ("delivered", seconds(6))
    assert (left.status, left.transaction_id) == ("cancelled", None)
    steps = [(step.rule, step.superseded_at is not None) for step in read_transitions(database, theirs.id)]
    by_transaction = (BY_ADOPTED_TRANSACTION, True)
    assert steps == [("adopted", False), by_transaction, by_transaction, ("adoption taken back", False)]
    assert outcomes(database, kept) == ["applied"] * 2
    assert moves(database, kept[0])[-1] == ("rebuild", "applied", "applied")
    assert_sound(database, applied=2)
    assert moved(database) == []


def test_later_receipts_of_the_transaction_find_our_message(database: Database) -> None:
    (mine,) = accept(database, message(ALICE))
    offer(database)
    keep(database, said("Message+sent", tx="815", at=5))
    work_off(database, AFTER, adopt_after=AFTER)
    answer(database, mine, tx="815", at=AFTER)
    moved(database)
    keep(database, said(tx="815", at=7))
    work_off(database, 2 * AFTER)
    assert rules(database, mine) == [BY_TRANSACTION] * 2
    assert_sound(database, applied=2)


def test_what_only_fits_another_system_s_message_stays_there(database: Database) -> None:
    (mine,) = accept(database, message(ALICE))
    offer(database)
    keep(database, said("Message+sent", tx="815", ref="x", at=5))
    keep(database, said(ref="x", at=6), now=seconds(1))
    work_off(database, AFTER + 1, adopt_after=AFTER)
    answer(database, mine, tx="815", at=AFTER)
    assert moved(database) == [BY_TRANSACTION]
    left = adopted(database)
    assert (left.status, left.transaction_id) == ("delivered", None)
    assert read_transitions(database, left.id)[-1].rule == "receipts taken away"
    assert (read_message(database, mine).status, rules(database, mine)) == ("sent", [BY_TRANSACTION])
    assert_sound(database, applied=2)


def test_a_message_that_was_offered_before_the_receipt_is_found_by_its_reference(database: Database) -> None:
    kept = keep(database, said(ref="x", at=20))
    work_off(database, AFTER, adopt_after=AFTER)
    mine = send(database, message(ALICE, client_ref="x"), at=0)
    send(database, message(BOB, client_ref="x"), at=0)
    assert moved(database) == [BY_CLIENT_REF]
    assert (rules(database, mine), outcomes(database, [kept])) == ([BY_CLIENT_REF], ["applied"])
    assert_sound(database, applied=1)


def test_a_receipt_that_fits_several_of_ours_stays(database: Database) -> None:
    keep(database, said(ref="x", at=20))
    work_off(database, AFTER, adopt_after=AFTER)
    for at in (0, 5):
        send(database, message(ALICE, client_ref="x"), at=at)
    assert moved(database) == []
    assert_sound(database, applied=1)


def test_it_can_be_stopped_and_started_again_anywhere(database: Database) -> None:
    (mine,) = accept(database, message(ALICE))
    offer(database)
    for at in range(5):
        keep(database, said("Message+sent", tx="815", at=at))
    work_off(database, AFTER, adopt_after=AFTER)
    answer(database, mine, tx="815", at=AFTER)
    next(reprocess(database, RULES, LATER, is_applied=True, slice_size=2))  # and no further
    assert_sound(database)
    assert len(list(reprocess(database, RULES, LATER, is_applied=True, slice_size=2))) >= 1
    assert len(rules(database, mine)) == 5
    assert adopted(database).status == "cancelled"
    assert_sound(database)
