"""The fast path of callbacks: recognises a request in its bytes, and answers it with the few parts of WSGI it needs.

Nearly every callback is a GET without a body that comes in one piece. One pattern recognises the whole of it, at a
fraction of a general parser's cost. Everything else goes to gunicorn's parser with all its bytes: `recognise` refuses
nothing and guesses nothing.

gunicorn makes some thirty entries for an application's environment, and writes head and body separately. Both cost more
than the intake itself. The answers are the same as gunicorn's; a test compares the two.
"""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from io import BytesIO
from time import time
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIApplication, WSGIEnvironment

from gunicorn import SERVER
from gunicorn.util import http_date

from receiptsvc.server.application import CONNECTION

_UNPREFIXED = ("CONTENT-TYPE", "CONTENT-LENGTH")  # headers whose key in the environment has no HTTP_
_REQUEST = re.compile(
    rb"GET (/(?!/)[!\"$->@-~]*(?:\?[!-~]*)?) HTTP/1\.1\r\n"
    rb"(?:"
    rb"(?!(?i:content-|transfer-|trailer|te:|expect|upgrade|http2-|proxy-))"  # these may change where a request ends
    rb"(?!(?i:authorization:))"  # the key of the static address: the only header that the intake asks for
    rb"(?!(?i:connection:)(?! ?(?i:keep-alive)\r\n))"
    rb"[A-Za-z0-9-]{1,64}:[\t -~]*\r\n"
    rb"){0,64}\r\n"
)


class FastRequest:
    """The part of gunicorn's request that `FastResponder` reads. Its headers are dropped: none changes the answer."""

    __slots__ = ("path", "uri")

    method = "GET"
    version = (1, 1)
    headers: tuple[tuple[str, str], ...] = ()
    body = BytesIO()  # empty, for all of them

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.path = uri.partition("?")[0]

    def should_close(self) -> bool:
        """Whether the client asked to close the connection, as gunicorn's request says it."""
        return False


def recognise(data: bytes) -> FastRequest | None:
    """The request in these bytes, if they are one fast request and nothing more; else None."""
    match = _REQUEST.fullmatch(data)
    return FastRequest(match[1].decode()) if match else None


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
