"""Who looks for problems, at what, and when that is written down; that a web process does is in web/test_problem_watch."""

from datetime import timedelta

import pytest

from receiptsvc.domain import problems
from receiptsvc.domain.problems import Kind, Seen
from receiptsvc.problem_looks import ProblemLooks
from receiptsvc.store.core.db import Database
from receiptsvc.store.health import heartbeats
from receiptsvc.store.health.causes import Look
from tests.support.callers import make_settings
from tests.support.looks import rows_of
from tests.support.rows import keep


@pytest.fixture
def looks(database: Database) -> ProblemLooks:
    return ProblemLooks(make_settings(), database)


def beat(database: Database) -> None:
    with database.transaction() as session:
        heartbeats.beat(session, "worker:here:1", database.clock.now())


def test_a_worker_keeps_what_it_sees_and_is_told_how_the_service_does(
    looks: ProblemLooks, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(problems, "_MISSED_FOR", timedelta(0))
    keep(database, "statusid=1")
    state = looks.read_state()
    assert state.are_receipts_late
    looks.look(state)
    assert [row.state for row in rows_of(database, Kind.RECEIPTS_LATE)] == ["open"]
    assert [row.state for row in rows_of(database, Kind.WORKER_UNSEEN)] == ["open"]
    beat(database)
    looks.look(looks.read_state())
    assert [row.state for row in rows_of(database, Kind.WORKER_UNSEEN)] == ["resolved"]


def test_where_nothing_is_seen_nothing_is_written(
    looks: ProblemLooks, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("nothing is to be written")

    beat(database)
    monkeypatch.setattr(Database, "transaction", refuse)
    looks.look(looks.read_state())
    looks.look_beside_workers([])


def test_beside_a_worker_a_web_process_keeps_only_what_it_alone_sees(
    looks: ProblemLooks, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat(database)
    keep(database, "statusid=1")
    now = database.clock.now()
    own = Seen(kind=Kind.SPOOL_ASIDE, cause={"host": looks.host}, first_at=now, last_at=now, count=1)
    looks.look_beside_workers([own])
    assert rows_of(database, Kind.RECEIPTS_LATE) == []
    assert [row.state for row in rows_of(database, Kind.SPOOL_ASIDE)] == ["open"]
    for _ in range(2):  # the first to miss it does not end it
        looks.look_beside_workers([])
        assert [row.state for row in rows_of(database, Kind.SPOOL_ASIDE)] == ["open"]
    monkeypatch.setattr(problems, "_MISSED_FOR", timedelta(0))
    looks.look_beside_workers([])
    assert [row.state for row in rows_of(database, Kind.SPOOL_ASIDE)] == ["resolved"]


def test_beside_a_worker_a_web_process_that_sees_nothing_soon_asks_no_more(
    looks: ProblemLooks, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[Look] = []
    beat(database)
    monkeypatch.setattr(ProblemLooks, "_note", lambda _, look: noted.append(look))
    for _ in range(10):
        looks.look_beside_workers([])
    assert len(noted) == 4
