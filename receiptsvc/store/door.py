"""The way into the inbox for callbacks as they come: one raw connection, one statement a group, one transaction.

Beside `inbox.keep` because here every microsecond is waited for: no session, no compiling, no pool. What it writes is
what `inbox.keep` would write; a test holds the two against each other. Keeping twice keeps once.
"""

import socket
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol

import psycopg
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from sqlalchemy.engine import make_url

from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.store import outages
from receiptsvc.store.db import plain_url
from receiptsvc.store.inbox import Arrival

_POSTGRESQL = b"""
WITH kept AS (
  INSERT INTO inbox (id, channel, message_id, is_stranger, received_at, method, query, content_type, body,
                     outcome, next_at, tries)
  SELECT id, channel, message_id, is_stranger, received_at, method, query, content_type, body,
         'pending', received_at, 0
  FROM unnest($2::uuid[], $3::text[], $4::uuid[], $5::boolean[], $6::timestamptz[], $7::text[], $8::bytea[],
              $9::text[], $10::bytea[])
    AS arrived(id, channel, message_id, is_stranger, received_at, method, query, content_type, body)
  ON CONFLICT (id) DO NOTHING
  RETURNING 1
), counted AS (SELECT count(*) AS rows FROM kept)
INSERT INTO counters (name, slot, value)
SELECT name, $1::integer, counted.rows FROM counted, unnest(ARRAY['callbacks', 'pending', 'received']) AS name
WHERE counted.rows > 0
ON CONFLICT (name, slot) DO UPDATE SET value = counters.value + excluded.value
"""
_SQLITE = """
INSERT INTO inbox (id, channel, message_id, is_stranger, received_at, method, query, content_type, body,
                   outcome, next_at, tries)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'pending', ?5, 0)
ON CONFLICT (id) DO NOTHING
"""
_SQLITE_COUNT = """
INSERT INTO counters (name, slot, value) VALUES ('callbacks', ?1, ?2), ('pending', ?1, ?2), ('received', ?1, ?2)
ON CONFLICT (name, slot) DO UPDATE SET value = value + excluded.value
"""

_STATEMENT = b"keep"
_MOST_BYTES = 4 * 1024 * 1024  # of callbacks in one statement
_NULL = "NULL"
_BYTES = r"\\x"  # before hexadecimal digits, in an array
_NO_PREPARING = ("26000", "42P05")  # a prepared statement is not there, or is there twice: another server's session


class Door(Protocol):
    """One connection into the inbox. Only `abandon` may be called while another thread is in `keep`."""

    def keep(self, arrivals: Sequence[Arrival]) -> None:
        """Keep these and count them; when it returns they are on disk.

        Raises StorageUnavailable: then they may or may not be kept. Any other error is about their content.
        """
        ...

    def abandon(self) -> None:
        """Give up on whoever is in `keep`: it ends soon with StorageUnavailable. The next one connects anew."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


def open_door(url: str, slot: int, *, patience_seconds: float) -> Door:
    """A door to the database of this URL. It connects at the first `keep`.

    `slot`: of the counters. `patience_seconds`: how long a connection, or SQLite's one writer, may be waited for.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return SqliteDoor(parsed.database or "", slot, patience_seconds)
    return PostgresqlDoor(plain_url(url), slot, patience_seconds)


class PostgresqlDoor:
    """See Door. It speaks to libpq by psycopg's own module for that: a cursor costs more than the statement does."""

    def __init__(self, url: str, slot: int, patience_seconds: float) -> None:
        self._url, self._slot = url, slot
        self._connect_seconds = max(2, round(patience_seconds))  # libpq takes no less
        self._is_preparing = True  # until a pooler in transaction mode mixes prepared statements up
        self._connection: psycopg.Connection | None = None
        self._lock = threading.Lock()

    def keep(self, arrivals: Sequence[Arrival]) -> None:
        """See Door."""
        try:
            connection = self._connected()
            for part in _parts(arrivals):  # each a transaction of its own; whoever tries again keeps none of them twice
                _check(self._execute(connection.pgconn, [str(self._slot), *_postgresql_arrays(part)]))
        except psycopg.Error as error:
            if error.sqlstate in _NO_PREPARING:
                self._is_preparing = False
            elif not outages.is_outage(error):
                raise
            self.close()
            raise StorageUnavailable(outages.describe(error)) from error

    def _execute(self, connection: PGconn, parameters: Sequence[str]) -> PGresult:
        values = [value.encode() for value in parameters]
        if self._is_preparing:
            return connection.exec_prepared(_STATEMENT, values)
        return connection.exec_params(_POSTGRESQL, values)

    def abandon(self) -> None:
        """See Door."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(OSError, psycopg.Error), socket.socket(fileno=connection.fileno()) as wire:
                try:
                    wire.shutdown(socket.SHUT_RDWR)  # whoever reads from it is told that it has ended
                finally:
                    wire.detach()  # it is still the connection's

    def close(self) -> None:
        """See Door."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def _connected(self) -> psycopg.Connection:
        with self._lock:
            if self._connection is not None:
                return self._connection
        made = psycopg.connect(
            self._url,
            autocommit=True,
            connect_timeout=self._connect_seconds,
            application_name="receiptsvc door",
            **outages.NOTICED,
        )
        with self._lock:
            self._connection = made  # from here on it can be abandoned
        if self._is_preparing:
            _check(made.pgconn.prepare(_STATEMENT, _POSTGRESQL))
        return made


