"""The way into the inbox for callbacks as they come: one raw connection, one statement a group, one transaction.

Beside `inbox.keep` because here every microsecond is waited for: no session, no compiling, no pool. What it writes is
what `inbox.keep` would write; a test holds the two against each other. Keeping twice keeps once.

Every statement writes at least its counters, also where it finds all its rows there already. A PostgreSQL with
synchronous standbys commits on its own disk first, shows the rows to everybody, and then waits for the standbys; who
cancels that wait gets COMMAND_OK and a WARNING. A later "do nothing" on the same ids would wait for nothing. A commit
that wrote something waits until the standbys have all that was written before it, whoever wrote that.
"""

import select
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

import psycopg
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from sqlalchemy.engine import make_url

from receiptsvc import ids
from receiptsvc.domain.errors import SettingsError, StorageUnavailable
from receiptsvc.domain.inbox import Arrival
from receiptsvc.store.core import durability, outages, sqlite_files
from receiptsvc.store.core.db import plain_url

_POSTGRESQL = b"""
WITH kept AS (
  INSERT INTO inbox (id, channel, message_id, is_unauthenticated, received_at, method, query, content_type, body,
                     outcome, next_at, tries)
  SELECT id, channel, message_id, is_unauthenticated, received_at, method, query, content_type, body,
         'pending', received_at, 0
  FROM unnest($2::uuid[], $3::text[], $4::uuid[], $5::boolean[], $6::timestamptz[], $7::text[], $8::bytea[],
              $9::text[], $10::bytea[])
    AS arrived(id, channel, message_id, is_unauthenticated, received_at, method, query, content_type, body)
  ON CONFLICT (id) DO NOTHING
  RETURNING 1
), counted AS (SELECT count(*) AS rows FROM kept)
INSERT INTO counters (name, slot, value)
SELECT name, $1::integer, counted.rows FROM counted, unnest(ARRAY['callbacks', 'pending', 'received']) AS name
ON CONFLICT (name, slot) DO UPDATE SET value = counters.value + excluded.value
"""
_SQLITE = """
INSERT INTO inbox (id, channel, message_id, is_unauthenticated, received_at, method, query, content_type, body,
                   outcome, next_at, tries)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'pending', ?5, 0)
ON CONFLICT (id) DO NOTHING
"""
_SQLITE_COUNT = """
INSERT INTO counters (name, slot, value) VALUES ('callbacks', ?1, ?2), ('pending', ?1, ?2), ('received', ?1, ?2)
ON CONFLICT (name, slot) DO UPDATE SET value = value + excluded.value
"""

# What a callback takes, in one transaction: its row and its counts. Nobody else ever sees the row.
_POSTGRESQL_TRIAL = """
INSERT INTO inbox (id, channel, is_unauthenticated, received_at, method, query, body, outcome, next_at, tries)
VALUES ('{id}', 'account', false, now(), 'HEAD', decode(repeat('00', {bytes}), 'hex'), '', 'pending', now(), 0);
INSERT INTO counters (name, slot, value)
VALUES ('callbacks', {slot}, 0), ('pending', {slot}, 0), ('received', {slot}, 0)
ON CONFLICT (name, slot) DO UPDATE SET value = counters.value + excluded.value;
DELETE FROM inbox WHERE id = '{id}'
"""
_SQLITE_TRIAL = """
INSERT INTO inbox (id, channel, is_unauthenticated, received_at, method, query, body, outcome, next_at, tries)
VALUES (?1, 'account', 0, ?2, 'HEAD', zeroblob(?3), x'', 'pending', ?2, 0)
"""
_SQLITE_TRIAL_END = "DELETE FROM inbox WHERE id = ?1"
_TRIAL_BYTES = 500  # of the query of a usual receipt

_STATEMENT = b"keep"
_MAX_BYTES = 4 * 1024 * 1024  # of callbacks in one statement
_NULL = "NULL"
_BYTES = r"\\x"  # before hexadecimal digits, in an array
_NO_PREPARING = ("26000", "42P05")  # a prepared statement is not there, or is there twice: another server's session


