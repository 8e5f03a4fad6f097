"""What a web process sees of problems by itself: its spool, its clock, no worker, and a database that is away."""

import threading
from datetime import timedelta
from pathlib import Path
from time import monotonic, time
from typing import Any

import pytest
from flask import Flask

from receiptsvc import problem_looks
from receiptsvc.domain import problems
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.spool.backlog import Backlog
from receiptsvc.spool.writer import Spool
from receiptsvc.store.core.db import Database
from receiptsvc.store.health import heartbeats
from receiptsvc.web.app import create_app
from receiptsvc.web.http import context, deadlines, problem_watch
from tests.support import rows
from tests.support.callers import client_of, make_settings
from tests.support.processes import until

AWAY = "postgresql+psycopg://user:hunter2hunter2@127.0.0.1:1/name"


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    folder = tmp_path / "spool"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def app(database: Database, spool: Path) -> Flask:
    return create_app(make_settings(SPOOL_DIR=str(spool)), database)


def look(app: Flask) -> bool:
    with app.app_context():
        return context.problems().look()


def beat(database: Database) -> None:
    with database.transaction() as session:
        heartbeats.beat(session, "worker:there:1", database.clock.now())


def listed(app: Flask) -> dict[str, Any]:
    page: Any = client_of(app).get("/v1/problems").json
    return {item["kind"]: item for item in page["items"] if item["kind"] != "time_slice_missing"}


def test_while_no_worker_is_at_work_it_looks_at_all(app: Flask, database: Database) -> None:
    rows.keep(database, "statusid=1")
    assert not look(app)
    assert set(listed(app)) == {"worker_unseen", "receipts_late"}
    beat(database)
    assert look(app)
    assert set(listed(app)) == {"worker_unseen", "receipts_late"}, "it is the worker's to say now"


def test_files_of_its_spool_are_told_by_its_host_and_end_there(
    app: Flask, database: Database, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat(database)
    (spool / "1.torn").write_bytes(b"x")
    look(app)
    [aside] = listed(app).values()
    assert (aside["kind"], aside["count"], set(aside["cause"])) == ("spool_aside", 1, {"host"})
    (spool / "1.torn").unlink()
    monkeypatch.setattr(problems, "_MISSED_FOR", timedelta(0))
    look(app)
    assert listed(app) == {}


def test_a_clock_that_is_wrong_is_told(app: Flask, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    beat(database)
    database.clock.measured(monotonic(), time() - 5)
    monkeypatch.setattr(database.clock, "measured", lambda *_: None)
    beat(database)
    look(app)
    [clock] = listed(app).values()
    assert (clock["kind"], clock["detail"]) == ("web_clock", "its clock is 5 s ahead of the database's")


def test_a_spool_that_cant_be_read_is_told(app: Flask, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Backlog) -> None:
        raise StorageUnavailable("the spool can't be looked at (Permission denied)")

    beat(database)
    monkeypatch.setattr(Backlog, "look", refuse)
    look(app)
    [spool] = listed(app).values()
    assert (spool["kind"], spool["detail"]) == (
        *("spool_unreadable", "the spool can't be looked at (Permission denied)"),
    )


def test_a_database_that_is_away_is_the_problem_since_it_was_seen_so(spool: Path) -> None:
    database = Database(AWAY)
    app = create_app(make_settings(SPOOL_DIR=str(spool)), database)
    written = Spool(spool)
    written.append([rows.arrival("statusid=1", now=database.clock.now())])
    look(app)
    page: Any = client_of(app).get("/v1/problems").json
    assert page["isComplete"] is False
    away, waiting = page["items"]
    assert (away["kind"], away["state"], away["harm"]) == ("database_away", "open", "now")
    assert "nothing listens there" in away["detail"]
    assert "hunter2" not in str(page)
    assert away["firstAt"] < away["lastAt"], "the look before has seen it"
    assert (waiting["kind"], waiting["count"]) == ("spool_waiting", 1)
    written.close()
    database.close()


def test_a_database_that_does_not_answer_is_the_problem_soon(
    app: Flask, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat(database)
    thawed = threading.Event()
    monkeypatch.setattr(problem_watch, "_SECONDS", 0.1)
    with monkeypatch.context() as frozen:
        frozen.setattr(Database, "reading", lambda *_: thawed.wait(30))
        page: Any = client_of(app).get("/v1/problems").json
        thawed.set()
    assert [item["kind"] for item in page["items"]] == ["database_away"]
    until("the question has ended", lambda: not deadlines._overdue)  # noqa: SLF001 - it is seen nowhere else
    assert listed(app) == {}, "it is over"


def test_a_look_that_fails_is_logged_and_the_next_one_is_made(
    app: Flask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ValueError

    monkeypatch.setattr(problem_looks.ProblemLooks, "look_beside_workers", fail)
    monkeypatch.setattr(problem_looks, "SECONDS", 0.01)
    monkeypatch.setattr(problem_looks, "SOON_SECONDS", 0.01)
    stop = threading.Event()
    with app.app_context():
        thread = threading.Thread(target=context.problems().keep_looking, args=(stop,))
    thread.start()

    def said() -> list[str]:
        return [record.getMessage() for record in caplog.records]

    until("it has looked twice", lambda: said().count("health.look_failed") >= 2)
    stop.set()
    thread.join()
