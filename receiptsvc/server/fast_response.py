"""The fast response: calls the intake and writes its answers with only the parts of WSGI that a callback needs.

gunicorn makes some thirty entries for an application's environment, and writes head and body separately. Both cost more
than the intake itself. The answers are the same as gunicorn's; a test compares the two.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from time import time
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIApplication, WSGIEnvironment

from gunicorn import SERVER
from gunicorn.util import http_date

from receiptsvc.server.application import CONNECTION

_UNPREFIXED = ("CONTENT-TYPE", "CONTENT-LENGTH")  # headers whose key in the environment has no HTTP_


class FastResponder:
    """Answers requests with an application that reads little of its environment and sets Content-Length."""

    def __init__(self, application: WSGIApplication, log_access: Callable[..., None], may_keep: Callable[[Any], bool]):
        self._application, self._log_access, self._may_keep = application, log_access, may_keep
        self._date, self._date_until = "", 0.0

    def answer(self, request: Any, client: Any) -> bool:
        """Answer one of gunicorn's requests or a `FastRequest`. Returns whether its connection may be kept."""
        started_at = datetime.now()  # noqa: DTZ005 - only used for the duration
        started: list[Any] = []

        def start_response(*status_and_headers: Any) -> Callable[[bytes], object]:
            started[:] = status_and_headers
            return bytes  # the intake returns its body and writes nothing

        environ = _environ(request, client)
        body = b"".join(self._application(environ, start_response))
        status, headers = started
        is_kept = not request.should_close() and self._may_keep(client)
        head = [
            f"HTTP/{request.version[0]}.{request.version[1]} {status}\r\nServer: {SERVER}\r\nDate: {self._now()}\r\n"
            f"Connection: {'keep-alive' if is_kept else 'close'}\r\n"
        ]
        head += [f"{name}: {value}\r\n" for name, value in headers]
        client.sendall("".join(head).encode("latin-1") + b"\r\n" + body)
        duration: timedelta = datetime.now() - started_at  # noqa: DTZ005
        self._log_access(SimpleNamespace(status=status), request, environ, duration)
        return is_kept

    def _now(self) -> str:
        now = time()
        if now >= self._date_until:
            self._date, self._date_until = http_date(now), int(now) + 1
        return self._date


def _environ(request: Any, client: Any) -> WSGIEnvironment:
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": request.method,
        "PATH_INFO": unquote_to_bytes(request.path).decode("latin-1"),
        "RAW_URI": request.uri,
        "wsgi.input": request.body,
        CONNECTION: client,
    }
    for name, value in request.headers:
        key = name.replace("-", "_")
        if name not in _UNPREFIXED:
            key = f"HTTP_{key}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ
