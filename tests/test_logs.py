"""A log line says what happened, and holds no phone number, text or secret. What repeats is said once, then counted."""

import ast
import json
import logging
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import sqlalchemy as sa

from receiptsvc import logs
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.logs import JsonFormatter, describe
from receiptsvc.store.core.db import Database
from tests.support.processes import until


def line(name: str, message: str, *args: object, error: BaseException | None = None) -> dict[str, object]:
    exception = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord(name, logging.WARNING, __file__, 1, message, args, exception)
    parsed: dict[str, object] = json.loads(JsonFormatter("web").format(record))
    return parsed


def test_a_library_s_message_is_logged_without_its_values() -> None:
    assert (
        line("gunicorn.error", "Error handling request %s", "/x?to=447700900001")["text"] == "Error handling request %s"
    )
    assert line("zeep", "Listening at: %s", "447700900001")["text"] == "Listening at: %s", "not gunicorn's"
    formatted = "Invalid request from ip=127.0.0.1: Invalid HTTP Header: 'Authorization Basic c2VjcmV0'"
    assert line("gunicorn.error", formatted)["text"] == "Invalid request from ip"
    forged = "connection to 447700900001 failed: GET /callbacks/receipts/token"
    assert line("gunicorn.error", forged)["text"] == "connection to 447700900001 failed"


@pytest.mark.parametrize(
    ("message", "args", "text"),
    [
        ("Connection in use: %s", ("('::', 8000)",), "Connection in use: ('::', 8000)"),
        ("Booting worker with pid: %s", (17,), "Booting worker with pid: 17"),
        ("Handling signal: %s", ("term",), "Handling signal: term"),
        ("Worker (pid:%s) was sent %s!", (17, "SIGKILL"), "Worker (pid:17) was sent SIGKILL!"),
        *(
            (text, (), text)
            for text in (
                "connection to ('0.0.0.0', 80) failed: [Errno 13] Permission denied",
                "connection to ('::', 8000, 0, 0) failed: [Errno 98] Address already in use",
                "connection to /run/web.sock failed: [Errno 2] No such file or directory",
            )
        ),
    ],
)
def test_gunicorn_s_words_on_itself_keep_their_values(message: str, args: tuple[object, ...], text: str) -> None:
    assert line("gunicorn.error", message, *args)["text"] == text


@pytest.mark.parametrize(
    ("level", "action"),
    [
        (logging.INFO, "gunicorn.info"),
        (logging.WARNING, "gunicorn.warning"),
        (logging.ERROR, "gunicorn.error"),
        (logging.CRITICAL, "gunicorn.error"),
    ],
)
def test_what_gunicorn_says_is_an_error_only_if_it_is_one(level: int, action: str) -> None:
    record = logging.LogRecord("gunicorn.error", level, __file__, 1, "Booting worker with pid: %s", (17,), None)
    assert json.loads(JsonFormatter("web").format(record))["action"] == action


def test_all_that_gunicorn_says_of_itself_is_known() -> None:
    """A new release of it may say things in other words."""
    quiet = {"debug", "exception"}
    said: set[str] = set()
    for module in ("gunicorn.arbiter", "gunicorn.sock"):
        for node in ast.walk(ast.parse(Path(str(import_module(module).__file__)).read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name) and node.args:
                name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
                first = node.args[0]
                is_said = name in logging.getLevelNamesMapping().keys() | {"info", "warning", "error", "critical"}
                is_said = is_said or name.startswith("log_")
                if is_said and name not in quiet and isinstance(first, ast.Constant) and "%" in str(first.value):
                    said.add(str(first.value))
    of_features_that_are_off = {text for text in said if "irty arbiter" in text or "control socket" in text}
    traces = {"Exception during worker exit:\n%s"}
    assert said - of_features_that_are_off - traces <= logs._OF_GUNICORN_ITSELF  # noqa: SLF001 - what is to be complete
    assert len(said) > 12


def test_an_error_is_logged_by_its_type_without_its_text() -> None:
    try:
        raise ValueError("447700900001")
    except ValueError:
        logged = line("receiptsvc", "process.row_failed", error=sys.exc_info()[1])
    assert logged["action"] == "process.row_failed"
    assert logged["error"] == "ValueError"
    assert logged["trace"]
    assert "447700900001" not in json.dumps(logged)


def test_an_error_of_our_own_has_its_text_and_no_trace() -> None:
    logged = line("receiptsvc", "readiness.failed", error=StorageUnavailable("the disk is full: make room"))
    assert logged["error"] == "StorageUnavailable: the disk is full: make room"
    assert "trace" not in logged


def test_a_database_error_is_described_by_its_code(database: Database) -> None:
    with pytest.raises(StorageUnavailable) as caught, database.transaction() as session:
        session.execute(sa.text("SELECT * FROM nothing WHERE number = :n"), {"n": "447700900001"})
    description = describe(caught.value)
    assert ("SQLITE_ERROR" if database.is_sqlite else "42P01") in description
    assert "447700900001" not in description


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[str, object, object]]]:
    """What was logged: the action, of which fault, and how often."""
    caplog.set_level(logging.INFO)

    def read() -> list[tuple[str, object, object]]:
        fields = [(record.getMessage(), getattr(record, "fields", {})) for record in caplog.records]
        return [(action, each.get("of"), each.get("times")) for action, each in fields]

    return read


Said = Callable[[], list[tuple[str, object, object]]]
AWAY = StorageUnavailable("the database: nothing listens there", "unreachable")


def test_a_fault_is_logged_once_and_is_over_when_all_who_met_it_say_so(said: Said) -> None:
    logs.over("worker.storage_unavailable", source="send-1")
    for source in ("send-1", "send-2", "send-1"):
        logs.fault("worker.storage_unavailable", AWAY, source=source)
    logs.fault(
        "worker.storage_unavailable", StorageUnavailable("the server does not answer", "unreachable"), source="send-1"
    )
    logs.fault("worker.storage_unavailable", StorageUnavailable("the disk is full", "disk full"), source="tidy")
    logs.fault("events.not_read", AWAY)
    first = [
        (action, None, None)
        for action in ("worker.storage_unavailable", "worker.storage_unavailable", "events.not_read")
    ]
    assert said() == first
    logs.over("worker.storage_unavailable", source="send-1")
    assert said() == first, "send-2 still meets it"
    logs.over("worker.storage_unavailable", source="send-2")
    assert said() == [*first, ("fault.over", "worker.storage_unavailable", 4)]
    logs.fault("worker.storage_unavailable", AWAY, source="send-1")
    assert said()[-1] == ("worker.storage_unavailable", None, None), "it begins anew"


def test_a_fault_that_goes_on_is_counted_and_one_that_is_met_no_more_is_over(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_TICK_SECONDS", 0.01)
    monkeypatch.setattr(logs, "SECONDS_BETWEEN_COUNTS", 0.0)
    logs.fault("intake.spooled", AWAY, times=3)
    logs.fault("intake.spooled", AWAY, times=4)
    until("it is counted", lambda: said()[-1] == ("fault.repeats", "intake.spooled", 7))
    assert said()[0] == ("intake.spooled", None, None)
    monkeypatch.setattr(logs, "QUIET_SECONDS", 0.0)
    until("it is over", lambda: said()[-1] == ("fault.over", "intake.spooled", 7))
    assert len(said()) == 3, "what was told is not told again"
