"""What is to go out, now or later, and what nobody knows of, on each database engine."""

from datetime import timedelta

import pytest

from receiptsvc.domain.messages import NewMessage, SendOutcome
from receiptsvc.store.core.db import Database
from receiptsvc.store.messages import transitions
from receiptsvc.store.queries import outlook
from receiptsvc.store.queries.outlook import Count
from tests.support import rows, work
from tests.support.rows import seconds

NOW = seconds(100)
LATER = NOW + timedelta(days=1)


def read(database: Database) -> outlook.Outlook:
    with database.reading() as session:
        return outlook.read(session, NOW)


def schedule(database: Database, *made: NewMessage) -> None:
    with database.transaction() as session:
        transitions.accept(session, made, seconds(0), schedules_messages=True)


def test_of_an_empty_database_nothing_is_counted(database: Database) -> None:
    found = read(database)
    assert {found.due, found.here, found.at_gateway, found.unknown} == {Count(0, None)}
    assert found.upcoming == []


def test_each_kind_is_counted_with_its_first_time(database: Database) -> None:
    rows.accept(database, rows.message("447700900001"), rows.message("447700900002"), now=seconds(20))
    rows.accept(database, rows.message("447700900003"), now=seconds(10))
    rows.accept(database, rows.message("447700900004"), now=seconds(101))
    here = [rows.message(f"44770090010{n}", deliver_after=LATER + timedelta(hours=n)) for n in range(2)]
    schedule(database, *here)
    there = rows.message("447700900200", deliver_after=LATER - timedelta(hours=1))
    work.send(database, there, at=5)
    gone_by = rows.message("447700900201", deliver_after=seconds(50))
    work.send(database, gone_by, at=5)
    for at, number in ((7, "447700900301"), (6, "447700900302")):
        work.send(database, rows.message(number, transport="rest"), SendOutcome.UNCLEAR, at=at)
    found = read(database)
    assert found.due == Count(3, seconds(10))
    assert found.here == Count(2, LATER)
    assert found.at_gateway == Count(1, LATER - timedelta(hours=1))
    assert found.unknown == Count(2, seconds(6))
    assert [message.id for message in found.upcoming] == [there.id, *(one.id for one in here)]


def test_no_more_are_counted_than_the_bound(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlook, "MAX_COUNTED", 2)
    monkeypatch.setattr(outlook, "MAX_UPCOMING", 2)
    rows.accept(database, *(rows.message(f"44770090000{n}") for n in range(3)), now=seconds(20))
    later = [rows.message(f"44770090010{n}", deliver_after=LATER + timedelta(hours=n)) for n in (2, 0, 1)]
    schedule(database, *later)
    found = read(database)
    assert (found.due, found.here) == (Count(2, seconds(20)), Count(2, LATER))
    assert [message.id for message in found.upcoming] == [later[1].id, later[2].id]
