"""Web processes show themselves in the database, and add to its counts how long their answers took."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from math import inf
from threading import Event

import pytest
from sqlalchemy import select

from receiptsvc import __version__, metrics
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Heartbeat, Minute
from receiptsvc.store.health import heartbeats
from receiptsvc.store.inbox import counters
from receiptsvc.web.ops import presence
from receiptsvc.web.ops.presence import Presence
from receiptsvc.web_role import WebRole


def seen(database: Database) -> Sequence[Heartbeat]:
    with database.reading() as session:
        return heartbeats.find_alive(session, heartbeats.WEB, database.clock.now())


def answered(database: Database) -> Mapping[float, int]:
    with database.reading() as session:
        return counters.answers_in(counters.read_totals(session))


def test_a_process_shows_its_release_and_is_gone_when_it_ends(database: Database) -> None:
    process = Presence(database, WebRole.API)
    process.show()
    process.show()
    [shown] = seen(database)
    assert (shown.version, shown.process.split(":")[:2]) == (__version__, ["web", "api"])
    process.leave()
    assert seen(database) == []


def test_answers_of_all_processes_add_up_by_how_long_they_took(database: Database) -> None:
    before = Counter(metrics.count_durations())
    one, other = Presence(database), Presence(database)
    one.show()
    other.show()
    start = Counter(answered(database))
    metrics.answers("200").observe(0.003)
    metrics.answers("503").observe(0.003)
    metrics.answers("200").observe(11)
    assert Counter(metrics.count_durations()) - before == Counter({0.005: 2, inf: 1})
    one.show()
    one.show()
    assert Counter(answered(database)) - start == Counter({0.005: 2, inf: 1})
    other.show()  # in another process they would be others
    assert Counter(answered(database)) - start == Counter({0.005: 4, inf: 2})


def test_one_process_a_minute_keeps_the_sums_and_forgets_who_is_gone(database: Database) -> None:
    long_ago = database.clock.now() - timedelta(minutes=11)
    with database.transaction() as session:
        heartbeats.beat(session, "web:elsewhere:1", long_ago)
        heartbeats.beat(session, "worker:elsewhere:1", long_ago)
    Presence(database).show()
    Presence(database).show()
    with database.reading() as session:
        assert 1 <= len(session.scalars(select(Minute)).all()) <= 2, "the minute may have ended meanwhile"
        names = session.scalars(select(Heartbeat.process)).all()
    assert "web:elsewhere:1" not in names
    assert "worker:elsewhere:1" in names, "that is the workers' business"


def test_an_outage_is_logged_once_and_the_process_shows_itself_afterwards(
    database: Database, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, tries = Event(), []
    show = Presence.show

    def fail_twice(self: Presence) -> None:
        tries.append(1)
        if len(tries) <= 2:
            raise StorageUnavailable("it is away")
        show(self)
        assert len(seen(database)) == 1
        stop.set()

    monkeypatch.setattr(Presence, "show", fail_twice)
    monkeypatch.setattr(presence, "_SECONDS", 0.01)
    presence.keep_shown(database, WebRole.ALL, stop)
    assert [record.getMessage() for record in caplog.records].count("ops.presence_not_shown") == 1
    assert seen(database) == []
