"""A log line tells what happened, and nobody's number, text or secret."""

import json
import logging
import sys

import pytest
import sqlalchemy as sa

from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.logs import JsonFormatter, describe
from receiptsvc.store.core.db import Database


def line(name: str, message: str, *args: object, error: BaseException | None = None) -> dict[str, object]:
    kind = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord(name, logging.WARNING, __file__, 1, message, args, kind)
    parsed: dict[str, object] = json.loads(JsonFormatter("web").format(record))
    return parsed


def test_a_library_s_line_keeps_its_pattern_and_loses_its_values() -> None:
    assert line("gunicorn.error", "Listening at: %s", "0.0.0.0")["text"] == "Listening at: %s"
    filled_in = "Invalid request from ip=127.0.0.1: Invalid HTTP Header: 'Authorization Basic c2VjcmV0'"
    assert line("gunicorn.error", filled_in)["text"] == "Invalid request from ip"


def test_an_error_is_told_by_its_kind_and_its_way() -> None:
    try:
        raise ValueError("447700900001")
    except ValueError:
        told = line("receiptsvc", "process.row_failed", error=sys.exc_info()[1])
    assert told["action"] == "process.row_failed"
    assert told["error"] == "ValueError"
    assert "447700900001" not in json.dumps(told)


def test_a_database_s_error_is_told_by_its_code(database: Database) -> None:
    with pytest.raises(StorageUnavailable) as caught, database.transaction() as session:
        session.execute(sa.text("SELECT * FROM nothing WHERE number = :n"), {"n": "447700900001"})
    told = describe(caught.value)
    assert ("SQLITE_ERROR" if database.is_sqlite else "42P01") in told
    assert "447700900001" not in told
