"""A database's error becomes a name and one line with a remedy, and shows neither data nor a password."""

import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from receiptsvc.domain.errors import NotMigrated, ReadOnly, StorageUnavailable
from receiptsvc.store.core import outages
from receiptsvc.store.core.database_faults import classify, describe, explain, unavailable
from receiptsvc.store.core.db import Database

URL = "postgresql+psycopg://shop:sesame@db.example:5433/receipts"
HERE = "the database receipts at db.example:5433: "
_FAILED = 'connection failed: connection to server at "192.0.2.7", port 5433 failed: '


def wrapped(error: Exception) -> DBAPIError:
    found = DBAPIError.instance(None, None, error, psycopg.Error)
    assert isinstance(found, DBAPIError)
    return found


@pytest.mark.parametrize(
    ("text", "kind", "remedy"),
    [
        ('FATAL:  password authentication failed for user "shop"', "wrong password", "put the right ones into"),
        ("fe_sendauth: no password supplied", "wrong password", "put the right ones into"),
        ("FATAL:  SASL authentication failed", "wrong password", "put the right ones into"),
        ('FATAL:  database "receipts" does not exist', "no such database", "create it, or correct its URL"),
        ("FATAL:  no such database: receipts", "no such database", "create it, or correct its URL"),
        ('FATAL:  role "shop" does not exist', "no such role", "create it, or correct the database's URL"),
        ('FATAL:  role "shop" is not permitted to log in', "no such role", "ALTER ROLE … LOGIN"),
        ('FATAL:  no pg_hba.conf entry for host "192.0.2.1", no encryption', "not let in", "sslmode=require"),
        ("FATAL:  sorry, too many clients already", "too many connections", "raise max_connections"),
        ("FATAL:  remaining connection slots are reserved for roles", "too many connections", "raise max_connections"),
        ('FATAL:  too many connections for role "shop"', "too many connections", "ALTER ROLE"),
        ('FATAL:  too many connections for database "receipts"', "too many connections", "ALTER DATABASE"),
        ("FATAL:  no more connections allowed (max_client_conn)", "too many connections", "DATABASE_CONNECTIONS"),
        ("Connection refused\n\tIs the server running?", "unreachable", "nothing listens there"),
        ("failed to resolve host 'db.example': Name or service not known", "unreachable", "there is no such host"),
        ("timeout expired", "unreachable", "the server does not answer"),
        ("FATAL:  the database system is starting up", "starting or stopping", "it passes by itself"),
        ("server does not support SSL, but SSL was required", "TLS refused", "see sslmode"),
        ("SSL error: certificate verify failed", "TLS refused", "see sslmode"),
        ('server certificate for "x" does not match host name "db.example"', "TLS refused", "see sslmode"),
        ("server closed the connection unexpectedly\n\tThis probably means", "connection lost", "see whether"),
        ("SSL SYSCALL error: EOF detected", "connection lost", "see whether the server runs"),
        ('invalid connection option "foo"', "URL can't be read", "correct its parameters"),
        (
            "FATAL:  Passwort-Authentifizierung für Benutzer fehlgeschlagen",
            "unreachable",
            "can't be reached, or refuses",
        ),
        # of several addresses of a host only one has the server
        ('Connection refused\n- host: FATAL:  database "receipts" does not exist', "no such database", "create it"),
    ],
)
def test_each_reason_why_it_can_not_be_reached_has_a_name_and_a_remedy(text: str, kind: str, remedy: str) -> None:
    error = psycopg.OperationalError(_FAILED + text)
    assert outages.is_outage(error)
    fault = unavailable(wrapped(error), URL)
    assert fault.kind == kind
    assert str(fault).startswith(HERE)
    assert remedy in str(fault)
    assert not [word for word in ("sesame", "192.0.2.7", "\n") if word in str(fault)]
    if "FATAL" in text:
        assert "FATAL: " in str(fault), "the server's own reason"
    assert not [name for name in ("shop", "receipts", "db.example") if name in kind], "anybody may read it"


def test_what_the_driver_takes_for_a_fault_of_the_program_is_a_url_that_can_not_be_read() -> None:
    assert outages.is_outage(psycopg.ProgrammingError('invalid connection option "foo"'))
    assert not outages.is_outage(psycopg.ProgrammingError("the query has 1 placeholder but 2 parameters were passed"))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (URL, 'role "sesame" does not exist'),
        (URL.replace("sesame", "p%40ss%2Fword"), 'database "p@ss/word" does not exist'),
        (URL.replace("sesame", "p%40ss%2Fword"), 'database "p%40ss%2Fword" does not exist'),
        (URL, 'database "postgres://shop:other@db/receipts" does not exist'),
        # cut at the 63 bytes of a name
        (URL, 'database "postgres://shop:other-that-is-so-long-that-the-server-cuts-it-" does not exist'),
        (URL, 'database "dbname=x password=other" does not exist'),
        (URL, "database \"dbname=x password='other one' host=y\" does not exist"),
        ("postgresql+psycopg://db.example/receipts?password=other", 'role "other" does not exist'),
    ],
)
def test_a_password_is_cut_out_of_the_server_s_reason(url: str, reason: str) -> None:
    line = explain(wrapped(psycopg.OperationalError(f"{_FAILED}FATAL:  {reason}")), url)
    assert "[cut]" in line
    assert not [
        secret for secret in ("sesame", "p@ss/word", "p%40ss%2Fword", "other") if secret in line.partition("(")[2]
    ]


