"""The lease on PostgreSQL's tables: of several processes only its holder migrates. On SQLite the write lock does that.

It is a row in a table of its own, which is there before the first migration. It ends by the database's clock, and a
thread of the holder renews it. So no transaction stays open: a pooler may share out its connections as it likes, and
CREATE INDEX CONCURRENTLY has nobody to wait for. Decision 0044 has the reasons.
"""

import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from sqlalchemy import Connection, TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from receiptsvc.domain.errors import ReceiptsvcError
from receiptsvc.store.core.db import Database

TABLE = "migration_lease"
SECONDS = 15.0  # how long a process that was killed keeps the others waiting

_RENEWALS = 5  # in that time
_CREATE = text(
    f"CREATE TABLE IF NOT EXISTS {TABLE} (id integer CONSTRAINT pk_{TABLE} PRIMARY KEY,"
    " holder text, expires_at timestamp with time zone NOT NULL)"
)
_IS_THERE = text(f"SELECT to_regclass('{TABLE}') IS NOT NULL")
_FILL = text(f"INSERT INTO {TABLE} (id, expires_at) VALUES (1, '-infinity') ON CONFLICT DO NOTHING")  # noqa: S608 - our own words
_FIND_FREE = text(
    f"SELECT id FROM {TABLE} WHERE holder IS NULL OR expires_at <= clock_timestamp() FOR UPDATE SKIP LOCKED"  # noqa: S608 - our own words
)
_TAKE = text(
    f"UPDATE {TABLE} SET holder = :holder,"  # noqa: S608 - our own words
    " expires_at = clock_timestamp() + make_interval(secs => :seconds) WHERE id = :id"
)
_RENEW = text(
    f"UPDATE {TABLE} SET expires_at = clock_timestamp() + make_interval(secs => :seconds) WHERE holder = :holder"  # noqa: S608 - our own words
)
_CHECK = text(f"SELECT 1 FROM {TABLE} WHERE holder = :holder FOR UPDATE")  # noqa: S608 - our own words
_RELEASE = text(f"UPDATE {TABLE} SET holder = NULL WHERE holder = :holder")  # noqa: S608 - our own words

# What two processes may get that make the table, or write the row, in the same moment: ask again.
_RACES = frozenset({"23505", "40001", "40P01", "42P07", "55P03"})  # SQLSTATEs


class LeaseLost(ReceiptsvcError):
    """Another process has the lease now, because this one could not renew it in time."""

    retry_helps = True


class Lease:
    """The lease as one process sees it. `seconds`: how long it is held without being renewed."""

    def __init__(self, database: Database, seconds: float = SECONDS) -> None:
        self._database, self._seconds = database, seconds
        self._holder = secrets.token_hex(16)

    def try_to_take(self) -> bool:
        """Take it if nobody holds it; otherwise False at once. Raises SQLAlchemy's errors."""
        try:
            with self._database.connection() as connection:
                with connection.begin():
                    if not connection.scalar(_IS_THERE):
                        connection.execute(_CREATE)
                    connection.execute(_FILL)
                with connection.begin():
                    free = connection.scalar(_FIND_FREE)
                    if free is not None:
                        connection.execute(_TAKE, {"id": free, "holder": self._holder, "seconds": self._seconds})
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) in _RACES:
                return False
            raise
        return free is not None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """While the block lasts, renew it from a thread of its own; at the end, release it."""
        ended = threading.Event()
        thread = threading.Thread(target=self._renew, args=(ended,), name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with suppress(DBAPIError, PoolTimeout):  # then it ends by itself
                self._change(_RELEASE, {"holder": self._holder})

    def check(self, connection: Connection) -> None:
        """Raise LeaseLost if another process has it. Until this transaction ends, nobody can take it."""
        if connection.scalar(_CHECK, {"holder": self._holder}) is None:
            raise LeaseLost("another process migrates: this one could not renew its lease in time")

    def _renew(self, ended: threading.Event) -> None:
        while not ended.wait(self._seconds / _RENEWALS):
            with suppress(DBAPIError, PoolTimeout):  # the next time may go well; `check` has the last word
                self._change(_RENEW, {"holder": self._holder, "seconds": self._seconds})

    def _change(self, statement: TextClause, parameters: Mapping[str, object]) -> None:
        with self._database.connection() as connection, connection.begin():
            connection.execute(statement, parameters)
