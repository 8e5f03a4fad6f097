"""What a database's error means: a name for everybody, and one line with a remedy for whoever runs the service.

And which database that is, without user and password, in the same words everywhere.

The one owner of that: the log, /readyz, the commands and `migrate` say what stands here. An error's own text is read
and not shown, because it may hold data; but for the server's reason for refusing a connection, without passwords.
"""

import os
import re
import sqlite3
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, quote_plus

import psycopg
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from receiptsvc.domain.errors import LockTimeout, NoneFree, NotMigrated, ReadOnly, StatementTimeout, StorageUnavailable
from receiptsvc.store.core.schema import MIGRATE

# What a database may raise that `explain` explains; an OSError is about SQLite's folder.
ERRORS = (SQLAlchemyError, psycopg.Error, OSError)

_MAX_REASON = 200  # characters of the server's reason


class Fault(NamedTuple):
    """`kind`: its name in a few words, for anybody who asks; None: it passes, and has no name. `raises`: as what."""

    kind: str | None
    remedy: str
    raises: type[StorageUnavailable] = StorageUnavailable


NO_TABLES = Fault("no tables", f"a table or column is missing: run {MIGRATE}", NotMigrated)
_NO_FILE = Fault("no tables", f"the file is not there: run {MIGRATE}", NotMigrated)
_REFUSED_PASSWORD = Fault(
    "wrong password", "the user or the password is refused: put the right ones into the database's URL"
)
_NO_DATABASE = Fault("no such database", "there is no database of that name: create it, or correct its URL")
_NO_ROLE = Fault("no such role", "there is no such user: create it, or correct the database's URL")
_NO_LOGIN = Fault("no such role", "this user may not log in: ALTER ROLE … LOGIN, or name another one in the URL")
_NOT_LET_IN = Fault(
    "not let in",
    "the server lets this user, address or encryption in nowhere: see its pg_hba.conf; perhaps sslmode=require is "
    "missing in the database's URL",
)
_PER_ROLE = Fault(
    "too many connections",
    "the user has all the connections that it may have: lower DATABASE_CONNECTIONS, or ALTER ROLE … CONNECTION LIMIT",
)
_PER_DATABASE = Fault(
    "too many connections",
    "the database has all the connections that it may have: lower DATABASE_CONNECTIONS, or "
    "ALTER DATABASE … CONNECTION LIMIT",
)
_PER_SERVER = Fault(
    "too many connections",
    "all connections of the server are taken: free some, lower DATABASE_CONNECTIONS, or raise max_connections",
)
_STARTING = Fault("starting or stopping", "the server is starting or stopping: it passes by itself")
_NO_HOST = Fault("unreachable", "there is no such host: correct the database's URL, or see to its DNS")
_REFUSED = Fault("unreachable", "nothing listens there: start it, or correct the database's URL")
_NO_ANSWER = Fault("unreachable", "the server does not answer: see whether it runs and can be reached")
_UNREACHABLE = Fault(
    "unreachable", "the server can't be reached, or refuses: see whether it runs, and correct the database's URL"
)
_LOST = Fault("connection lost", "the connection was lost: see whether the server runs, and its log")
_NO_TLS = Fault("TLS refused", "the encrypted connection fails: see sslmode and its certificates in the database's URL")
_BAD_URL = Fault("URL can't be read", "the database's URL can't be read: correct its parameters")
_READ_ONLY = Fault("read-only", "the server only reads (a standby?): let the database's URL name the primary", ReadOnly)
_DISK_FULL = Fault("disk full", "the server's disk is full: make room")
_CUT_OFF = Fault("connection lost", "the server cut it off: see its log")
_BROKEN = Fault(None, "what was being done is undone: see the database's log")
_NONE_FREE = Fault(None, "every connection to the database is in use", NoneFree)

