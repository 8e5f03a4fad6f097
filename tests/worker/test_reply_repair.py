"""`rebuild` finds the opt-outs, opt-ins, links and times that were missed of replies, and acts on them with `--apply`."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from urllib.parse import urlencode
from uuid import UUID

import pytest
from sqlalchemy import select, update

from receiptsvc import ids
from receiptsvc.domain import conversations
from receiptsvc.domain.correlation import LINK_ALONE, LINK_BY_LAST_MESSAGE
from receiptsvc.domain.inbox import Channel
from receiptsvc.store.core import audits
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import InboxRow, Reply, Suppression
from receiptsvc.store.inbound.replies import ReplyRules
from receiptsvc.store.messages import activity
from receiptsvc.store.outbound import suppressions
from receiptsvc.store.outbound.suppressions import Pair
from receiptsvc.worker.receipt_processor import process
from receiptsvc.worker.reply_repair import Missed, repair_replies
from tests.support.rows import accept, keep, message, read_message, seconds
from tests.support.work import ALICE, BOB, CAROL, RULES, assert_sound

OLD = replace(RULES, suppresses_opt_outs=True)  # it knows no words
NEW = replace(OLD, replies=ReplyRules(opt_out_words=frozenset({"stop"}), opt_in_words=frozenset({"start", "unstop"})))
MARKS = replace(NEW, suppresses_opt_outs=False)
PAIR = Pair(ALICE, "60030")


def reply(
    database: Database, content: str = "STOP", *, sender: str = ALICE, at: float | None = None, now: float = 0
) -> UUID:
    fields = {"sender": sender, "recipient": "60030", "content": content}
    if at is not None:
        fields["datetime"] = seconds(at).strftime("%d %b %Y %H:%M:%S")
    return keep(database, urlencode(fields), channel=Channel.INBOUND, now=seconds(now))


def repair(database: Database, at: float = 100, *, rules: object = NEW, slice_size: int | None = None) -> Missed:
    """What `rebuild --apply` finds; `rebuild` found the same before, and afterwards nothing is left."""
    assert isinstance(rules, type(NEW))
    before = state(database)
    told = repair_replies(database, rules, seconds(at), slice_size=slice_size)
    assert state(database) == before
    done = repair_replies(database, rules, seconds(at), is_applied=True, slice_size=slice_size)
    assert done == told
    assert repair_replies(database, rules, seconds(at), is_applied=True) == Missed()
    assert_sound(database)
    return done


def state(database: Database) -> Sequence[object]:
    with database.reading() as session:
        rows = session.scalars(select(Reply).order_by(Reply.id)).all()
        marks = [(row.sender, row.message_id, row.occurred_at, row.is_opt_out, row.is_opt_in) for row in rows]
        return marks, suppressions.find(session, [ALICE, BOB, CAROL])


def suppressed(database: Database) -> set[str]:
    with database.reading() as session:
        return {pair.recipient for pair in suppressions.find(session, [ALICE, BOB, CAROL])}


def by_hand(database: Database, at: float, *, suppress: bool) -> None:
    with database.transaction() as session:
        if suppress:
            suppressions.add(session, [PAIR], Actor(actor="desk"), seconds(at))
        else:
            suppressions.remove(session, PAIR, Actor(actor="desk"), seconds(at))


def told_of(database: Database, subject: str) -> list[tuple[str, str]]:
    with database.reading() as session:
        return [(audit.actor, audit.action) for audit in audits.read(session, subject)]


@pytest.mark.parametrize("slice_size", [None, 1, 2])
def test_a_missed_opt_out_is_found_and_acted_on(database: Database, slice_size: int | None) -> None:
    [waiting] = accept(database, message(ALICE, originator="60030", deliver_after=seconds(9000)))
    for sender, content in ((ALICE, "STOP \U0001f44d"), (BOB, "please stop by"), (CAROL, "Stop")):
        reply(database, content, sender=sender)
    process(database, OLD, seconds(10), 100)
    assert suppressed(database) == set()
    assert repair(database, slice_size=slice_size) == Missed(opt_outs=2, suppressed={PAIR, Pair(CAROL, "60030")})
    assert suppressed(database) == {ALICE, CAROL}
    assert read_message(database, waiting).status == "cancelled"
    with database.reading() as session:
        row = session.get_one(Suppression, tuple(PAIR))
    assert (row.created_by, row.reason, row.reply_id is not None) == ("rebuild", "opted out", True)
    assert told_of(database, suppressions.subject(PAIR)) == [
        ("rebuild", "opted out"),
        ("rebuild", "withdrew messages"),
    ]
    assert row.reply_id is not None
    assert told_of(database, ids.public("rpl", row.reply_id)) == [("rebuild", "read again")]


WORDS = [
    ("an opt-out alone", [("STOP", 1)], True),
    ("a later opt-in", [("STOP", 1), ("START", 2)], False),
    ("an earlier opt-in", [("START", 1), ("STOP", 2)], True),
    ("a later opt-in that came first", [("UNSTOP", 5), ("STOP", 1)], False),
    ("a second opt-out after the opt-in", [("STOP", 1), ("START", 2), ("STOP", 3)], True),
    ("undecidable", [("STOP", None), ("START", 2)], True),
]


@pytest.mark.parametrize(("kind", "words", "is_suppressed"), WORDS, ids=[kind for kind, _, _ in WORDS])
@pytest.mark.parametrize("slice_size", [None, 1])
def test_all_words_are_weighed_together(
    database: Database, kind: str, words: list[tuple[str, int | None]], is_suppressed: bool, slice_size: int | None
) -> None:
    for content, at in words:
        reply(database, content, at=at)
    process(database, OLD, seconds(10), 100)
    repair_replies(database, NEW, seconds(100), is_applied=True, slice_size=slice_size)
    assert suppressed(database) == ({ALICE} if is_suppressed else set()), kind


def test_a_missed_opt_in_lifts_what_an_opt_out_suppressed(database: Database) -> None:
    only_stop = replace(NEW, replies=ReplyRules(opt_out_words=frozenset({"stop"})))
    reply(database, at=1)
    reply(database, "START", at=2)
    process(database, only_stop, seconds(10), 100)
    assert suppressed(database) == {ALICE}
    assert repair(database) == Missed(opt_ins=1, allowed_again={PAIR})
    assert suppressed(database) == set()
    assert told_of(database, suppressions.subject(PAIR)) == [("worker", "opted out"), ("rebuild", "opted in")]


def test_a_missed_opt_in_does_not_lift_what_was_suppressed_by_hand(database: Database) -> None:
    by_hand(database, 5, suppress=True)
    reply(database, at=1)
    reply(database, "START", at=2)
    process(database, OLD, seconds(10), 100)
    assert repair(database) == Missed(opt_outs=1, opt_ins=1)
    assert suppressed(database) == {ALICE}


@pytest.mark.parametrize(("allowed_at", "is_suppressed"), [(5, True), (20, False)])
def test_a_person_s_own_change_after_a_missed_opt_out_holds(
    database: Database, allowed_at: float, is_suppressed: bool
) -> None:
    by_hand(database, 4, suppress=True)
    if not is_suppressed:
        reply(database, at=1)
        process(database, OLD, seconds(10), 100)
    by_hand(database, allowed_at, suppress=False)
    if is_suppressed:
        reply(database, at=1)
        process(database, OLD, seconds(10), 100)
    found = repair(database)
    assert (found.opt_outs, bool(found.suppressed)) == (1, is_suppressed)
    assert suppressed(database) == ({ALICE} if is_suppressed else set())


def test_opt_outs_that_were_only_marked_are_acted_on_once_they_are_to_be(database: Database) -> None:
    reply(database)
    process(database, MARKS, seconds(10), 100)
    assert repair(database, rules=MARKS) == Missed()
    assert repair(database) == Missed(suppressed={PAIR})
    assert suppressed(database) == {ALICE}


def test_where_opt_outs_are_only_marked_so_are_missed_ones(database: Database) -> None:
    reply(database)
    process(database, OLD, seconds(10), 100)
    assert repair(database, rules=MARKS) == Missed(opt_outs=1)
    assert suppressed(database) == set()


def test_a_missed_link_is_found_and_its_conversation_is_right(database: Database) -> None:
    made = message(ALICE, originator="ACME", client_ref="order/1")
    accept(database, made)
    other = message(ALICE, originator="60030", client_ref="order/2")
    accept(database, other)
    reply(database, "Yes", sender="07700900001")
    process(database, RULES, seconds(10), 100)
    alone = conversations.conversation_id(client_ref=None, recipient="07700900001", originator="60030")
    with database.transaction() as session:  # as a release recorded it that could not read the number
        session.execute(
            update(Reply).values(sender="07700900001", message_id=None, link=LINK_ALONE, conversation_id=alone)
        )
        activity.repair(session, [alone, other.conversation_id])
    assert_sound(database)
    accept(database, message(ALICE, originator="60030", client_ref="order/3"), now=seconds(9000))
    assert repair(database).links == 1
    with database.reading() as session:
        row = session.scalars(select(Reply)).one()
        assert activity.find_missing(session, [alone]) == {alone}
    assert (row.sender, row.message_id, row.link, row.conversation_id) == (
        ALICE,
        other.id,
        LINK_BY_LAST_MESSAGE,
        other.conversation_id,
    )
    assert told_of(database, ids.public("rpl", row.id)) == [("rebuild", "read again")]


def test_a_missed_time_is_read_and_what_was_found_before_stays(database: Database) -> None:
    reply(database, at=3)
    process(database, MARKS, seconds(10), 100)
    with database.transaction() as session:
        session.execute(update(Reply).values(occurred_at=None))
    assert repair(database, rules=replace(MARKS, replies=ReplyRules())) == Missed(times=1)
    with database.reading() as session:
        row = session.scalars(select(Reply)).one()
    found: tuple[datetime | None, bool] = (row.occurred_at, row.is_opt_out)
    assert found == (seconds(3), True), "a word that is no longer one was one then"


def test_a_reply_that_can_not_be_read_any_more_is_left_alone(database: Database) -> None:
    receipt_id = reply(database)
    process(database, MARKS, seconds(10), 100)
    with database.transaction() as session:
        session.execute(update(InboxRow).where(InboxRow.id == receipt_id).values(query=b""))
    assert repair(database, rules=MARKS) == Missed()
