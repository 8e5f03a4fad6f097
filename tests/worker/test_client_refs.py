"""A clientRef that comes back with blanks at its ends is the same one."""

from urllib.parse import urlencode

import pytest
from sqlalchemy import event, select

from receiptsvc.domain.correlation import BY_CLIENT_REF, LINK_BY_CLIENT_REF, MAX_CANDIDATES
from receiptsvc.domain.inbox import Channel
from receiptsvc.domain.messages import Origin, SendOutcome
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Message, Reply
from receiptsvc.store.messages import transitions
from tests.support.rows import accept, keep, message
from tests.support.work import answer, assert_sound, offer, outcome, rules, said, send, work_off

# As it was sent, and as it comes back.
SAME = [
    ("order/1", "order/1"),
    ("order/1", " order/1\t"),
    ("order/1", "\u00a0order/1\u3000"),
]
OTHER = [("order/1", "order/10"), ("order/1", "order/1\u200b"), ("order/1", "Order/1")]


@pytest.mark.parametrize(("stored", "comes"), [*SAME, *OTHER])
def test_a_receipt_and_a_reply_find_their_message_by_it(database: Database, stored: str, comes: str) -> None:
    one = message("447700900001", client_ref=stored)
    send(database, one)
    receipt = keep(database, said(ref=comes, to="447700900001"))
    reply = {"msgid": "1", "sender": "447700900001", "recipient": "60030", "content": "Hi", "clientref": comes}
    keep(database, urlencode(reply), channel=Channel.INBOUND)
    work_off(database)
    is_same = (stored, comes) in SAME
    assert rules(database, one.id) == [BY_CLIENT_REF] * is_same
    assert (outcome(database, receipt) == "unmatched") is not is_same
    with database.reading() as session:
        row = session.scalars(select(Reply)).one()
    assert (row.message_id == one.id, row.link == LINK_BY_CLIENT_REF) == (is_same, True)
    assert row.client_ref == comes.strip()
    assert (row.conversation_id == one.conversation_id) is is_same
    assert_sound(database)


@pytest.mark.on_postgresql
def test_blanks_alone_are_none(database: Database) -> None:
    receipt = keep(database, said(ref="  ", to="447700900001"))
    reply = {"msgid": "1", "sender": "447700900001", "recipient": "60030", "content": "Hi", "clientref": "  "}
    keep(database, urlencode(reply), channel=Channel.INBOUND)
    work_off(database, 1000, adopt_after=10)
    assert outcome(database, receipt) == "unmatched", "without a reference nothing is adopted"
    with database.reading() as session:
        assert session.scalars(select(Reply.client_ref)).one() is None


@pytest.mark.on_postgresql
def test_another_system_s_message_is_adopted_once_and_trimmed(database: Database) -> None:
    for written in ("order/1", "order/1 ", "\u00a0order/1"):
        keep(database, said(ref=written, to="447700900001"))
    work_off(database, 1000, adopt_after=10)
    with database.reading() as session:
        adopted = session.scalars(select(Message).where(Message.origin == Origin.EXTERNAL)).all()
    assert [row.client_ref for row in adopted] == ["order/1"]
    assert_sound(database)


@pytest.mark.on_postgresql
def test_a_receipt_that_waits_is_released_by_the_end_of_its_message_s_call(database: Database) -> None:
    accept(database, message("447700900001", client_ref="order/1"))
    [message_id] = offer(database)
    receipt = keep(database, said(ref=" order/1", to="447700900001", tx="7"))
    work_off(database)
    assert outcome(database, receipt) == "unmatched"
    answer(database, message_id, SendOutcome.TAKEN)
    work_off(database)
    assert outcome(database, receipt) == "applied"


def test_a_campaigns_messages_are_read_once_for_all_receipts_that_name_it(database: Database) -> None:
    numbers_of_campaign = [f"4477009{n:05}" for n in range(60)]
    made = accept(database, *(message(number, client_ref="campaign") for number in numbers_of_campaign))
    statements: list[str] = []
    pairs = {("campaign", number[-9:]) for number in [*numbers_of_campaign, "447700999999"]}
    with database.reading() as session:
        engine = session.get_bind()
        event.listen(engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
        found = transitions.find_candidates(session, pairs)
    assert {message_id for each in found.values() for message_id in each} == set(made)
    assert sum("FROM messages" in statement for statement in statements) == 1


def test_however_many_client_refs_are_named_few_queries_find_their_messages(database: Database) -> None:
    names = [f"order-{n}" for n in range(40)]
    made = [accept(database, message(f"4477009{n:05}", client_ref=name))[0] for n, name in enumerate(names)]
    statements: list[str] = []
    pairs = {(name, f"{n:05}") for n, name in enumerate(names)} | {(f"unknown-{n}", "00001") for n in range(40)}
    with database.reading() as session:
        event.listen(session.get_bind(), "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
        found = transitions.find_candidates(session, pairs)
    assert found == {(name, f"{n:05}"): [made[n]] for n, name in enumerate(names)}
    if not database.is_sqlite:  # whose batches are short, and whose queries are no journeys
        assert len(statements) <= 2


def test_a_client_ref_with_many_messages_is_told_apart_by_the_ends_of_numbers(database: Database) -> None:
    recipients = [f"4477009{n:05}" for n in range(70)] + ["447700955501"] * (MAX_CANDIDATES + 3)
    made = accept(database, *(message(number, client_ref="campaign") for number in recipients))
    endings = ["00007", "7", "955501", "nobody"]
    with database.reading() as session:
        alone = {each: transitions.find_candidates(session, [("campaign", each)]) for each in endings}
        few = transitions.find_candidates(session, [("campaign", each) for each in endings])
        many = transitions.find_candidates(session, [("campaign", f"{n:05}") for n in range(70)])
    assert few == {pair: ids for found in alone.values() for pair, ids in found.items()}
    assert few["campaign", "00007"] == [made[7]]
    assert len(few["campaign", "7"]) == 7
    assert len(few["campaign", "955501"]) == MAX_CANDIDATES
    assert many == {("campaign", f"{n:05}"): [made[n]] for n in range(70)}
