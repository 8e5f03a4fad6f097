"""The door writes what the inbox's own function writes, only faster."""

from datetime import UTC, datetime
from threading import Thread

import pytest
import sqlalchemy as sa
from sqlalchemy import select

from receiptsvc import ids
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.domain.inbox import Channel
from receiptsvc.domain.messages import Callback
from receiptsvc.store import inbox, ledger
from receiptsvc.store.db import Database
from receiptsvc.store.door import Door, open_door
from receiptsvc.store.inbox import Arrival
from receiptsvc.store.models import InboxRow


def arrivals() -> list[Arrival]:
    cases = [
        (Channel.MESSAGE, ids.new(), "GET", b"a=%00&b=\xff", None, b""),
        (Channel.ACCOUNT, None, "POST", b"", "text/plain; charset=latin-1", b"\x00\xff\\'\"{}"),
        (Channel.INBOUND, None, "HEAD", b"q", "", b""),
        (Channel.ACCOUNT, None, "POST", b"\\x00", r'NULL, "{\a}",,\\x00 \'', b"NULL"),
        (Channel.ACCOUNT, None, "POST", b"", "NULL", b"\\"),
    ]
    return [
        Arrival(
            id=ids.new(),
            channel=channel,
            message_id=message_id,
            received_at=datetime(2026, 1, 5, 12, 0, second, 123456 * (second > 0), tzinfo=UTC),
            callback=Callback(method=method, query=query, content_type=content_type, body=body),
        )
        for second, (channel, message_id, method, query, content_type, body) in enumerate(cases)
    ]


def columns(database: Database, row_id: object) -> dict[str, object]:
    with database.reading() as session:
        row = session.scalars(select(InboxRow).where(InboxRow.id == row_id)).one()
        return {column.name: getattr(row, column.name) for column in InboxRow.__table__.columns if column.name != "id"}


@pytest.fixture
def door(database_url: str, database: Database) -> Door:
    return open_door(database_url, database.slot, patience_seconds=2)


def test_the_door_writes_what_the_inbox_writes(door: Door, database: Database) -> None:
    slowly, quickly = arrivals(), arrivals()
    with database.transaction() as session:
        inbox.keep(session, slowly)
    door.keep(quickly)
    door.close()
    for slow, quick in zip(slowly, quickly, strict=True):
        expected, written = columns(database, slow.id), columns(database, quick.id)
        assert {**expected, "message_id": None} == {**written, "message_id": None}
        assert written["message_id"] == quick.message_id
    with database.reading() as session:
        counted = ledger.read(session)
    assert (counted.callbacks, counted.received, counted.is_balanced) == (10, 10, True)


def test_keeping_twice_keeps_and_counts_once(door: Door, database: Database) -> None:
    group = arrivals()
    door.keep(group[:2])
    door.keep(group)
    door.keep(group)
    door.close()
    with database.reading() as session:
        assert session.scalar(select(sa.func.count()).select_from(InboxRow)) == 5
        assert ledger.read(session).received == 5


def test_whoever_hangs_can_be_abandoned_and_the_next_one_gets_through(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    door = open_door(postgresql_url, 0, patience_seconds=2)
    door.keep(arrivals())
    failures: list[BaseException] = []

    def hang() -> None:
        try:
            door.keep(arrivals())
        except StorageUnavailable as error:
            failures.append(error)

    with database.connection() as other:
        other.execute(sa.text("LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE"))
        thread = Thread(target=hang)
        thread.start()
        waiting = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        while not other.execute(waiting).scalar_one():
            pass
        door.abandon()
        thread.join(5)
        assert not thread.is_alive()
        other.rollback()
    assert len(failures) == 1
    door.keep(arrivals())
    door.close()
    database.close()
