"""The parking lot: no receipt stays whose message is known, and none leaves without an audit."""

import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain.correlation import BY_CLIENT_REF, BY_TRANSACTION
from receiptsvc.domain.errors import StorageUnavailable, Unreadable
from receiptsvc.domain.inbox import Arrival, Channel
from receiptsvc.domain.messages import Callback, SendOutcome, SendResult
from receiptsvc.dynmark.inbound import parser
from receiptsvc.store.core.db import Database
from receiptsvc.store.inbox import parking
from receiptsvc.store.outbound import call_results
from receiptsvc.store.outbound.call_results import AttemptResult
from receiptsvc.worker import external_messages
from tests.support.rows import T0, accept, insert_arrivals, keep, message, read_message, seconds
from tests.support.work import (
    ALICE,
    BOB,
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

LEFT = [("worker", "unmatched", "applied")]


def test_a_sends_answer_releases_receipts_of_its_transaction(database: Database) -> None:
    (mine,) = accept(database)
    offer(database)
    receipt_id, other = keep(database, said(tx="0815")), keep(database, said(tx="4711"))
    assert_sound(database, pending=2)
    work(database)
    assert_sound(database, unmatched=2)
    answer(database, mine, tx="815")
    assert_sound(database, pending=1, unmatched=1)
    assert work(database) == 1
    assert_sound(database, applied=1, unmatched=1)
    assert (outcome(database, receipt_id), rules(database, mine)) == ("applied", [BY_TRANSACTION])
    assert (moves(database, receipt_id), moves(database, other)) == (LEFT, [])
    assert set(parked(database)) == {other}


@pytest.mark.parametrize("ended", [SendOutcome.TAKEN, SendOutcome.UNCLEAR])
def test_the_end_of_a_call_releases_receipts_of_its_client_ref(database: Database, ended: SendOutcome) -> None:
    mine, other = accept(database, message(ALICE, client_ref="x"), message(BOB, client_ref="y"))
    offer(database)
    receipt_id = keep(database, said(tx="815", ref="x"))
    keep(database, said(tx="816", ref="y", to=BOB))
    work(database)
    answer(database, mine, ended)
    assert_sound(database, pending=1, unmatched=1)
    work(database)
    assert_sound(database, applied=1, unmatched=1)
    assert (rules(database, mine), rules(database, other)) == ([BY_CLIENT_REF], [])
    assert moves(database, receipt_id) == LEFT


def test_a_call_whose_worker_died_releases_receipts_too(database: Database) -> None:
    (mine,) = accept(database, message(ALICE, client_ref="x"))
    offer(database)
    keep(database, said(tx="815", ref="x"))
    work(database)
    with database.transaction() as session:
        assert call_results.settle_lost(session, seconds(200), REPEATS) == 1
    work(database, 200)
    assert rules(database, mine) == [BY_CLIENT_REF]
    assert_sound(database, applied=1)


def test_the_sweep_looks_again_at_growing_gaps(database: Database) -> None:
    receipt_id = keep(database, said(tx="815"))
    at, gaps = 0.0, []
    work(database, at)
    for _ in range(8):
        look_at = parked(database)[receipt_id].look_at
        assert look_at is not None
        gaps.append((look_at - seconds(at)).total_seconds() / 60)
        at += gaps[-1] * 60
        assert sweep(database, at - 0.001) == 0, "not before its time"
        assert sweep(database, at) == 1
        assert sweep(database, at) == 0, "it is being looked at"
        assert_sound(database, pending=1)
        work(database, at)
        assert_sound(database, unmatched=1)
    assert gaps == [1, 5, 30, 120, 360, 1440, 1440, 1440]
    assert moves(database, receipt_id) == [], "it never left"


def test_the_sweep_finds_a_match_without_a_release(database: Database) -> None:
    (mine,) = accept(database, message(ALICE, client_ref="x"))
    offer(database)
    answer(database, mine, SendOutcome.UNCLEAR)
    receipt_id = keep(database, said("Message+sent", tx="815"))
    work(database)
    keep(database, said(tx="815"), message_id=mine)
    work(database)
    assert outcome(database, receipt_id) == "unmatched"
    sweep(database, 1000)
    work(database, 1000)
    assert (outcome(database, receipt_id), rules(database, mine)[1:]) == ("stale", [BY_TRANSACTION])
    assert moves(database, receipt_id) == [("worker", "unmatched", "stale")]
    assert_sound(database, applied=1, stale=1)


def test_a_sweep_is_bounded_and_starts_with_the_longest_waiting(database: Database) -> None:
    kept = []
    for number in range(5):
        kept += [keep(database, said(tx=f"{number}{more}1")) for more in range(10)]
        work(database, 10 * number)
    assert sweep(database, 10_000, limit=20) == 20
    assert outcomes(database, kept) == ["pending"] * 20 + ["unmatched"] * 30
    work(database, 10_000)
    assert sweep(database, 10_000, limit=20) == 20
    assert outcomes(database, kept) == ["unmatched"] * 20 + ["pending"] * 20 + ["unmatched"] * 10
    assert_sound(database, pending=20, unmatched=30)


def test_a_client_ref_of_many_receipts_does_not_delay_a_transaction(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking, "_MAX_RELEASED", 3)
    many = [keep(database, said(tx=f"9{number}", ref="x", to=BOB)) for number in range(5)]
    work(database, 0)
    (mine,) = accept(database, message(ALICE, client_ref="x"))
    offer(database)
    own = keep(database, said(tx="815", ref="x"))
    work(database, 1)
    answer(database, mine, tx="815")
    assert outcomes(database, [own, *many]) == ["pending"] * 4 + ["unmatched"] * 2
    work_off(database)
    assert outcomes(database, [own, *many]) == ["applied"] + ["unmatched"] * 5
    assert_sound(database, applied=1, unmatched=5)


def test_a_transaction_of_many_receipts_does_not_delay_the_answer_of_its_call(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking, "_MAX_RELEASED_OF_TRANSACTIONS", 3)
    many = [keep(database, said(tx="815", to=BOB)) for _ in range(5)]
    work(database, 0)
    (mine,) = accept(database, message(ALICE))
    offer(database)
    answer(database, mine, tx="815")
    assert outcomes(database, many) == ["pending"] * 3 + ["unmatched"] * 2
    work_off(database)
    assert_sound(database, unmatched=5)


def test_looks_in_between_do_not_delay_an_adoption(database: Database) -> None:
    receipt_id = keep(database, said(tx="815", ref="x"))
    work(database, 0, adopt_after=600)
    assert parked(database)[receipt_id].look_at == seconds(600)
    for number in range(4):  # each call that ends for this clientRef gives cause for a look
        (other,) = accept(database, message(BOB, client_ref="x"), now=seconds(number))
        offer(database, number)
        answer(database, other, tx=str(number + 1), at=number)
        assert work(database, number, adopt_after=600) == 1
    assert parked(database)[receipt_id].look_at == seconds(600)


@pytest.mark.parametrize("is_poison", [False, True])
def test_every_outcome_of_a_parked_receipt_is_audited(
    database: Database, monkeypatch: pytest.MonkeyPatch, is_poison: bool
) -> None:
    receipt_id = keep(database, said(tx="815"))
    work(database)
    sweep(database, 1000)

    def read(*_: object) -> list[object]:
        if is_poison:
            raise ZeroDivisionError
        return [Unreadable("of late it can't be read")]

    monkeypatch.setattr(parser, "read_receipts", read)
    for number in range(8):
        work(database, 100_000 * (number + 1))
    end = "dead" if is_poison else "quarantined"
    assert (outcome(database, receipt_id), moves(database, receipt_id)) == (end, [("worker", "unmatched", end)])
    assert parked(database) == {}
    assert_sound(database, **{end: 1})


def test_a_callback_of_many_released_receipts_is_read_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    body = [{"transactionid": str(one), "recipient": ALICE, "statusid": "1"} for one in range(1, 31)]
    callback = Callback("POST", b"", "application/json", json.dumps(body).encode())
    with database.transaction() as session:
        insert_arrivals(session, [Arrival(ids.new(), Channel.ACCOUNT, None, T0, callback)])
    work_off(database)
    assert_sound(database, unmatched=30)
    real, times = parser.read_receipts, []

    def read(callback: Callback, *settings: object) -> object:
        times.append(1)
        return real(callback, *settings)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(parser, "read_receipts", read)
    sweep(database, 1000)
    assert work(database, 1000) == 30
    assert len(times) == 1
    assert_sound(database, unmatched=30)


# Two connections to PostgreSQL at one moment


class Recording(AbstractContextManager["Recording"]):
    """A send's answer that is recorded, and not yet committed."""

    def __init__(self, database: Database, message_id: UUID, *, tx: str | None) -> None:
        self._transaction = database.transaction()
        self._ended = {
            message_id: AttemptResult(number=1, result=SendResult(outcome=SendOutcome.TAKEN, transaction_id=tx))
        }

    def __enter__(self) -> "Recording":
        call_results.record_results(self._transaction.__enter__(), self._ended, seconds(1), REPEATS)
        return self

    def __exit__(self, *error: object) -> None:
        self._transaction.__exit__(None, None, None)


SPEAKING = [("advisory", {"tx": "815"}), ("transactionid", {"tx": "815", "ref": "x"})]


@pytest.mark.parametrize(("lock", "words"), SPEAKING, ids=["transactionID", "both"])
def test_parking_waits_for_a_concurrent_release(
    postgresql_database: Database, lock: str, words: dict[str, Any]
) -> None:
    database = postgresql_database
    (mine,) = accept(database, message(ALICE, client_ref="x"))
    offer(database)
    receipt_id = keep(database, said(**words))
    with ThreadPoolExecutor(1) as threads:
        with Recording(database, mine, tx="815"):
            worker = threads.submit(work, database)
            wait_until_blocked(database, lock)
        assert worker.result() == 1
    work_off(database)
    assert (outcome(database, receipt_id), parked(database)) == ("applied", {})
    assert_sound(database, applied=1)


@pytest.mark.parametrize(("lock", "words"), SPEAKING, ids=["transactionID", "both"])
def test_a_release_waits_for_concurrent_parking(
    postgresql_database: Database, monkeypatch: pytest.MonkeyPatch, lock: str, words: dict[str, Any]
) -> None:
    database = postgresql_database
    (mine,) = accept(database, message(ALICE, client_ref="x"))
    offer(database)
    receipt_id = keep(database, said(**words))
    with ThreadPoolExecutor(1) as threads:
        sender = meet(monkeypatch, database, lock, lambda: threads.submit(answer, database, mine, tx="815"))
        work(database)
        sender().result()
    assert_sound(database, pending=1)
    work_off(database)
    assert (outcome(database, receipt_id), parked(database)) == ("applied", {})
    assert_sound(database, applied=1)


def meet(
    monkeypatch: pytest.MonkeyPatch, database: Database, lock: str, start: Callable[[], "Future[None]"]
) -> Callable[[], "Future[None]"]:
    """Start somebody as soon as a receipt has been parked or adopted, and commit that only when he waits for it."""
    started: list[Future[None]] = []
    park, adopt = parking.park, external_messages.adopt

    def wait() -> None:
        if not started:
            started.append(start())
            wait_until_blocked(database, lock)

    def park_and_wait(session: object, strays: object, now: object) -> None:
        park(session, strays, now)  # type: ignore[arg-type]  # passed on
        if strays:
            wait()

    def wait_and_adopt(session: object, strays: object, now: object) -> object:
        if strays:
            wait()
        return adopt(session, strays, now)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(parking, "park", park_and_wait)
    monkeypatch.setattr(external_messages, "adopt", wait_and_adopt)
    return lambda: started[0]


def test_an_adoption_and_an_answer_that_share_a_count_do_not_deadlock(
    postgresql_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = postgresql_database
    (mine,) = accept(database, message(ALICE, client_ref="x"))
    offer(database)
    receipt_id = keep(database, said(tx="1", ref="x", to=BOB))
    with ThreadPoolExecutor(1) as threads:
        sender = meet(monkeypatch, database, "advisory", lambda: threads.submit(answer, database, mine, tx="815"))
        work(database, 1000, adopt_after=600)
        sender().result()
    assert (outcome(database, receipt_id), read_message(database, mine).status) == ("applied", "submitted")
    assert_sound(database, applied=1)


def test_a_batch_with_thousands_of_references_takes_a_bounded_number_of_locks(
    postgresql_database: Database,
) -> None:
    with postgresql_database.transaction() as session:
        names = [str(number) for number in range(20_000)]
        parking.lock(session, names, names)
        query = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
        assert 100 < (session.scalar(query) or 0) <= 1000


def test_releases_share_their_locks_and_parking_waits_for_them(postgresql_database: Database) -> None:
    database = postgresql_database

    def hold_soon(session: Session, *, is_shared: bool = False) -> None:
        session.execute(text("SET LOCAL lock_timeout = '200ms'"))
        parking.lock(session, ["815"], ["x"], is_shared=is_shared)

    with database.transaction() as one, database.transaction() as other:
        for session in (one, other):
            hold_soon(session, is_shared=True)
        with pytest.raises(StorageUnavailable), database.transaction() as parks:
            hold_soon(parks)
