"""One HTTP call with a total deadline, which tells how far it came: answered, never begun, or unclear.

Nothing here knows what the gateway's words mean, and nothing here tries twice or follows a redirect. Each call has a
connection of its own, so that no stale one can blur whether a request went out, and a thread of its own, because a
look-up of a name, a TLS handshake and an answer that drips byte by byte all outlast the time-outs of sockets.
"""

import http.client
import queue
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError

from receiptsvc.domain.errors import ReceiptsvcError

MAX_BYTES = 16 * 1024 * 1024
_AT_ONCE = 64 * 1024
_GRACE_SECONDS = 1.0  # a socket's own time-out is longer than the call's, so that always the same of them is first


class NotSent(ReceiptsvcError):
    """There was no connection (name, TCP, proxy, TLS): no byte of the request went out."""

    retry_helps = True


class Unclear(ReceiptsvcError):
    """The other side may have had the request, and there is no answer to tell."""

    retry_helps = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A whole answer, whatever its status."""

    status: int
    content_type: str | None
    body: bytes = field(repr=False)


def post(
    url: str,
    *,
    body: bytes,
    headers: Mapping[str, str],
    auth: tuple[str, str] | None = None,
    timeout_seconds: float,
    connect_seconds: float = 10,
    max_bytes: int = MAX_BYTES,
) -> Answer:
    """Post `body` and read the whole answer, of at most `max_bytes`.

    `timeout_seconds` is for everything, `connect_seconds` for everything before the request's first byte, over all
    addresses of the host. `auth` is a user and a password for HTTP Basic. Raises NotSent or Unclear.
    """
    request = _request("POST", url, headers, auth, body)
    return _exchange(request, timeout_seconds, connect_seconds, max_bytes)


def get(url: str, *, timeout_seconds: float, connect_seconds: float = 10, max_bytes: int = MAX_BYTES) -> Answer:
    """Get a document with the limits of `post`. Raises NotSent or Unclear."""
    return _exchange(_request("GET", url, {}, None, None), timeout_seconds, connect_seconds, max_bytes)


def _request(
    method: str, url: str, headers: Mapping[str, str], auth: tuple[str, str] | None, body: bytes | None
) -> requests.Request:
    # A packed answer could unpack to any size, so none is asked for. Without the last line requests would look for
    # credentials in ~/.netrc.
    all_headers = {"User-Agent": "receiptsvc", **headers, "Accept-Encoding": "identity", "Connection": "close"}
    credentials = HTTPBasicAuth(auth[0].encode(), auth[1].encode()) if auth else _unchanged
    return requests.Request(method, url, headers=all_headers, data=body, auth=credentials)


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _Begun:
    """The news that the first byte is about to go out."""


class _Call:
    """What the thread that makes a call and the one that waits for it share."""

    def __init__(self) -> None:
        self.news: queue.SimpleQueue[Answer | _Begun | str] = queue.SimpleQueue()  # a str: why there is no answer
        self._lock = threading.Lock()
        self._line: socket.socket | None = None
        self._has_begun = False
        self._is_over = False

    def hold(self, line: socket.socket) -> None:
        """Remember the connection, so that `stop` can cut it. Raises TimeoutError if the call is over."""
        with self._lock:
            if self._is_over:
                line.close()
                raise TimeoutError
            # A duplicate, because TLS takes the first one's descriptor away before its handshake.
            self._line = line.dup()

    def begin(self) -> None:
        """Let the request's bytes out. Raises TimeoutError if the call is over."""
        with self._lock:
            if self._is_over:
                raise TimeoutError
            if not self._has_begun:
                self._has_begun = True
                self.news.put(_Begun())

    def stop(self) -> bool:
        """End the call, whatever it is doing. Returns whether a byte of the request may have gone out."""
        with self._lock:
            self._is_over = True
            if self._line is not None:
                with suppress(OSError):
                    self._line.shutdown(socket.SHUT_RDWR)
                self._line.close()
                self._line = None
            return self._has_begun


def _exchange(request: requests.Request, timeout_seconds: float, connect_seconds: float, max_bytes: int) -> Answer:
    deadline = time.monotonic() + timeout_seconds
    limits = (connect_seconds, timeout_seconds + _GRACE_SECONDS)
    call = _Call()
    news: Answer | _Begun | str
    try:
        threading.Thread(target=_run, args=(call, request, limits, max_bytes), name="exchange", daemon=True).start()
        news = call.news.get(timeout=min(connect_seconds, timeout_seconds))
        if isinstance(news, _Begun):
            news = call.news.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
        news = "time is up"
    finally:
        may_have_gone_out = call.stop()
    if isinstance(news, Answer):
        return news
    if may_have_gone_out:
        raise Unclear(f"no whole answer from the gateway: {news}")
    raise NotSent(f"no connection to the gateway: {news}")


def _run(call: _Call, request: requests.Request, limits: tuple[float, float], max_bytes: int) -> None:
    news: Answer | str = "this service failed"  # stays so if something is raised that no network can cause
    try:
        news = _perform(call, request, limits, max_bytes)
    except (requests.RequestException, HTTPError, http.client.HTTPException, OSError, ValueError) as error:
        news = _innermost(error)
    finally:
        call.news.put(news)


def _perform(call: _Call, request: requests.Request, limits: tuple[float, float], max_bytes: int) -> Answer | str:
    with requests.Session() as session, _Adapter(call) as adapter:
        prepared = session.prepare_request(request)
        around: Any = session.merge_environment_settings(prepared.url or "", {}, True, None, None)
        # Past Session.send, which reads and unpacks the whole body of a redirect before it hands it over.
        with adapter.send(prepared, timeout=limits, **around) as response:
            if response.headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}:
                return "it is packed, which was not asked for"
            body = bytearray()
            while piece := response.raw.read(_AT_ONCE, decode_content=False):
                body += piece
                if len(body) > max_bytes:
                    return f"it is longer than {max_bytes} bytes"
            return Answer(
                status=response.status_code, content_type=response.headers.get("Content-Type"), body=bytes(body)
            )


def _innermost(error: BaseException) -> str:
    """The name of what was first in a chain of errors. Their texts hold addresses, so they go no further."""
    seen = {id(error)}
    while (cause := error.__cause__ or error.__context__) is not None and id(cause) not in seen:
        error = cause
        seen.add(id(error))
    return type(error).__name__


class _Adapter(HTTPAdapter):
    """Requests' own way to the network, with connections that report to one call."""

    def __init__(self, call: _Call) -> None:
        super().__init__(max_retries=0)
        self._call = call

    def __enter__(self) -> "_Adapter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        # Whichever kind of connection urllib3 has chosen (plain, TLS, through a proxy) becomes a watched one.
        pool.ConnectionCls = type("WatchedConnection", (_Watched, pool.ConnectionCls), {"call": self._call})
        return pool


class _Watched(HTTPConnection):
    """A connection that hands its socket to the call, and says when the request itself begins."""

    call: _Call
    _is_ready = False

    def _new_conn(self) -> socket.socket:
        line = super()._new_conn()
        self.call.hold(line)
        return line

    def connect(self) -> None:
        super().connect()
        self._is_ready = True

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        if self._is_ready:  # before that it is only the request to a proxy to make a tunnel
            self.call.begin()
        super().send(data)
