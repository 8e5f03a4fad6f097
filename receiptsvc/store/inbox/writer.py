"""The inbox writer: stores a group of new callbacks with one statement, in one transaction, on one raw connection.

Callbacks wait for every microsecond here: no session, no compiling, no pool. What it writes is what SQLAlchemy would; a
test compares the two. Keeping a callback twice stores it once.

Every statement writes at least its counters, even if all its rows are stored already. A PostgreSQL with synchronous
standbys commits on its own disk first, makes the rows visible, and then waits for the standbys; if that wait is
cancelled, the client gets COMMAND_OK and a WARNING. A later "do nothing" on the same ids would not wait at all. A
commit that wrote something waits until the standbys have everything that was written before it, by any connection.
"""

import socket
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from hashlib import blake2b
from typing import Any, Protocol

import psycopg
from psycopg.pq.abc import PGconn, PGresult
from sqlalchemy import LargeBinary, Text, Uuid
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import make_url

from receiptsvc import ids
from receiptsvc.domain.errors import SettingsError, StorageUnavailable
from receiptsvc.domain.inbox import Arrival, Channel
from receiptsvc.domain.messages import Callback
from receiptsvc.store.core import database_faults, durability, outages, sqlite_files
from receiptsvc.store.core.db import plain_url
from receiptsvc.store.core.models import InboxRow, UtcDateTime
from receiptsvc.store.inbox import time_slices
from receiptsvc.store.inbox.columns import ARRIVED, QUEUED, values_of

_TYPES = [InboxRow.__table__.c[column].type for column in ARRIVED]
_ARRIVED = ", ".join(ARRIVED)
_QUEUED = ", ".join(QUEUED)
_QUEUED_VALUES = ", ".join(QUEUED.values())


def _postgresql_insert(arrays: Iterable[str]) -> str:
    """The INSERT of rows. `arrays`: a parameter or literal for each column of ARRIVED."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    typed = (f"{array}::{type_.compile(dialect)}[]" for array, type_ in zip(arrays, _TYPES, strict=True))
    return (
        f"INSERT INTO inbox ({_ARRIVED}) SELECT {_ARRIVED} "  # noqa: S608 - our own words
        f"FROM unnest({', '.join(typed)}) AS arrived({_ARRIVED}) ON CONFLICT (id) DO NOTHING"
    )


_POSTGRESQL = f"""
WITH kept AS (
  {_postgresql_insert(f"${number}" for number, _ in enumerate(ARRIVED, start=2))}
  RETURNING {_QUEUED_VALUES}
), queued AS (
  INSERT INTO pending ({_QUEUED}) SELECT * FROM kept
), counted AS (SELECT count(*) AS rows FROM kept)
INSERT INTO counters (name, slot, value)
SELECT name, $1::integer, counted.rows FROM counted, unnest(ARRAY['callbacks', 'pending', 'received']) AS name
ON CONFLICT (name, slot) DO UPDATE SET value = counters.value + excluded.value
""".encode()  # noqa: S608 - our own words
_SQLITE = (
    f"INSERT INTO inbox ({_ARRIVED}) VALUES ({', '.join(f'?{number}' for number, _ in enumerate(ARRIVED, start=1))}) "  # noqa: S608 - our own words
    "ON CONFLICT (id) DO NOTHING"
)
_SQLITE_QUEUE = f"INSERT INTO pending ({_QUEUED}) SELECT {_QUEUED_VALUES} FROM inbox WHERE id = ?1"  # noqa: S608 - our own words
_SQLITE_COUNT = """
INSERT INTO counters (name, slot, value) VALUES ('callbacks', ?1, ?2), ('pending', ?1, ?2), ('received', ?1, ?2)
ON CONFLICT (name, slot) DO UPDATE SET value = value + excluded.value
"""

# What a callback takes, in one transaction: its two rows and its counts. They are never visible to other transactions.
_POSTGRESQL_TRIAL = f"""{{insert}};
INSERT INTO pending ({_QUEUED}) SELECT {_QUEUED_VALUES} FROM inbox WHERE id = '{{id}}';
INSERT INTO counters (name, slot, value)
VALUES ('callbacks', {{slot}}, 0), ('pending', {{slot}}, 0), ('received', {{slot}}, 0)
ON CONFLICT (name, slot) DO UPDATE SET value = counters.value + excluded.value;
DELETE FROM pending WHERE receipt_id = '{{id}}';
DELETE FROM inbox WHERE id = '{{id}}'
"""  # noqa: S608 - our own words
_SQLITE_TRIAL_END = ("DELETE FROM pending WHERE receipt_id = ?1", "DELETE FROM inbox WHERE id = ?1")
_TRIAL_CALLBACK = Callback(method="HEAD", query=bytes(500), content_type=None, body=b"")  # as long as a receipt's query

# Named by what it says: in a session that a pooler shares out, another release may have prepared another one.
_STATEMENT = f"keep_{blake2b(_POSTGRESQL, digest_size=8).hexdigest()}".encode()
_MAX_BYTES = 4 * 1024 * 1024  # of callbacks in one statement
_NULL = "NULL"
_BYTES_PREFIX = r"\\x"  # of hexadecimal digits, in an array
# A prepared statement is missing, or exists already: a pooler has mixed up the server's sessions.
_PREPARED_STATEMENT_ERRORS = ("26000", "42P05")


class InboxWriter(Protocol):
    """One connection that writes to the inbox. Only `abandon` may be called while another thread is in a method."""

    def connect(self) -> None:
        """Open the connection, unless it is open and, as far as this side knows without a round trip, alive.

        Raises StorageUnavailable, and SettingsError if the database would answer before its commits are durable. The
        other methods connect by themselves if they must, and raise StorageUnavailable in both cases.
        """
        ...

    def keep(self, arrivals: Sequence[Arrival]) -> None:
        """Store these callbacks and count them; when it returns they are on disk.

        Raises StorageUnavailable: then they may or may not be stored. Any other error is about their content.
        """
        ...

    def try_keeping(self) -> None:
        """Commit as much as a callback takes, and leave nothing. Raises what `keep` raises."""
        ...

    def abandon(self) -> None:
        """Make a running `keep` end soon with StorageUnavailable. The next call opens a new connection."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


