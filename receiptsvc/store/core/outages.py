"""Tells outages from errors about data: an outage passes, while an error about data repeats with every try.

What an outage is called, and what to do about it, stands in `database_faults`.
"""

import select
import sqlite3
from typing import Any

import psycopg
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGresult

from receiptsvc.store.core import database_faults

# Errors about data. Every other error is an outage: the database is away, full, read-only or not migrated.
_PG_DATA = ("22", "23", "54")  # SQLSTATE classes: data, constraints, limits
_SQLITE_DATA = frozenset({sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH})

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
        if error.sqlstate is not None:
            return error.sqlstate[:2] not in _PG_DATA
        is_lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        return is_lost or database_faults.is_bad_url(error)
    return False


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


def _has_input(descriptor: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(0))
