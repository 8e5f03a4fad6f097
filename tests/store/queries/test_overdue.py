"""Overdue messages by originator, on each database engine."""

from datetime import timedelta

import pytest

from receiptsvc.domain.statuses import Status
from receiptsvc.store.core.db import Database
from receiptsvc.store.queries import overdue
from receiptsvc.store.queries.overdue import OverdueSenders
from tests.support import rows, stories
from tests.support.rows import seconds

BEFORE = seconds(1000)


def count(database: Database) -> OverdueSenders:
    with database.reading() as session:
        return overdue.count_by_originator(session, BEFORE)


def test_they_are_counted_by_originator_the_most_first(database: Database) -> None:
    assert count(database) == OverdueSenders(items=[], is_all=True)
    acme = [rows.message(f"44770090000{n}", originator="ACME") for n in range(3)]
    for second, message in enumerate(acme):
        rows.accept(database, message, now=seconds(10 + second))
    own, scheduled = rows.message("447700900010"), rows.message("447700900011", deliver_after=seconds(900))
    later = rows.message("447700900012", originator="ACME", deliver_after=BEFORE + timedelta(seconds=1))
    rows.accept(database, own, scheduled, later, now=seconds(500))
    rows.accept(database, rows.message("447700900013"), now=BEFORE)
    stories.report(database, acme[0].id, Status.DELIVERED, seconds(600))
    stories.report(database, acme[1].id, Status.SENT, seconds(600))
    found = count(database)
    assert [each[:3] for each in found.items] == [(None, 2, seconds(500)), ("ACME", 2, seconds(11))]
    assert found.items[1].newest_id == acme[2].id
    assert (found.count, found.is_all) == (4, True)


def test_it_says_if_not_all_were_counted(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overdue, "MAX_OF_SENDERS", 2)
    rows.accept(database, *(rows.message(f"44770090000{n}") for n in range(3)))
    found = count(database)
    assert (found.count, found.is_all) == (3, False)
