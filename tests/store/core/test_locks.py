"""The advisory locks: which ones keep which transactions waiting."""

from sqlalchemy import text

from receiptsvc.store.core import locks
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.locks import Lock


def test_each_lock_has_a_key_space_of_its_own(postgresql_database: Database) -> None:
    held = text("SELECT classid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
    with postgresql_database.transaction() as session:
        for lock in Lock:
            locks.take(session, lock, ["the same name"])
        assert sorted(session.scalars(held)) == sorted(lock.value for lock in Lock)


def test_a_lock_without_names_is_had_by_one_transaction_at_a_time(postgresql_database: Database) -> None:
    with postgresql_database.transaction() as one, postgresql_database.transaction() as other:
        assert locks.try_to_take(one, Lock.EVENT_NUMBERS)
        assert not locks.try_to_take(other, Lock.EVENT_NUMBERS)


def test_on_sqlite_every_lock_is_free(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    with database.transaction() as session:
        locks.take(session, Lock.REFERENCES, ["815"])
        assert locks.try_to_take(session, Lock.EVENT_NUMBERS)
    database.close()