class InboxWriter(Protocol):
    """One connection into the inbox. Only `abandon` may be called while another thread is in any other method."""

    def connect(self) -> None:
        """Open the connection, unless it is open and, as far as can be seen without asking, alive.

        Raises StorageUnavailable, and SettingsError if the database would answer before its commits are safe. The other
        methods connect by themselves where they must, and raise StorageUnavailable in both cases.
        """
        ...

    def keep(self, arrivals: Sequence[Arrival]) -> None:
        """Keep these and count them; when it returns they are on disk.

        Raises StorageUnavailable: then they may or may not be kept. Any other error is about their content.
        """
        ...

    def try_keeping(self) -> None:
        """Commit what a callback takes, and leave nothing. Raises what `keep` raises."""
        ...

    def abandon(self) -> None:
        """Give up on whoever is in `keep`: it ends soon with StorageUnavailable. The next one connects anew."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


def open_writer(url: str, slot: int, *, patience_seconds: float) -> InboxWriter:
    """A door to the database of this URL. It does not connect yet.

    `slot`: of the counters. `patience_seconds`: how long a connection, or SQLite's one writer, may be waited for.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return SqliteWriter(parsed.database or "", slot, patience_seconds)
    return PostgresqlWriter(plain_url(url), slot, patience_seconds)


