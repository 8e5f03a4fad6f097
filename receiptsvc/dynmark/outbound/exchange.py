"""One HTTP call with a total deadline. It ends as answered, not sent, or unclear.

Nothing here interprets the gateway's answers, retries or follows redirects. Each call has its own connection, so that a
stale one can't blur whether a request went out. Each call has its own thread, because a name look-up, a TLS handshake
and an answer that drips byte by byte all outlast the time-outs of sockets.
"""

import http.client
import queue
import socket
import threading
import time
import zlib
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
_CHUNK_BYTES = 64 * 1024
_CODINGS = {"gzip", "x-gzip", "deflate", "identity", ""}  # of Content-Encoding, that are read though not asked for
_MAX_CODINGS = 3
_GZIP = b"\x1f\x8b\x08"  # how it begins, and no XML or JSON does
_GZIP_OR_ZLIB, _BARE_DEFLATE = 47, -15  # zlib's wbits
_GRACE_SECONDS = 1.0  # added to the socket's time-out, so that the call's deadline always comes first


class NotSent(ReceiptsvcError):
    """There was no connection (name, TCP, proxy, TLS): no byte of the request went out."""

    retry_helps = True


class Unclear(ReceiptsvcError):
    """The other side may have received the request, and there is no whole answer."""

    retry_helps = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A whole answer, whatever its status, unpacked."""

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

    `timeout_seconds` limits the whole call, `connect_seconds` everything before the request's first byte, over all
    addresses of the host. `auth`: user and password for HTTP Basic. Raises NotSent or Unclear.
    """
    request = _build_request("POST", url, headers, auth, body)
    return _exchange(request, timeout_seconds, connect_seconds, max_bytes)


def get(url: str, *, timeout_seconds: float, connect_seconds: float = 10, max_bytes: int = MAX_BYTES) -> Answer:
    """Get a document within the limits of `post`. Raises NotSent or Unclear."""
    return _exchange(_build_request("GET", url, {}, None, None), timeout_seconds, connect_seconds, max_bytes)


def _build_request(
    method: str, url: str, headers: Mapping[str, str], auth: tuple[str, str] | None, body: bytes | None
) -> requests.Request:
    # Compressing saves nothing at this size, so identity is asked for; `_unpack` reads what comes otherwise. Without an
    # `auth`, requests would look for credentials in ~/.netrc, hence `_unchanged`.
    all_headers = {"User-Agent": "receiptsvc", **headers, "Accept-Encoding": "identity", "Connection": "close"}
    credentials = HTTPBasicAuth(auth[0].encode(), auth[1].encode()) if auth else _unchanged
    return requests.Request(method, url, headers=all_headers, data=body, auth=credentials)


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _RequestStarted:
    """The event that the request's first byte is about to go out."""


class _Call:
    """The state that the thread of a call and the thread that waits for it share."""

    def __init__(self) -> None:
        # A str says why there is no answer.
        self.events: queue.SimpleQueue[Answer | _RequestStarted | str] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._is_started = False
        self._is_ended = False

    def attach(self, connection: socket.socket) -> None:
        """Remember the connection, so that `stop` can cut it. Raises TimeoutError if the call is over."""
        with self._lock:
            if self._is_ended:
                connection.close()
                raise TimeoutError
            # A duplicate, because TLS detaches the original's descriptor before the handshake.
            self._socket = connection.dup()

    def start_request(self) -> None:
        """Allow the request's bytes to go out. Raises TimeoutError if the call is over."""
        with self._lock:
            if self._is_ended:
                raise TimeoutError
            if not self._is_started:
                self._is_started = True
                self.events.put(_RequestStarted())

    def stop(self) -> bool:
        """End the call in any state. Returns whether a byte of the request may have gone out."""
        with self._lock:
            self._is_ended = True
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
                self._socket.close()
                self._socket = None
            return self._is_started


def _exchange(request: requests.Request, timeout_seconds: float, connect_seconds: float, max_bytes: int) -> Answer:
    deadline = time.monotonic() + timeout_seconds
    limits = (connect_seconds, timeout_seconds + _GRACE_SECONDS)
    call = _Call()
    event: Answer | _RequestStarted | str
    try:
        threading.Thread(target=_run, args=(call, request, limits, max_bytes), name="exchange", daemon=True).start()
        event = call.events.get(timeout=min(connect_seconds, timeout_seconds))
        if isinstance(event, _RequestStarted):
            event = call.events.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
        event = "time is up"
    finally:
        may_have_gone_out = call.stop()
    if isinstance(event, Answer):
        return event
    if may_have_gone_out:
        raise Unclear(f"no whole answer from the gateway: {event}")
    raise NotSent(f"no connection to the gateway: {event}")


