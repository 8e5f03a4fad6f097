"""The migrations create what the models declare, and can be undone."""

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Base
from tests.support.databases import migrate


def test_migrations_create_the_tables_of_the_models(database: Database) -> None:
    with database.connection() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_downgrade_and_upgrade_leave_the_same_tables(database_url: str, database: Database) -> None:
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


def test_sqlite_syncs_its_commits_and_enforces_foreign_keys(database: Database) -> None:
    if not database.is_sqlite:
        with database.reading() as session:
            assert session.scalar(sa.text("SHOW synchronous_commit")) == "on"
        return
    with database.reading() as session:
        assert session.scalar(sa.text("PRAGMA journal_mode")) == "wal"
        assert session.scalar(sa.text("PRAGMA synchronous")) == 2
        assert session.scalar(sa.text("PRAGMA foreign_keys")) == 1
