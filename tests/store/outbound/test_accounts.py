"""Accounts that may be refused: who waits, who decides, who goes on. Counted in calls; every time is made up."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, text

from receiptsvc import bulk_actions
from receiptsvc.domain.accounts import DISPELLED
from receiptsvc.domain.errors import Refused
from receiptsvc.domain.messages import NewMessage, SendOutcome, SendResult
from receiptsvc.domain.retry_policy import RepeatPolicy
from receiptsvc.domain.statuses import Report, Source, Status
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Message, SendingAccount
from receiptsvc.store.health.verification import verify
from receiptsvc.store.messages import operator_actions, transitions
from receiptsvc.store.outbound import accounts, call_results, claims, send_gate
from receiptsvc.store.outbound.accounts import Call
from receiptsvc.store.outbound.call_results import AttemptResult
from receiptsvc.store.outbound.claims import ClaimedMessage
from tests.support.rows import accept, message, read_attempts, read_message, read_transitions, seconds
from tests.support.work import wait_until_blocked

LEASE = timedelta(seconds=60)
REPEATS = RepeatPolicy(after=timedelta(seconds=60), duration=timedelta(seconds=3600), transports=frozenset({"soap"}))
TAKEN, REFUSED, UNCLEAR = SendOutcome.TAKEN, SendOutcome.REFUSED, SendOutcome.UNCLEAR
NOT_SENT, ACCOUNT_REFUSED = SendOutcome.NOT_SENT, SendOutcome.ACCOUNT_REFUSED
IN_WORDS, MAYBE_SENT = SendOutcome.SUSPECT_REFUSED, SendOutcome.SUSPECT_UNCLEAR
SUSPECT = pytest.mark.parametrize("suspect", [IN_WORDS, MAYBE_SENT])

Answer = Callable[[ClaimedMessage], SendOutcome]


class Running:
    """A call that was claimed and has no answer yet."""

    def __init__(self, claimed: Sequence[ClaimedMessage], call: Call) -> None:
        self.claimed, self.call = claimed, call

    @property
    def ids(self) -> list[UUID]:
        return [one.id for one in self.claimed]


def begin(database: Database, at: float, limit: int = 1) -> Running:
    """Claim as a worker does."""
    with database.transaction() as session:
        allowed = send_gate.request(session, seconds(at), limit, None)
        gates = accounts.gates(session, seconds(at))
        claimed: Sequence[ClaimedMessage] = ()
        if allowed.most:
            claim = claims.claim(session, seconds(at), limit=allowed.most, lease=LEASE, repeats=REPEATS, gates=gates)
            claimed = claim.messages
        gate = claims.gate_of(claimed[0], gates) if claimed else None
        assert gate is None or accounts.take_turn(session, gate, seconds(at))
        account = claimed[0].impersonate_user_name if claimed else None
        is_alone = allowed.is_probe or gate is not None
        if not claimed:
            session.rollback()
        return Running(claimed, Call(account=account or "", knows_up_to=allowed.knows_up_to, is_alone=is_alone))


def end(
    database: Database,
    at: float,
    call: Running,
    answer: Answer | SendOutcome,
    *,
    is_401: bool = False,
    releases: bool = True,
) -> None:
    """Record its answer, and let go on what that decides, unless the process died in between."""
    ended = {}
    for one in call.claimed:
        outcome = answer if isinstance(answer, SendOutcome) else answer(one)
        ended[one.id] = AttemptResult(number=one.tries, result=SendResult(outcome=outcome, is_of_credentials=is_401))
    with database.transaction() as session:
        call_results.record_results(session, ended, seconds(at), REPEATS, is_one_call=True, call=call.call)
    if releases:
        release(database, at)


def release(database: Database, at: float) -> None:
    while True:
        with database.transaction() as session:
            if not call_results.release(session, seconds(at), REPEATS):
                return


def offer(database: Database, at: float, answer: Answer | SendOutcome, limit: int = 1) -> list[UUID]:
    """A whole call: whom it held."""
    call = begin(database, at, limit)
    if call.claimed:
        end(database, at, call, answer)
    return call.ids


def standing(database: Database) -> Mapping[str, str]:
    with database.reading() as session:
        rows = session.scalars(select(SendingAccount)).all()
    return {row.name: "refused" if row.refused_at else "suspected" if row.suspected_at else "well" for row in rows}


def statuses(database: Database, ids: Sequence[UUID]) -> list[str]:
    return [read_message(database, one).status for one in ids]


def people(count: int, **fields: Any) -> list[NewMessage]:
    return [message(f"4477009{place:05}", **fields) for place in range(count)]


def assert_all_is_well(database: Database) -> None:
    assert standing(database) == {}
    with database.reading() as session:
        assert session.scalar(select(func.count()).where(Message.suspicion > 0)) == 0
    assert list(verify(database)) == []


@SUSPECT
def test_the_messages_of_a_suspect_call_wait_and_nothing_is_said_of_them(
    database: Database, suspect: SendOutcome
) -> None:
    made = accept(database, *people(3))
    assert offer(database, 0, suspect, limit=3) == made
    assert statuses(database, made) == ["accepted"] * 3
    assert standing(database) == {"": "suspected"}
    assert begin(database, 0.5, 3).ids == [], "before its time nothing that waits is tried"
    assert [one.outcome for one in read_attempts(database, made[0])] == [suspect]
    with database.reading() as session:
        [shown] = accounts.read_impaired(session, REPEATS.transports)
    assert (shown.name, shown.waiting, shown.refused_at) == (None, 3, None)
    assert shown.next_try_at == seconds(1 if suspect is IN_WORDS else 60), "with the gap of any lost answer"


def test_a_message_that_another_one_clears_the_account_of_is_offered_once_more_alone_and_fails(
    database: Database,
) -> None:
    poison, good, more = accept(database, *people(3))
    assert offer(database, 0, IN_WORDS) == [poison]
    assert offer(database, 1, TAKEN) == [more], "the newest shows what is with the account"
    assert standing(database) == {}
    assert offer(database, 2, TAKEN, limit=9) == [good], "what is offered once more goes alone"
    assert offer(database, 2, IN_WORDS, limit=9) == [poison]
    assert statuses(database, [poison, good, more]) == ["failed", "submitted", "submitted"]
    assert read_attempts(database, poison)[-1].outcome == "refused"
    assert_all_is_well(database)


def test_a_message_that_is_taken_at_its_second_offer_is_sent_once(database: Database) -> None:
    first, other = accept(database, *people(2))
    offer(database, 0, IN_WORDS)
    offer(database, 0, TAKEN)
    assert offer(database, 1, TAKEN) == [first]
    assert statuses(database, [first, other]) == ["submitted"] * 2
    assert_all_is_well(database)


@pytest.mark.parametrize("transport", ["soap", "rest"])
def test_what_may_have_been_sent_is_a_lost_answer_once_the_account_is_cleared(
    database: Database, transport: str
) -> None:
    maybe, _ = accept(database, *people(2, transport=transport))
    offer(database, 0, MAYBE_SENT)
    offer(database, 1, TAKEN)
    row = read_message(database, maybe)
    assert (row.status, row.unclear_since) == ("send_unknown", seconds(0))
    assert row.due_at == (seconds(61) if transport == "soap" else None)
    assert_all_is_well(database)
    if transport == "soap":
        assert offer(database, 61, MAYBE_SENT) == [maybe]
        assert standing(database) == {}, "its words are known to be about itself"
        assert read_message(database, maybe).due_at == seconds(61 + 120)


@SUSPECT
def test_an_account_that_a_later_call_finds_refused_too_is_held_and_everything_goes_out_once_it_works(
    database: Database, suspect: SendOutcome
) -> None:
    made = accept(database, *people(5, transport="rest"))
    assert offer(database, 0, suspect, limit=2) == made[:2]
    assert offer(database, 0, suspect) == [made[4]]
    assert standing(database) == {"": "refused"}
    assert statuses(database, made) == ["accepted"] * 5
    assert begin(database, 29).ids == []
    probes = [(at, one) for at in range(10, 1060, 10) for one in offer(database, at, suspect)]
    assert [at for at, _ in probes] == [30, 90, 210, 450, 750, 1050]
    assert len({one for _, one in probes}) == 5, "each has its turn"
    assert statuses(database, made) == ["accepted"] * 5
    assert len(offer(database, 1400, TAKEN)) == 1
    assert len(offer(database, 1400, TAKEN, limit=9)) == 4, "nothing was sent of any, so that each goes out"
    assert statuses(database, made) == ["submitted"] * 5
    assert [len([one for one in read_attempts(database, each) if one.outcome == "taken"]) for each in made] == [1] * 5
    assert_all_is_well(database)


@pytest.mark.parametrize("is_403_first", [True, False])
def test_items_that_are_refused_prove_nothing_for_a_call_that_ended_in_a_403(
    database: Database, *, is_403_first: bool
) -> None:
    made = accept(database, *people(5, transport="rest"))
    ends = [IN_WORDS, IN_WORDS]
    ends.insert(0 if is_403_first else 2, MAYBE_SENT)
    calls = [offer(database, at, outcome) for at, outcome in zip((0, 1, 31), ends, strict=True)]
    (forbidden,) = calls[ends.index(MAYBE_SENT)]
    assert standing(database) == {"": "refused"}
    assert read_message(database, forbidden).suspicion
    while offer(database, 200, TAKEN, limit=9):
        pass
    others = [one for one in made if one != forbidden]
    assert statuses(database, [forbidden, *others]) == ["send_unknown", *["submitted"] * 4]
    assert len(read_attempts(database, forbidden)) == 1, "a second one could be a second SMS"
    assert_all_is_well(database)


def test_a_second_403_proves_that_nothing_was_sent_by_either_though_items_held_the_account(database: Database) -> None:
    made = accept(database, *people(5, transport="rest"))
    for at, outcome in ((0, IN_WORDS), (1, IN_WORDS), (31, MAYBE_SENT), (91, MAYBE_SENT)):
        assert offer(database, at, outcome)
    while offer(database, 1000, TAKEN, limit=9):
        pass
    assert statuses(database, made) == ["submitted"] * 5
    assert_all_is_well(database)


@SUSPECT
def test_what_was_decided_just_before_a_kill_is_done_afterwards(database: Database, suspect: SendOutcome) -> None:
    made = accept(database, *people(3))
    offer(database, 0, suspect)
    end(database, 1, begin(database, 1), TAKEN, releases=False)
    assert begin(database, 2, 9).ids == [made[1]], "what is not let go yet is not claimed"
    assert read_message(database, made[0]).suspicion == 1
    release(database, 3)
    assert read_message(database, made[0]).suspicion == DISPELLED
    assert_all_is_well(database)


@SUSPECT
def test_a_call_that_was_under_way_decides_nothing(database: Database, suspect: SendOutcome) -> None:
    first, second, third, last = accept(database, *people(4))
    calls = [begin(database, 0) for _ in range(3)]
    end(database, 1, calls[0], suspect)
    end(database, 2, calls[1], suspect)
    assert standing(database) == {"": "suspected"}, "two that ran at once may have met two texts"
    end(database, 3, calls[2], TAKEN)
    assert standing(database) == {"": "suspected"}, "and what was taken before says nothing of after"
    assert statuses(database, [first, second, third, last]) == ["accepted", "accepted", "submitted", "accepted"]
    assert offer(database, 3, TAKEN) == [last]
    assert standing(database) == {}


def test_a_call_decides_only_what_it_could_know_of(database: Database) -> None:
    first, second, third, *_ = accept(database, *people(4))
    early, late = begin(database, 0), begin(database, 0)
    end(database, 1, early, IN_WORDS)
    decider = begin(database, 2)
    end(database, 3, late, IN_WORDS)
    end(database, 4, decider, TAKEN)
    assert standing(database) == {"": "suspected"}
    assert read_message(database, first).suspicion == DISPELLED
    assert read_message(database, second).suspicion == 2
    assert offer(database, 5, TAKEN) == [third]
    assert read_message(database, second).suspicion == DISPELLED


def test_another_account_decides_nothing(database: Database) -> None:
    (mine,) = accept(database, message("447700900001", impersonate_user_name="a"))
    offer(database, 0, IN_WORDS)
    theirs = accept(database, message("447700900002", impersonate_user_name="b"), message("447700900003"))
    assert sorted(offer(database, 0, TAKEN) + offer(database, 0, TAKEN)) == theirs
    assert standing(database) == {"a": "suspected"}
    accept(database, message("447700900004", impersonate_user_name="a"))
    offer(database, 0, IN_WORDS)
    assert standing(database) == {"a": "refused"}
    more = accept(database, message("447700900005", impersonate_user_name="b"), message("447700900006"))
    assert sorted(offer(database, 1, TAKEN) + offer(database, 1, TAKEN)) == more, "each goes its own way"
    assert read_message(database, mine).status == "accepted"


def test_a_call_is_by_one_account_and_full_of_it(database: Database) -> None:
    made = accept(
        database,
        *(message(f"4477009{place:05}", impersonate_user_name=(None, "a", "b")[place % 3]) for place in range(30)),
    )
    for place in range(3):
        assert begin(database, 0, 10).ids == made[place::3]


def test_a_401_holds_every_account_and_a_stop_code_its_own(database: Database) -> None:
    accept(database, *people(2, impersonate_user_name="a"), message("447700900009"))
    end(database, 0, begin(database, 0), ACCOUNT_REFUSED)
    assert standing(database) == {"a": "refused"}
    call = begin(database, 0)
    assert call.call.account == ""
    end(database, 0, call, ACCOUNT_REFUSED, is_401=True)
    assert (standing(database), begin(database, 1).ids) == ({"a": "refused"}, [])
    assert offer(database, 30, TAKEN) == call.ids, "the probe is by an account that is not held by itself"
    assert len(offer(database, 31, TAKEN)) == 1


def test_what_a_held_call_met_in_words_while_it_ran_was_not_sent(database: Database) -> None:
    accept(database, *people(4))
    calls = [begin(database, 0) for _ in range(4)]
    end(database, 1, calls[0], ACCOUNT_REFUSED, is_401=True)
    end(database, 1, calls[1], MAYBE_SENT)
    end(database, 1, calls[2], IN_WORDS)
    assert standing(database) == {}
    assert {read_message(database, one.ids[0]).unclear_since for one in calls[:3]} == {None}


def test_a_call_that_began_after_the_suspicion_and_was_taken_frees_an_account_that_two_texts_held(
    database: Database,
) -> None:
    accept(database, *people(6))
    offer(database, 0, IN_WORDS)
    second, good = begin(database, 0), begin(database, 0)
    end(database, 1, second, IN_WORDS)
    assert standing(database) == {"": "refused"}
    end(database, 1, good, TAKEN)
    assert standing(database) == {}
    assert len(begin(database, 1, 9).ids) == 5


@SUSPECT
def test_no_other_is_due_so_it_is_tried_alone_at_growing_gaps_and_nothing_fails(
    database: Database, suspect: SendOutcome
) -> None:
    (made,) = accept(database)
    times = [0, 0.9, 1, 2.9, 3, 6.9, 7, 14.9, 15, 31, 59, 60, 63, 127, 179, 180, 254, 255, 419, 420, 510, 511, 699]
    tries = [at for at in times if offer(database, at, suspect)]
    # What may have been sent has the gaps of any lost answer.
    assert tries == ([0, 1, 3, 7, 15, 31, 63, 127, 255, 511] if suspect is IN_WORDS else [0, 60, 180, 420])
    assert (standing(database), statuses(database, [made])) == ({"": "suspected"}, ["accepted"])
    good = accept(database, message("447700900002"), now=seconds(700))
    assert offer(database, 700, TAKEN) == good
    assert standing(database) == {}


def test_without_a_guid_what_may_have_been_sent_is_not_tried_again_and_is_settled_in_the_end(
    database: Database,
) -> None:
    (made,) = accept(database, message(transport="rest"))
    offer(database, 0, MAYBE_SENT)
    assert not any(begin(database, at).ids for at in range(1, 5000, 250))
    with database.reading() as session:
        assert [one.next_try_at for one in accounts.read_impaired(session, REPEATS.transports)] == [None]
    retire_late(database, 3601)
    row = read_message(database, made)
    assert (row.status, row.due_at, row.suspicion) == ("send_unknown", None, None)
    release(database, 3602)
    assert_all_is_well(database)


def retire_late(database: Database, at: float) -> None:
    with database.transaction() as session:
        call_results.retire_late(session, seconds(at), REPEATS)


@pytest.mark.parametrize(("suspect", "ends"), [(IN_WORDS, "expired"), (MAYBE_SENT, "send_unknown")])
@pytest.mark.parametrize("transport", ["soap", "rest"])
def test_only_what_was_surely_not_sent_ends_as_never_sent(
    database: Database, suspect: SendOutcome, ends: str, transport: str
) -> None:
    (made,) = accept(database, message(transport=transport, valid_until=seconds(20)))
    offer(database, 0, suspect)
    retire_late(database, 20)
    assert read_message(database, made).status == ends
    assert (read_transitions(database, made)[-1].reason == "never sent") == (ends == "expired")
    release(database, 21)
    assert_all_is_well(database)


def test_what_may_have_been_sent_can_be_settled_but_not_cancelled(database: Database) -> None:
    by = Actor(actor="anna", reason="seen in the portal")
    (made,) = accept(database)
    offer(database, 0, MAYBE_SENT)
    with database.transaction() as session, pytest.raises(Refused, match="may have it"):
        operator_actions.cancel(session, made, by, seconds(1))
    which = operator_actions.CancelSelection(recipient="447700900001")
    assert bulk_actions.cancel(database, which, by, seconds(1)) == (0, True)
    with database.transaction() as session:
        assert operator_actions.resolve(session, made, Status.DELIVERED, by, seconds(2))
    assert read_message(database, made).due_at is None
    release(database, 3)
    assert_all_is_well(database)


def test_what_was_refused_can_be_cancelled_while_it_waits(database: Database) -> None:
    (made,) = accept(database)
    offer(database, 0, IN_WORDS)
    with database.transaction() as session:
        assert operator_actions.cancel(session, made, Actor(actor="anna", reason=None), seconds(1))
    release(database, 2)
    assert_all_is_well(database)


@SUSPECT
def test_a_receipt_settles_a_message_that_waits(database: Database, suspect: SendOutcome) -> None:
    (made,) = accept(database)
    offer(database, 0, suspect)
    report = Report(source=Source.GATEWAY, status=Status.DELIVERED, received_at=seconds(1))
    with database.transaction() as session:
        locked = transitions.lock_messages(session, [made])
        transitions.record(
            session, locked, [(made, transitions.NewTransition(report=report, rule="token"))], seconds(1)
        )
    release(database, 2)
    assert (read_message(database, made).status, begin(database, 100).ids) == ("delivered", [])
    assert_all_is_well(database)


def test_a_lone_try_whose_process_died_is_a_lost_answer(database: Database) -> None:
    (made,) = accept(database)
    offer(database, 0, IN_WORDS)
    assert begin(database, 1).ids == [made]
    with database.transaction() as session:
        assert call_results.settle_lost(session, seconds(100), REPEATS) == 1
    row = read_message(database, made)
    assert (row.status, row.suspicion, row.unclear_since) == ("send_unknown", None, seconds(1))
    release(database, 101)
    assert_all_is_well(database)


@pytest.mark.parametrize("outcome", [NOT_SENT, REFUSED])
def test_a_refusal_of_a_message_and_a_call_that_never_came_through_decide_nothing(
    database: Database, outcome: SendOutcome
) -> None:
    accept(database, *people(2))
    offer(database, 0, IN_WORDS)
    assert len(offer(database, 0, outcome)) == 1
    assert standing(database) == {"": "suspected"}


def test_a_code_on_what_may_have_been_sent_is_no_refusal(database: Database) -> None:
    (made,) = accept(database)
    offer(database, 0, MAYBE_SENT)
    (again,) = begin(database, 60).claimed
    assert (again.id, again.unclear_since) == (made, seconds(0)), "the transport takes it for a repeat"


def test_what_waits_holds_up_its_conversation_only_until_it_was_tried_alone(database: Database) -> None:
    first, second = accept(database, *(message(client_ref="a") for _ in range(2)))
    assert offer(database, 0, IN_WORDS) == [first]
    assert begin(database, 0.5).ids == []
    assert offer(database, 1, IN_WORDS) == [first]
    assert offer(database, 1, TAKEN) == [second], "else one text would stop all that is said to a person"
    assert offer(database, 2, IN_WORDS) == [first]
    assert statuses(database, [first, second]) == ["failed", "submitted"]


def test_while_an_account_may_be_refused_again_nobody_fails(database: Database) -> None:
    first, *others = accept(database, *people(4))
    offer(database, 0, IN_WORDS)
    offer(database, 0, TAKEN)
    again, other = begin(database, 1), begin(database, 1)
    if again.ids != [first]:
        again, other = other, again
    while again.ids != [first]:
        end(database, 1, again, TAKEN)
        again = begin(database, 1)
    end(database, 2, other, IN_WORDS)
    end(database, 3, again, IN_WORDS)
    assert read_message(database, first).status == "accepted"
    assert standing(database) == {"": "suspected"}, "and it is no witness against its account"
    assert all(word in {"accepted", "submitted"} for word in statuses(database, others))


@pytest.mark.slow
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # many calls, and nothing here is the database's
@pytest.mark.parametrize(
    ("suspect", "limit", "count", "most"),
    [
        (IN_WORDS, 1, 20, 1 + 1),  # each text in the row costs the call that clears the account of it
        (MAYBE_SENT, 1, 20, 1 + 1),
        (IN_WORDS, 50, 500, 1 + 1),
    ],
)
@pytest.mark.parametrize("at_once", [1, 4])
def test_many_such_texts_in_a_row_leave_the_others_their_pace(
    database: Database, suspect: SendOutcome, limit: int, count: int, most: int, at_once: int
) -> None:
    row = 10
    texts = [*["good"] * count, *["bad"] * row, *["good"] * count]
    made = accept(database, *(message(f"44770{place:07}", text) for place, text in enumerate(texts)))
    good = {one for one, text in zip(made, texts, strict=True) if text == "good"}
    taken: set[UUID] = set()
    calls = 0
    while good - taken:
        running = [call for call in (begin(database, 0, limit) for _ in range(at_once)) if call.claimed]
        assert running, "something holds the others"
        calls += len(running)
        for call in running:
            is_all_bad = all(one.text == "bad" for one in call.claimed)
            refused = suspect if is_all_bad else REFUSED  # beside one that is taken, words are about their own message
            end(database, 0, call, lambda one: refused if one.text == "bad" else TAKEN)  # noqa: B023
            taken |= {one.id for one in call.claimed if one.text == "good"}
            assert "refused" not in standing(database).values()
    assert calls <= len(good) / limit + most * row + at_once


def test_letting_messages_go_on_never_stands_in_the_way_of_a_call_that_ends(postgresql_database: Database) -> None:
    """Both want all sending's row and the counts; whoever had the counts first stopped both, one until a deadlock's end."""
    database = postgresql_database
    _, other = accept(database, message("447700900001"), message("447700900002"))
    offer(database, 0, MAYBE_SENT)
    call = begin(database, 0.5)  # before its time what waits is not tried
    assert call.ids == [other]
    end(database, 2, call, TAKEN, releases=False)
    with ThreadPoolExecutor(1) as threads:
        with database.transaction() as session:
            send_gate.hold(session)
            released = threads.submit(release, database, 3)
            wait_until_blocked(database, "transactionid")
            session.execute(text("LOCK TABLE hourly_counts IN SHARE MODE"))
        released.result()
    assert_all_is_well(database)