def _run(call: _Call, request: requests.Request, limits: tuple[float, float], max_bytes: int) -> None:
    outcome: Answer | str = "this service failed"  # stays for an error that no network can cause
    try:
        outcome = _perform(call, request, limits, max_bytes)
    except (requests.RequestException, HTTPError, http.client.HTTPException, OSError, ValueError) as error:
        outcome = _name_root_cause(error)
    finally:
        call.events.put(outcome)


def _perform(call: _Call, request: requests.Request, limits: tuple[float, float], max_bytes: int) -> Answer | str:
    with requests.Session() as session, _Adapter(call) as adapter:
        prepared = session.prepare_request(request)
        options: Any = session.merge_environment_settings(prepared.url or "", {}, True, None, None)
        # Not Session.send, which reads and unpacks the whole body of a redirect before it returns.
        with adapter.send(prepared, timeout=limits, **options) as response:
            body = bytearray()
            while chunk := response.raw.read(_CHUNK_BYTES, decode_content=False):
                body += chunk
                if len(body) > max_bytes:
                    return f"it is longer than {max_bytes} bytes"
            unpacked = _unpack(bytes(body), response.headers.get("Content-Encoding", ""), max_bytes)
            if isinstance(unpacked, str):
                return unpacked
            return Answer(status=response.status_code, content_type=response.headers.get("Content-Type"), body=unpacked)


def _unpack(body: bytes, content_encoding: str, max_bytes: int) -> bytes | str:
    """A body without its compression, of at most `max_bytes`; else why it has none.

    Proxies leave the header out, or leave it standing over what they unpacked. So gzip goes by its first bytes.
    """
    codings = [coding.strip().lower() for coding in content_encoding.split(",")]
    if not _CODINGS.issuperset(codings) or len(codings) > _MAX_CODINGS:
        return "it is compressed in a way that was not asked for"
    for coding in reversed(codings):
        try:
            if body.startswith(_GZIP):
                body = _inflate(body, _GZIP_OR_ZLIB, max_bytes)
            elif coding == "deflate" and body:
                body = _inflate_deflate(body, max_bytes)
        except zlib.error:
            return "it is compressed, and can't be unpacked"
        if len(body) > max_bytes:
            return f"it is longer than {max_bytes} bytes when unpacked"
    return body


def _inflate_deflate(body: bytes, max_bytes: int) -> bytes:
    """What is packed by `deflate`: by the standard zlib's format, but some servers leave its head and check out."""
    try:
        return _inflate(body, _GZIP_OR_ZLIB, max_bytes)
    except zlib.error:
        return _inflate(body, _BARE_DEFLATE, max_bytes)


def _inflate(body: bytes, wbits: int, max_bytes: int) -> bytes:
    """One stream that fills the whole body; a byte more than `max_bytes` at most. Raises zlib.error."""
    stream = zlib.decompressobj(wbits)
    unpacked = stream.decompress(body, max_bytes + 1)
    if len(unpacked) <= max_bytes and (not stream.eof or stream.unused_data):
        raise zlib.error
    return unpacked


def _name_root_cause(error: BaseException) -> str:
    """The class name of the first error in a chain. Error texts hold addresses, so they are not used."""
    seen = {id(error)}
    while (cause := error.__cause__ or error.__context__) is not None and id(cause) not in seen:
        error = cause
        seen.add(id(error))
    return type(error).__name__


class _Adapter(HTTPAdapter):
    """requests' adapter, with connections that report to one call."""

    def __init__(self, call: _Call) -> None:
        super().__init__(max_retries=0)
        self._call = call

    def __enter__(self) -> "_Adapter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        # Any kind of connection that urllib3 chooses (plain, TLS, through a proxy) becomes a watched one.
        pool.ConnectionCls = type("WatchedConnection", (_WatchedConnection, pool.ConnectionCls), {"call": self._call})
        return pool


class _WatchedConnection(HTTPConnection):
    """A connection that gives its socket to the call and reports the start of the request."""

    call: _Call
    _is_connected = False

    def _new_conn(self) -> socket.socket:
        connection = super()._new_conn()
        self.call.attach(connection)
        return connection

    def connect(self) -> None:
        super().connect()
        self._is_connected = True

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        if self._is_connected:  # before that, only the CONNECT request to a proxy is sent
            self.call.start_request()
        super().send(data)
