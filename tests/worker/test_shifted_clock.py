"""Receipts at the static URL under a wrong DYNMARK_TIMEZONE; the rule itself: tests/domain/test_correlation.py."""

from itertools import permutations
from typing import Any
from uuid import UUID

import pytest

from receiptsvc import ids
from receiptsvc.domain.correlation import BY_CLIENT_REF, BY_SHIFTED_CLOCK, BY_TOKEN, BY_TRANSACTION
from receiptsvc.domain.problems import Kind
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database
from receiptsvc.store.health import heartbeats
from receiptsvc.store.inbox import receipts
from receiptsvc.store.messages import clock_votes
from receiptsvc.web.app import create_app
from tests.support.callers import client_of, make_settings
from tests.support.looks import see
from tests.support.rows import keep, message, read_inbox, read_message, seconds
from tests.support.work import (
    ALICE,
    BOB,
    assert_sound,
    candidates,
    outcome,
    outcomes,
    public,
    rules,
    said,
    send,
    sweep,
    work,
    work_off,
)

HOUR = 3600
LATE = 2000  # seconds after T0: by then a stray receipt has been adopted, after ten minutes


def wrong(database: Database, ref: str, word: str = "Delivered", *, came: float = 20, **more: Any) -> UUID:
    """A receipt at the static URL whose time is an hour behind."""
    return keep(database, said(word, ref=ref, at=came - 10 - HOUR, **more), now=seconds(came))


def signed(database: Database, message_id: UUID, word: str = "Delivered", *, shift: float = 0) -> UUID:
    """A receipt at a message's own URL."""
    return keep(database, said(word, to=None, at=10 + shift), message_id=message_id, now=seconds(15))


def test_the_only_message_with_its_client_ref_and_recipient_is_found(database: Database) -> None:
    mine = send(database, message(ALICE, client_ref="x"), tx="1")
    receipt_id = wrong(database, "x")
    work_off(database, LATE, adopt_after=600)
    row = read_inbox(database, receipt_id)
    assert (row.outcome, rules(database, mine)) == ("applied", [BY_SHIFTED_CLOCK])
    assert row.reason == "its time fits its message only if the gateway's clock is not in the zone of the setting"
    assert read_message(database, mine).status == "delivered"
    assert_sound(database, applied=1)


def test_a_receipt_that_was_parked_for_want_of_its_message_finds_it_later(database: Database) -> None:
    receipt_id = wrong(database, "x", came=20)
    work(database, 30)
    assert outcome(database, receipt_id) == "unmatched"
    mine = send(database, message(ALICE, client_ref="x"), at=0)
    sweep(database, 1000)
    work_off(database, 1000)
    assert rules(database, mine) == [BY_SHIFTED_CLOCK]
    assert_sound(database, applied=1)


def test_several_messages_leave_it_unmatched_with_its_candidates_and_never_adopted(database: Database) -> None:
    both = [send(database, message(ALICE, client_ref="x"), at=at) for at in (0, 5)]
    receipt_id = wrong(database, "x")
    for at in (LATE, 100 * LATE):
        work_off(database, at, adopt_after=600)
        assert outcome(database, receipt_id) == "unmatched"
        assert candidates(database, receipt_id) == public(*both)
        sweep(database, 100 * at)
    assert_sound(database)


def test_one_whose_transaction_is_known_not_to_be_ours_is_adopted(database: Database) -> None:
    mine = send(database, message(ALICE, client_ref="x"), tx="1")
    receipt_id = wrong(database, "x", tx="2")
    work_off(database, LATE, adopt_after=600)
    assert (outcome(database, receipt_id), rules(database, mine)) == ("applied", [])


@pytest.mark.parametrize("batches", [1, 2])
def test_receipts_that_show_the_setting_to_be_right_end_it(database: Database, batches: int) -> None:
    other = send(database, message(BOB, client_ref="y"), tx="9")
    mine = send(database, message(ALICE, client_ref="x"), tx="1")
    receipt_ids = [signed(database, other)]
    if batches == 2:
        work(database, 15)
    receipt_ids.append(wrong(database, "x"))
    work_off(database, 100)
    assert outcomes(database, receipt_ids) == ["applied", "unmatched"]
    assert candidates(database, receipt_ids[1]) == set()
    assert rules(database, mine) == []
    reason = (
        "its time fits the one message with its clientRef and recipient only if the gateway's clock is an hour behind"
    )
    assert read_inbox(database, receipt_ids[1]).reason == reason
    assert_sound(database)


def test_it_may_differ_by_status(database: Database) -> None:
    other = send(database, message(BOB, client_ref="y"), tx="9")
    mine = send(database, message(ALICE, client_ref="x"), tx="1")
    signed(database, other, "Message+sent")
    wrong(database, "x", "Message+sent")
    wrong(database, "x")
    work_off(database)
    assert (rules(database, other), rules(database, mine)) == ([BY_TOKEN], [BY_SHIFTED_CLOCK])
    assert read_message(database, mine).status == "delivered"


