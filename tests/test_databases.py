"""A database that tests use one after the other is as if new for each of them."""

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import select, text

from receiptsvc.store.core.db import Database, plain_url
from receiptsvc.store.core.models import Base
from receiptsvc.store.outbound import send_gate
from tests.support import rows
from tests.support.databases import ReusedDatabase


@pytest.fixture
def reused(postgresql_template: str) -> Iterator[ReusedDatabase]:
    reused = ReusedDatabase(postgresql_template)
    yield reused
    reused.close()


def content(url: str) -> dict[str, list[tuple[object, ...]]]:
    database = Database(url)
    try:
        with database.reading() as session:
            tables = Base.metadata.sorted_tables
            return {table.name: [tuple(row) for row in session.execute(select(table))] for table in tables}
    finally:
        database.close()


def write(url: str) -> None:
    """Rows in several tables, one of them changed that a migration has made."""
    database = Database(url)
    rows.accept(database)
    rows.keep(database, "statusid=1")
    with database.transaction() as session:
        send_gate.pause(session, "anna", "wrong texts", rows.T0)
    database.close()


def test_what_was_written_is_gone_and_what_the_migrations_wrote_is_there(
    reused: ReusedDatabase, postgresql_template: str
) -> None:
    url = reused.url
    write(url)
    assert content(url) != content(postgresql_template)
    reused.empty()
    assert reused.url == url, "else it was replaced, which takes longer"
    assert content(url) == content(postgresql_template)


def test_numbers_begin_anew(reused: ReusedDatabase) -> None:
    database = Database(reused.url)
    rows.accept(database)
    first = "SELECT last_value, is_called FROM {}"
    with database.reading() as session:
        names = session.scalars(text("SELECT sequencename FROM pg_sequences WHERE last_value IS NOT NULL")).all()
    database.close()
    assert names
    reused.empty()
    with psycopg.connect(plain_url(reused.url)) as connection:
        for name in names:
            assert connection.execute(first.format(name).encode()).fetchone() == (1, False), name


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE other (id int)",
        "ALTER TABLE inbox ADD CONSTRAINT never CHECK (query <> '1')",
        "ALTER TABLE messages ALTER COLUMN text DROP NOT NULL",
        "DROP INDEX ix_messages_due",
        "ANALYZE send_gate",
    ],
)
def test_after_a_change_of_more_than_rows_it_is_replaced(reused: ReusedDatabase, change: str) -> None:
    url = reused.url
    with psycopg.connect(plain_url(url), autocommit=True) as connection:
        connection.execute(change.encode())
    reused.empty()
    assert reused.url != url


def test_whoever_is_still_connected_can_write_nothing_into_the_next_tests(
    reused: ReusedDatabase, postgresql_template: str
) -> None:
    with psycopg.connect(plain_url(reused.url), autocommit=True) as connection:
        reused.empty()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert content(reused.url) == content(postgresql_template)
