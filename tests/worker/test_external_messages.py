"""A message that another system sent becomes one message of origin `external`, which is never sent."""

from concurrent.futures import Future, ThreadPoolExecutor
from itertools import permutations, product
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from receiptsvc.domain.correlation import BY_ADOPTED_CLIENT_REF as BY_CLIENT_REF
from receiptsvc.domain.correlation import BY_ADOPTED_TRANSACTION as BY_TRANSACTION
from receiptsvc.domain.correlation import BY_CLIENT_REF as LATER_BY_CLIENT_REF
from receiptsvc.domain.correlation import BY_LONE_TRANSACTION
from receiptsvc.domain.correlation import BY_TRANSACTION as LATER_BY_TRANSACTION
from receiptsvc.domain.inbox import Channel
from receiptsvc.domain.messages import Origin
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Message
from receiptsvc.store.outbound import call_results
from receiptsvc.worker import external_messages
from tests.support.rows import accept, keep, message, read_message, read_transitions, seconds
from tests.support.work import (
    ALICE,
    BOB,
    CAROL,
    REPEATS,
    answer,
    assert_sound,
    moves,
    offer,
    outcome,
    outcomes,
    parked,
    rules,
    said,
    sweep,
    wait_until_blocked,
    work,
    work_off,
)

AFTER = 600.0  # the patience of these tests, in seconds


def external(database: Database) -> list[Message]:
    """The messages of other systems, in the order in which they were made."""
    with database.reading() as session:
        return list(session.scalars(select(Message).where(Message.origin == Origin.EXTERNAL).order_by(Message.id)))


def work_then(database: Database, at: float) -> None:
    """What the worker does at a time: a sweep, and all there is to do."""
    sweep(database, at)
    work_off(database, at, adopt_after=AFTER)


def test_an_unmatched_receipt_is_adopted_when_it_is_old_enough(database: Database) -> None:
    kept = [
        keep(database, said("Message+sent", tx="815", ref="x", to="+44 7700 900001", at=5)),
        keep(database, said(ref="y", to="00447700900002", at=6)),
    ]
    work(database, AFTER - 1, adopt_after=AFTER)
    assert outcomes(database, kept) == ["unmatched"] * 2
    work_then(database, 10_000)
    first, second = external(database)
    assert (first.recipient, first.client_ref, first.transaction_id) == (ALICE, "x", "815")
    assert (first.status, first.status_at, second.status, second.status_at) == (
        "sent",
        seconds(5),
        "delivered",
        seconds(6),
    )
    assert (second.recipient, second.client_ref, second.transaction_id) == (BOB, "y", None)
    assert (rules(database, first.id), rules(database, second.id)) == ([BY_TRANSACTION], [BY_CLIENT_REF])
    assert [(row.rule, row.status) for row in read_transitions(database, first.id)[:1]] == [("adopted", "submitted")]
    assert [moves(database, one) for one in kept] == [[("worker", "unmatched", "applied")]] * 2
    assert_sound(database, applied=2)


def test_an_old_receipt_is_adopted_at_once(database: Database) -> None:
    receipt_id = keep(database, said(tx="815"))
    work(database, AFTER, adopt_after=AFTER)
    assert (outcome(database, receipt_id), moves(database, receipt_id)) == ("applied", [])
    assert len(external(database)) == 1


def test_nothing_is_adopted_when_the_setting_is_off(database: Database) -> None:
    receipt_id = keep(database, said(tx="815"))
    work(database, 10_000_000)
    assert (outcome(database, receipt_id), external(database)) == ("unmatched", [])


def test_receipts_that_cannot_be_another_systems_are_never_adopted(database: Database) -> None:
    (calling,) = accept(database, message(ALICE, client_ref="calling"))
    for _ in range(2):
        (message_id,) = accept(database, message(CAROL, client_ref="two"))
        offer(database)
        answer(database, message_id, tx=message_id.hex)
    queries = [said(), said(to=None, tx="1"), said(to=None, ref="x"), said(to="nobody", tx="1")]
    kept = [keep(database, query) for query in queries]
    kept.append(
        keep(database, said(tx="2"), message_id=UUID(int=1), channel=Channel.MESSAGE)
    )  # of a message that is gone
    kept.append(keep(database, said(tx="3", ref="calling")))  # for whose answer it waits
    kept.append(keep(database, said(ref="two", to=CAROL)))  # it is about one of two
    for at in (AFTER, 100 * AFTER):
        work_then(database, at)
    assert outcomes(database, kept) == ["unmatched"] * 7
    assert external(database) == []
    assert read_message(database, calling).status == "accepted"


# How several receipts of one message may come: in one batch, or each after another was adopted.
OF_ONE_MESSAGE = [
    [said("Message+sent", tx="815", at=1), said(tx="00815", at=2), said("Expired", tx="815", ref="x", at=3)],
    [said("Message+sent", ref="x", at=1), said(ref="x", at=2), said("Expired", ref="x", at=3)],
    [said("Message+sent", tx="815", ref="x", at=1), said(ref="x", at=2), said("Expired", tx="815", ref="x", at=3)],
]


