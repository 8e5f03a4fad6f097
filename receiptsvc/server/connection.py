"""A client's connection as the server sees it: how far a request has come, how long it may take, and what it proved.

It wraps the socket that gunicorn reads and writes, and bounds every wait on it. Which connections are worth keeping is
decided in `connections`.
"""

import errno
import struct
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any, Protocol

import gevent
from gevent import socket
from gunicorn.http.body import ChunkedReader, LengthReader
from gunicorn.http.errors import LimitRequestHeaders

from receiptsvc.server.application import IncomingBody

FIRST_BYTE_SECONDS = 5.0  # for a new connection's first byte: routers and clients connect when they have a request
MAX_HEADERS_SECONDS = 10.0  # from a request's first byte to the end of its headers
MAX_HEAD_BYTES = 32 * 1024  # of a request line and headers: gunicorn's own limits allow 800 KiB of them
MAX_TAKE_SECONDS = 10.0  # for a client to read an answer
MAX_KEPT_HEAD_BYTES = 2048  # of a request that is still being read

_STUCK_SECONDS = 2.0  # after which a client that does not read its answer may be evicted
_DISCARD_SECONDS = 10.0  # to read and drop what a client still sends after its answer
_SILENT_SECONDS = 2.0  # after which a client whose connection is to be closed sends no more
_MAX_DISCARDED_BYTES = 16 * 1024 * 1024
_READ_BYTES = 64 * 1024
# For SO_LINGER. With 0 seconds a close sends a reset and drops what is not sent yet, also if the process is killed.
_RESET, _CLOSE = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)


class _Connections(Protocol):
    def prove(self, client: "Client", credential: Hashable) -> None: ...

    def is_beyond_share(self, client: "Client") -> bool: ...


