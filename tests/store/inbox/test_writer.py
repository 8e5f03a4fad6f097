"""The inbox writer stores the same as SQLAlchemy, and reports every doubt about a commit as an outage."""

from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

import pytest
import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.engine import make_url

from receiptsvc import ids
from receiptsvc.domain.errors import SettingsError, StorageUnavailable
from receiptsvc.domain.inbox import Arrival, Channel
from receiptsvc.domain.messages import Callback
from receiptsvc.store.core import durability
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import InboxRow, PendingRow
from receiptsvc.store.health.verification import verify
from receiptsvc.store.inbox import counters
from receiptsvc.store.inbox.columns import LARGE_BYTES
from receiptsvc.store.inbox.writer import InboxWriter, open_writer
from tests.support.rows import insert_arrivals


def arrivals() -> list[Arrival]:
    cases = [
        (Channel.MESSAGE, ids.new(), "GET", b"a=%00&b=\xff", None, b""),
        (Channel.ACCOUNT, None, "POST", b"", "text/plain; charset=latin-1", b"\x00\xff\\'\"{}"),
        (Channel.INBOUND, None, "HEAD", b"q", "", b""),
        (Channel.ACCOUNT, None, "POST", b"\\x00", r'NULL, "{\a}",,\\x00 \'', b"NULL"),
        (Channel.ACCOUNT, None, "POST", b"", "NULL", b"\\"),
        (Channel.ACCOUNT, None, "POST", b"q" * LARGE_BYTES, None, b"1"),
    ]
    return [
        Arrival(
            id=ids.new(),
            channel=channel,
            message_id=message_id,
            received_at=datetime(2026, 1, 5, 12, 0, second, 123456 * (second > 0), tzinfo=UTC),
            callback=Callback(method, query, content_type, body, content_encoding=content_type),  # a text as well
            claimed_kid=content_type,
        )
        for second, (channel, message_id, method, query, content_type, body) in enumerate(cases)
    ]


def columns(database: Database, row_id: object) -> dict[str, object]:
    with database.reading() as session:
        rows = (session.get_one(InboxRow, row_id), session.get_one(PendingRow, row_id))
        return {
            column.name: getattr(row, column.name)
            for row in rows
            for column in row.__table__.columns
            if not column.primary_key
        }


@pytest.fixture
def writer(database_url: str, database: Database) -> InboxWriter:
    return open_writer(database_url, database.slot, patience_seconds=2)


def test_the_inbox_writer_stores_what_sqlalchemy_stores(writer: InboxWriter, database: Database) -> None:
    reference_arrivals, fast_arrivals = arrivals(), arrivals()
    with database.transaction() as session:
        insert_arrivals(session, reference_arrivals)
    writer.keep(fast_arrivals)
    writer.close()
    for reference, fast in zip(reference_arrivals, fast_arrivals, strict=True):
        expected, written = columns(database, reference.id), columns(database, fast.id)
        of_message = {"message_id": None, "group_id": None}
        assert {**expected, **of_message} == {**written, **of_message}
        assert written["message_id"] == written["group_id"] == fast.message_id
    with database.reading() as session:
        counted = counters.read(session)
    assert (counted.callbacks, counted.received, counted.is_balanced) == (12, 12, True)


@pytest.mark.parametrize(
    "setting",
    ["array_nulls=off", "DateStyle=SQL,DMY", "DateStyle=German", "TimeZone=Asia/Kathmandu", "bytea_output=escape"],
)
def test_what_a_database_or_role_sets_for_its_sessions_changes_nothing(
    postgresql_url: str, postgresql_database: Database, setting: str
) -> None:
    with postgresql_database.transaction() as session:
        name, _, value = setting.partition("=")
        session.execute(sa.text(f"ALTER DATABASE \"{make_url(postgresql_url).database}\" SET {name} = '{value}'"))
    kept = arrivals()
    writer = open_writer(postgresql_url, 0, patience_seconds=2)
    writer.keep(kept)
    writer.close()
    opened = Database(postgresql_url)
    with opened.reading() as session:
        rows = [session.get_one(InboxRow, each.id) for each in kept]
        found = [(row.message_id, row.content_type, row.claimed_kid, row.body, row.received_at) for row in rows]
    opened.close()
    assert found == [
        (each.message_id, each.callback.content_type, each.claimed_kid, each.callback.body, each.received_at)
        for each in kept
    ]


def test_keeping_a_callback_twice_stores_and_counts_it_once(writer: InboxWriter, database: Database) -> None:
    group = arrivals()
    writer.keep(group[:2])
    writer.keep(group)
    writer.keep(group)
    writer.close()
    with database.reading() as session:
        assert session.scalar(select(sa.func.count()).select_from(InboxRow)) == 6
        assert counters.read(session).received == 6