@pytest.mark.parametrize("queries", OF_ONE_MESSAGE, ids=["transactionID", "clientRef", "both"])
def test_several_receipts_of_one_message_give_one_message(database: Database, queries: list[str]) -> None:
    for number, (is_one_batch, order) in enumerate(product((True, False), permutations(queries)), start=1):
        for query in order:
            keep(database, query.replace("815", f"{number}815").replace("=x", f"=x{number}"))
            if not is_one_batch:
                work_then(database, AFTER)
        work_then(database, AFTER)
    made = external(database)
    assert [(one.status, one.status_at, one.conflict) for one in made] == [("delivered", seconds(2), True)] * 12
    assert all(len(rules(database, one.id)) == 3 for one in made)


@pytest.mark.parametrize("is_one_batch", [True, False], ids=["one batch", "many"])
def test_several_messages_of_one_client_ref_are_kept_apart(database: Database, is_one_batch: bool) -> None:
    kept = []
    for query in (said(tx="1", ref="x"), said(tx="2", ref="x"), said(tx="3", ref="x", to=BOB)):
        kept.append(keep(database, query))
        if not is_one_batch:
            work_then(database, AFTER)
    work_then(database, AFTER)
    vague = keep(database, said(ref="x"))
    work_then(database, AFTER)
    assert {(one.transaction_id, one.recipient) for one in external(database)} == {
        ("1", ALICE),
        ("2", ALICE),
        ("3", BOB),
    }
    assert outcomes(database, [*kept, vague]) == ["applied"] * 3 + ["unmatched"]
    assert len(parked(database)[vague].candidates) == 2


def test_later_receipts_find_an_adopted_message(database: Database) -> None:
    keep(database, said("Message+sent", tx="815", ref="x", at=1))
    work(database, AFTER, adopt_after=AFTER)
    for query in (said(tx="815", at=2), said(tx="815", to=None, at=3), said(ref="x", at=4)):
        keep(database, query, now=seconds(AFTER))
        work(database, AFTER, adopt_after=AFTER)
    (made,) = external(database)
    later = [LATER_BY_TRANSACTION, BY_LONE_TRANSACTION, LATER_BY_CLIENT_REF]
    assert rules(database, made.id) == [BY_TRANSACTION, *later]
    assert (made.status, made.status_at) == ("delivered", seconds(4))


def test_a_receipt_whose_own_message_appears_in_time_is_not_adopted(database: Database) -> None:
    (mine,) = accept(database, message(ALICE))
    offer(database)
    keep(database, said(tx="815"))
    work(database, adopt_after=AFTER)
    answer(database, mine, tx="815")
    work_then(database, AFTER)
    assert (rules(database, mine), external(database)) == ([LATER_BY_TRANSACTION], [])


def test_an_adopted_message_is_never_due_and_never_sent(database: Database) -> None:
    for query in (said("Message+sent", tx="1"), said("Who+knows", tx="2", to=BOB), said("Expired", ref="x", to=CAROL)):
        keep(database, query)
    work(database, AFTER, adopt_after=AFTER)
    assert [(one.status, one.due_at, one.tries) for one in external(database)] == [
        ("sent", None, 0),
        ("submitted", None, 0),
        ("expired", None, 0),
    ]
    for at in (AFTER, 1_000_000_000):
        assert offer(database, at) == []
        with database.transaction() as session:
            assert call_results.retire_late(session, seconds(at), REPEATS) == 0
            assert call_results.settle_lost(session, seconds(at), REPEATS, all_calls=True) == 0
    assert_sound(database, applied=2, unmapped=1)


@pytest.mark.parametrize("words", [("tx", "tx"), ("ref", "ref"), ("both", "ref"), ("ref", "both")], ids="-".join)
def test_two_workers_that_adopt_at_once_make_one_message(
    postgresql_database: Database, monkeypatch: pytest.MonkeyPatch, words: tuple[str, str]
) -> None:
    database = postgresql_database
    spoken: dict[str, dict[str, Any]] = {"tx": {"tx": "815"}, "ref": {"ref": "x"}, "both": {"tx": "815", "ref": "x"}}
    kept = [keep(database, said(**spoken[words[0]]))]
    adopt = external_messages.adopt
    others: list[Future[int]] = []

    def wait_and_adopt(session: object, strays: object, now: object) -> object:
        if not others and strays:
            kept.append(keep(database, said("Message+sent", **spoken[words[1]])))
            others.append(threads.submit(work, database, AFTER, adopt_after=AFTER))
            wait_until_blocked(database, "advisory")
        return adopt(session, strays, now)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(external_messages, "adopt", wait_and_adopt)
    with ThreadPoolExecutor(1) as threads:
        work(database, AFTER, adopt_after=AFTER)
        others[0].result()
    work_off(database, AFTER, adopt_after=AFTER)
    (made,) = external(database)
    assert (made.status, len(rules(database, made.id)), made.client_ref) == (
        "delivered",
        2,
        spoken[words[0]].get("ref"),
    )
    assert outcomes(database, kept) == ["applied", "stale"]
    assert_sound(database, applied=1, stale=1)