class PostgresqlWriter:
    """See Door. It speaks to libpq by psycopg's own module for that: a cursor costs more than the statement does."""

    def __init__(self, url: str, slot: int, patience_seconds: float) -> None:
        self._url, self._slot = url, slot
        self._connect_seconds = max(2, round(patience_seconds))  # libpq takes no less
        self._is_preparing = True  # until a pooler in transaction mode mixes prepared statements up
        self._connection: psycopg.Connection | None = None
        self._lock = threading.Lock()
        self._warnings: list[str] = []  # SQLSTATEs, of the statement that runs

    def connect(self) -> None:
        """See Door."""
        with self._lock:
            connection = self._connection
        if connection is not None and _is_alive(connection):
            return
        self.close()
        try:
            self._connected()
        except psycopg.Error as error:
            raise self._unavailable(error) from error

    def keep(self, arrivals: Sequence[Arrival]) -> None:
        """See Door."""
        # Each part is a transaction of its own; whoever tries again keeps none of them twice.
        self._commit(
            partial(self._execute, parameters=[str(self._slot), *_postgresql_arrays(part)]) for part in _parts(arrivals)
        )

    def try_keeping(self) -> None:
        """See Door."""
        trial = _POSTGRESQL_TRIAL.format(id=ids.new(), slot=self._slot, bytes=_TRIAL_BYTES).encode()
        self._commit([lambda connection: connection.exec_(trial)])

    def _commit(self, transactions: Iterable[Callable[[PGconn], PGresult]]) -> None:
        try:
            connection = self._connected()
            for commit in transactions:
                self._warnings.clear()
                _check(commit(connection.pgconn))
                if self._warnings:
                    raise StorageUnavailable(f"the database warned ({self._warnings[0]}), perhaps of a wait cut short")
        except SettingsError as error:
            raise StorageUnavailable(" ".join(error.faults)) from error
        except psycopg.Error as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: psycopg.Error) -> StorageUnavailable:
        """How an outage is called, with the connection closed. Raises the error itself if it is about the content."""
        if error.sqlstate in _NO_PREPARING:
            self._is_preparing = False
        elif not outages.is_outage(error):
            raise error
        self.close()
        return StorageUnavailable(outages.describe(error))

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
            **outages.TCP_KEEPALIVE,
        )
        made.add_notice_handler(self._note)
        with self._lock:
            self._connection = made  # from here on it can be abandoned
        try:
            self._prepare(made)
        except SettingsError:
            self.close()
            raise
        return made

    def _prepare(self, made: psycopg.Connection) -> None:
        answers = made.execute(durability.ASK).fetchone() or ()
        faults = durability.find_faults(*answers)
        if faults:  # also after a start without the database, or when another server has taken its place
            raise SettingsError(faults)
        # A backend whose client has given up else waits for its locks for good, and holds one of the few connections.
        made.pgconn.exec_(b"SET client_connection_check_interval = '1s'")  # not every system can; then it is as it is
        if self._is_preparing:
            _check(made.pgconn.prepare(_STATEMENT, _POSTGRESQL))

    def _note(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            self._warnings.append(notice.sqlstate or "")


class SqliteWriter:
    """See Door. A write to a disk that hangs can't be given up, only waited for.

    Once its files were taken away it keeps nothing more: it holds on to its connection, and goes on if they come back.
    To open whatever stands there instead could mix two databases, since other processes still have the old files open.
    """

    def __init__(self, path: str, slot: int, patience_seconds: float) -> None:
        self._path, self._slot, self._patience_seconds = path, slot, patience_seconds
        self._connection: sqlite3.Connection | None = None
        self._files = sqlite_files.files_of(path)

    def connect(self) -> None:
        """See Door."""
        self._commit([])

    def keep(self, arrivals: Sequence[Arrival]) -> None:
        """See Door."""
        self._commit([partial(self._keep, arrivals=arrivals)])

    def try_keeping(self) -> None:
        """See Door."""
        self._commit([self._try])

    def abandon(self) -> None:
        """See Door."""
        if self._connection is not None:
            self._connection.interrupt()

    def close(self) -> None:
        """See Door."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._files.closed()
            with suppress(sqlite3.Error):
                connection.close()

    def _commit(self, transactions: Iterable[Callable[[sqlite3.Connection], object]]) -> None:
        if self._connection is None or self._files.are_lost:
            self._files.check()
        try:
            connection = self._connected()
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
            raise StorageUnavailable(outages.describe(error)) from error
        self._files.check()  # a commit into a file without a name is lost with its last connection

    def _keep(self, connection: sqlite3.Connection, arrivals: Sequence[Arrival]) -> None:
        kept = connection.executemany(_SQLITE, map(_sqlite_row, arrivals)).rowcount
        connection.execute(_SQLITE_COUNT, (self._slot, max(kept, 0)))  # -1 is said of no rows at all

    def _try(self, connection: sqlite3.Connection) -> None:
        row_id = ids.new().hex
        connection.execute(_SQLITE_TRIAL, (row_id, _sqlite_time(datetime.now(UTC)), _TRIAL_BYTES))
        connection.execute(_SQLITE_COUNT, (self._slot, 0))
        connection.execute(_SQLITE_TRIAL_END, (row_id,))

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            made = sqlite3.connect(
                sqlite_files.uri(self._path),
                uri=True,
                timeout=self._patience_seconds,
                isolation_level=None,
                check_same_thread=False,
            )
            made.execute("PRAGMA journal_mode = WAL")
            made.execute("PRAGMA synchronous = FULL")
            made.execute("PRAGMA foreign_keys = ON")
            self._files.opened()
            self._connection = made
        return self._connection


def _parts(arrivals: Sequence[Arrival]) -> Iterator[Sequence[Arrival]]:
    """Arrivals in their order, some megabytes at a time: as a parameter they take several times their room."""
    start = size = 0
    for place, arrival in enumerate(arrivals):
        size += len(arrival.callback.query) + len(arrival.callback.body)
        if size > _MAX_BYTES and place > start:
            yield arrivals[start:place]
            start, size = place, len(arrival.callback.query) + len(arrival.callback.body)
    yield arrivals[start:]


def _is_alive(connection: psycopg.Connection) -> bool:
    """Whether a connection on which nothing is under way is still there, as far as this side knows."""
    try:
        if _has_news(connection.fileno()):
            connection.pgconn.consume_input()  # raises if the news is its end
    except (OSError, psycopg.Error):
        return False
    return not connection.closed


def _has_news(descriptor: int) -> bool:
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(0))


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
        _array(["t" if arrival.is_unauthenticated else "f" for arrival in arrivals]),
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
        arrival.is_unauthenticated,
        _sqlite_time(arrival.received_at),
        callback.method,
        callback.query,
        callback.content_type,
        callback.body,
    )


def _sqlite_time(at: datetime) -> str:
    """A time as SQLAlchemy writes it."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
