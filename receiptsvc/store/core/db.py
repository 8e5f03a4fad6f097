"""The database: one engine a process, and the ways to open a transaction.

Every commit of data is visible in the caller as `with database.transaction() as session:`. On SQLite such a transaction
is `BEGIN IMMEDIATE`: it waits for the write lock at its start and never fails half-way. A reading one is deferred.
"""

import secrets
import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import BoundedSemaphore
from time import monotonic, sleep
from typing import Any

import psycopg
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import DataError, DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from receiptsvc import private_files
from receiptsvc.domain.errors import NotMigrated, SettingsError, StorageUnavailable
from receiptsvc.store.core import database_faults, durability, outages, schema, sqlite_files, time_limits, topics
from receiptsvc.store.core.clock import Clock
from receiptsvc.store.core.time_limits import TimeLimits
from receiptsvc.store.core.topics import Topic

MAX_SECONDS = 15.0  # for one call to work through rows: routers cut a request off after 30 s

_SQLITE_REST_SECONDS = 0.01
_LIMITS = "time_limits"  # an execution option: of a transaction on PostgreSQL
_BEGIN = "sqlite_begin"  # an execution option: the BEGIN of a reading transaction differs from a writing one's

_PG_CONNECT: dict[str, Any] = {
    "application_name": "receiptsvc",
    "connect_timeout": 5,
    "client_encoding": "UTF8",  # what the role, the database or PGCLIENTENCODING asks for might not hold every text
    "prepare_threshold": None,  # a pooler in transaction mode would lose prepared statements
    **outages.TCP_KEEPALIVE,
}


