"""What a database's error means for the person who set it up: one line with a remedy.

The error's own text is read and never shown: it may hold data, and what stands in a broken URL.
"""

import re
import sqlite3

from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from receiptsvc import logs

# What libpq says when it can't connect, where there is no SQLSTATE. A server that speaks another language gets the last
# resort.
_CONNECTING = (
    (
        "password authentication failed|no password supplied|authentication failed",
        "the user or the password is refused: put the right ones into DATABASE_URL",
    ),
    (r'database ".*" does not exist', "there is no database of that name: create it, or correct DATABASE_URL"),
    (r'role ".*" does not exist', "there is no such user: create it, or correct DATABASE_URL"),
    ("no pg_hba.conf entry", "the server lets this user, address or encryption in nowhere: see its pg_hba.conf"),
    (
        "too many (clients|connections)|remaining connection slots",
        "all connections of the server are taken: free some, or raise max_connections",
    ),
    (
        "could not translate host name|failed to resolve host|Name or service not known|getaddrinfo",
        "there is no such host: correct DATABASE_URL",
    ),
    ("Connection refused|No such file or directory", "nothing listens there: start it, or correct DATABASE_URL"),
    (
        "timeout|timed out|No route to host|unreachable",
        "the server does not answer: see whether it runs and can be reached",
    ),
    ("starting up|shutting down|in recovery", "the server is starting or stopping: try again in a moment"),
    ("SSL|certificate|TLS", "the encrypted connection fails: see sslmode and its certificates in DATABASE_URL"),
    (
        "invalid (connection|URI|integer|port|.*option)|missing .* in connection",
        "DATABASE_URL can't be read: correct it",
    ),
)
_UNREACHABLE = "the server can't be reached, or refuses: see whether it runs, and correct DATABASE_URL"

# By SQLSTATE, or by the beginning of one.
_STATES = {
    "25006": "the server only reads (a standby?): let DATABASE_URL name the primary",
    "28": "the user or the password is refused: put the right ones into DATABASE_URL",
    "3D000": "there is no database of that name: create it, or correct DATABASE_URL",
    "3F000": "the schema of the search path is missing: create it, or correct DATABASE_URL",
    "40P01": "other transactions hold what a migration needs: run it again when they have ended",
    "42501": "the user may not do that: let DATABASE_URL name the user who owns the tables",
    "42P07": "a table is there that no migration made: use an empty database, or restore alembic_version",
    "53100": "the server's disk is full: make room, then run it again",
    "53300": "all connections of the server are taken: free some, or raise max_connections",
    "55P03": "other transactions hold what a migration needs: end them (pg_stat_activity), then run it again",
    "57": "the server cut it off: see its log, then run it again",
    "08": "the connection was lost: run it again",
}
_SQLITE = {
    sqlite3.SQLITE_CANTOPEN: "the file can't be opened: see the folder and its rights",
    sqlite3.SQLITE_CORRUPT: "the file is damaged: restore a backup",
    sqlite3.SQLITE_FULL: "the disk is full: make room, then run it again",
    sqlite3.SQLITE_IOERR: "the disk does not do it: see the system's log",
    sqlite3.SQLITE_NOTADB: "the file is no SQLite database: correct DATABASE_URL",
    sqlite3.SQLITE_READONLY: "the file can't be written: see its rights",
}
_BROKEN = "what was being done is undone; see the database's log, then run it again"


def explain(error: Exception, url: str) -> str:
    """One line: which database, what it did not do, and what to do about it."""
    return f"{_name(url)}: {_remedy(error)}"


def _remedy(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"the folder of the file can't be made ({error.strerror}): see its rights"
    if isinstance(error, PoolTimeout):
        return _UNREACHABLE
    original = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(original, sqlite3.Error):
        remedy = _SQLITE.get(getattr(original, "sqlite_errorcode", 0) & 0xFF, _BROKEN)
        return f"{remedy} ({logs.describe(error)})"
    state = getattr(original, "sqlstate", None)
    if state is not None:
        remedy = _STATES.get(state) or _STATES.get(state[:2]) or _BROKEN
        return f"{remedy} ({logs.describe(error)})"
    if original is None:
        return f"{_BROKEN} ({logs.describe(error)})"
    text = str(original)
    return next((remedy for pattern, remedy in _CONNECTING if re.search(pattern, text)), _UNREACHABLE)


def _name(url: str) -> str:
    """The database without user and password."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return f"the SQLite file {parsed.database}"
    host = parsed.host or parsed.query.get("host") or "this machine"
    return f"the database {parsed.database or ''} at {host}{f':{parsed.port}' if parsed.port else ''}"