class SqliteDoor:
    """See Door. A write to a disk that hangs can't be given up, only waited for."""

    def __init__(self, path: str, slot: int, patience_seconds: float) -> None:
        self._path, self._slot, self._patience_seconds = path, slot, patience_seconds
        self._connection: sqlite3.Connection | None = None

    def keep(self, arrivals: Sequence[Arrival]) -> None:
        """See Door."""
        try:
            self._keep(self._connected(), arrivals)
        except sqlite3.Error as error:
            if not outages.is_outage(error):
                raise
            self.close()
            raise StorageUnavailable(outages.describe(error)) from error

    def abandon(self) -> None:
        """See Door."""
        if self._connection is not None:
            self._connection.interrupt()

    def close(self) -> None:
        """See Door."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _keep(self, connection: sqlite3.Connection, arrivals: Sequence[Arrival]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            kept = connection.executemany(_SQLITE, map(_sqlite_row, arrivals)).rowcount
            if kept > 0:  # -1 is said of no rows at all
                connection.execute(_SQLITE_COUNT, (self._slot, kept))
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            made = sqlite3.connect(
                self._path, timeout=self._patience_seconds, isolation_level=None, check_same_thread=False
            )
            made.execute("PRAGMA journal_mode = WAL")
            made.execute("PRAGMA synchronous = FULL")
            made.execute("PRAGMA foreign_keys = ON")
            self._connection = made
        return self._connection


def _parts(arrivals: Sequence[Arrival]) -> Iterator[Sequence[Arrival]]:
    """Arrivals in their order, some megabytes at a time: as a parameter they take several times their room."""
    start = size = 0
    for place, arrival in enumerate(arrivals):
        size += len(arrival.callback.query) + len(arrival.callback.body)
        if size > _MOST_BYTES and place > start:
            yield arrivals[start:place]
            start, size = place, len(arrival.callback.query) + len(arrival.callback.body)
    yield arrivals[start:]


def _check(result: PGresult) -> None:
    if result.status == ExecStatus.COMMAND_OK:
        return
    if result.error_field(DiagnosticField.SQLSTATE) is None:
        raise psycopg.OperationalError("the connection was lost")
    raise psycopg.errors.error_from_result(result)


def _postgresql_arrays(arrivals: Sequence[Arrival]) -> list[str]:
    """The statement's columns, each as PostgreSQL writes an array."""
    callbacks = [arrival.callback for arrival in arrivals]
    return [
        _array([arrival.id.hex for arrival in arrivals]),
        _array([arrival.channel.value for arrival in arrivals]),
        _array([arrival.message_id.hex if arrival.message_id else _NULL for arrival in arrivals]),
        _array(["t" if arrival.is_stranger else "f" for arrival in arrivals]),
        _array([f'"{arrival.received_at.isoformat()}"' for arrival in arrivals]),
        _array([_quoted(callback.method) for callback in callbacks]),
        _array([_BYTES + callback.query.hex() for callback in callbacks]),
        _array([_quoted(callback.content_type) for callback in callbacks]),
        _array([_BYTES + callback.body.hex() for callback in callbacks]),
    ]


def _array(values: Sequence[str]) -> str:
    return f"{{{','.join(values)}}}"


def _quoted(text: str | None) -> str:
    if text is None:
        return _NULL
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _sqlite_row(arrival: Arrival) -> tuple[object, ...]:
    callback = arrival.callback
    return (
        arrival.id.hex,
        arrival.channel.value,
        arrival.message_id.hex if arrival.message_id else None,
        arrival.is_stranger,
        _sqlite_time(arrival.received_at),
        callback.method,
        callback.query,
        callback.content_type,
        callback.body,
    )


def _sqlite_time(at: datetime) -> str:
    """A time as SQLAlchemy writes it."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