class Database:
    """The engine and its transactions. Threads share one; each process makes its own."""

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 5,
        busy_seconds: float = 5.0,
        is_worker: bool = False,
        keeps_callbacks: bool = False,
        may_create: bool = False,
        limits: TimeLimits | None = time_limits.REQUEST,
        max_writers: int | None = None,
    ) -> None:
        """`busy_seconds`: how long to wait for a connection of the pool, and on SQLite for the write lock.

        Raises OSError if `may_create` and the folder or the file can't be made.

        `is_worker`: its connections are named so. `keeps_callbacks`: it never shares a slot of the counters with a
        worker or a command, whose transactions are long, or may be suspended.
        `may_create`: for the migrations: make SQLite's file if there is none. Otherwise that is an outage.
        `limits`: of its transactions on PostgreSQL, unless one has its own; None: none.
        `max_writers`: how many transactions that write may be open at once, so that reading finds a connection.
        """
        parsed = make_url(url)
        # The slot that this process adds to in the counters: a shared slot costs time, not correctness.
        self._busy_seconds = busy_seconds
        self._writers = None if max_writers is None else BoundedSemaphore(max_writers)
        self.slot = secrets.randbelow(64) + 64 * (not keeps_callbacks)
        self.clock = Clock()
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        # Called after a commit that has made work for the workers, with its topics.
        self.notify: Callable[[Collection[Topic]], None] = lambda _: None
        self._version_connection: Connection | None = None
        arguments: dict[str, Any] = (
            {"timeout": busy_seconds} if self.is_sqlite else _connect_arguments(is_worker=is_worker)
        )
        self._url, self._path = url, parsed.database or ""
        path = self._path
        self._files = sqlite_files.files_of(path)  # on PostgreSQL never opened, so never checked
        if self.is_sqlite and may_create:
            private_files.make_folder(Path(path).parent)
            private_files.make_file(Path(path))  # -wal and -shm get its mode
        if self.is_sqlite and not may_create:
            file, _, mode = sqlite_files.uri(path).partition("?mode=")
            parsed = parsed.set(database=file).update_query_dict({"mode": mode, "uri": "true"})
        self._engine = create_engine(
            parsed,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=busy_seconds,
            connect_args=arguments,
            hide_parameters=True,  # parameters are phone numbers and texts; errors get logged
        )
        event.listen(self._engine, "handle_error", _raise_data_error)
        if self.is_sqlite:
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "connect", lambda *_: self._files.opened())
            event.listen(self._engine, "close", lambda *_: self._files.closed())
            event.listen(self._engine, "begin", _begin_sqlite)
        else:
            event.listen(self._engine, "connect", _prepare_postgresql)
            event.listen(self._engine, "checkout", _require_alive)
            event.listen(self._engine, "begin", self._begin_postgresql)
        options: dict[str, Any] = (
            {_BEGIN: "BEGIN DEFERRED"}
            if self.is_sqlite
            else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        )
        self.limits = limits
        self._engine = self._engine.execution_options(**{_LIMITS: limits})
        self._reading = self._engine.execution_options(**options)
        self._single = self._reading if self.is_sqlite else self._engine.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def transaction(self, limits: TimeLimits | None = None) -> Iterator[Session]:
        """A session that commits at the end of the block, or leaves nothing behind. `limits`: if it has its own.

        Raises StorageUnavailable if the database is away, full or too busy, or if SQLite's files were removed: then the
        commit may or may not have happened. Raises SQLAlchemy's DataError, on both databases, for a value that the
        database can't hold or compare.
        """
        info = {"slot": self.slot}
        self._files.check()
        engine = self._engine if limits is None else self._engine.execution_options(**{_LIMITS: limits})
        with (
            self._translated_errors(),
            self._writing(),
            Session(engine, expire_on_commit=False, info=info) as session,
            session.begin(),
        ):
            yield session
        self._files.check()
        if marked := topics.marked(session):
            self.notify(marked)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if self._writers is None:
            yield
            return
        if not self._writers.acquire(timeout=self._busy_seconds):
            raise StorageUnavailable("too many transactions write")
        try:
            yield
        finally:
            self._writers.release()

    @contextmanager
    def reading(self, limits: TimeLimits | None = None) -> Iterator[Session]:
        """A session that only reads, all of it from one snapshot. Raises StorageUnavailable."""
        self._files.check()
        engine = self._reading if limits is None else self._reading.execution_options(**{_LIMITS: limits})
        with self._translated_errors(), Session(engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def glance(self) -> Iterator[Connection]:
        """A connection for short statements that are made all the time. Raises StorageUnavailable.

        PostgreSQL gets each alone, without a BEGIN and a COMMIT around it, and there is no session that would cost as
        much as the statement.
        """
        self._files.check()
        began = monotonic()
        with self._translated_errors(), self._single.connect() as connection:
            yield connection
        self.clock.waited(monotonic() - began)

    def sqlite_version(self) -> int:
        """A number that changes when another connection has committed, on SQLite only. It costs some microseconds.

        Only one thread may call it: the number means something on one connection alone, which is kept for it. Raises
        StorageUnavailable.
        """
        self._files.check()
        try:
            with self._translated_errors():
                if self._version_connection is None:
                    self._version_connection = self._engine.connect()
                driver: Any = self._version_connection.connection.driver_connection
                version: int = driver.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error as error:
            raise database_faults.unavailable(error, self._url) from error
        return version

    @contextmanager
    def connection(self, *, is_read_only: bool = False, limits: TimeLimits | None = None) -> Iterator[Connection]:
        """A bare connection, for the migrations. `limits`: if it has its own. It raises SQLAlchemy's own errors."""
        engine = self._reading if is_read_only else self._engine
        if limits is not None:
            engine = engine.execution_options(**{_LIMITS: limits})
        with engine.connect() as connection:
            yield connection

    def read_clock(self) -> None:
        """Ask the database for its time, as each transaction does at its beginning. Raises StorageUnavailable."""
        with self.reading() as session:
            session.connection()

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Raise an outage as StorageUnavailable, with its name and its line."""
        try:
            yield
        except (PoolTimeout, psycopg.Error) as error:  # psycopg's own: of a command that SQLAlchemy did not send
            raise self._unavailable(error) from error
        except DBAPIError as error:
            if error.connection_invalidated or outages.is_outage(error.orig):
                raise self._unavailable(error) from error
            raise

    def _unavailable(self, error: Exception) -> StorageUnavailable:
        fault = database_faults.unavailable(error, self._url)
        if fault.kind is not None:  # what has no name passes, and others can use the database meanwhile
            self.clock.was_away()
        return fault

    def _begin_postgresql(self, connection: Connection) -> None:
        options = connection.get_execution_options()
        limits: TimeLimits | None = options.get(_LIMITS)
        if limits is not None and options.get("isolation_level") != "AUTOCOMMIT":
            reads = "ISOLATION LEVEL REPEATABLE READ READ ONLY" if options.get("postgresql_readonly") else ""
            driver: Any = connection.connection.driver_connection
            sent_at = monotonic()
            self.clock.measured(sent_at, time_limits.begin(driver, limits.begin_command(reads)))

    def let_others_write(self) -> None:
        """Pause between two writing transactions of many: SQLite has no queue, and others need their turn."""
        if self.is_sqlite:
            sleep(_SQLITE_REST_SECONDS)

    def check_durability(self) -> None:
        """Raise SettingsError if PostgreSQL would answer before its commits are durable.

        Raises StorageUnavailable if the database can't be read.
        """
        if self.is_sqlite:
            return
        with self._translated_errors(), self._reading.connect() as connection:
            faults = durability.find_faults(*connection.execute(text(durability.SETTINGS_QUERY)).one())
        if faults:
            raise SettingsError(faults)

    def check_schema(self) -> None:
        """Raise NotMigrated or TooNew if this release can't use the database's tables.

        Raises StorageUnavailable if the database can't be read.
        """
        try:
            is_missing = self.is_sqlite and not Path(self._path).exists()
        except OSError as error:  # no right to look
            raise database_faults.unavailable(error, self._url) from error
        if is_missing:
            raise NotMigrated(f"the SQLite file is not there: run {schema.MIGRATE}")
        with self._translated_errors(), self._reading.connect() as connection:
            found = schema.read(connection)
        schema.require(found)

    def close(self) -> None:
        """Close every idle connection."""
        if self._version_connection is not None:
            self._version_connection.close()
            self._version_connection = None
        self._engine.dispose()


def is_sqlite(session: Session) -> bool:
    """Whether a session uses SQLite; otherwise it uses PostgreSQL."""
    return session.get_bind().dialect.name == "sqlite"


def _connect_arguments(*, is_worker: bool) -> dict[str, Any]:
    """How to connect to PostgreSQL. The server lists the connections by their names."""
    return _PG_CONNECT | {"application_name": "receiptsvc worker"} if is_worker else _PG_CONNECT


def plain_url(url: str) -> str:
    """The URL of a PostgreSQL database in libpq's form, without SQLAlchemy's driver name."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _raise_data_error(context: ExceptionContext) -> None:
    """Raise DataError for a value that the driver itself can't convert, as for SQLSTATE class 22."""
    error = context.original_exception
    if isinstance(error, OverflowError | UnicodeError):
        raise DataError(context.statement, None, error, hide_parameters=True) from error


def _prepare_postgresql(connection: Any, _record: object) -> None:
    # In the server's own zone the first and last possible times would be shifted out of Python's range. The driver
    # reads times in no style but ISO, and the server, the database or the role may have another.
    connection.execute("SET TIME ZONE 'UTC'; SET DateStyle = 'ISO'")
    connection.commit()


def _require_alive(connection: Any, _record: object, _proxy: object) -> None:
    """Have the pool replace a connection that was cut while it was idle. A ping would be one more round trip."""
    if not outages.is_alive(connection):
        raise DisconnectionError("it was cut while it was idle")


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver's own BEGINs are deferred; `_begin_sqlite` sends ours
    sqlite_files.prepare(connection)


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN IMMEDIATE"))
