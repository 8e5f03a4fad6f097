"""Makes one callback over HTTP with a total time limit, over connections that one thread keeps open.

When callbacks are made is decided in `callbacks`.
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

_MAX_IDLE_SECONDS = 1.0  # a server may close an older connection just as it is used again
_MAX_CONNECTIONS = 8
_MAX_ANSWER = 65_536  # bytes that are read


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One callback as HTTP."""

    method: str
    url: str
    content_type: str | None = None
    body: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """How a callback ended. `status`: None if no complete answer came in time; `error` then says why."""

    at: datetime
    seconds: float
    status: int | None
    error: str | None = None

    @property
    def is_accepted(self) -> bool:
        """Whether it was answered 200 within the limit, which alone counts by the gateway's documentation."""
        return self.status == 200


@dataclass(slots=True)
class _IdleConnection:
    connection: HTTPConnection
    used_at: float = field(default_factory=time.monotonic)


class Caller:
    """One thread's connections, kept open between callbacks. `abort` may be called from any thread."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, str], _IdleConnection] = {}  # by scheme and network location
        self._lock = threading.Lock()
        self._current: HTTPConnection | None = None
        self._deadline = 0.0

    def call(self, request: Request, limit_seconds: float) -> Answer:
        """Make one request, without redirects or retries. Raises nothing: see `Answer.error`."""
        at, started = datetime.now(UTC), time.monotonic()
        status, error = None, None
        try:
            status = self._exchange(request, limit_seconds)
        except TimeoutError:
            error = "no answer in time"
        except ConnectionRefusedError:
            error = "connection refused"
        except (OSError, HTTPException, ValueError) as failure:
            error = f"no whole answer ({type(failure).__name__})"
        seconds = time.monotonic() - started
        if seconds > limit_seconds:
            status, error = None, "no answer in time"
        return Answer(at=at, seconds=seconds, status=status, error=error)

    def abort_if_past(self, now: float) -> None:
        """Cut the running request if its time is over."""
        with self._lock:
            if self._current is not None and now > self._deadline:
                _cut(self._current)

    def abort(self) -> None:
        """Cut the running request."""
        with self._lock:
            if self._current is not None:
                _cut(self._current)

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.popitem()[1].connection.close()

    def _exchange(self, request: Request, limit_seconds: float) -> int:
        parts = urlsplit(request.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("a callback goes to an http:// or https:// address")
        key = (parts.scheme, parts.netloc)
        connection = self._take_connection(key, parts.hostname, parts.port, limit_seconds)
        with self._lock:
            self._current, self._deadline = connection, time.monotonic() + limit_seconds
        is_reusable = False
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
            is_reusable = response.isclosed()
            return response.status
        finally:
            with self._lock:
                self._current = None
            if is_reusable and len(self._idle) < _MAX_CONNECTIONS:
                self._idle[key] = _IdleConnection(connection)
            else:
                connection.close()

    def _take_connection(
        self, key: tuple[str, str], host: str, port: int | None, limit_seconds: float
    ) -> HTTPConnection:
        """An idle connection that is still usable, or a new one."""
        idle = self._idle.pop(key, None)
        if idle is not None:
            sock = idle.connection.sock
            if sock is not None and time.monotonic() - idle.used_at < _MAX_IDLE_SECONDS and not _has_ended(sock):
                sock.settimeout(limit_seconds)
                return idle.connection
            idle.connection.close()
        connection_class = HTTPSConnection if key[0] == "https" else HTTPConnection
        return connection_class(host, port, timeout=limit_seconds)


def _has_ended(sock: socket.socket) -> bool:
    """Whether the server has closed an idle connection, or sent something unasked."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _cut(connection: HTTPConnection) -> None:
    if isinstance(connection.sock, socket.socket):
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)
