"""Classifies database errors: an outage passes, while an error about data repeats with every try."""

import select
import sqlite3
from typing import Any

import psycopg
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGresult

from receiptsvc.domain.errors import LockTimeout, ReadOnly, StatementTimeout, StorageUnavailable

# Errors about data. Every other error is an outage: the database is away, full, read-only or not migrated.
_PG_DATA = ("22", "23", "54")  # SQLSTATE classes: data, constraints, limits
_SQLITE_DATA = frozenset({sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH})

_BY_SQLSTATE = {"25006": ReadOnly, "55P03": LockTimeout, "57014": StatementTimeout}

# psycopg's options that detect a vanished host within seconds, instead of the system's two hours.
TCP_KEEPALIVE: dict[str, Any] = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 8000,
}


def is_outage(error: BaseException | None) -> bool:
    """Whether a driver's error is about the database itself, not about the data."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        return code is not None and code & 0xFF not in _SQLITE_DATA  # the low byte is the primary code
    if isinstance(error, psycopg.Error):
        is_lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and error.sqlstate is None
        return is_lost or (error.sqlstate is not None and error.sqlstate[:2] not in _PG_DATA)
    return False


def translate(error: BaseException) -> StorageUnavailable:
    """The error that stands for a driver's outage."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY:
        return ReadOnly(describe(error))
    kind = _BY_SQLSTATE.get(getattr(error, "sqlstate", None) or "", StorageUnavailable)
    return kind(describe(error))


def check(result: PGresult) -> None:
    """Raise psycopg.Error unless a command succeeded."""
    if result.status in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
        return
    if result.error_field(DiagnosticField.SQLSTATE) is None:
        raise psycopg.OperationalError("the connection was lost")
    raise psycopg.errors.error_from_result(result)


def is_alive(connection: psycopg.Connection) -> bool:
    """Whether an idle connection is still open, as far as this side knows without a round trip."""
    try:
        while _has_input(connection.fileno()):  # a server's farewell comes before the end of its connection
            connection.pgconn.consume_input()  # raises if the connection has ended
    except (OSError, psycopg.Error):
        return False
    return not connection.closed


def describe(error: BaseException) -> str:
    """A driver's error by type and code only: its text may hold personal data."""
    code = getattr(error, "sqlstate", None) or getattr(error, "sqlite_errorname", None)
    return f"the database did not do it ({type(error).__name__}{f' {code}' if code else ''})"


def _has_input(descriptor: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(0))