# What libpq and poolers say when no connection can be made: there is no SQLSTATE then. The server's reasons come first,
# since a host may have several addresses, of which only one has a server. A server that speaks another language than
# English gets the last resort, with its own words.
_CONNECTING = (
    (r"password authentication failed|no password supplied|authentication failed|wrong password", _REFUSED_PASSWORD),
    (r'database ".*" does not exist|no such database', _NO_DATABASE),
    (r'role ".*" does not exist|no such user', _NO_ROLE),
    (r'role ".*" is not permitted to log in', _NO_LOGIN),
    (r"pg_hba\.conf", _NOT_LET_IN),
    (r"too many connections for role", _PER_ROLE),
    (r"too many connections for database", _PER_DATABASE),
    (r"too many (?:clients|connections)|remaining connection slots|no more connections allowed", _PER_SERVER),
    (r"starting up|shutting down|in recovery|not (?:yet )?accepting connections", _STARTING),
    (r"invalid (?:connection|URI|integer|port|.*option)|missing .* in connection", _BAD_URL),
    (r"could not translate host name|failed to resolve host|Name or service not known|getaddrinfo", _NO_HOST),
    (r"certificate|does not support SSL|sslmode|tlsv1|SSL error|SSL connection (?:is|was) required", _NO_TLS),
    (r"Connection refused|No such file or directory", _REFUSED),
    (r"timeout|timed out|No route to host|unreachable", _NO_ANSWER),
    (r"connection (?:was|is) (?:lost|closed)|closed the connection|has been closed|consuming input|EOF|reset", _LOST),
    (r"SSL|TLS", _NO_TLS),
)

# By SQLSTATE, or by the beginning of one.
_STATES = {
    "08": _LOST,
    "25006": _READ_ONLY,
    "28": _REFUSED_PASSWORD,
    "3D000": _NO_DATABASE,
    "3F000": Fault("no such schema", "the schema of the search path is missing: create it, or correct the URL"),
    "40P01": Fault(None, "other transactions hold what is needed: try again when they have ended"),
    "42501": Fault("not allowed", "the user may not do that: let the URL name the user who owns the tables"),
    "42703": NO_TABLES,
    "42P01": NO_TABLES,
    "42P07": Fault(
        "tables of others", "a table is there that no migration made: use an empty database, or restore alembic_version"
    ),
    "53100": _DISK_FULL,
    "53200": Fault("out of memory", "the server is out of memory: see its log"),
    "53300": _PER_SERVER,
    "55P03": Fault(
        None, "other transactions hold what is needed: end them (pg_stat_activity), then try again", LockTimeout
    ),
    "57014": Fault(None, "the statement took too long: see pg_stat_activity and the server's load", StatementTimeout),
    "57P03": _STARTING,
    "57": _CUT_OFF,
    "58030": Fault("disk fails", "the server's disk does not do it: see its log"),
    "XX001": Fault("damaged", "the server finds its data damaged: see its log, and restore a backup"),
    "XX002": Fault("damaged", "the server finds an index damaged: see its log, and REINDEX"),
}
_CANT_OPEN = Fault("not to be opened", "the file can't be opened: see the folder and its rights")
_SQLITE_BUSY = Fault("locked", "another process holds the file's lock: end what writes to it for so long")
_SQLITE = {
    sqlite3.SQLITE_AUTH: Fault("not writable", "the file can't be opened: see its rights"),
    sqlite3.SQLITE_BUSY: _SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN: _CANT_OPEN,
    sqlite3.SQLITE_CORRUPT: Fault("damaged", "the file is damaged: restore a backup"),
    sqlite3.SQLITE_FULL: Fault("disk full", "the disk is full: make room"),
    sqlite3.SQLITE_INTERRUPT: Fault(None, "the statement took too long: see the machine's load", StatementTimeout),
    sqlite3.SQLITE_IOERR: Fault("disk fails", "the disk does not do it: see the system's log"),
    sqlite3.SQLITE_LOCKED: _SQLITE_BUSY,
    sqlite3.SQLITE_NOTADB: Fault("not a database", "the file is no SQLite database: correct DATABASE_URL"),
    sqlite3.SQLITE_PERM: Fault("not writable", "the file can't be opened: see its rights"),
    sqlite3.SQLITE_READONLY: Fault(
        "not writable", "the file can't be written: see its rights and its disk's", ReadOnly
    ),
}
_SQLITE_NO_TABLE = re.compile("no such (?:table|column)|has no column named")

_REASON = re.compile(r"\b(?:FATAL|ERROR|PANIC)\s?:\s+([^\n]+)")
_URL_INSIDE = re.compile(r"\w+://(?:.*(?=\")|\S*)")  # a name in quotes may be a URL, or the beginning of a long one
_ASSIGNED = re.compile(r"(?i)\b(\w*pass\w*\s*=\s*)(?:'[^']*'|[^\s\"]+)")
_CUT = "[cut]"


