"""The migrations create what the models declare, and can be undone."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from alembic import command

from receiptsvc.domain.statuses import Status
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Base
from receiptsvc.store.health.verification import verify
from receiptsvc.store.inbox import time_slices
from receiptsvc.store.messages import hourly_counts
from tests.support import rows, stories
from tests.support.databases import alembic_config, migrate


def test_migrations_create_the_tables_of_the_models(database: Database) -> None:
    config = alembic_config()
    with database.connection() as connection:
        config.attributes["connection"] = connection
        command.check(config)  # raises if a draft would change anything, or drop a time slice


def test_downgrade_and_upgrade_leave_the_same_tables(database_url: str, database: Database) -> None:
    tables = {*Base.metadata.tables, "alembic_version"}
    with database.connection() as connection:
        built = set(sa.inspect(connection).get_table_names())
        assert {name for name in built if not time_slices.is_slice(name)} == tables
    migrate(database_url, "base")
    with database.connection() as connection:
        assert set(sa.inspect(connection).get_table_names()) == {"alembic_version"}
    migrate(database_url, "head")
    with database.connection() as connection:
        assert set(sa.inspect(connection).get_table_names()) == built


def test_checks_and_partial_indexes_name_the_words_of_the_models(database: Database) -> None:
    """Alembic compares neither: a status that a migration forgot would be refused when it is first stored."""
    kind = f"{'sqlite' if database.is_sqlite else 'postgresql'}_where"
    with database.connection() as connection:
        inspector = sa.inspect(connection)
        for table in Base.metadata.tables.values():
            built = {item["name"]: item["sqltext"] for item in inspector.get_check_constraints(table.name)}
            built |= {
                item["name"]: item["dialect_options"][kind]
                for item in inspector.get_indexes(table.name)
                if kind in item.get("dialect_options", {})
            }
            declared = {str(one.name): one.sqltext for one in table.constraints if isinstance(one, sa.CheckConstraint)}
            declared |= {str(one.name): one.kwargs[kind] for one in table.indexes if one.kwargs[kind] is not None}
            assert words_by_name(built) == words_by_name(declared)


def words_by_name(texts: Mapping[Any, object]) -> dict[Any, set[str]]:
    """The words in quotes of each SQL text that has any."""
    words = {name: set(re.findall(r"'(\w+)'", str(text))) for name, text in texts.items()}
    return {name: found for name, found in words.items() if found}


def test_no_foreign_key_forbids_to_drop_a_time_slice(database: Database) -> None:
    with database.connection() as connection:
        keys = sa.inspect(connection).get_multi_foreign_keys().values()
    assert {key["referred_table"] for of_table in keys for key in of_table} == {"messages", "users"}


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


def test_sqlite_syncs_its_commits_and_enforces_foreign_keys(database: Database) -> None:
    if not database.is_sqlite:
        with database.reading() as session:
            assert session.scalar(sa.text("SHOW synchronous_commit")) == "on"
        return
    with database.reading() as session:
        assert session.scalar(sa.text("PRAGMA journal_mode")) == "wal"
        assert session.scalar(sa.text("PRAGMA synchronous")) == 2
        assert session.scalar(sa.text("PRAGMA foreign_keys")) == 1


def test_counts_that_an_earlier_release_did_not_keep_are_no_faults(database_url: str, database: Database) -> None:
    """Nor are those of the hours in which it may still work beside this one."""
    now = datetime.now(UTC)
    [message_id] = rows.accept(database, now=now)
    stories.report(database, message_id, Status.DELIVERED, now)
    config = alembic_config()
    with database.connection() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
    migrate(database_url, "head")
    with database.reading() as session:
        since = hourly_counts.counted_since(session)
        assert not [key for key, _ in hourly_counts.stream(session) if key.kind in {"places", "codes"}]
    assert since is not None
    assert timedelta(hours=1) <= since - now <= timedelta(hours=2)
    assert list(verify(database)) == []
    later = since + timedelta(minutes=1)
    [another] = rows.accept(database, now=later)
    stories.report(database, another, Status.DELIVERED, later)
    assert list(verify(database)) == []
    with database.transaction() as session:
        session.execute(sa.text("DELETE FROM hourly_counts WHERE kind IN ('places', 'codes')"))
    assert {fault.what for fault in verify(database)} == {"count of an hour's places", "count of an hour's codes"}


def test_a_new_database_counts_everything(database: Database) -> None:
    with database.reading() as session:
        assert hourly_counts.counted_since(session) is None