def test_a_hanging_keep_can_be_abandoned_and_the_next_one_succeeds(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    writer = open_writer(postgresql_url, 0, patience_seconds=2)
    writer.keep(arrivals())
    failures: list[BaseException] = []

    def hang() -> None:
        try:
            writer.keep(arrivals())
        except StorageUnavailable as error:
            failures.append(error)

    with database.connection() as other:
        other.execute(sa.text("LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE"))
        thread = Thread(target=hang)
        thread.start()
        waiting = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        while not other.execute(waiting).scalar_one():
            pass
        writer.abandon()
        thread.join(5)
        assert not thread.is_alive()
        other.rollback()
    assert len(failures) == 1
    writer.keep(arrivals())
    writer.close()
    database.close()


def test_a_trial_writes_what_a_callback_takes_and_leaves_nothing(writer: InboxWriter, database: Database) -> None:
    writer.try_keeping()
    writer.keep(arrivals())
    writer.try_keeping()
    writer.close()
    with database.reading() as session:
        assert session.scalar(select(sa.func.count()).select_from(InboxRow)) == 6
        assert counters.read(session).received == 6
    assert list(verify(database)) == []


def test_keeping_stored_callbacks_again_still_writes_something(postgresql_url: str) -> None:
    """Otherwise its commit would wait for no standby, and would prove nothing about the commits before it."""
    database = Database(postgresql_url)
    writer = open_writer(postgresql_url, 0, patience_seconds=2)
    group = arrivals()
    writer.keep(group)
    written = sa.text("SELECT max(xmin::text::bigint) FROM counters")
    transactions = []
    for batch in (group, group, []):
        writer.keep(batch)
        with database.reading() as session:
            transactions.append(session.scalar(written))
    writer.close()
    database.close()
    assert len(set(transactions)) == 3


def test_any_warning_of_the_database_is_an_outage(postgresql_url: str, postgresql_database: Database) -> None:
    with postgresql_database.transaction() as session:
        session.execute(
            sa.text(
                "CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE WARNING 'careful'; RETURN NULL; END $$"
            )
        )
        session.execute(sa.text("CREATE TRIGGER warns AFTER INSERT ON inbox EXECUTE FUNCTION warn()"))
    writer = open_writer(postgresql_url, 0, patience_seconds=2)
    with pytest.raises(StorageUnavailable, match="01000"):
        writer.keep(arrivals())
    with pytest.raises(StorageUnavailable, match="01000"):
        writer.try_keeping()
    writer.close()


def test_a_database_without_durable_commits_is_not_written_to(postgresql_url: str) -> None:
    unsafe = f"{postgresql_url}{'&' if '?' in postgresql_url else '?'}options=-csynchronous_commit%3Doff"
    writer = open_writer(unsafe, 0, patience_seconds=2)
    with pytest.raises(SettingsError, match="synchronous_commit off"):
        writer.connect()
    with pytest.raises(StorageUnavailable, match="synchronous_commit off"):
        writer.keep(arrivals())
    writer.close()


@pytest.mark.parametrize("commit", ["local", "remote_write", "on", "remote_apply"])
@pytest.mark.parametrize("messages", ["error", "warning", "notice"])
def test_weaker_commits_and_hidden_warnings_are_faults_only_with_standbys(commit: str, messages: str) -> None:
    assert durability.find_faults("on", commit, " ", messages) == []
    faults = durability.find_faults("on", commit, "ANY 1 (a, b)", messages)
    assert len(faults) == (commit in {"local", "remote_write"}) + (messages == "error")


def test_a_missing_sqlite_file_is_an_outage_and_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    writer, database = open_writer(f"sqlite:///{path}", 0, patience_seconds=1), Database(f"sqlite:///{path}")
    with pytest.raises(StorageUnavailable):
        writer.keep(arrivals())
    with pytest.raises(StorageUnavailable), database.transaction() as session:
        session.execute(sa.text("SELECT 1"))
    assert not path.exists()


def test_a_transaction_on_a_removed_sqlite_file_is_an_outage(sqlite_url: str) -> None:
    path = Path(make_url(sqlite_url).database or "")
    database = Database(sqlite_url)

    def count_a_refusal() -> None:
        with database.transaction() as session:
            counters.add(session, {counters.REFUSED: 1})
            path.rename(path.with_suffix(".away"))

    with pytest.raises(StorageUnavailable, match="removed or replaced"):
        count_a_refusal()
    with pytest.raises(StorageUnavailable, match="removed or replaced"), database.reading():
        pass
    path.with_suffix(".away").rename(path)
    with database.reading() as session:
        assert counters.read(session).refused == 1
    database.close()
