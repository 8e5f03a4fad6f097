"""Logs: one JSON line a record, each with a constant `action`, and nothing that identifies a person or is secret.

An exception is logged as its type and its trace, never with its text: texts of database and network errors hold
values.
"""

import json
import logging
import re
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

from receiptsvc.domain.errors import ReceiptsvcError

_log = logging.getLogger("receiptsvc")


def set_up(process: str, level: int = logging.INFO) -> None:
    """Send every logger's records to stderr as JSON lines that name this `process`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(process))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("zeep", "urllib3", "alembic.runtime.plugins"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def info(action: str, **fields: object) -> None:
    """Log one line about normal operation. `fields`: counts, ids, names of settings; nothing personal."""
    _log.info(action, extra={"fields": fields})


def warning(action: str, **fields: object) -> None:
    """Log one line about something that an operator should look at in working hours."""
    _log.warning(action, extra={"fields": fields})


def error(action: str, cause: BaseException | None = None, **fields: object) -> None:
    """Log one line about something that an operator should look at now."""
    _log.error(action, extra={"fields": fields}, exc_info=cause)


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: at, level, process, action, its fields, and the error and trace of an exception."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        is_ours = record.name == "receiptsvc"
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "action": record.msg if is_ours else record.name,
        }
        if not is_ours:
            # A library's message without its values: the pattern, or the beginning of one that it formatted itself.
            line["text"] = str(record.msg) if record.args else re.split("[:='\"]", str(record.msg), maxsplit=1)[0][:80]
        line |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = describe(record.exc_info[1])
            line["trace"] = [
                f"{frame.filename.rpartition('receiptsvc/')[2]}:{frame.lineno} {frame.name}"
                for frame in traceback.extract_tb(record.exc_info[2])
            ]
        return json.dumps(line, default=str)


def describe(error: BaseException) -> str:
    """An exception without personal data: its type, our own errors' text, and a database error's SQLSTATE."""
    if isinstance(error, ReceiptsvcError):
        return f"{type(error).__name__}: {error}"
    names = [type(error).__name__]
    original = getattr(error, "orig", None)
    if original is not None:
        names.append(type(original).__name__)
        names += [
            str(code)
            for code in (getattr(original, "sqlstate", None), getattr(original, "sqlite_errorname", None))
            if code
        ]
    return " ".join(names)
