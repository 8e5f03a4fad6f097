"""A reply that says stop is marked as an opt-out, and suppresses its sender where the settings say so."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from itertools import count, permutations
from threading import Barrier
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from receiptsvc import ids
from receiptsvc.domain.accounts import account_of
from receiptsvc.domain.inbox import Channel
from receiptsvc.domain.messages import SendOutcome, SendResult
from receiptsvc.domain.opt_outs import is_refused
from receiptsvc.store.core import audits
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Reply, Suppression
from receiptsvc.store.inbound.replies import ReplyRules
from receiptsvc.store.outbound import call_results, claims, suppressions
from receiptsvc.store.outbound.accounts import Call
from receiptsvc.store.outbound.call_results import AttemptResult
from receiptsvc.store.outbound.suppressions import Pair
from receiptsvc.worker.receipt_batch import ReceiptRules
from receiptsvc.worker.receipt_processor import process
from tests.support.forms import examples
from tests.support.rows import accept, keep, message, read_message, read_transitions, seconds
from tests.support.work import ALICE, BOB, LEASE, REPEATS, RULES, answer, assert_sound, offer, public, said

MARKS = replace(
    RULES,
    replies=ReplyRules(opt_out_words=frozenset({"stop", "stop all"}), opt_in_words=frozenset({"start", "unstop"})),
)
SUPPRESSES = replace(MARKS, suppresses_opt_outs=True)


def reply(
    database: Database,
    content: str = "STOP",
    *,
    sender: str = ALICE,
    recipient: str | None = "60030",
    ref: str | None = None,
    msgid: str = "1",
    at: float | None = None,
) -> None:
    """Keep a reply. `at`: its provider time, in whole seconds after T0."""
    moment = None if at is None else seconds(at).strftime("%d %b %Y %H:%M:%S")
    fields = {
        "msgid": msgid,
        "datetime": moment,
        "sender": sender,
        "recipient": recipient,
        "content": content,
        "clientref": ref,
    }
    query = urlencode({name: value for name, value in fields.items() if value is not None})
    keep(database, query, channel=Channel.INBOUND)


def work(database: Database, rules: ReceiptRules = SUPPRESSES) -> None:
    process(database, rules, seconds(10), 100)
    assert_sound(database)


def replies(database: Database) -> list[Reply]:
    with database.reading() as session:
        return list(session.scalars(select(Reply).order_by(Reply.id)))


def suppressed(database: Database, *senders: str) -> list[tuple[str, str]]:
    """Who is suppressed for whom; of these people, if any are named."""
    with database.reading() as session:
        rows = session.execute(select(Suppression.recipient, Suppression.originator)).all()
    return sorted((row.recipient, row.originator) for row in rows if not senders or row.recipient in senders)


@pytest.mark.parametrize(
    ("content", "is_opt_out"), [("Stop", True), (" \u201cstop\n by!\u201d", True), ("stop it", False), ("", False)]
)
def test_a_reply_is_an_opt_out_by_its_first_line(database: Database, content: str, is_opt_out: bool) -> None:
    reply(database, content)
    work(database, MARKS)
    [row] = replies(database)
    assert row.is_opt_out is is_opt_out
    assert suppressed(database) == []


def test_without_words_nothing_is_an_opt_out(database: Database) -> None:
    reply(database, "")
    work(database, RULES)
    assert [row.is_opt_out for row in replies(database)] == [False]


def test_the_answered_originator_and_the_replys_recipient_are_both_suppressed(database: Database) -> None:
    [sent] = public(*accept(database, message(ALICE, originator="+4477001", client_ref="order-1")))
    reply(database, sender="+" + ALICE, recipient="+44 77002", ref="order-1")
    reply(database, "thanks", sender=BOB, msgid="2")
    work(database)
    assert suppressed(database) == [(ALICE, "4477001"), (ALICE, "4477002")]
    with database.reading() as session:
        [row, _] = session.scalars(select(Suppression).order_by(Suppression.originator))
        told = audits.read(session, suppressions.subject(Pair(ALICE, "4477001")))
    opted_out = replies(database)[0]
    assert (row.created_by, row.reason, row.reply_id, row.created_at) == (
        "worker",
        "opted out",
        opted_out.id,
        seconds(10),
    )
    assert [(audit.actor, audit.action, audit.details) for audit in told] == [
        ("worker", "opted out", {"reply": ids.public("rpl", opted_out.id)}),
        ("worker", "withdrew messages", {"cancelled": [sent], "notRepeated": [], "scheduledByGateway": []}),
    ]


@pytest.mark.parametrize(
    ("originator", "recipient", "names"),
    [
        (None, "60030", ["", "60030"]),
        (None, None, [""]),
        ("60030", "60030", ["60030"]),
    ],
)
def test_a_reply_to_the_default_originator_suppresses_it(
    database: Database, originator: str | None, recipient: str | None, names: list[str]
) -> None:
    accept(database, message(ALICE, originator=originator))
    reply(database, recipient=recipient)
    work(database)
    assert suppressed(database) == [(ALICE, name) for name in names]


@pytest.mark.parametrize(("recipient", "name"), [("60030", "60030"), (None, "")])
def test_a_reply_without_a_known_message_suppresses_its_recipient(
    database: Database, recipient: str | None, name: str
) -> None:
    reply(database, recipient=recipient)
    work(database)
    assert suppressed(database) == [(ALICE, name)]


def test_a_repeated_opt_out_keeps_the_first_suppression(database: Database) -> None:
    reply(database)
    work(database)
    reply(database)  # forwarded again
    reply(database, msgid="2")
    work(database)
    assert [row.is_opt_out for row in replies(database)] == [True, True]
    with database.reading() as session:
        [row] = session.scalars(select(Suppression))
        assert row.reply_id == replies(database)[0].id
        assert len(audits.read(session, suppressions.subject(Pair(ALICE, "60030")))) == 1


def opt_in_at(database: Database, at: float | None, *, msgid: str = "9", **more: Any) -> None:
    reply(database, "START", msgid=msgid, at=at, **more)


def by_hand(database: Database, *, suppress: bool, recipient: str = ALICE, originator: str = "60030") -> None:
    """Suppress or allow a person, as the API does."""
    pair, desk = Pair(recipient, originator), Actor(actor="desk")
    with database.transaction() as session:
        if suppress:
            suppressions.add(session, [pair], desk, seconds(20))
        else:
            assert suppressions.remove(session, pair, desk, seconds(20)) is not None


def moves(database: Database, originator: str = "60030") -> list[tuple[str, str]]:
    with database.reading() as session:
        told = audits.read(session, suppressions.subject(Pair(ALICE, originator)))
        return [(audit.actor, audit.action) for audit in told]


def test_an_opt_in_lifts_what_the_same_persons_opt_out_made_for_that_sender(database: Database) -> None:
    for key, (sender, recipient) in enumerate([(ALICE, "60030"), (ALICE, "60031"), (BOB, "60030")]):
        reply(database, sender=sender, recipient=recipient, msgid=str(key), at=1)
    work(database)
    opt_in_at(database, 2)
    work(database)
    assert suppressed(database) == [(ALICE, "60031"), (BOB, "60030")]
    assert moves(database) == [("worker", "opted out"), ("worker", "opted in")]
    assert [row.is_opt_in for row in replies(database)] == [False, False, False, True]
    reply(database, msgid="4", at=3)
    work(database)
    assert (ALICE, "60030") in suppressed(database)


@pytest.mark.parametrize("content", ["YES", "start tomorrow", "ok"])
def test_what_is_no_opt_in_word_lifts_nothing(database: Database, content: str) -> None:
    reply(database, at=1)
    reply(database, content, msgid="2", at=2)
    work(database)
    assert suppressed(database) == [(ALICE, "60030")]


def test_where_opt_outs_are_only_marked_an_opt_in_is_marked_too(database: Database) -> None:
    by_hand(database, suppress=True)
    opt_in_at(database, 2)
    work(database, MARKS)
    assert [row.is_opt_in for row in replies(database)] == [True]
    assert suppressed(database) == [(ALICE, "60030")]


WORDS = [
    ("an opt-out and a later opt-in", [("STOP", 1), ("START", 2)], False),
    ("an opt-in and a later opt-out", [("START", 1), ("STOP", 2)], True),
    ("several", [("STOP", 1), ("START", 2), ("STOP", 3)], True),
    ("several, the last an opt-in", [("STOP", 1), ("STOP", 3), ("UNSTOP", 4)], False),
    ("at the same second", [("STOP", 2), ("START", 2)], True),
    ("an opt-out without a time", [("STOP", None), ("START", 2)], True),
    ("an opt-in without a time", [("STOP", 1), ("START", None)], True),
    ("both without a time", [("STOP", None), ("START", None)], True),
    ("an opt-in alone", [("START", 1), ("thanks", 2)], False),
]


@pytest.mark.parametrize(("kind", "words", "is_suppressed"), WORDS, ids=[kind for kind, _, _ in WORDS])
def test_the_latest_word_decides_whatever_the_order_of_arrival(
    database: Database, kind: str, words: list[tuple[str, int | None]], is_suppressed: bool
) -> None:
    for number, order in enumerate(permutations(enumerate(words))):
        sender = str(447700900100 + number)
        for key, (content, at) in order:
            reply(database, content, sender=sender, msgid=f"{number}.{key}", at=at)
            if number % 2:  # one by one, or together
                process(database, SUPPRESSES, seconds(10), 100)
    work(database)
    expected = [(str(447700900100 + number), "60030") for number in range(len(list(permutations(words))))]
    assert suppressed(database) == (expected if is_suppressed else []), kind


_SENDERS = count(447700901000)


@given(
    words=st.lists(
        st.tuples(
            st.sampled_from(["STOP", "START", "thanks"]), st.none() | st.integers(0, 4), st.sampled_from(["1", "60030"])
        ),
        min_size=1,
        max_size=6,
    ),
    data=st.data(),
)
@settings(
    max_examples=examples(20),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_words_come_to_the_same_in_any_order_and_any_batches(
    database: Database, words: list[tuple[str, int | None, str]], data: st.DataObject
) -> None:
    senders = [str(next(_SENDERS)) for _ in range(2)]
    orders = [list(enumerate(words)), data.draw(st.permutations(list(enumerate(words))))]
    for sender, order in zip(senders, orders, strict=True):
        for key, (content, at, recipient) in order:
            reply(database, content, sender=sender, recipient=recipient, msgid=f"{sender}.{key}", at=at)
            if data.draw(st.booleans()):
                process(database, SUPPRESSES, seconds(10), 100)
    process(database, SUPPRESSES, seconds(10), 100)

    def times(content: str, recipient: str) -> list[datetime | None]:
        found = [at for word, at, to in words if (word, to) == (content, recipient)]
        return [None if at is None else seconds(at) for at in found]

    must = [name for name in ("1", "60030") if is_refused(times("STOP", name), times("START", name))]
    assert suppressed(database, *senders) == [(sender, name) for sender in senders for name in must]


def test_no_opt_in_lifts_a_suppression_made_by_hand(database: Database) -> None:
    by_hand(database, suppress=True)
    reply(database, at=1)
    opt_in_at(database, 2)
    work(database)
    assert suppressed(database) == [(ALICE, "60030")]
    assert moves(database) == [("desk", "suppressed")]


def test_what_is_suppressed_by_hand_after_an_opt_out_is_lifted_by_hand_only(database: Database) -> None:
    reply(database, at=1)
    work(database)
    by_hand(database, suppress=True)
    by_hand(database, suppress=True)
    opt_in_at(database, 2)
    work(database)
    assert suppressed(database) == [(ALICE, "60030")]
    assert moves(database) == [("worker", "opted out"), ("desk", "suppressed")]
    by_hand(database, suppress=False)
    assert suppressed(database) == []


def test_an_opt_out_that_was_settled_by_hand_weighs_no_more(database: Database) -> None:
    reply(database, at=None)  # as long as it counts, no opt-in is surely later
    work(database)
    by_hand(database, suppress=False)
    opt_in_at(database, 30)
    process(database, SUPPRESSES, seconds(40), 100)
    assert suppressed(database) == []
    reply(database, msgid="2", at=25)
    process(database, SUPPRESSES, seconds(40), 100)
    assert suppressed(database) == []
    reply(database, msgid="3", at=35)
    process(database, SUPPRESSES, seconds(40), 100)
    assert suppressed(database) == [(ALICE, "60030")]


def test_an_opt_out_cancels_what_is_accepted_from_the_sender_answered(database: Database) -> None:
    made = [
        message(ALICE, originator="+60030"),
        message(ALICE, originator="60030", deliver_after=seconds(3600)),
        message(ALICE, originator="ACME"),
        message(BOB, originator="60030"),
    ]
    accept(database, *made)
    reply(database)
    work(database)
    assert [read_message(database, one.id).status for one in made] == ["cancelled", "cancelled", "accepted", "accepted"]
    [*_, step] = read_transitions(database, made[0].id)
    assert (step.status, step.rule, step.reason) == ("cancelled", "recipient suppressed", "never sent")
    assert set(offer(database, 20)) <= {made[2].id, made[3].id}
    assert moves(database) == [("worker", "opted out"), ("worker", "withdrew messages")]


def test_what_may_have_been_sent_is_never_repeated_and_stays_unknown(database: Database) -> None:
    [message_id] = accept(database, message(ALICE, originator="60030"))
    assert offer(database) == [message_id]
    answer(database, message_id, SendOutcome.UNCLEAR)
    reply(database)
    work(database)
    row = read_message(database, message_id)
    assert (row.status, row.due_at) == ("send_unknown", None)
    assert offer(database, 3000) == []
    keep(database, said(to=ALICE), message_id=message_id)
    work(database)
    assert read_message(database, message_id).status == "delivered"


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (SendOutcome.TAKEN, "submitted"),
        (SendOutcome.UNCLEAR, "send_unknown"),
        (SendOutcome.NOT_SENT, "cancelled"),
        (SendOutcome.REFUSED, "failed"),
    ],
)
def test_a_message_in_a_call_is_left_to_the_calls_end(database: Database, outcome: SendOutcome, status: str) -> None:
    [message_id] = accept(database, message(ALICE, originator="60030"))
    assert offer(database) == [message_id]
    reply(database)
    work(database)
    assert read_message(database, message_id).status == "accepted"
    answer(database, message_id, outcome)
    assert offer(database, 3000) == []
    row = read_message(database, message_id)
    assert (row.status, row.due_at, row.tries) == (status, None, 1)
    assert_sound(database)


def test_what_was_accepted_while_the_opt_out_was_recorded_is_not_sent(database: Database) -> None:
    by_hand(database, suppress=True)  # as an opt-out whose transaction did not see the messages
    made = [message(ALICE, originator="60030") for _ in range(3)]
    accept(database, *made, message(BOB, originator="60030"), message(ALICE, originator="ACME"))
    assert len(offer(database, 1)) == 2
    assert {read_message(database, one.id).status for one in made} == {"cancelled"}
    assert_sound(database)


def test_what_the_gateway_is_to_send_later_is_listed(database: Database) -> None:
    later = seconds(3600)
    made = [message(ALICE, originator="60030", deliver_after=later) for _ in range(2)]
    past = message(ALICE, originator="60030", deliver_after=seconds(5))
    accept(database, *made, past, message(ALICE, originator="ACME", deliver_after=later))
    for one, outcome in ((made[0], SendOutcome.TAKEN), (made[1], SendOutcome.UNCLEAR), (past, SendOutcome.TAKEN)):
        while one.id not in (claimed := offer(database)):
            assert claimed
        for each in claimed:
            answer(database, each, outcome if each == one.id else SendOutcome.TAKEN)
    reply(database)
    work(database)
    with database.reading() as session:
        [row] = session.scalars(select(Suppression))
        assert set(row.scheduled_ids or ()) == public(made[0].id, made[1].id)
        [*_, audit] = audits.read(session, suppressions.subject(Pair(ALICE, "60030")))
    assert set(audit.details["scheduledByGateway"]) == public(made[0].id, made[1].id)


def test_two_workers_that_have_an_opt_out_and_an_opt_in_at_once_come_to_the_same(postgresql_database: Database) -> None:
    database = postgresql_database
    refusing, allowing = ([str(first + number) for number in range(10)] for first in (447700900100, 447700900200))
    for sender in (*refusing, *allowing):
        reply(database, "STOP", sender=sender, msgid=f"{sender}.1", at=2)
        reply(database, "START", sender=sender, msgid=f"{sender}.2", at=1 if sender in refusing else 3)
    together = Barrier(2)

    def work_all() -> None:
        together.wait()
        while process(database, SUPPRESSES, seconds(10), 1):
            pass

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(work_all) for _ in range(2)]:
            done.result()
    work(database)
    assert suppressed(database) == [(sender, "60030") for sender in refusing]


def test_an_opt_out_waits_for_no_claim_and_its_message_is_withdrawn_after_the_call(
    postgresql_database: Database,
) -> None:
    database = postgresql_database
    made = [message(ALICE, originator="60030"), message(ALICE, originator="60030", deliver_after=seconds(9))]
    accept(database, *made)
    reply(database)
    with database.transaction() as session:
        [claimed] = claims.claim(session, seconds(1), limit=1, lease=LEASE, repeats=REPEATS).messages
        assert process(database, SUPPRESSES, seconds(2), 100) == 1
    assert [read_message(database, one.id).status for one in made] == ["accepted", "cancelled"]
    assert claimed.id == made[0].id
    answer(database, claimed.id, SendOutcome.NOT_SENT, at=3)
    assert offer(database, 100) == []
    assert read_message(database, claimed.id).status == "cancelled"
    assert_sound(database)


def test_what_waits_because_its_account_may_be_refused_is_withdrawn_too(database: Database) -> None:
    outcomes = (SendOutcome.SUSPECT_REFUSED, SendOutcome.SUSPECT_UNCLEAR)
    made = [message(ALICE, originator="60030", client_ref=f"{number}") for number in range(2)]
    accept(database, *made)
    for outcome in outcomes:
        [message_id] = offer(database)
        with database.transaction() as session:
            result = AttemptResult(number=1, result=SendResult(outcome=outcome))
            call = Call(account=account_of(None), knows_up_to=0, is_alone=False)
            call_results.record_results(session, {message_id: result}, seconds(1), REPEATS, call=call)
    reply(database)
    work(database)
    rows = [read_message(database, one.id) for one in made]
    assert [(row.status, row.due_at) for row in rows] == [("cancelled", None), ("send_unknown", None)]
    with database.transaction() as session:
        call_results.release(session, seconds(5), REPEATS)
    rows = [read_message(database, one.id) for one in made]
    assert [(row.status, row.due_at) for row in rows] == [("cancelled", None), ("send_unknown", None)]
    assert_sound(database)