@pytest.mark.parametrize("batches", [1, 2])
def test_it_gives_a_message_one_transaction_and_no_other(database: Database, batches: int) -> None:
    mine = send(database, message(ALICE, client_ref="x"))
    kept = []
    for word, tx in (("Message+sent", "7"), ("Delivered", "8"), ("Expired", "7")):
        kept.append(wrong(database, "x", word, tx=tx))
        if batches == 2:
            work_off(database)
    work_off(database)
    assert outcomes(database, kept) == ["applied", "unmatched", "applied"]
    assert rules(database, mine) == [BY_SHIFTED_CLOCK, BY_TRANSACTION]


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("batch", [1, 3])
def test_the_order_of_arrival_makes_no_difference(database: Database, order: tuple[int, ...], batch: int) -> None:
    made = [send(database, message(ALICE, client_ref=ref), tx=str(key)) for key, ref in enumerate("ab", start=1)]
    words = [("a", "Message+sent"), ("a", "Delivered"), ("b", "Expired")]
    for place in order:
        ref, word = words[place]
        wrong(database, ref, word)
        if batch == 1:
            work_off(database)
    work_off(database)
    assert [read_message(database, one).status for one in made] == ["delivered", "expired"]
    assert {rule for one in made for rule in rules(database, one)} == {BY_SHIFTED_CLOCK}
    assert_sound(database)


def detail(database: Database, at: float) -> str | None:
    """What is told of the zone at so many seconds after T0."""
    found = see(database, seconds(at)).get(Kind.TIMEZONE_WRONG, ())
    return next((seen.detail for seen in found), None)


IS_BEHIND = "the gateway's clock seems to be an hour behind; DYNMARK_TIMEZONE is UTC, at UTC+00:00: a zone that was at UTC-01:00 fits"


def park_five(database: Database) -> tuple[list[UUID], list[UUID]]:
    """Five messages, and what came of each at the static URL under a wrong zone, though it was right before."""
    other = send(database, message(BOB, client_ref="y"), tx="9")
    signed(database, other)
    made = [send(database, message(ALICE, client_ref=str(number))) for number in range(5)]
    receipt_ids = [wrong(database, str(number), came=20 + number) for number in range(5)]
    work_off(database, 30)
    return made, receipt_ids


def test_a_setting_that_was_right_before_is_told_by_receipts_that_fit_no_message_and_match_none(
    database: Database,
) -> None:
    made, receipt_ids = park_five(database)
    assert set(outcomes(database, receipt_ids)) == {"unmatched"}
    assert detail(database, 60) == IS_BEHIND
    sweep(database, LATE)
    work_off(database, LATE, adopt_after=600)
    assert set(outcomes(database, receipt_ids)) == {"applied"}, "they are adopted like any other"
    assert [rules(database, one) for one in made] == [[]] * 5
    assert detail(database, LATE) == IS_BEHIND, "and tell what they told"
    assert detail(database, 30 * HOUR) is None
    assert_sound(database)


def test_four_receipts_that_fit_no_message_tell_nothing(database: Database) -> None:
    *_, last = park_five(database)[1]
    with database.transaction() as session:
        receipts.dismiss(session, last, Actor(actor="desk"), seconds(40))
    assert detail(database, 60) is None


def test_a_receipt_that_fits_since_shows_the_setting_to_be_right_again(database: Database) -> None:
    park_five(database)
    mine = send(database, message(ALICE, client_ref="x"), at=100)
    keep(database, said(ref="x", at=110), now=seconds(120))
    work_off(database, 130)
    assert rules(database, mine) == [BY_CLIENT_REF]
    assert detail(database, 150) is None


def test_a_clock_that_is_ahead_is_told_by_receipts_that_find_their_message(database: Database) -> None:
    for number in range(5):
        send(database, message(ALICE, client_ref=str(number)))
        keep(database, said(ref=str(number), at=10 + HOUR), now=seconds(20 + number))
    work_off(database, 30)
    found = detail(database, 60)
    assert found is not None
    assert found.startswith("the gateway's clock seems to be an hour ahead; DYNMARK_TIMEZONE is UTC, at UTC+00:00: ")
    assert found.endswith("a zone that was at UTC+01:00 fits, such as Europe/Paris")


def test_readiness_and_explain_tell_once_enough_receipts_agree(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock_votes, "_VALID_SECONDS", 0)
    now = database.clock.now()
    start = (now - seconds(0)).total_seconds() - 100
    made = [send(database, message(ALICE, client_ref=str(key)), at=start) for key in range(5)]
    with database.transaction() as session:
        heartbeats.beat(session, "worker:1", now)
    app = create_app(make_settings(), database)
    said_so = "the gateway's clock seems to be an hour ahead"
    for key, one in enumerate(made, start=1):
        keep(database, said(at=start + 10 + HOUR), message_id=one, now=seconds(start + 20))
        work_off(database, start + 30)
        ready: Any = client_of(app).get("/readyz").json
        told = [
            each for each in ready["degraded"] if each.startswith(f"{said_so}: see its setting: DYNMARK_TIMEZONE is")
        ]
        assert len(told) == (key == len(made))
        ready = app.test_client().get("/readyz").json
        assert (f"{said_so}: DYNMARK_TIMEZONE?" in ready["degraded"]) is (key == len(made))
    explained: Any = client_of(app).get(f"/v1/messages/{ids.public('msg', made[0])}/explain").json
    assert explained["because"].endswith(f"Of its times: {said_so}: DYNMARK_TIMEZONE?")
