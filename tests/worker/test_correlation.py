"""Which message a receipt is about, as it is loaded and kept; the rules themselves: tests/domain/test_correlation.py."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from receiptsvc import ids
from receiptsvc.domain.correlation import (
    BY_CLIENT_REF,
    BY_HAND,
    BY_TOKEN,
    BY_TRANSACTION,
    MAX_CANDIDATES,
)
from receiptsvc.domain.messages import SendOutcome
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import PendingRow
from receiptsvc.store.inbox import receipts
from tests.support.rows import accept, keep, message, read_inbox, read_message, seconds
from tests.support.work import (
    ALICE,
    BOB,
    answer,
    assert_sound,
    candidates,
    offer,
    outcome,
    outcomes,
    parked,
    public,
    rules,
    said,
    send,
    work,
    work_off,
)


def assigned(database: Database, receipt_id: UUID, message_id: UUID) -> None:
    """Say by hand which message a receipt is about, before it is first worked on."""
    with database.transaction() as session:
        session.execute(update(PendingRow).where(PendingRow.receipt_id == receipt_id).values(assigned_to=message_id))


# 0. An operator's word


def test_an_operators_assignment_wins_over_every_other_rule(database: Database) -> None:
    tokened = send(database, message(ALICE, client_ref="a"), tx="1")
    meant = send(database, message(BOB, client_ref="b"), tx="2")
    receipt_id = keep(database, said(tx="1", ref="a", to=ALICE), message_id=tokened)
    assigned(database, receipt_id, meant)
    work(database)
    assert (rules(database, tokened), rules(database, meant)) == ([], [BY_HAND])
    assert outcome(database, receipt_id) == "applied"


def test_a_quarantined_receipt_is_applied_when_it_is_matched_by_hand(database: Database) -> None:
    (tokened, meant) = send(database, message(ALICE), tx="1"), send(database, message(BOB))
    kept = [keep(database, said(to=BOB), message_id=tokened), keep(database, said("Message+sent", tx="9", to=BOB))]
    work(database)
    assert outcomes(database, kept) == ["quarantined", "unmatched"]
    with database.transaction() as session:
        for receipt_id in kept:
            receipts.match(session, receipt_id, meant, Actor(actor="ops"), seconds(200))
    work(database, 200)
    assert rules(database, meant) == [BY_HAND, BY_HAND]
    assert_sound(database, applied=1, stale=1)


# 1. Our token


def test_the_token_wins_and_an_unknown_transaction_is_added_to_its_message(database: Database) -> None:
    mine = send(database, message(ALICE, client_ref="a"), tx="1")
    other = send(database, message(ALICE, client_ref="b"), at=1)
    keep(database, said("Message+sent", tx="77", ref="b"), message_id=mine)
    work(database)
    keep(database, said(tx="0077"))
    work(database)
    assert (rules(database, mine), rules(database, other)) == ([BY_TOKEN, BY_TRANSACTION], [])
    assert read_message(database, mine).transaction_id == "1", "what a receipt brought is one more, no other one"


def test_a_token_with_the_transaction_of_another_message_is_quarantined(database: Database) -> None:
    for ref in ("a", "b"):
        send(database, message(ALICE, client_ref=ref), tx="1")
    mine = send(database, message(ALICE), tx="2")
    kept = [keep(database, said(tx="1", to=to), message_id=mine) for to in (ALICE, None)]
    work(database)
    assert outcomes(database, kept) == ["quarantined"] * 2
    assert rules(database, mine) == []
    assert_sound(database, quarantined=2)


def test_a_token_of_a_missing_message_excludes_a_match_by_client_ref(database: Database) -> None:
    here = send(database, message(ALICE, client_ref="x"))
    strange = keep(database, said(ref="x"), message_id=ids.new())
    plain = keep(database, said(ref="x"))  # in one batch with it, whatever it brings to light
    work(database)
    assert outcomes(database, [strange, plain]) == ["unmatched", "applied"]
    assert rules(database, here) == [BY_CLIENT_REF]


# 2. The transactionID, and the recipient


def test_a_transaction_of_several_recipients_is_matched_by_recipient(database: Database) -> None:
    ones = [send(database, message(to, client_ref="x"), tx="815") for to in (ALICE, BOB)]
    keep(database, said(tx="00815", to="07700 900002", ref="x"))
    keep(database, said(tx="815", to="+447700900001", ref="other"))
    vague, other = keep(database, said(tx="815", to=None)), keep(database, said(tx="815", to="447700900009", ref="x"))
    near = keep(database, said(tx="8150"))
    work(database)
    assert [rules(database, one) for one in ones] == [[BY_TRANSACTION]] * 2
    assert outcomes(database, [vague, other, near]) == ["unmatched"] * 3
    assert candidates(database, vague) == public(*ones)
    assert candidates(database, other) == candidates(database, near) == set()


# 3. The clientRef and the recipient


def test_client_ref_and_recipient_match_if_message_or_receipt_has_no_transaction(database: Database) -> None:
    taken = send(database, message(ALICE, client_ref="taken"), tx="1")
    lost = send(database, message(ALICE, client_ref="lost"), SendOutcome.UNCLEAR)
    calling = accept(database, message(ALICE, client_ref="calling"))[0]
    offer(database)
    keep(database, said(ref="taken", to="+44 7700 900001"))
    keep(database, said(tx="2", ref="lost"))
    keep(database, said(ref="calling"))
    work(database)
    assert [rules(database, one) for one in (taken, lost, calling)] == [[BY_CLIENT_REF]] * 3
    assert read_message(database, lost).transaction_id == "2"


NEAR_MISSES: list[tuple[str, dict[str, Any]]] = [
    ("another transaction", {"tx": "2"}),
    ("another case", {"ref": "Order-07"}),
    ("leading zeros", {"ref": "order-7"}),
    ("more of it", {"ref": "order-071"}),
    ("no clientRef", {"ref": None}),
    ("another recipient", {"to": BOB}),
    ("another one with the same last digits", {"to": "447711900001"}),
    ("no recipient", {"to": None}),
]


def test_what_just_misses_a_client_ref_and_recipient(database: Database) -> None:
    only = send(database, message(ALICE, client_ref="order-07"), tx="1")
    missing = [keep(database, said(**({"ref": "order-07"} | fields))) for _, fields in NEAR_MISSES]
    work(database)
    found = [what for (what, _), one in zip(NEAR_MISSES, missing, strict=True) if outcome(database, one) != "unmatched"]
    assert (found, rules(database, only)) == ([], [])
    assert all(not row.candidates for row in parked(database).values())


def test_a_message_that_never_reached_the_gateway_does_not_match(database: Database) -> None:
    accept(database, message(ALICE, client_ref="new"), now=seconds(50))
    in_vain = send(database, message(BOB, client_ref="in vain"), SendOutcome.NOT_SENT)
    refused = send(database, message(ALICE, client_ref="refused"), SendOutcome.ACCOUNT_REFUSED)
    kept = []
    for tx in (None, "1"):
        kept += [keep(database, said(tx=tx, ref=ref), now=seconds(60)) for ref in ("new", "refused")]
        kept.append(keep(database, said(tx=tx, ref="in vain", to=BOB), now=seconds(60)))
    work(database)
    assert outcomes(database, kept) == ["unmatched"] * 6
    for message_id in (refused, in_vain):
        row = read_message(database, message_id)
        assert row.status == "accepted"
        assert row.due_at is not None, "it still has to be sent"


def test_a_message_in_a_call_is_matched_by_client_ref_only_after_the_answer(database: Database) -> None:
    mine, other = accept(database, message(ALICE, client_ref="a"), message(BOB, client_ref="b"))
    offer(database)
    kept = [keep(database, said(tx="1", ref="a")), keep(database, said(tx="2", ref="b", to=BOB))]
    work(database)
    assert outcomes(database, kept) == ["unmatched"] * 2
    assert [candidates(database, one) for one in kept] == [public(mine), public(other)]
    answer(database, mine, tx="1")
    answer(database, other, tx="3")
    work_off(database)
    assert outcomes(database, kept) == ["applied", "unmatched"]
    assert (rules(database, mine), rules(database, other)) == ([BY_TRANSACTION], [])
    assert candidates(database, kept[1]) == set()
    assert_sound(database, applied=1, unmatched=1)


def test_more_candidates_than_are_read_leave_a_receipt_unmatched(database: Database) -> None:
    send(database, message(ALICE, client_ref="x"))
    accept(database, *(message(ALICE, client_ref="x") for _ in range(MAX_CANDIDATES - 2)), now=seconds(50))
    receipt_id = keep(database, said(ref="x"), now=seconds(60))
    work(database)
    assert outcome(database, receipt_id) == "applied"
    accept(database, message(ALICE, client_ref="x"), now=seconds(50))
    offered = accept(database, message(ALICE, client_ref="x"), now=seconds(1))[0]
    assert offer(database, 1) == [offered]
    receipt_id = keep(database, said("Message+sent", ref="x"), now=seconds(60))
    work(database)
    assert outcome(database, receipt_id) == "unmatched", "the first one, which is not looked at, fits too"
    assert candidates(database, receipt_id) == public(offered)


@pytest.mark.parametrize("batches", [1, 2])
def test_late_receipts_match_the_earlier_message_of_a_conversation(database: Database, batches: int) -> None:
    earlier = send(database, message(ALICE, "Hello?", client_ref="x"), tx="1", at=0)
    later = send(database, message(ALICE, "Bye", client_ref="x"), SendOutcome.UNCLEAR, at=1000)
    for word in ("Message+sent", "Delivered"):
        keep(database, said(word, tx="1", ref="x", at=1100), now=seconds(1100))
        if batches == 2:
            work(database, 2000)
    work(database, 2000)
    assert (rules(database, earlier), rules(database, later)) == ([BY_TRANSACTION] * 2, [])


@pytest.mark.parametrize("batches", [1, 2])
def test_late_receipts_of_another_systems_message_wait_for_our_answer(database: Database, batches: int) -> None:
    (mine,) = accept(database, message(ALICE, client_ref="x"))
    offer(database)
    late = []
    for word in ("Message+sent", "Delivered"):
        late.append(keep(database, said(word, tx="1", ref="x")))
        if batches == 2:
            work(database)
    work(database)
    answer(database, mine, tx="2")
    own = keep(database, said(tx="2", ref="x"))
    work_off(database)
    assert (outcomes(database, late), outcome(database, own)) == (["unmatched"] * 2, "applied")
    assert rules(database, mine) == [BY_TRANSACTION]


@pytest.mark.parametrize("batches", [1, 3])
def test_a_message_with_a_transaction_gets_no_other_by_client_ref(database: Database, batches: int) -> None:
    lost = send(database, message(ALICE, client_ref="x"), SendOutcome.UNCLEAR)
    kept = []
    for word, tx in (("Message+sent", "1"), ("Expired", "2"), ("Delivered", "1")):
        kept.append(keep(database, said(word, tx=tx, ref="x")))
        if batches == 3:
            work_off(database)
    work_off(database)
    assert outcomes(database, kept) == ["applied", "unmatched", "applied"]
    assert rules(database, lost) == [BY_CLIENT_REF, BY_TRANSACTION]


def test_a_transaction_learnt_from_one_receipt_matches_others_of_the_batch(database: Database) -> None:
    mine = send(database, message(ALICE), SendOutcome.UNCLEAR)
    kept = [keep(database, said("Message+sent", tx="1"), message_id=mine), keep(database, said(tx="1", at=9))]
    work(database)
    assert (outcomes(database, kept), rules(database, mine)) == (["applied"] * 2, [BY_TOKEN, BY_TRANSACTION])
    assert_sound(database, applied=2)


@pytest.mark.on_postgresql
def test_a_shorter_number_in_the_batch_makes_no_candidate_count_twice(database: Database) -> None:
    mine = send(database, message(ALICE, client_ref="x"), tx="1")
    kept = [keep(database, said(ref="x")), keep(database, said(ref="x", to=ALICE[-5:]))]
    work(database)
    assert (outcomes(database, kept), rules(database, mine)) == (["applied", "unmatched"], [BY_CLIENT_REF])


# 4. Nothing


def test_an_unmatched_receipt_says_why_and_changes_nothing(database: Database) -> None:
    only = send(database, message(ALICE, client_ref="a"), tx="1")
    reasons = {
        said(tx="2", ref="b"): "no message has its transactionID, and no message has its clientRef and recipient",
        said(tx="1", to=BOB): "its transactionID was given for other recipients",
    }
    kept = {keep(database, query): reason for query, reason in reasons.items()}
    work(database)
    for receipt_id, reason in kept.items():
        row = read_inbox(database, receipt_id)
        assert (row.outcome, row.reason) == ("unmatched", reason)
    assert rules(database, only) == []
    assert set(parked(database)) == set(kept)
    assert_sound(database, unmatched=len(kept))
