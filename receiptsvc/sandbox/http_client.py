"""One callback over HTTP: a request, how it ended, and the connections that one thread keeps open for the next.

When callbacks are made is `callbacks`' business.
"""

import contextlib
import select
import socket
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import quote, urlsplit

_IDLE_SECONDS = 1.0  # a kept connection older than this may be closed by its server just as it is used again
_MAX_KEPT = 8
_MAX_ANSWER = 65_536


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One callback as HTTP."""

    method: str
    url: str
    content_type: str | None = None
    body: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """How a callback ended. `status` is None where no whole answer came in time, and `error` says why."""

    at: datetime
    seconds: float
    status: int | None
    error: str | None = None

    @property
    def is_accepted(self) -> bool:
        """200 within the limit: nothing else is, by the gateway's documentation."""
        return self.status == 200


@dataclass(slots=True)
class _Kept:
    connection: HTTPConnection
    used_at: float = field(default_factory=time.monotonic)


class Caller:
    """One thread's connections, kept open between callbacks. `abort` may be called from any thread."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._lock = threading.Lock()
        self._current: HTTPConnection | None = None
        self._deadline = 0.0

    def call(self, request: Request, limit_seconds: float) -> Answer:
        """Make one request, no redirect followed, no repeat of its own."""
        at, started = datetime.now(UTC), time.monotonic()
        status, error = None, None
        try:
            status = self._exchange(request, limit_seconds)
        except TimeoutError:
            error = "no answer in time"
        except ConnectionRefusedError:
            error = "connection refused"
        except (OSError, HTTPException, ValueError) as broken:
            error = f"no whole answer ({type(broken).__name__})"
        seconds = time.monotonic() - started
        if seconds > limit_seconds:
            status, error = None, "no answer in time"
        return Answer(at=at, seconds=seconds, status=status, error=error)

    def abort_if_past(self, now: float) -> None:
        """Cut the call under way if its time is over."""
        with self._lock:
            if self._current is not None and now > self._deadline:
                _cut(self._current)

    def abort(self) -> None:
        """Cut the call under way."""
        with self._lock:
            if self._current is not None:
                _cut(self._current)

    def close(self) -> None:
        """Close what is kept."""
        while self._kept:
            self._kept.popitem()[1].connection.close()

    def _exchange(self, request: Request, limit_seconds: float) -> int:
        parts = urlsplit(request.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("a callback goes to an http:// or https:// address")
        key = (parts.scheme, parts.netloc)
        connection = self._open(key, parts.hostname, parts.port, limit_seconds)
        with self._lock:
            self._current, self._deadline = connection, time.monotonic() + limit_seconds
        keep = False
        try:
            target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~") + (
                "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~?") if parts.query else ""
            )
            headers = {"User-Agent": "receiptsvc-sandbox", "Accept": "*/*"}
            if request.content_type:
                headers["Content-Type"] = request.content_type
            connection.request(request.method, target, request.body, headers)
            response = connection.getresponse()
            response.read(_MAX_ANSWER)
            keep = response.isclosed()
            return response.status
        finally:
            with self._lock:
                self._current = None
            if keep and len(self._kept) < _MAX_KEPT:
                self._kept[key] = _Kept(connection)
            else:
                connection.close()

    def _open(self, key: tuple[str, str], host: str, port: int | None, limit_seconds: float) -> HTTPConnection:
        kept = self._kept.pop(key, None)
        if kept is not None:
            sock = kept.connection.sock
            if sock is not None and time.monotonic() - kept.used_at < _IDLE_SECONDS and not _has_ended(sock):
                sock.settimeout(limit_seconds)
                return kept.connection
            kept.connection.close()
        maker = HTTPSConnection if key[0] == "https" else HTTPConnection
        return maker(host, port, timeout=limit_seconds)


def _has_ended(sock: socket.socket) -> bool:
    """Whether the other side has closed an idle connection, or said something unasked."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _cut(connection: HTTPConnection) -> None:
    if isinstance(connection.sock, socket.socket):
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)