def open_writer(url: str, slot: int, *, patience_seconds: float) -> InboxWriter:
    """An inbox writer for the database of this URL. It does not connect yet.

    `slot`: of the counters. `patience_seconds`: how long to wait for a connection, or for SQLite's write lock.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return SqliteWriter(url, slot, patience_seconds)
    return PostgresqlWriter(plain_url(url), slot, patience_seconds)


class PostgresqlWriter:
    """An `InboxWriter` for PostgreSQL. It calls libpq through `psycopg.pq`: a cursor costs more than the statement."""

    def __init__(self, url: str, slot: int, patience_seconds: float) -> None:
        self._url, self._slot = url, slot
        self._connect_seconds = max(2, round(patience_seconds))  # libpq's minimum is 2
        self._is_preparing = True  # until a pooler in transaction mode mixes up prepared statements
        self._connection: psycopg.Connection | None = None
        self._lock = threading.Lock()
        self._warnings: list[str] = []  # SQLSTATEs that the running statement has raised

    def connect(self) -> None:
        """See `InboxWriter`."""
        with self._lock:
            connection = self._connection
        if connection is not None and outages.is_alive(connection):
            return
        self.close()
        try:
            self._ensure_connection()
        except psycopg.Error as error:
            raise self._classify(error) from error

    def keep(self, arrivals: Sequence[Arrival]) -> None:
        """See `InboxWriter`."""
        # Each part is a transaction of its own; a retry stores no callback twice.
        self._commit(
            partial(self._execute, parameters=[str(self._slot), *_postgresql_arrays(part)]) for part in _split(arrivals)
        )

    def try_keeping(self) -> None:
        """See `InboxWriter`."""
        arrival = _new_trial()
        insert = _postgresql_insert(f"'{array}'" for array in _postgresql_arrays([arrival]))
        trial = _POSTGRESQL_TRIAL.format(insert=insert, slot=self._slot, id=arrival.id).encode()
        self._commit([lambda connection: connection.exec_(trial)])

    def _commit(self, transactions: Iterable[Callable[[PGconn], PGresult]]) -> None:
        try:
            connection = self._ensure_connection()
            for commit in transactions:
                self._warnings.clear()
                outages.check(commit(connection.pgconn))
                if self._warnings:
                    raise StorageUnavailable(f"the database warned ({self._warnings[0]}), perhaps of a wait cut short")
        except SettingsError as error:
            raise StorageUnavailable(" ".join(error.faults)) from error
        except psycopg.Error as error:
            raise self._classify(error) from error

    def _classify(self, error: psycopg.Error) -> StorageUnavailable:
        """Close the connection and return an outage's error. Raises the error itself if it is about the content."""
        if error.sqlstate in _PREPARED_STATEMENT_ERRORS:
            self._is_preparing = False
        elif not self._is_in_the_way(error) and not outages.is_outage(error):
            raise error
        self.close()
        return database_faults.unavailable(error, self._url)

    def _is_in_the_way(self, error: psycopg.Error) -> bool:
        """Whether only a time slice that is just being made refused a row. If it was a guard, it is dropped.

        Without the name of a constraint the slice was attached while the row went to the default slice.
        """
        guard = error.diag.constraint_name
        if not isinstance(error, psycopg.errors.CheckViolation) or not (guard is None or time_slices.is_guard(guard)):
            return False
        connection = self._connection
        if guard is not None and connection is not None:
            with suppress(psycopg.Error):  # then the next try drops it
                connection.execute(
                    f"BEGIN; SET LOCAL lock_timeout = '50ms'; {time_slices.drop_guard(guard)}; COMMIT".encode()
                )
        return True

    def _execute(self, connection: PGconn, parameters: Sequence[str]) -> PGresult:
        values = [value.encode() for value in parameters]
        if self._is_preparing:
            return connection.exec_prepared(_STATEMENT, values)
        return connection.exec_params(_POSTGRESQL, values)

    def abandon(self) -> None:
        """See `InboxWriter`."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(OSError, psycopg.Error), socket.socket(fileno=connection.fileno()) as wire:
                try:
                    wire.shutdown(socket.SHUT_RDWR)  # the thread that reads from it sees its end
                finally:
                    wire.detach()  # the connection still owns the descriptor

    def close(self) -> None:
        """See `InboxWriter`."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def _ensure_connection(self) -> psycopg.Connection:
        with self._lock:
            if self._connection is not None:
                return self._connection
        connection = psycopg.connect(
            self._url,
            autocommit=True,
            connect_timeout=self._connect_seconds,
            application_name="receiptsvc inbox writer",
            client_encoding="UTF8",  # as its texts are encoded
            **outages.TCP_KEEPALIVE,
        )
        connection.add_notice_handler(self._collect_warning)
        with self._lock:
            self._connection = connection  # from here on it can be abandoned
        try:
            self._prepare(connection)
        except SettingsError:
            self.close()
            raise
        return connection

    def _prepare(self, connection: psycopg.Connection) -> None:
        settings = connection.execute(durability.SETTINGS_QUERY).fetchone() or ()
        faults = durability.find_faults(*settings)
        if faults:  # checked at every connect: the process may have started without the database, or it was replaced
            raise SettingsError(faults)
        # Without this a backend whose client has gone waits for its locks forever, and holds one of the few
        # connections. Not every system supports it, so its result is not checked.
        connection.pgconn.exec_(b"SET client_connection_check_interval = '1s'")
        # A database or role may have it off: then what is absent would be kept as the word "NULL".
        outages.check(connection.pgconn.exec_(b"SET array_nulls = on"))
        if self._is_preparing:
            try:
                outages.check(connection.pgconn.prepare(_STATEMENT, _POSTGRESQL))
            except psycopg.errors.DuplicatePreparedStatement:  # a pooler's session: another process has been here
                self._is_preparing = False

    def _collect_warning(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            self._warnings.append(notice.sqlstate or "")


class SqliteWriter:
    """An `InboxWriter` for SQLite. A write to a disk that hangs can't be aborted, only waited for.

    Once its files are removed it stores nothing more: it holds its connection, and continues if they come back. Opening
    the files that replaced them could mix two databases, since other processes still have the old ones open.
    """

    def __init__(self, url: str, slot: int, patience_seconds: float) -> None:
        self._url, self._slot, self._patience_seconds = url, slot, patience_seconds
        self._path = make_url(url).database or ""
        self._connection: sqlite3.Connection | None = None
        self._files = sqlite_files.files_of(self._path)

    def connect(self) -> None:
        """See `InboxWriter`."""
        self._commit([])

    def keep(self, arrivals: Sequence[Arrival]) -> None:
        """See `InboxWriter`."""
        self._commit([partial(self._insert, arrivals=arrivals)])

    def try_keeping(self) -> None:
        """See `InboxWriter`."""
        self._commit([self._insert_trial])

    def abandon(self) -> None:
        """See `InboxWriter`."""
        if self._connection is not None:
            self._connection.interrupt()

    def close(self) -> None:
        """See `InboxWriter`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._files.closed()
            with suppress(sqlite3.Error):
                connection.close()

    def _commit(self, transactions: Iterable[Callable[[sqlite3.Connection], object]]) -> None:
        if self._connection is None or self._files.are_lost:
            self._files.check()
        try:
            connection = self._ensure_connection()
            for write in transactions:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    write(connection)
                    connection.execute("COMMIT")
                except BaseException:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                    raise
        except sqlite3.Error as error:
            if not outages.is_outage(error):
                raise
            self._files.check()
            self.close()
            raise database_faults.unavailable(error, self._url) from error
        self._files.check()  # a commit to a removed file is lost with the file's last connection

    def _insert(self, connection: sqlite3.Connection, arrivals: Sequence[Arrival]) -> None:
        kept = 0
        for row in _sqlite_rows(arrivals):
            if connection.execute(_SQLITE, row).rowcount:
                connection.execute(_SQLITE_QUEUE, (row[0],))
                kept += 1
        connection.execute(_SQLITE_COUNT, (self._slot, kept))

    def _insert_trial(self, connection: sqlite3.Connection) -> None:
        arrival = _new_trial()
        self._insert(connection, [arrival])
        connection.execute(_SQLITE_COUNT, (self._slot, -1))
        for statement in _SQLITE_TRIAL_END:
            connection.execute(statement, (arrival.id.hex,))

    def _ensure_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(
                sqlite_files.uri(self._path),
                uri=True,
                timeout=self._patience_seconds,
                isolation_level=None,
                check_same_thread=False,
            )
            sqlite_files.prepare(connection)
            self._files.opened()
            self._connection = connection
        return self._connection


def _new_trial() -> Arrival:
    return Arrival(ids.new(), Channel.ACCOUNT, None, datetime.now(UTC), _TRIAL_CALLBACK)


def _split(arrivals: Sequence[Arrival]) -> Iterator[Sequence[Arrival]]:
    """Arrivals in their order, some megabytes at a time: as parameters they take several times their size in memory."""
    start = size = 0
    for index, arrival in enumerate(arrivals):
        size += len(arrival.callback.query) + len(arrival.callback.body)
        if size > _MAX_BYTES and index > start:
            yield arrivals[start:index]
            start, size = index, len(arrival.callback.query) + len(arrival.callback.body)
    yield arrivals[start:]


def _postgresql_arrays(arrivals: Sequence[Arrival]) -> list[str]:
    """The columns of ARRIVED, each as an array literal of PostgreSQL."""
    columns = zip(*map(values_of, arrivals), strict=True) if arrivals else [()] * len(ARRIVED)
    return [f"{{{','.join(write(values))}}}" for write, values in zip(_TO_POSTGRESQL, columns, strict=True)]


def _quoted(text: str | None) -> str:
    if text is None:
        return _NULL
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _sqlite_rows(arrivals: Iterable[Arrival]) -> Iterator[Sequence[object]]:
    """The values of ARRIVED, as SQLAlchemy writes them."""
    for arrival in arrivals:
        row = list(values_of(arrival))
        for index, write in _TO_SQLITE:
            row[index] = write(row[index])
        yield row


def _sqlite_time(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


# How the values of a column are written, by the column's type.
_POSTGRESQL_FORMS: Mapping[type, Callable[[Sequence[Any]], Iterable[str]]] = {
    Uuid: lambda values: [value.hex if value else _NULL for value in values],
    Text: lambda values: [_quoted(value) for value in values],
    UtcDateTime: lambda values: [f'"{value.isoformat()}"' for value in values],
    LargeBinary: lambda values: [_BYTES_PREFIX + value.hex() for value in values],
}
_SQLITE_FORMS: Mapping[type, Callable[[Any], object]] = {
    Uuid: lambda value: value.hex if value else None,
    UtcDateTime: _sqlite_time,
}
_TO_POSTGRESQL = [_POSTGRESQL_FORMS[type(type_)] for type_ in _TYPES]
_TO_SQLITE = [(index, _SQLITE_FORMS[type(type_)]) for index, type_ in enumerate(_TYPES) if type(type_) in _SQLITE_FORMS]
