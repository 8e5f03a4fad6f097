"""A client's connection as the server sees it: how far a request has come, how long it may take, and whose it is.

It stands in for the socket that gunicorn reads and writes. It bounds every wait; which connections are worth keeping is
decided in `connections`.
"""

import errno
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any, Protocol

import gevent
from gevent import socket
from gunicorn.http.body import LengthReader
from gunicorn.http.errors import LimitRequestHeaders

from receiptsvc.server.application import IncomingBody

FIRST_BYTE_SECONDS = 5.0  # for a new connection to say something: routers and clients connect when they have a request
MAX_HEADERS_SECONDS = 10.0  # from a request's first byte to the end of its headers
MAX_HEAD_BYTES = 32 * 1024  # of a request line and headers: gunicorn's own limits allow 800 KiB of them
MAX_TAKE_SECONDS = 10.0  # for a client to take an answer

_STUCK_SECONDS = 2.0  # after which a client that takes no answer may lose it, if its place is wanted back
_DISCARD_SECONDS = 10.0  # for what is left of a body after its answer
_MAX_DISCARDED_BYTES = 16 * 1024 * 1024
_PIECE = 64 * 1024


class _Connections(Protocol):
    def prove(self, client: "Client", credential: Hashable) -> None: ...

    def is_beyond_share(self, client: "Client") -> bool: ...


