"""A database's error becomes one line with a remedy, and shows nothing of the error's own text."""

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from receiptsvc.cli.terminal.database_faults import explain

URL = "postgresql+psycopg://shop:sesame@db.example:5433/receipts"
HERE = "the database receipts at db.example:5433: "
_FAILED = 'connection failed: connection to server at "192.0.2.7", port 5433 failed: '


def explained(error: Exception) -> str:
    return explain(DBAPIError.instance(None, None, error, psycopg.Error), URL)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ('FATAL:  password authentication failed for user "shop"', "the user or the password is refused"),
        ("fe_sendauth: no password supplied", "the user or the password is refused"),
        ('FATAL:  database "receipts" does not exist', "there is no database of that name"),
        ('FATAL:  role "shop" does not exist', "there is no such user"),
        ('FATAL:  no pg_hba.conf entry for host "192.0.2.1"', "lets this user, address or encryption in nowhere"),
        ("FATAL:  sorry, too many clients already", "all connections of the server are taken"),
        ("FATAL:  remaining connection slots are reserved for roles", "all connections of the server are taken"),
        ("Connection refused\n\tIs the server running?", "nothing listens there"),
        ("timeout expired", "the server does not answer"),
        ("FATAL:  the database system is starting up", "the server is starting or stopping"),
        ("server does not support SSL, but SSL was required", "the encrypted connection fails"),
        ("FATAL:  Passwort-Authentifizierung für Benutzer fehlgeschlagen", "can't be reached, or refuses"),
    ],
)
def test_each_reason_why_it_can_not_be_reached_has_a_remedy(text: str, remedy: str) -> None:
    line = explained(psycopg.OperationalError(_FAILED + text + " sesame 447700900001"))
    assert line.startswith(HERE)
    assert remedy in line
    assert not [secret for secret in ("sesame", "447700900001", "192.0.2.7", "\n") if secret in line]


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (psycopg.errors.InsufficientPrivilege("for messages"), "name the user who owns the tables"),
        (psycopg.errors.LockNotAvailable("447700900001"), "end them (pg_stat_activity), then run it again"),
        (psycopg.errors.ReadOnlySqlTransaction(), "let DATABASE_URL name the primary"),
        (psycopg.errors.DiskFull(), "make room, then run it again"),
        (psycopg.errors.AdminShutdown(), "see its log, then run it again"),
        (psycopg.errors.UndefinedColumn("447700900001"), "what was being done is undone"),
    ],
)
def test_an_error_of_a_statement_has_a_remedy_and_its_code(error: psycopg.Error, remedy: str) -> None:
    line = explained(error)
    assert line.startswith(HERE)
    assert remedy in line
    assert error.sqlstate is not None
    assert error.sqlstate in line
    assert "447700900001" not in line


def test_other_errors_are_named_by_their_type() -> None:
    assert "refuses: see whether it runs" in explain(PoolTimeout("sesame"), URL)
    assert "see its rights" in explain(PermissionError(13, "Permission denied"), "sqlite:////srv/receipts.db")
    assert explain(OperationalError("sesame", {}, ValueError("sesame")), URL).count("sesame") == 0