def classify(error: BaseException, url: str) -> Fault:
    """Which fault of this database an error of a driver, of SQLAlchemy or of the system is."""
    original = _original(error)
    if isinstance(original, PoolTimeout):
        return _NONE_FREE
    if isinstance(original, OSError):
        return Fault("not to be opened", f"the file or its folder can't be used ({original.strerror}): see its rights")
    if isinstance(original, sqlite3.Error):
        return _classify_sqlite(original, url)
    state = getattr(original, "sqlstate", None)
    if state is not None:
        return _STATES.get(state) or _STATES.get(state[:2]) or _BROKEN
    found = _find_connecting(str(original)) if isinstance(original, psycopg.Error) else _BROKEN
    return found or _UNREACHABLE


def _classify_sqlite(error: sqlite3.Error, url: str) -> Fault:
    if _SQLITE_NO_TABLE.search(str(error)):
        return NO_TABLES
    fault = _SQLITE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, _BROKEN)  # the low byte is the primary code
    return _NO_FILE if fault is _CANT_OPEN and _is_missing(url) else fault


def is_bad_url(error: BaseException) -> bool:
    """Whether libpq could not read the URL, which the driver tells as an error of the program."""
    return getattr(error, "sqlstate", None) is None and _find_connecting(str(error)) is _BAD_URL


def describe(url: str) -> str:
    """Which database it is: its name, host and port, or its file; never a user or a password."""
    return _without_passwords(_name(url), url)


def explain(error: BaseException, url: str) -> str:
    """One line: which database, what is wrong, what to do about it, and the code or the server's own reason."""
    remedy, detail = classify(error, url).remedy, _detail(error)
    return _without_passwords(f"{_name(url)}: {remedy}{f' ({detail})' if detail else ''}", url)


def unavailable(error: BaseException, url: str) -> StorageUnavailable:
    """The error that stands for a driver's, with its name and its line."""
    fault = classify(error, url)
    return fault.raises(explain(error, url), fault.kind)


def _find_connecting(text: str) -> Fault | None:
    return next((fault for pattern, fault in _CONNECTING if re.search(pattern, text)), None)


def _original(error: BaseException) -> BaseException:
    return (error.orig if isinstance(error, DBAPIError) else None) or error


def _detail(error: BaseException) -> str:
    """The type and the code of an error; where there is none, the reason that a server gave for refusing."""
    original = _original(error)
    code = getattr(original, "sqlstate", None) or getattr(original, "sqlite_errorname", None)
    if code is None and isinstance(original, psycopg.Error):
        reason = _REASON.search(str(original))
        return " ".join(reason[0][:_MAX_REASON].split()) if reason else ""
    return (
        "" if isinstance(original, OSError | PoolTimeout) else " ".join(filter(None, (type(original).__name__, code)))
    )


def _without_passwords(text: str, url: str) -> str:
    """A line without the passwords of the URL, in each writing, and without any URL or password of another kind."""
    text = _ASSIGNED.sub(rf"\1{_CUT}", _URL_INSIDE.sub(_CUT, text))
    for password in _passwords(make_url(url)):
        for spelling in {password, quote(password), quote(password, safe=""), quote_plus(password)}:
            text = re.sub(rf"(?<!\w){re.escape(spelling)}(?!\w)", _CUT, text)
    return text


def _is_missing(url: str) -> bool:
    try:
        return not Path(make_url(url).database or "").exists()
    except OSError:  # no right to look
        return False


def _passwords(url: URL) -> set[str]:
    given = [url.password, os.environ.get("PGPASSWORD")]
    given += [value for name, value in url.query.items() if "pass" in name and isinstance(value, str)]
    return {str(password) for password in given if password}


def _name(url: str) -> str:
    """The database as its URL names it, or libpq's variables where the URL does not."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return f"the SQLite file {parsed.database}"
    host = parsed.host or parsed.query.get("host") or os.environ.get("PGHOST") or "this machine"
    port = parsed.port or parsed.query.get("port") or os.environ.get("PGPORT") or 5432
    name = parsed.database or parsed.query.get("dbname") or os.environ.get("PGDATABASE") or ""
    hosts = [host] if isinstance(host, str) else host
    return f"the database {name} at {', '.join(_with_port(each, port) for each in hosts)}"


def _with_port(host: str, port: object) -> str:
    match host.count(":"):
        case 0:
            return f"{host}:{port}"
        case 1:  # one of several in the URL, with a port of its own
            return host
        case _:
            return f"[{host}]:{port}"
