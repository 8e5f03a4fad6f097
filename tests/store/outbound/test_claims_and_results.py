"""Claims, leases and results: nothing is offered twice by accident, and no result overwrites a receipt."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from receiptsvc.domain.messages import SendOutcome, SendResult
from receiptsvc.domain.retry_policy import RepeatPolicy
from receiptsvc.domain.statuses import Report, Source, Status
from receiptsvc.store.core.db import Database
from receiptsvc.store.inbox import counters
from receiptsvc.store.messages import transitions
from receiptsvc.store.outbound import call_results, claims
from receiptsvc.store.outbound.call_results import AttemptResult
from receiptsvc.store.outbound.claims import ClaimedMessage
from tests.support.rows import accept, message, read_attempts, read_message, read_transitions, seconds

LEASE = timedelta(seconds=60)
REPEATS = RepeatPolicy(after=timedelta(seconds=10), duration=timedelta(seconds=100), transports=frozenset({"soap"}))
LONG = RepeatPolicy(after=timedelta(seconds=10), duration=timedelta(days=1), transports=REPEATS.transports)
ALICE, BOB = "447700900001", "447700900002"


def claim(database: Database, at: float, limit: int = 10) -> list[ClaimedMessage]:
    repeats = REPEATS if limit == 10 else LONG
    with database.transaction() as session:
        return list(claims.claim(session, seconds(at), limit=limit, lease=LEASE, repeats=repeats).messages)


def end(database: Database, at: float, message_id: UUID, number: int, outcome: SendOutcome, **said: Any) -> None:
    result = SendResult(outcome=outcome, **said)
    with database.transaction() as session:
        call_results.record_results(
            session, {message_id: AttemptResult(number=number, result=result)}, seconds(at), REPEATS
        )


def receipt(database: Database, message_id: UUID, word: Status, at: float) -> None:
    report = Report(source=Source.GATEWAY, status=word, received_at=seconds(at))
    with database.transaction() as session:
        locked = transitions.lock_messages(session, [message_id])
        transitions.record(
            session, locked, [(message_id, transitions.NewTransition(report=report, rule="test"))], seconds(at)
        )


def settle_lost(database: Database, at: float, *, all_calls: bool = False) -> int:
    with database.transaction() as session:
        return call_results.settle_lost(session, seconds(at), REPEATS, all_calls=all_calls)


def statuses(database: Database, message_id: UUID) -> list[tuple[str | None, str]]:
    return [(row.status, row.effect) for row in read_transitions(database, message_id)]


def test_a_claimed_message_is_not_claimed_again_while_its_call_runs(database: Database) -> None:
    (message_id,) = accept(database)
    assert [m.id for m in claim(database, 0)] == [message_id]
    assert claim(database, 1) == []
    row = read_message(database, message_id)
    assert (row.calling_since, row.due_at, row.tries) == (seconds(0), seconds(60), 1)
    (attempt,) = read_attempts(database, message_id)
    assert (attempt.number, attempt.message_guid, attempt.outcome) == (1, row.message_guid, None)


def test_no_call_holds_two_messages_to_one_recipient(database: Database) -> None:
    first, second = accept(database, message(ALICE, client_ref="a"), message(ALICE, client_ref="b"))
    (other,) = accept(database, message(BOB))
    assert [m.id for m in claim(database, 0)] == [first, other]
    assert [m.id for m in claim(database, 0)] == [second]


@pytest.mark.parametrize("client_ref", ["a", None])
def test_what_has_one_client_ref_and_recipient_is_first_offered_in_its_order(
    database: Database, client_ref: str | None
) -> None:
    first, second, third = accept(database, *(message(ALICE, client_ref=client_ref) for _ in range(3)))
    (other,) = accept(database, message(BOB, client_ref=client_ref))
    assert [m.id for m in claim(database, 0)] == [first, other]
    assert claim(database, 0) == [], "not while the first is just being offered"
    end(database, 1, first, 1, SendOutcome.NOT_SENT)
    assert claim(database, 1) == [], "nor while it waits for another try"
    assert [m.id for m in claim(database, 2)] == [first]
    end(database, 3, first, 2, SendOutcome.UNCLEAR)
    assert [m.id for m in claim(database, 3)] == [second], "an unclear one holds up nobody"
    end(database, 4, second, 1, SendOutcome.TAKEN)
    assert [m.id for m in claim(database, 100)] == [third]


def test_what_waits_for_its_time_or_has_none_left_holds_up_nobody(database: Database) -> None:
    later, late = message(ALICE, client_ref="a", deliver_after=seconds(50)), message(ALICE, valid_until=seconds(-1))
    with database.transaction() as session:
        transitions.accept(session, [later, late], seconds(0), schedules_messages=True)
    plain, other = accept(database, message(ALICE, client_ref="a"), message(ALICE))
    assert [m.id for m in claim(database, 0)] == [plain]
    assert [m.id for m in claim(database, 0)] == [other]
    assert [m.id for m in claim(database, 50)] == [later.id]


def test_a_call_holds_messages_of_one_kind(database: Database) -> None:
    soap = accept(database, *(message(f"44770090000{n}") for n in range(3)))
    rest = accept(database, *(message(f"44770090001{n}", transport="rest") for n in range(2)))
    assert [m.id for m in claim(database, 0)] == soap
    assert [m.id for m in claim(database, 0)] == rest
    end(database, 1, soap[0], 1, SendOutcome.UNCLEAR)
    fresh = accept(database, message("447700900099"), now=seconds(11))
    assert [m.id for m in claim(database, 20)] == [soap[0]], "what may have been taken is not mixed with what is new"
    assert [m.id for m in claim(database, 20)] == fresh


def test_a_call_that_stays_unclear_is_halved_until_each_message_is_alone(database: Database) -> None:
    made = accept(database, *(message(f"4477009000{n:02}") for n in range(5)))
    sizes: list[int] = []
    at = 0.0
    while len(sizes) < 12:
        claimed = claim(database, at, limit=250)
        if not claimed:
            at += 10
            continue
        sizes.append(len(claimed))
        lost = {m.id: AttemptResult(number=m.tries, result=SendResult(outcome=SendOutcome.UNCLEAR)) for m in claimed}
        with database.transaction() as session:
            call_results.record_results(session, lost, seconds(at), LONG, is_one_call=True)
    assert sizes == [5, 5, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1]
    assert {read_message(database, message_id).call_limit for message_id in made} <= {1, 2}


def test_a_call_of_which_one_message_was_answered_is_not_halved(database: Database) -> None:
    made = accept(database, *(message(f"44770090000{n}") for n in range(4)))
    at = 0.0
    for number in (1, 2, 3):
        assert len(claim(database, at, limit=250)) == 4 - (number > 2)
        ended = {
            one: AttemptResult(number=number, result=SendResult(outcome=SendOutcome.UNCLEAR))
            for one in made[number > 2 :]
        }
        if number == 2:
            ended[made[0]] = AttemptResult(number=2, result=SendResult(outcome=SendOutcome.TAKEN))
        with database.transaction() as session:
            call_results.record_results(session, ended, seconds(at), LONG, is_one_call=True)
        at += 1000
    assert read_message(database, made[1]).call_limit == 2, "only the third stayed unclear as a whole"


def test_two_claims_at_once_share_the_work(postgresql_database: Database) -> None:
    database = postgresql_database
    made = accept(database, *(message(f"4477009000{n:02}") for n in range(10)))
    with database.transaction() as one, database.transaction() as other:
        first = claims.claim(one, seconds(0), limit=6, lease=LEASE, repeats=REPEATS).messages
        second = claims.claim(other, seconds(0), limit=6, lease=LEASE, repeats=REPEATS).messages
    assert sorted(m.id for m in [*first, *second]) == made


def test_a_taken_message_is_submitted_and_due_no_more(database: Database) -> None:
    (message_id,) = accept(database)
    claim(database, 0)
    end(database, 1, message_id, 1, SendOutcome.TAKEN, transaction_id="815")
    row = read_message(database, message_id)
    assert (row.status, row.transaction_id, row.due_at, row.calling_since) == ("submitted", "815", None, None)
    assert claim(database, 10_000) == []


def test_a_refusal_is_final_and_says_why(database: Database) -> None:
    (message_id,) = accept(database)
    claim(database, 0)
    end(database, 1, message_id, 1, SendOutcome.REFUSED, code="12", description="No credit", detail="Top up")
    assert read_message(database, message_id).status == "failed"
    assert read_transitions(database, message_id)[-1].reason == "12: No credit: Top up"
    assert claim(database, 10_000) == []


def test_a_lost_answer_is_repeated_with_the_same_guid_at_growing_gaps(database: Database) -> None:
    (message_id,) = accept(database)
    guid = read_message(database, message_id).message_guid
    due = []
    at = 0.0
    for number in range(1, 5):
        assert [m.message_guid for m in claim(database, at)] == [guid]
        end(database, at, message_id, number, SendOutcome.UNCLEAR)
        row = read_message(database, message_id)
        assert row.status == "send_unknown"
        due.append(row.due_at)
        at = (row.due_at - seconds(0)).total_seconds() if row.due_at else at
    assert due == [seconds(10), seconds(30), seconds(70), None]  # the next would be after RESEND_FOR


def test_over_rest_a_lost_answer_is_never_repeated(database: Database) -> None:
    (message_id,) = accept(database, message(transport="rest"))
    claim(database, 0)
    end(database, 1, message_id, 1, SendOutcome.UNCLEAR)
    assert read_message(database, message_id).status == "send_unknown"
    assert claim(database, 10_000) == []


def test_what_was_not_sent_goes_again_at_growing_gaps_and_keeps_its_status(database: Database) -> None:
    (message_id,) = accept(database)
    gaps = []
    at = 0.0
    for number in range(1, 12):
        assert claim(database, at)
        end(database, at, message_id, number, SendOutcome.NOT_SENT)
        row = read_message(database, message_id)
        assert row.due_at is not None
        gaps.append((row.due_at - seconds(at)).total_seconds())
        at += gaps[-1]
    assert gaps[:4] == [1, 2, 4, 8]
    assert gaps[-1] == 300
    assert statuses(database, message_id) == [("accepted", "applied")]


def test_a_refused_account_fails_nothing(database: Database) -> None:
    (message_id,) = accept(database)
    claim(database, 0)
    end(database, 1, message_id, 1, SendOutcome.ACCOUNT_REFUSED, description="logon")
    assert statuses(database, message_id) == [("accepted", "applied")]
    assert [m.id for m in claim(database, 2)] == [message_id]


def test_a_receipt_before_the_answer_stands_and_ends_the_repeats(database: Database) -> None:
    (message_id,) = accept(database)
    claim(database, 0)
    receipt(database, message_id, Status.DELIVERED, 1)
    end(database, 2, message_id, 1, SendOutcome.UNCLEAR)
    row = read_message(database, message_id)
    assert (row.status, row.status_at, row.due_at, row.calling_since) == ("delivered", seconds(1), None, None)
    assert statuses(database, message_id)[1:] == [("delivered", "applied"), ("send_unknown", "stale")]


def test_a_receipt_after_a_lost_answer_ends_the_repeats(database: Database) -> None:
    (message_id,) = accept(database)
    claim(database, 0)
    end(database, 1, message_id, 1, SendOutcome.UNCLEAR)
    receipt(database, message_id, Status.SENT, 2)
    assert read_message(database, message_id).due_at is None


def test_a_receipt_during_a_call_leaves_the_lease_alone(database: Database) -> None:
    (message_id,) = accept(database)
    claim(database, 0)
    receipt(database, message_id, Status.DELIVERED, 1)
    assert read_message(database, message_id).due_at == seconds(60)
    assert settle_lost(database, 61) == 1
    assert read_message(database, message_id).due_at is None


def test_a_dead_worker_s_call_is_a_lost_answer_when_its_lease_ends(database: Database) -> None:
    (message_id,) = accept(database)
    claim(database, 0)
    assert settle_lost(database, 59) == 0
    assert settle_lost(database, 61) == 1
    assert read_message(database, message_id).status == "send_unknown"
    assert [m.tries for m in claim(database, 71)] == [2]


def test_where_nobody_else_can_be_calling_no_lease_is_waited_for(database: Database) -> None:
    accept(database, message("447700900001"), message("447700900002"))
    claim(database, 0)
    assert settle_lost(database, 1, all_calls=True) == 2


def test_an_answer_that_comes_after_its_lease_still_counts(database: Database) -> None:
    (message_id,) = accept(database)
    claim(database, 0)
    settle_lost(database, 61)
    claim(database, 71)
    end(database, 72, message_id, 1, SendOutcome.TAKEN, transaction_id="815")
    row = read_message(database, message_id)
    assert (row.status, row.transaction_id) == ("submitted", "815")
    assert row.calling_since == seconds(71), "the second call still runs"
    end(database, 73, message_id, 2, SendOutcome.TAKEN, transaction_id="816")
    assert [a.outcome for a in read_attempts(database, message_id)] == ["taken", "taken"]
    with database.reading() as session:
        assert {row.transaction_id for row in transitions.find_transaction_links(session, ["815", "816"])} == {
            "815",
            "816",
        }


def retire_late(database: Database, at: float) -> int:
    with database.transaction() as session:
        return call_results.retire_late(session, seconds(at), REPEATS)


def test_a_message_that_is_too_old_is_never_sent(database: Database) -> None:
    (message_id,) = accept(database, message(valid_until=seconds(5)))
    assert claim(database, 5) == []
    assert retire_late(database, 5) == 1
    row = read_message(database, message_id)
    assert (row.status, row.due_at) == ("expired", None)
    assert read_transitions(database, message_id)[-1].reason == "never sent"


def test_a_message_that_may_have_been_taken_does_not_expire_here(database: Database) -> None:
    (message_id,) = accept(database, message(valid_until=seconds(15)))
    claim(database, 0)
    end(database, 1, message_id, 1, SendOutcome.UNCLEAR)
    assert claim(database, 16) == [], "a repeat comes in time or not at all"
    assert retire_late(database, 16) == 1
    row = read_message(database, message_id)
    assert (row.status, row.due_at) == ("send_unknown", None)


def test_no_repeat_is_made_after_its_time_however_long_the_worker_was_away(database: Database) -> None:
    (message_id,) = accept(database)
    claim(database, 0)
    end(database, 1, message_id, 1, SendOutcome.UNCLEAR)
    assert claim(database, 101) == []
    assert [m.id for m in claim(database, 99)] == [message_id]
    end(database, 99, message_id, 2, SendOutcome.NOT_SENT)
    assert claim(database, 101) == [], "also after a try that did not get out"


def test_the_first_lost_answer_has_the_first_gap_whatever_went_before(database: Database) -> None:
    (message_id,) = accept(database)
    at = 0.0
    for number in range(1, 9):
        claim(database, at)
        end(database, at, message_id, number, SendOutcome.NOT_SENT)
        at += 1000
    claim(database, at)
    end(database, at, message_id, 9, SendOutcome.UNCLEAR)
    assert read_message(database, message_id).due_at == seconds(at + 10)


@pytest.mark.parametrize("outcome", [SendOutcome.NOT_SENT, SendOutcome.ACCOUNT_REFUSED])
def test_a_message_that_a_receipt_settled_is_due_no_more_however_its_call_ends(
    database: Database, outcome: SendOutcome
) -> None:
    (message_id,) = accept(database)
    claim(database, 0)
    end(database, 1, message_id, 1, SendOutcome.UNCLEAR)
    claim(database, 20)
    receipt(database, message_id, Status.SENT, 21)
    end(database, 22, message_id, 2, outcome)
    assert read_message(database, message_id).due_at is None


def test_a_refusal_that_comes_after_another_attempt_was_taken_fails_nothing(database: Database) -> None:
    (message_id,) = accept(database)
    claim(database, 0)
    settle_lost(database, 61)
    claim(database, 71)
    end(database, 72, message_id, 2, SendOutcome.TAKEN, transaction_id="815")
    end(database, 73, message_id, 1, SendOutcome.REFUSED, code="12")
    assert read_message(database, message_id).status == "submitted"


def test_messages_that_the_gateway_has_taken_are_counted_once_each(database: Database) -> None:
    first, second, third = accept(database, *(message(f"44770090000{n}") for n in range(3)))
    claim(database, 0)
    end(database, 1, first, 1, SendOutcome.TAKEN)
    end(database, 1, second, 1, SendOutcome.UNCLEAR)
    end(database, 1, third, 1, SendOutcome.REFUSED)
    claim(database, 20)
    end(database, 21, second, 2, SendOutcome.TAKEN)
    with database.reading() as session:
        assert counters.read_totals(session)[counters.TAKEN] == 2
