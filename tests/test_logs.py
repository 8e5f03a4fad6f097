"""A log line says what happened, and holds no phone number, text or secret."""

import json
import logging
import sys

import pytest
import sqlalchemy as sa

from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.logs import JsonFormatter, describe
from receiptsvc.store.core.db import Database


def line(name: str, message: str, *args: object, error: BaseException | None = None) -> dict[str, object]:
    exception = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord(name, logging.WARNING, __file__, 1, message, args, exception)
    parsed: dict[str, object] = json.loads(JsonFormatter("web").format(record))
    return parsed


def test_a_library_s_message_is_logged_without_its_values() -> None:
    assert line("gunicorn.error", "Listening at: %s", "0.0.0.0")["text"] == "Listening at: %s"
    formatted = "Invalid request from ip=127.0.0.1: Invalid HTTP Header: 'Authorization Basic c2VjcmV0'"
    assert line("gunicorn.error", formatted)["text"] == "Invalid request from ip"


def test_an_error_is_logged_by_its_type_without_its_text() -> None:
    try:
        raise ValueError("447700900001")
    except ValueError:
        logged = line("receiptsvc", "process.row_failed", error=sys.exc_info()[1])
    assert logged["action"] == "process.row_failed"
    assert logged["error"] == "ValueError"
    assert "447700900001" not in json.dumps(logged)


def test_a_database_error_is_described_by_its_code(database: Database) -> None:
    with pytest.raises(StorageUnavailable) as caught, database.transaction() as session:
        session.execute(sa.text("SELECT * FROM nothing WHERE number = :n"), {"n": "447700900001"})
    description = describe(caught.value)
    assert ("SQLITE_ERROR" if database.is_sqlite else "42P01") in description
    assert "447700900001" not in description
