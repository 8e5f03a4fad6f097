"""Uses of keys are noted in memory and written now and then, at most once a minute for each key."""

from threading import Event

import pytest

from receiptsvc import key_uses
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.key_uses import KeyUses
from receiptsvc.store.access import key_uses as stored
from receiptsvc.store.access.key_uses import Kind
from receiptsvc.store.core.db import Database


def names(database: Database, kind: Kind) -> set[str]:
    with database.reading() as session:
        return set(stored.read(session, kind))


def test_a_use_is_written_once_and_the_next_one_a_minute_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = 1000.0
    monkeypatch.setattr(key_uses, "monotonic", lambda: time)
    uses = KeyUses()
    assert uses.write(database) == []
    uses.note(Kind.API, "shop")
    uses.note(Kind.CALLBACK, "k1")
    assert set(uses.write(database)) == {(Kind.API, "shop"), (Kind.CALLBACK, "k1")}
    assert (names(database, Kind.API), names(database, Kind.CALLBACK)) == ({"shop"}, {"k1"})
    uses.note(Kind.API, "shop")
    uses.note(Kind.API, "desk")
    time += 59
    assert uses.write(database) == [(Kind.API, "desk")]
    time += 1
    assert uses.write(database) == [(Kind.API, "shop")]
    assert uses.write(database) == []


def test_what_could_not_be_written_is_written_the_next_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise StorageUnavailable("away")

    uses = KeyUses()
    uses.note(Kind.API, "shop")
    with monkeypatch.context() as patched:
        patched.setattr(database, "transaction", fail)
        with pytest.raises(StorageUnavailable):
            uses.write(database)
    assert uses.write(database) == [(Kind.API, "shop")]


def test_a_fault_of_ours_is_logged_and_the_uses_are_written_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, postgresql_database: Database
) -> None:
    stop, tries = Event(), []

    def fail_once(*_: object) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("a bug")
        stop.set()

    monkeypatch.setattr(KeyUses, "write", fail_once)
    monkeypatch.setattr(key_uses, "_LOOK_SECONDS", 0.01)
    key_uses.keep_writing(KeyUses(), postgresql_database, stop)
    assert [record.getMessage() for record in caplog.records].count("web.key_uses_not_written") == 1