@pytest.mark.parametrize(
    ("error", "kind", "remedy"),
    [
        (psycopg.errors.UndefinedTable("447700900001"), "no tables", "run python -m receiptsvc migrate"),
        (psycopg.errors.UndefinedColumn("447700900001"), "no tables", "run python -m receiptsvc migrate"),
        (psycopg.errors.InsufficientPrivilege("447700900001"), "not allowed", "the user who owns the tables"),
        (psycopg.errors.LockNotAvailable("447700900001"), None, "end them (pg_stat_activity), then try again"),
        (psycopg.errors.ReadOnlySqlTransaction("447700900001"), "read-only", "name the primary"),
        (psycopg.errors.DiskFull("447700900001"), "disk full", "make room"),
        (psycopg.errors.AdminShutdown("447700900001"), "connection lost", "see its log"),
        (psycopg.errors.CannotConnectNow("447700900001"), "starting or stopping", "it passes by itself"),
        (psycopg.errors.InvalidCatalogName("447700900001"), "no such database", "create it"),
        (psycopg.errors.TooManyConnections("447700900001"), "too many connections", "max_connections"),
        (psycopg.errors.SyntaxError("447700900001"), None, "what was being done is undone"),
    ],
)
def test_an_error_of_a_statement_has_a_remedy_and_its_code(error: psycopg.Error, kind: str | None, remedy: str) -> None:
    fault = unavailable(wrapped(error), URL)
    assert str(fault).startswith(HERE)
    assert (fault.kind, remedy in str(fault)) == (kind, True)
    assert error.sqlstate is not None
    assert error.sqlstate in str(fault)
    assert "447700900001" not in str(fault)


def test_what_a_fault_is_raised_as() -> None:
    assert isinstance(unavailable(psycopg.errors.UndefinedTable(), URL), NotMigrated)
    assert isinstance(unavailable(psycopg.errors.ReadOnlySqlTransaction(), URL), ReadOnly)


def sqlite_error(path: Path, statement: str = "SELECT * FROM inbox", setting: str = "") -> sqlite3.Error:
    try:
        with closing(sqlite3.connect(f"file:{path}?{setting or 'mode=rw'}", uri=True, timeout=0)) as connection:
            connection.execute(statement)
    except sqlite3.Error as error:
        return error
    raise AssertionError("it was done")


def test_each_fault_of_a_sqlite_file_has_a_name(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    url = f"sqlite:///{path}"
    found = {"missing": classify(sqlite_error(path), url).kind}
    path.write_bytes(b"this is text, and no database" * 100)
    found["text"] = classify(sqlite_error(path), url).kind
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE other (id)")
    found["empty"] = classify(sqlite_error(path), url).kind
    found["read-only"] = classify(sqlite_error(path, "CREATE TABLE one (id)", "mode=ro"), url).kind
    connection.execute("BEGIN IMMEDIATE")
    found["locked"] = classify(sqlite_error(path, "BEGIN IMMEDIATE"), url).kind
    connection.rollback()
    connection.execute("PRAGMA max_page_count = 2")
    with pytest.raises(sqlite3.Error) as caught:
        connection.execute("CREATE TABLE large AS SELECT randomblob(100000) AS bytes")
    found["full"] = classify(caught.value, url).kind
    connection.close()
    found["folder"] = classify(sqlite_error(tmp_path), f"sqlite:///{tmp_path}").kind
    assert found == {
        "missing": "no tables",
        "text": "not a database",
        "empty": "no tables",
        "read-only": "not writable",
        "locked": "locked",
        "full": "disk full",
        "folder": "not to be opened",
    }


def test_other_errors_are_named_by_their_type() -> None:
    assert "every connection to the database is in use" in explain(PoolTimeout("sesame"), URL)
    assert "see its rights" in explain(PermissionError(13, "Permission denied"), "sqlite:////srv/receipts.db")
    assert explain(OperationalError("sesame", {}, ValueError("sesame")), URL).count("sesame") == 0


def test_a_database_raises_its_faults_by_name(tmp_path: Path) -> None:
    away = Database("postgresql+psycopg://shop:sesame@127.0.0.1:1/receipts?foo=bar")
    with pytest.raises(StorageUnavailable, match=r"receipts at 127\.0\.0\.1:1: the database's URL") as caught:
        away.check_schema()
    assert caught.value.kind == "URL can't be read"
    missing = Database(f"sqlite:///{tmp_path}/folder/test.db")
    with (
        pytest.raises(NotMigrated, match="is not there: run python -m receiptsvc migrate"),
        missing.reading() as session,
    ):
        session.connection()
    for database in (away, missing):
        database.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:////var/lib/receipts.db", "the SQLite file /var/lib/receipts.db"),
        (URL, "the database receipts at db.example:5433"),
        ("postgresql+psycopg://shop:sesame@db.example/receipts", "the database receipts at db.example:5432"),
        ("postgresql+psycopg://shop:sesame@[2001:db8::1]/receipts", "the database receipts at [2001:db8::1]:5432"),
        ("postgresql+psycopg:///receipts?host=/run/pg&port=5434", "the database receipts at /run/pg:5434"),
        ("postgresql+psycopg:///receipts?host=a:1&host=b:2", "the database receipts at a:1, b:2"),
        ("postgresql+psycopg:///receipts?password=sesame&host=sesame", "the database receipts at [cut]:5432"),
    ],
)
def test_a_database_is_named_without_user_and_password(url: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGPORT", "PGDATABASE"):
        monkeypatch.delenv(name, raising=False)
    assert describe(url) == words


def test_what_the_url_leaves_out_is_libpq_s(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PGHOST": "db.example", "PGPORT": "5433", "PGDATABASE": "receipts"}.items():
        monkeypatch.setenv(name, value)
    assert describe("postgresql+psycopg://") == "the database receipts at db.example:5433"
