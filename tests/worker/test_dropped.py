"""A callback that a spool brings again after its time slice was dropped is not worked on twice."""

from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
from sqlalchemy import select

from receiptsvc.domain.inbox import Arrival, Channel
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import InboxRow, Reply
from receiptsvc.store.inbox import time_slices
from tests.support.rows import accept, insert_arrivals, message, read_message, read_transitions
from tests.support.time_slices import arrival_at, drop_all, names, slice_of
from tests.support.work import ALICE, BOB, assert_sound, outcomes, said, send, work_off

OLD = datetime(2025, 11, 3, tzinfo=UTC)  # the worker of these tests works in January 2026


@pytest.fixture
def database(postgresql_database: Database) -> Database:
    return postgresql_database


def keep(database: Database, *arrivals: Arrival) -> None:
    with database.transaction() as session:
        insert_arrivals(session, arrivals)


def bring_again(database: Database, *arrivals: Arrival) -> None:
    """Drop the slices, and drain a spool that still has these callbacks."""
    drop_all(database)
    assert names(database) == []
    keep(database, *arrivals)
    work_off(database, 200)
    assert {slice_of(database, each.id) for each in arrivals} == {time_slices.DEFAULT}


def test_a_receipt_keeps_the_outcome_that_it_had(database: Database) -> None:
    (message_id,) = accept(database)
    queries = [said(), said(), said("Message sent"), said("Expired"), said("Nobody knows")]
    receipts = [
        arrival_at(OLD, query, number=number)._replace(channel=Channel.MESSAGE, message_id=message_id)
        for number, query in enumerate(queries)
    ]
    keep(database, *receipts)
    work_off(database)
    receipt_ids = [each.id for each in receipts]
    before = outcomes(database, receipt_ids)
    recorded = [each.id for each in read_transitions(database, message_id)]
    bring_again(database, *receipts)
    assert outcomes(database, receipt_ids) == before
    assert len(set(before)) > 2
    assert [each.id for each in read_transitions(database, message_id)] == recorded
    assert read_message(database, message_id).status == "delivered"
    assert_sound(database)


def test_a_reply_is_recorded_once(database: Database) -> None:
    contents = ["yes", "yes", "no"]  # the second is a duplicate, the third conflicts with the first
    replies = [
        arrival_at(
            OLD, urlencode({"msgid": "7", "sender": ALICE, "recipient": "SHOP", "content": content}), number=number
        )
        for number, content in enumerate(contents)
    ]
    replies = [each._replace(channel=Channel.INBOUND) for each in replies]
    keep(database, *replies)
    work_off(database)
    before = outcomes(database, [each.id for each in replies])
    assert before == ["applied", "duplicate", "conflicting"]
    bring_again(database, *replies)
    assert outcomes(database, [each.id for each in replies]) == before
    with database.reading() as session:
        assert len(session.scalars(select(Reply)).all()) == 2
    assert_sound(database)


def test_a_callback_with_several_receipts_is_not_split_again(database: Database) -> None:
    send(database, message(ALICE), tx="815")
    send(database, message(BOB), tx="816")
    several = arrival_at(OLD, f"transactionid=815&transactionid=816&recipient={ALICE}&recipient={BOB}&statusid=1")
    keep(database, several)
    work_off(database)
    assert count_rows(database) == 2
    bring_again(database, several)
    assert count_rows(database) == 1


def count_rows(database: Database) -> int:
    with database.reading() as session:
        return len(session.scalars(select(InboxRow.id)).all())


def test_a_receipt_that_was_never_worked_on_is(database: Database) -> None:
    (message_id,) = accept(database)
    late = arrival_at(OLD, said())._replace(channel=Channel.MESSAGE, message_id=message_id)
    bring_again(database, late)
    assert read_message(database, message_id).status == "delivered"
    assert_sound(database, applied=1)
