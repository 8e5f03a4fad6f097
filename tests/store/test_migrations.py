"""The migrations build what the models say, and can be undone."""

import re
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Base, ConversationActivity, Message, Reply
from tests.support.databases import migrate


def test_migrations_build_what_the_models_say(database: Database) -> None:
    with database.connection() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_up_down_up_again_leaves_the_same_tables(database_url: str, database: Database) -> None:
    tables = set(Base.metadata.tables)
    with database.connection() as connection:
        assert set(sa.inspect(connection).get_table_names()) == {*tables, "alembic_version"}
    migrate(database_url, "base")
    with database.connection() as connection:
        assert set(sa.inspect(connection).get_table_names()) == {"alembic_version"}
    migrate(database_url, "head")
    with database.connection() as connection:
        assert set(sa.inspect(connection).get_table_names()) == {*tables, "alembic_version"}


def test_every_constraint_and_index_is_named(database: Database) -> None:
    with database.connection() as connection:
        inspector = sa.inspect(connection)
        for table in Base.metadata.tables:
            assert inspector.get_pk_constraint(table)["name"] == f"pk_{table}"
            named = [
                *inspector.get_foreign_keys(table),
                *inspector.get_check_constraints(table),
                *inspector.get_unique_constraints(table),
                *inspector.get_indexes(table),
            ]
            assert all(item["name"] for item in named), table


def test_sqlite_waits_for_the_disk_and_keeps_its_references(database: Database) -> None:
    if not database.is_sqlite:
        with database.reading() as session:
            assert session.scalar(sa.text("SHOW synchronous_commit")) == "on"
        return
    with database.reading() as session:
        assert session.scalar(sa.text("PRAGMA journal_mode")) == "wal"
        assert session.scalar(sa.text("PRAGMA synchronous")) == 2
        assert session.scalar(sa.text("PRAGMA foreign_keys")) == 1


def test_what_was_said_before_is_noted_when_conversations_get_their_rows(database_url: str, database: Database) -> None:
    migrate(database_url, "base")
    migrate(database_url, "0004")
    ids = {name: f"{place:032x}" for place, name in enumerate(("ours", "theirs", "both", "again"), 1)}
    spoken = (("ours", 1, None), ("theirs", None, 2), ("both", 3, 4), ("again", 6, 5))  # the minutes of both sides
    with database.connection() as connection:
        for place, (name, ours, theirs) in enumerate(spoken, 10):
            if ours:
                _insert(connection, "messages", _message(place, ids[name], ours))
            if theirs:
                _insert(connection, "inbox", _callback(place, theirs))
                _insert(connection, "replies", _reply(place, ids[name], theirs))
        connection.commit()
    migrate(database_url, "head")
    with database.reading() as session:
        rows = {row.id.hex: row for row in session.scalars(sa.select(ConversationActivity))}
        recipients = set(session.scalars(sa.select(Reply.recipient)))
        changed = set(session.scalars(sa.select(Message.changed_at)))
    told = {name: rows[one] for name, one in ids.items()}
    assert {name: row.last_from_recipient for name, row in told.items()} == {
        "ours": False, "theirs": True, "both": True, "again": False,
    }  # fmt: skip
    assert [told["both"].first_at.minute, told["both"].last_at.minute] == [3, 4]
    assert [told["again"].first_at.minute, told["again"].last_at.minute] == [5, 6]
    assert recipients == {"60030"}
    assert {at.year for at in changed} == {1970}


def test_indexes_are_built_beside_who_writes_messages(postgresql_url: str) -> None:
    migrate(postgresql_url, "base")
    migrate(postgresql_url, "0004")
    said: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        said.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        migrate(postgresql_url)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    built = [one for one in said if re.match(r"(CREATE|DROP) (UNIQUE )?INDEX", one)]
    in_front = [one for one in built if "CONCURRENTLY" not in one]
    assert len(built) > 15
    assert all(re.search(r" ON (conversations|events) ", one) for one in in_front), in_front  # just made, empty


def test_a_migration_that_broke_off_is_begun_again(postgresql_url: str) -> None:
    """A build beside the writers is a commit of its own; one that fails leaves an index that is not valid."""
    migrate(postgresql_url, "base")
    migrate(postgresql_url, "0004")
    with closing(Database(postgresql_url)) as database, database.connection() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        _insert(connection, "messages", _message(1, f"{1:032x}", 1))
        _insert(connection, "messages", _message(2, f"{1:032x}", 2))
        connection.execute(
            sa.text("ALTER TABLE messages ADD COLUMN changed_at timestamptz NOT NULL DEFAULT '1970-01-01'")
        )
        broken = "CREATE UNIQUE INDEX CONCURRENTLY ix_messages_changed_at_id ON messages (changed_at)"
        with pytest.raises(sa.exc.IntegrityError):
            connection.execute(sa.text(broken))
        connection.execute(sa.text("DROP INDEX ix_messages_client_ref_id, ix_messages_recipient_id"))
    migrate(postgresql_url)
    with closing(Database(postgresql_url)) as database, database.connection() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
        assert connection.scalar(sa.text(invalid)) == 0


def test_what_the_release_before_accepts_after_a_migration_has_changed_now(postgresql_database: Database) -> None:
    with postgresql_database.connection() as connection:
        _insert(connection, "messages", _message(1, f"{1:032x}", 1))
        connection.commit()
    with postgresql_database.reading() as session:
        assert session.scalars(sa.select(Message.changed_at)).one().year > 1970


def _insert(connection: sa.Connection, table: str, values: dict[str, object]) -> None:
    names = ", ".join(values)
    connection.execute(sa.text(f"INSERT INTO {table} ({names}) VALUES ({', '.join(f':{n}' for n in values)})"), values)  # noqa: S608 - names of our own


def _at(minute: int) -> str:
    return f"2026-01-05 12:{minute:02}:00.000000"


def _message(place: int, conversation: str, minute: int) -> dict[str, object]:
    times = {name: _at(minute) for name in ("created_at", "status_at")}
    words = dict.fromkeys(("created_by", "text", "transport", "encoding"), "x")
    flags = dict.fromkeys(("conflict", "reject_unicode", "include_message_text"), False)
    rest = {"status": "accepted", "additional_options": "{}", "warnings": "[]", "segments": 1, "tries": 0}
    return {
        "id": f"{place:032x}",
        "conversation_id": conversation,
        "recipient": "447700900001",
        **{"message_guid": f"{place}"} | times | words | flags | rest,
    }


def _callback(place: int, minute: int) -> dict[str, object]:
    times = {name: _at(minute) for name in ("received_at", "next_at")}
    empty = {"query": b"", "body": b""}
    return (
        {"id": f"{place:032x}", "channel": "inbound", "method": "GET", "outcome": "applied", "tries": 0} | times | empty
    )


def _reply(place: int, conversation: str, minute: int) -> dict[str, object]:
    key = f"{place:032x}"
    times = {name: _at(minute) for name in ("received_at", "recorded_at")}
    said = {"link": "x", "sender": "447700900001", "recipient": "+60030", "content": "Yes", "is_conflicting": False}
    return {"id": key, "receipt_id": key, "fingerprint": key, "conversation_id": conversation} | times | said