class Client:
    """A client's socket that knows how far a request has come. Everything else is the socket's own.

    Usual requests that begin where nothing else is under way are answered right here, and gunicorn's parser never hears
    of them.
    """

    def __init__(
        self,
        inner: socket.socket,
        kept_seconds: float,
        answer_fast: Callable[[bytes, "Client"], bool | None],
        connections: _Connections,
    ) -> None:
        """`answer_fast`: whether the connection may be kept after its answer; None if it had none to give."""
        self._inner, self._kept_seconds, self._answer_fast = inner, kept_seconds, answer_fast
        self._connections = connections
        self.is_between_requests = False
        self.is_working = False  # the headers of a request are in, and its answer is not out yet
        self.is_cut = False  # no more is read from it, so that no other request can follow
        self.is_evicted = False  # its place is wanted back: nothing more is read or answered
        self.awaits_continue = False  # it may send its body only when told to
        self.credential: Hashable | None = None  # what it proved, and that of its first proof; set by `connections`
        self.is_router = False  # it proved several; set by `connections`
        self._is_hung_up = False  # we have ended it ourselves
        self._is_fresh = True  # all that was sent on it has been answered
        self._was_asked = False  # anything has come on it
        self._read_until: float | None = None  # of the monotonic clock: by when the headers must be in
        self._head_bytes = 0
        self._incoming: IncomingBody | None = None  # the body that is being read
        self._take_seconds = MAX_TAKE_SECONDS
        self._sending_since: float | None = None  # of the monotonic clock; none: all of an answer went out at once

    def prove(self, credential: Hashable) -> None:
        """It brought a request with a right token or key."""
        if not self.is_router and credential != self.credential:
            self._connections.prove(self, credential)

    def is_beyond_share(self) -> bool:
        """Whether its token or key has more connections than its share while there are many."""
        return self._connections.is_beyond_share(self)

    def may_be_evicted(self) -> bool:
        """Whether closing it takes no answer away that it waits for, or that it takes."""
        if not self.is_working or self._incoming is not None:
            return True
        if self._sending_since is None:
            return False
        return self.credential is None or monotonic() - self._sending_since > _STUCK_SECONDS

    def evict(self) -> None:
        """Have it closed. One whose body is still on its way in is answered first that there is no room."""
        self.is_evicted = self.is_cut = True
        self.hang_up(socket.SHUT_RDWR if self._incoming is None else socket.SHUT_RD)

    def stop_reading(self) -> None:
        """Take no more from it: the rest of a body would have to be read, to throw it away."""
        self.is_cut = True
        with suppress(OSError):
            self._inner.shutdown(socket.SHUT_RD)

    def hang_up(self, how: int = socket.SHUT_RDWR) -> None:
        """Have whoever waits on it find that it has ended."""
        self._is_hung_up = True
        with suppress(OSError):  # it may be closed by now
            self._inner.shutdown(how)

    def recv(self, size: int) -> bytes:
        while True:
            data = self._recv(size)
            if not self._is_fresh:
                return data
            is_kept = self._answer_fast(data, self)
            if is_kept is None:
                self._is_fresh = False
                return data
            if not is_kept:
                return b""
            self.begin_wait()

    def _recv(self, size: int) -> bytes:
        if self._incoming is not None:
            return self._incoming.receive(self._inner, size)
        try:
            if self._read_until is not None:
                left = self._read_until - monotonic()
                if left <= 0:
                    return b""
                if self._head_bytes > MAX_HEAD_BYTES:
                    raise LimitRequestHeaders("max head")
                self._inner.settimeout(left)
            data: bytes = self._inner.recv(size)
        except TimeoutError:
            return b""  # whoever stops in the middle of a request is as good as gone
        except OSError:
            if self._is_hung_up:  # gevent lets no wait outlast a shutdown, and calls that a bad file
                return b""
            raise
        if self._is_hung_up:
            return b""
        if self.is_between_requests:
            self.is_between_requests, self._was_asked = False, True
            self._read_until, self._head_bytes = monotonic() + MAX_HEADERS_SECONDS, 0
        self._head_bytes += len(data)
        return data

    def begin_wait(self) -> None:
        """From here on silence is no offence, for so long as a connection is kept."""
        self.is_between_requests, self._read_until = True, None
        self.is_working = False
        self._inner.settimeout(self._kept_seconds if self._was_asked else min(FIRST_BYTE_SECONDS, self._kept_seconds))

    def end_headers(self, request: Any) -> None:
        """A request is to be answered. Its headers may have come along with the request before."""
        self.is_between_requests, self._read_until = False, None
        self.is_working = self._was_asked = True
        # gunicorn would tell it to send its body before anybody has looked at its key.
        self.awaits_continue, request._expected_100_continue = request._expected_100_continue, False  # noqa: SLF001

    @contextmanager
    def reading(self, incoming: IncomingBody) -> Iterator[None]:
        """While the block lasts, what comes is a body's, and its own rules hold for it."""
        if self.awaits_continue:
            self.awaits_continue = False
            self.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._incoming = incoming
        try:
            yield
        finally:
            self._incoming = None

    def end_request(self, request: Any) -> bool:
        """A request was answered. Read what is left of its body; whether that came to its end, so that more can follow.

        Its sender would lose the answer if the connection were closed while it still sends.
        """
        self.is_working, self._take_seconds = False, MAX_TAKE_SECONDS
        if self.is_cut or self.awaits_continue or request.body.failed:
            return False
        try:
            with self.reading(_Discarded()):
                while request.body.read(_PIECE):
                    gevent.sleep(0)  # it may come faster than others get their turn
        except Exception:  # noqa: BLE001 - whatever it is: where another request would begin is unknown
            return False
        body = request.body.reader
        is_at_end = not isinstance(body, LengthReader) or body.length == 0
        self._is_fresh = isinstance(body, LengthReader) and is_at_end and not request.unreader.buf.getvalue()
        return is_at_end

    def may_take_seconds(self, seconds: float) -> None:
        """How long it may take over each piece of an answer from here on."""
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
            if isinstance(error, TimeoutError) or self._is_hung_up:  # whoever takes nothing of an answer is gone too
                raise OSError(errno.EPIPE, "nothing was read for too long") from None
            raise
        finally:
            self._sending_since = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Discarded:
    """What is left of a body whose request was answered without it."""

    def __init__(self) -> None:
        self._until, self._left = monotonic() + _DISCARD_SECONDS, _MAX_DISCARDED_BYTES

    def receive(self, source: socket.socket, size: int) -> bytes:
        source.settimeout(max(self._until - monotonic(), 0.0))
        data: bytes = source.recv(min(size, _PIECE))
        self._left -= len(data)
        if self._left < 0:
            raise TimeoutError
        return data
