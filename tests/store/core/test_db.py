"""What asks the database all the time: by single statements, and on SQLite only whether anything has changed."""

import psycopg
from sqlalchemy import select, text

from receiptsvc.store.core.db import Database, plain_url
from receiptsvc.store.core.models import SendGate
from tests.support.rows import accept

OTHERS = """SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"""


def test_a_glance_is_no_transaction(postgresql_database: Database) -> None:
    database = postgresql_database
    with database.glance() as connection:
        assert connection.scalar(select(SendGate.id)) == 1
        sent_at = [connection.scalar(text("SELECT now()")) for _ in range(2)]
    assert sent_at[0] != sent_at[1], "within a transaction, time stands still"
    with database.transaction() as session:
        sent_at = [session.scalar(text("SELECT now()")) for _ in range(2)]
    assert sent_at[0] == sent_at[1], "and a connection is as it was before"


def test_a_connection_that_was_cut_while_idle_is_replaced(postgresql_url: str, postgresql_database: Database) -> None:
    accept(postgresql_database)
    with psycopg.connect(plain_url(postgresql_url), autocommit=True) as admin:
        cut = admin.execute(OTHERS).fetchall()
        assert cut
        for (pid,) in cut:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    accept(postgresql_database)


def test_sqlite_says_when_another_connection_has_committed(sqlite_url: str) -> None:
    database, other = Database(sqlite_url), Database(sqlite_url)
    first = database.sqlite_version()
    assert database.sqlite_version() == first
    accept(other)
    second = database.sqlite_version()
    assert second != first
    accept(database)
    assert database.sqlite_version() != second, "by another connection of its own, too"
    for each in (database, other):
        each.close()


def test_no_command_can_hold_up_the_counters_of_a_process_that_keeps_callbacks(sqlite_url: str) -> None:
    web, commands = ([Database(sqlite_url, keeps_callbacks=keeps) for _ in range(50)] for keeps in (True, False))
    assert {each.slot for each in web}.isdisjoint(each.slot for each in commands)
    for each in (*web, *commands):
        each.close()
