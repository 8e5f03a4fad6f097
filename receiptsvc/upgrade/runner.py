"""Runs the missing migrations, unless there is nothing to do or somebody else is at it.

On PostgreSQL each migration is a transaction, and the lease keeps other processes away. On SQLite all of them are one
transaction, which has the write lock from its beginning. Who must wait asks again, in short transactions.
"""

import sqlite3
from collections.abc import Callable
from enum import Enum, auto
from time import monotonic, sleep
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from receiptsvc.domain.errors import ReceiptsvcError
from receiptsvc.locations import MIGRATIONS
from receiptsvc.store.core import schema, time_limits
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.schema import Fit
from receiptsvc.upgrade.lease import SECONDS, Lease, LeaseLost

_ASK_AGAIN_SECONDS = 0.5
_SAY_AGAIN_SECONDS = 30.0
_LOCKS_SECONDS = 60.0  # for how long a migration is tried again that did not get its locks
_NOT_LOCKED = ("40P01", "55P03")  # SQLSTATEs: a deadlock, or a lock that was waited for in vain
_SQLITE_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class Outcome(Enum):
    """How an upgrade ended well."""

    NOTHING_TO_DO = auto()
    UPGRADED = auto()
    NEWER = auto()  # than this release, which may use it


class BrokenChain(ReceiptsvcError):
    """The files of the migrations do not lead from the database's revision to this release's."""


class Upgrade:
    """One run. `say` is called with a line for whoever watches. The other arguments are for tests."""

    def __init__(
        self,
        database: Database,
        say: Callable[[str], object],
        *,
        config: Config | None = None,
        release: str = schema.REVISION,
        lease_seconds: float = SECONDS,
    ) -> None:
        self._database, self._say, self._release = database, say, release
        self._config = config or _find_migrations()
        self._lease = Lease(database, lease_seconds)
        self._say_at = 0.0

    def run(self) -> Outcome:
        """Run the missing migrations, or wait until another process has.

        Raises TooNew, BrokenChain, and SQLAlchemy's errors.
        """
        is_begun = False
        while True:
            fit = self._look()
            if fit is Fit.COMPATIBLE:
                return Outcome.NEWER
            if fit is Fit.CURRENT:
                return Outcome.UPGRADED if is_begun else Outcome.NOTHING_TO_DO
            try:
                is_begun = self._try() or is_begun
            except LeaseLost as error:
                self._say(str(error))

    def _look(self) -> Fit | None:
        """How the database fits this release; None while SQLite's file is being made by another process."""
        try:
            with self._database.connection(is_read_only=True) as connection:
                found = schema.read(connection)
        except DBAPIError as error:
            if not _is_sqlite_busy(error):
                raise
            return None
        fit = schema.judge(found, self._release)
        if fit is Fit.TOO_NEW:
            raise schema.too_new(found, self._release)
        return fit

    def _try(self) -> bool:
        """Run the missing migrations if nobody else does, and return whether; otherwise wait a little."""
        if self._database.is_sqlite:
            return self._try_on_sqlite()
        if not self._lease.try_to_take():
            self._wait("another process migrates")
            return False
        with self._lease.kept():
            if self._look() is not Fit.CURRENT:  # somebody may have been quicker
                self._migrate_until_locked()
        return True

    def _try_on_sqlite(self) -> bool:
        try:
            with self._database.connection() as connection, connection.begin():
                self._migrate(connection, lambda _: None)
        except DBAPIError as error:
            if not _is_sqlite_busy(error):
                raise
            self._wait("another process writes to the SQLite file")
            return False
        return True

    def _migrate_until_locked(self) -> None:
        """Run the migrations; one that does not get its locks leaves nothing and is begun again."""
        deadline, limits = monotonic() + _LOCKS_SECONDS, time_limits.MIGRATION
        while True:
            try:
                with self._database.connection(limits=limits) as connection:
                    self._migrate(connection, self._lease.check)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) not in _NOT_LOCKED or limits is time_limits.LAST_MIGRATION:
                    raise
                self._wait("other transactions hold a table that a migration needs")
                if monotonic() > deadline:
                    limits = time_limits.LAST_MIGRATION
            else:
                return

    def _migrate(self, connection: Connection, check: Callable[[Connection], None]) -> None:
        def on_version_apply(*, ctx: Any, step: Any, **_: Any) -> None:
            check(ctx.connection)
            self._say(f"migration {step.up_revision_id}")

        self._config.attributes.update(connection=connection, on_version_apply=[on_version_apply])
        try:
            command.upgrade(self._config, self._release)
        except CommandError as error:
            raise BrokenChain(f"the files in migrations/ do not fit the database: {error}") from error

    def _wait(self, why: str) -> None:
        if monotonic() >= self._say_at:
            self._say(f"waiting: {why}")
            self._say_at = monotonic() + _SAY_AGAIN_SECONDS
        sleep(_ASK_AGAIN_SECONDS)


def _find_migrations() -> Config:
    """Where the migrations are. alembic.ini, which is not installed, is for alembic's own commands in a checkout."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _is_sqlite_busy(error: DBAPIError) -> bool:
    return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in _SQLITE_BUSY