class Client:
    """A client's socket that knows how far a request has come. Every other attribute is the socket's own.

    A fast request that comes when nothing else is under way is answered in `recv`; gunicorn's parser never sees it.
    """

    def __init__(
        self,
        inner: socket.socket,
        kept_seconds: float,
        answer_fast: Callable[[bytes, "Client"], bool | None],
        connections: _Connections,
    ) -> None:
        """`kept_seconds`: how long an idle connection is kept.

        `answer_fast`: answers these bytes, and returns whether the connection may be kept, or None if it can't.
        """
        self._inner, self._kept_seconds, self._answer_fast = inner, kept_seconds, answer_fast
        self._connections = connections
        self.is_between_requests = False
        self.is_working = False  # the headers of a request are in, and its answer is not out yet
        self.is_cut = False  # nothing more is read from it, so no other request can follow
        self.is_evicted = False  # it is closed to make room: nothing more is read or answered
        self.head = b""  # the first bytes of a request that gunicorn reads, until its headers are in
        self.awaits_continue = False  # the client waits for "100 Continue" before it sends its body
        self.credential: Hashable | None = None  # the first token or key that it proved; set by `connections`
        self.is_router = False  # it proved several; set by `connections`
        self.is_resetting = False  # an answer is under way whose end the client would not see: see `whole_or_reset`
        self._is_hung_up = False  # we have shut it down ourselves
        self._is_unread = False  # its last request was answered before all of it was read
        self._is_fresh = True  # everything that came on it has been answered
        self._has_received = False
        self._read_until: float | None = None  # of the monotonic clock: the deadline for the headers
        self._head_bytes = 0
        self._incoming: IncomingBody | None = None  # the body that is being read
        self._take_seconds = MAX_TAKE_SECONDS
        self._sending_since: float | None = None  # of the monotonic clock; None while no answer waits for the client

    def prove(self, credential: Hashable) -> None:
        """Note that it brought a request with a right token or key."""
        if not self.is_router and credential != self.credential:
            self._connections.prove(self, credential)

    def is_beyond_share(self) -> bool:
        """Whether its token or key has more than its share of connections while there are many."""
        return self._connections.is_beyond_share(self)

    def may_be_evicted(self) -> bool:
        """Whether it can be closed without the loss of an answer that the client waits for or is reading."""
        if not self.is_working or self._incoming is not None:
            return True
        if self._sending_since is None:
            return False
        return self.credential is None or monotonic() - self._sending_since > _STUCK_SECONDS

    def evict(self) -> None:
        """Close it to make room. If its body is still being received, it is answered 503 first."""
        self.is_evicted = self.is_cut = True
        self.hang_up(socket.SHUT_RDWR if self._incoming is None else socket.SHUT_RD)

    def stop_reading(self) -> None:
        """Read no more of the request: the rest would only be thrown away, at the end of the connection."""
        self.is_cut = self._is_unread = True

    def close(self) -> None:
        """Close it. A client that still sends gets the answer first: a socket closed with unread bytes is reset."""
        if self._is_unread and not self._is_hung_up:
            self._linger()
        self._inner.close()

    def _linger(self) -> None:
        self.is_working = False
        deadline = monotonic() + _DISCARD_SECONDS
        with suppress(OSError):
            self._inner.shutdown(socket.SHUT_WR)
            while (seconds_left := deadline - monotonic()) > 0:
                self._inner.settimeout(min(seconds_left, _SILENT_SECONDS))
                if not self._inner.recv(_READ_BYTES):
                    break
                gevent.sleep(0)

    def hang_up(self, how: int = socket.SHUT_RDWR) -> None:
        """Shut it down; every read or write that waits on it ends."""
        self._is_hung_up = True
        if self.is_resetting and how != socket.SHUT_RD:
            self._inner.close()  # a shutdown would end the answer as if it were whole
            return
        with suppress(OSError):  # it may be closed by now
            self._inner.shutdown(how)

    def shutdown(self, how: int) -> None:
        """What gunicorn calls before it closes a connection whose answer failed."""
        if not self.is_resetting:
            self._inner.shutdown(how)

    @contextmanager
    def whole_or_reset(self) -> Iterator[None]:
        """While the block lasts, or if it raises, the connection ends with a reset, whatever ends it."""
        self._set_linger(_RESET)
        self.is_resetting = True
        yield
        self.is_resetting = False
        self._set_linger(_CLOSE)

    def _set_linger(self, linger: bytes) -> None:
        with suppress(OSError):  # it may be closed by now
            self._inner.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def recv(self, size: int) -> bytes:
        while True:
            data = self._recv(size)
            if not self._is_fresh:
                if self._incoming is None:
                    self.head = (self.head + data)[:MAX_KEPT_HEAD_BYTES]
                return data
            is_kept = self._answer_fast(data, self)
            if is_kept is None:
                self._is_fresh = False
                self.head = data[:MAX_KEPT_HEAD_BYTES]
                return data
            if not is_kept:
                return b""
            self.begin_wait()

    def _recv(self, size: int) -> bytes:
        if self._incoming is not None:
            return self._incoming.receive(self._inner, size)
        try:
            if self._read_until is not None:
                seconds_left = self._read_until - monotonic()
                if seconds_left <= 0:
                    return b""
                if self._head_bytes > MAX_HEAD_BYTES:
                    raise LimitRequestHeaders("max head")
                self._inner.settimeout(seconds_left)
            data: bytes = self._inner.recv(size)
        except TimeoutError:
            return b""  # a client that stops in the middle of a request is taken for gone
        except OSError:
            if self._is_hung_up:  # gevent ends every wait at a shutdown, with EBADF
                return b""
            raise
        if self._is_hung_up:
            return b""
        if self.is_between_requests:
            self.is_between_requests, self._has_received = False, True
            self._read_until, self._head_bytes = monotonic() + MAX_HEADERS_SECONDS, 0
        self._head_bytes += len(data)
        return data

    def begin_wait(self) -> None:
        """Wait for the next request, for as long as an idle connection is kept."""
        self.is_between_requests, self._read_until = True, None
        self.is_working = False
        self._inner.settimeout(
            self._kept_seconds if self._has_received else min(FIRST_BYTE_SECONDS, self._kept_seconds)
        )

    def end_headers(self, request: Any) -> None:
        """Note that a request's headers are in. They may have come together with the previous request."""
        self.is_between_requests, self._read_until = False, None
        self.is_working = self._has_received = True
        self.head = b""
        # gunicorn would send "100 Continue" before the key has been checked.
        self.awaits_continue, request._expected_100_continue = request._expected_100_continue, False  # noqa: SLF001

    @contextmanager
    def reading(self, incoming: IncomingBody) -> Iterator[None]:
        """While the block lasts, `incoming` reads from the socket, with its own limits."""
        if self.awaits_continue:
            self.awaits_continue = False
            self.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._incoming = incoming
        try:
            yield
        finally:
            self._incoming = None

    def end_request(self, request: Any) -> bool:
        """Note that a request was answered, and read the rest of its body: True if another request can follow.

        The client would lose the answer if the connection were closed while it still sends.
        """
        self.is_working, self._take_seconds = False, MAX_TAKE_SECONDS
        # To find the end of chunks, each would have to be parsed: tiny ones take far longer than it takes to send them.
        is_chunked = isinstance(request.body.reader, ChunkedReader) and request.body.reader.parser is not None
        if self.is_cut or self.awaits_continue or request.body.failed or is_chunked:
            self._is_unread = True
            return False
        try:
            with self.reading(_Discarded()):
                while request.body.read(_READ_BYTES):
                    gevent.sleep(0)  # a fast sender must not keep the loop from the others
        except Exception:  # noqa: BLE001 - after any error it is unknown where the next request begins
            self._is_unread = True
            return False
        body = request.body.reader
        is_at_end = not isinstance(body, LengthReader) or body.length == 0
        pipelined = request.unreader.buf.getvalue()
        self._is_fresh = isinstance(body, LengthReader) and is_at_end and not pipelined
        self.head = pipelined[:MAX_KEPT_HEAD_BYTES]
        gevent.sleep(0)  # the next request may be here already, and thousands after it: others have their turn first
        return is_at_end

    def may_take_seconds(self, seconds: float) -> None:
        """Set how long the client may take to read each piece of an answer."""
        self._take_seconds = seconds

    def sendall(self, data: bytes) -> None:
        try:
            sent = self._inner.send(data, 0, 0.0)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return
        self._sending_since = monotonic()
        self._inner.settimeout(self._take_seconds)
        try:
            self._inner.sendall(memoryview(data)[sent:])
        except OSError as error:
            if isinstance(error, TimeoutError) or self._is_hung_up:  # a client that does not read is taken for gone
                raise OSError(errno.EPIPE, "nothing was read for too long") from None
            raise
        finally:
            self._sending_since = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Discarded:
    """The rest of a body whose request was answered without it."""

    def __init__(self) -> None:
        self._deadline, self._bytes_left = monotonic() + _DISCARD_SECONDS, _MAX_DISCARDED_BYTES

    def receive(self, source: socket.socket, size: int) -> bytes:
        source.settimeout(max(self._deadline - monotonic(), 0.0))
        data: bytes = source.recv(min(size, _READ_BYTES))
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            raise TimeoutError
        return data
