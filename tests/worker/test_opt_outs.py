"""A reply that says stop is marked as an opt-out, and suppresses its sender where the settings say so."""

from dataclasses import replace
from urllib.parse import urlencode

import pytest
from sqlalchemy import select

from receiptsvc import ids
from receiptsvc.domain.inbox import Channel
from receiptsvc.store.core import audits
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Reply, Suppression
from receiptsvc.store.outbound import suppressions
from receiptsvc.store.outbound.suppressions import Pair
from receiptsvc.worker.receipt_processor import ReceiptRules, process
from tests.support.rows import accept, keep, message, seconds
from tests.support.work import ALICE, BOB, RULES, assert_sound

MARKS = replace(RULES, opt_out_words=frozenset({"stop", "stop all"}))
SUPPRESSES = replace(MARKS, suppresses_opt_outs=True)


def reply(
    database: Database,
    content: str = "STOP",
    *,
    sender: str = ALICE,
    recipient: str | None = "60030",
    ref: str | None = None,
    msgid: str = "1",
) -> None:
    said = {"msgid": msgid, "sender": sender, "recipient": recipient, "content": content, "clientref": ref}
    query = urlencode({name: value for name, value in said.items() if value is not None})
    keep(database, query, channel=Channel.INBOUND)


def work(database: Database, rules: ReceiptRules = SUPPRESSES) -> None:
    process(database, rules, seconds(10), 100)
    assert_sound(database)


def replies(database: Database) -> list[Reply]:
    with database.reading() as session:
        return list(session.scalars(select(Reply).order_by(Reply.id)))


def suppressed(database: Database) -> list[tuple[str, str]]:
    with database.reading() as session:
        rows = session.execute(select(Suppression.recipient, Suppression.originator))
        return sorted((row.recipient, row.originator) for row in rows)


@pytest.mark.parametrize(
    ("content", "is_opt_out"), [("Stop", True), (" \u201cstop\n ALL!\u201d", True), ("stop it", False), ("", False)]
)
def test_a_reply_is_an_opt_out_by_its_whole_content(database: Database, content: str, is_opt_out: bool) -> None:
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
    accept(database, message(ALICE, originator="+4477001", client_ref="order-1"))
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
        ("worker", "suppressed", {"reply": ids.public("rpl", opted_out.id)})
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
