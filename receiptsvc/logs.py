"""Logs: one JSON line a record, each with a constant `action`, and nothing that identifies a person or is secret.

An exception is logged as its type and its trace, never with its text: texts of database and network errors hold
values. An error of our own has its text, and no trace: what it says is what is to be done.

A fault that may come again and again is logged once, then counted: a line a minute with the count, and one when it is
over (`fault`, `over`).
"""

import json
import logging
import re
import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic, sleep
from typing import Any

from receiptsvc.domain.errors import ReceiptsvcError

SECONDS_BETWEEN_COUNTS = 60.0  # of a fault that repeats
QUIET_SECONDS = 60.0  # without a fault: it is over; longer than any pause between two tries

_TICK_SECONDS = 5.0
_GUNICORN = "gunicorn.error"  # its logger for all but requests

# What gunicorn says of its sockets, processes and signals. No request can be in it, as in its other messages.
_OF_GUNICORN_ITSELF = frozenset(
    {
        "Starting gunicorn %s",
        "Listening at: %s (%s)",
        "Listening at: %s",
        "Using worker: %s",
        "Booting worker with pid: %s",
        "Worker exiting (pid: %s)",
        "Worker (pid:%s) exited with code %s.",
        "Worker (pid:%s) was sent %s!",
        "Worker (pid:%s) was sent %s! Perhaps out of memory?",
        "WORKER TIMEOUT (pid:%s)",
        "Worker graceful timeout (pid:%s)",
        "Handling signal: %s",
        "Unhandled signal: %s",
        "Ignoring unknown signal: %s",
        "Hang up: %s",
        "Shutting down: %s",
        "Reason: %s",
        "Connection in use: %s",
        "Invalid address: %s",
        "Can't connect to %s",
        "Error while closing socket %s",
    }
)
_BOUND_IN_VAIN = re.compile(r"connection to (?:\('[\w.:%]*'(?:, \d+)+\)|\S+) failed: \[Errno -?\d+\] [\w ,/-]+")

_log = logging.getLogger("receiptsvc")


def set_up(process: str, handler: logging.Handler, level: int = logging.INFO) -> None:
    """Send every logger's records to a handler as JSON lines that name this `process`."""
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


def fault(
    action: str,
    cause: BaseException | str,
    *,
    kind: str | None = None,
    source: str = "",
    times: int = 1,
    level: int = logging.WARNING,
    **fields: object,
) -> None:
    """Log a fault the first time, and count it from then on, until it is over.

    `cause`: with the same one, or one of the same kind, it is the same fault. `kind`: if it is not the cause's own.
    `source`: which of several has met it; it is over when all of them have said so, or after a minute without it.
    `times`: how often. `fields`: as for `info`, of the first time.
    """
    error = describe(cause) if isinstance(cause, BaseException) else cause
    known_as = kind or getattr(cause, "kind", None) or error
    _faults.meet((action, known_as), _Fault(error, level, times=times, sources={source}), fields)


def over(action: str, *, source: str = "") -> None:
    """Say that the faults of an action are over for a source. Costs next to nothing while there are none."""
    _faults.end(action, source)


def record_of_dropped(lines: int) -> logging.LogRecord:
    """The record that says how many lines found no room."""
    extra = {"fields": {"lines": lines}}
    return _log.makeRecord(_log.name, logging.WARNING, __file__, 0, "logs.dropped", (), None, extra=extra)


def forget_faults() -> None:
    """Begin anew, as a new process does. For tests."""
    _faults.known.clear()


@dataclass(slots=True)
class _Fault:
    """A fault that is not over. Times are of the monotonic clock."""

    error: str
    level: int
    times: int
    sources: set[str]
    began_at: float = field(default_factory=monotonic)
    met_at: float = field(default_factory=monotonic)
    told_at: float = field(default_factory=monotonic)
    is_untold: bool = False  # whether it was met since the last line


class _Faults:
    """What is known of the faults that are not over, and the thread that tells of them while there are any."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], _Fault] = {}
        self._lock = threading.Lock()
        self._is_telling = False

    def meet(self, key: tuple[str, str], met: _Fault, fields: dict[str, object]) -> None:
        with self._lock:
            known = self.known.get(key)
            if known is not None:
                known.met_at, known.times, known.is_untold = met.met_at, known.times + met.times, True
                known.sources |= met.sources
                return
            self.known[key] = met
            must_start, self._is_telling = not self._is_telling, True
        _log.log(met.level, key[0], extra={"fields": {"error": met.error, **fields}})
        if must_start:
            threading.Thread(target=self._tell_all, name="faults", daemon=True).start()

    def end(self, action: str, source: str) -> None:
        if not self.known:
            return
        with self._lock:
            mine = {key: known for key, known in self.known.items() if key[0] == action and source in known.sources}
            for known in mine.values():
                known.sources.discard(source)
            ended = {key: self.known.pop(key) for key, known in mine.items() if not known.sources}
        self._tell("fault.over", ended, logging.INFO)

    def _tell_all(self) -> None:
        is_any = True
        while is_any:
            sleep(_TICK_SECONDS)
            now = monotonic()
            with self._lock:
                ended = {key: one for key, one in self.known.items() if now - one.met_at > QUIET_SECONDS}
                for key in ended:
                    del self.known[key]
                again = {
                    key: one
                    for key, one in self.known.items()
                    if one.is_untold and now - one.told_at > SECONDS_BETWEEN_COUNTS
                }
                for one in again.values():
                    one.told_at, one.is_untold = now, False
                is_any = self._is_telling = bool(self.known)
            self._tell("fault.repeats", again)
            self._tell("fault.over", ended, logging.INFO)

    @staticmethod
    def _tell(action: str, faults: Mapping[tuple[str, str], _Fault], level: int | None = None) -> None:
        for (of, _), one in faults.items():
            seconds = round(one.met_at - one.began_at)
            fields = {"of": of, "error": one.error, "times": one.times, "seconds": seconds}
            _log.log(level or one.level, action, extra={"fields": fields})


_faults = _Faults()


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
            "action": record.msg if is_ours else _action_of_library(record),
        }
        if not is_ours:
            line["text"] = _text_of_library(record)
        line |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = describe(record.exc_info[1])
            if isinstance(record.exc_info[1], ReceiptsvcError):
                return json.dumps(line, default=str)
            line["trace"] = [
                f"{frame.filename.rpartition('receiptsvc/')[2]}:{frame.lineno} {frame.name}"
                for frame in traceback.extract_tb(record.exc_info[2])
            ]
        return json.dumps(line, default=str)


def _action_of_library(record: logging.LogRecord) -> str:
    """The library's logger. gunicorn has a single one for good and bad news: by level, as `gunicorn.info`."""
    if record.name == _GUNICORN:
        return f"gunicorn.{logging.getLevelName(min(record.levelno, logging.ERROR)).lower()}"
    return record.name


def _text_of_library(record: logging.LogRecord) -> str:
    """A library's message without its values, for they may be a request's; gunicorn's words on itself with them."""
    pattern = str(record.msg)
    if record.name == _GUNICORN and (pattern in _OF_GUNICORN_ITSELF or _BOUND_IN_VAIN.fullmatch(pattern)):
        return record.getMessage()
    # Its pattern, or the beginning of a message that it formatted itself.
    return pattern if record.args else re.split("[:='\"]", pattern, maxsplit=1)[0][:80]


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
