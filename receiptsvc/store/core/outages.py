"""Whether a database says something of itself, or of what it was given. The first passes; the second never does."""

import sqlite3
from typing import Any

import psycopg

# What a database says of its content. Everything else is an outage: the database away, full, read-only, not migrated.
_PG_DATA = ("22", "23", "54")  # SQLSTATE classes: data, constraints, limits
_SQLITE_DATA = frozenset({sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH})


# A host that vanishes is noticed within seconds, not after the system's two hours. For psycopg.
NOTICED: dict[str, Any] = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 8000,
}


def is_outage(error: BaseException | None) -> bool:
    """Whether a driver's error is about the database itself."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        return code is not None and code & 0xFF not in _SQLITE_DATA  # the low byte is the primary code
    if isinstance(error, psycopg.Error):
        lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and error.sqlstate is None
        return lost or (error.sqlstate is not None and error.sqlstate[:2] not in _PG_DATA)
    return False


def describe(error: BaseException) -> str:
    """A driver's error without what it may hold: its type and its code."""
    code = getattr(error, "sqlstate", None) or getattr(error, "sqlite_errorname", None)
    return f"the database did not do it ({type(error).__name__}{f' {code}' if code else ''})"
