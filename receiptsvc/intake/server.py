"""The gunicorn worker: an event loop that serves callbacks, and native threads for everything else.

gevent without monkey-patching. Only the intake knows of the loop; Flask, SQLAlchemy and their drivers run on native
threads as the plain blocking code that they are, so nothing they do can keep a callback from its answer.
"""

import errno
import gc
import select
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from io import BytesIO
from time import monotonic
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import gevent
from gevent import socket
from gevent.event import Event
from gunicorn.http.body import LengthReader
from gunicorn.workers.base_async import AsyncWorker
from gunicorn.workers.ggevent import GeventWorker

from receiptsvc.intake.plain import Plain
from receiptsvc.intake.room import Room, claimed_bytes
from receiptsvc.intake.streams import STOPPING, Stream
from receiptsvc.intake.threads import Crew
from receiptsvc.intake.usual import recognise

SLOWEST_HEADERS_SECONDS = 10.0  # from a request's first byte to the end of its headers
SLOWEST_READ_SECONDS = 10.0  # between two pieces of a body
SLOWEST_TAKE_SECONDS = 60.0  # for a client to take a piece of a long answer: it may have to do something with it
SLOWEST_BODY_SECONDS = 20.0  # for all of a body that Flask is to have

_SWITCH_SECONDS = 0.0002  # how long another thread may hold the interpreter while the loop waits for it
_COLLECT_SECONDS = 10.0
_SELDOM = (2000, 10, 1_000_000)
_LOOK_SECONDS = 0.1
_LEAST_SECONDS = 0.01
_CHUNK = 64 * 1024
_THREADS_ASIDE = 2
_MOST_BYTES_IN_READING = 64 * 1024 * 1024  # of all bodies


class _Client:
    """A client's socket that knows how far a request has come. Everything else is the socket's own.

    Usual requests that begin where nothing else is under way are answered right here, and gunicorn's parser never hears
    of them.
    """

    def __init__(
        self, inner: socket.socket, kept_seconds: float, answer_usual: Callable[[bytes, "_Client"], bool | None]
    ) -> None:
        """`answer_usual`: whether the connection may be kept after its answer; None if it had none to give."""
        self._inner, self._kept_seconds, self._answer_usual = inner, kept_seconds, answer_usual
        self.is_between_requests = False
        self.is_cut = False  # no more is read from it, so that no other request can follow
        self._is_fresh = True  # all that was sent on it has been answered
        self._headers_until: float | None = None  # of the monotonic clock; none: they are in

    def recv(self, size: int) -> bytes:
        while True:
            data = self._recv(size)
            if not self._is_fresh:
                return data
            is_kept = self._answer_usual(data, self)
            if is_kept is None:
                self._is_fresh = False
                return data
            if not is_kept:
                return b""
            self.begin_wait()

    def _recv(self, size: int) -> bytes:
        try:
            if self._headers_until is not None:
                self._inner.settimeout(max(self._headers_until - monotonic(), _LEAST_SECONDS))
            data: bytes = self._inner.recv(size)
        except TimeoutError:
            return b""  # whoever stops in the middle of a request is as good as gone
        if self.is_between_requests:
            self.is_between_requests = False
            self._headers_until = monotonic() + SLOWEST_HEADERS_SECONDS
        return data

    def begin_wait(self) -> None:
        """From here on silence is no offence, for so long as a connection is kept."""
        self.is_between_requests, self._headers_until = True, None
        self._inner.settimeout(self._kept_seconds)

    def end_headers(self) -> None:
        """A body may take as long as it moves. The headers may have come along with the request before."""
        self.is_between_requests, self._headers_until = False, None
        self._inner.settimeout(SLOWEST_READ_SECONDS)

    def end_request(self, request: Any) -> None:
        """A request was answered; it may have left something to be read."""
        body = request.body.reader
        self._is_fresh = isinstance(body, LengthReader) and body.length == 0 and not request.unreader.buf.getvalue()

    def sendall(self, data: bytes) -> None:
        try:
            self._inner.sendall(data)
        except TimeoutError:  # so is whoever takes nothing of an answer
            raise OSError(errno.EPIPE, "nothing was read for too long") from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Server(GeventWorker):
    """gunicorn's gevent worker, but that it patches nothing, cuts slow requests, and ends when nobody asks."""

    sockets: list[Any]
    wsgi: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._clients: dict[gevent.Greenlet, _Client] = {}
        self._plain: Plain | None = None
        self._stopping: Event
        self._answers_plainly: Callable[[str], bool]

    def patch(self) -> None:
        """Let the listening sockets be the loop's. The standard library stays as it is."""
        self.sockets = [socket.socket(s.FAMILY, socket.SOCK_STREAM, fileno=s.sock.detach()) for s in self.sockets]

    def run(self) -> None:
        """Serve until told to stop."""
        sys.setswitchinterval(
            _SWITCH_SECONDS
        )  # each answer takes it back some six times; by default it waits 5 ms each
        gc.collect()
        gc.freeze()  # else every full collection looks through all that was imported, and holds the interpreter for it
        gc.set_threshold(*_SELDOM)  # nor in the midst of a large request, whose objects are many and alive
        self._stopping = Event()
        gevent.spawn(self._collect_now_and_then)
        gevent.spawn(self._let_go_of_idle_clients)
        if hasattr(self.wsgi, "answers_plainly"):
            self._plain = Plain(self.wsgi, self.log.access, lambda: self.alive)
            self._answers_plainly = self.wsgi.answers_plainly
        self.wsgi = self._closing_at_the_end(self.wsgi)
        super().run()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """One connection. A request that does not come, or does not move, is cut."""
        current = gevent.getcurrent()
        self._clients[current] = tracked = _Client(client, self.cfg.keepalive, self._answer_usual)
        try:
            AsyncWorker.handle(self, listener, tracked, addr)
        finally:
            del self._clients[current]

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> Any:
        """A request whose headers are in."""
        sock.end_headers()
        if self._plain is None or not self._answers_plainly(req.path):
            super().handle_request(listener_name, req, sock, addr)
        elif not self._plain.answer(req, sock):
            raise StopIteration  # gunicorn's word for: close it
        sock.end_request(req)

    def _answer_usual(self, data: bytes, client: _Client) -> bool | None:
        """Answer these bytes if they are a usual request for the plain way; whether its connection may be kept."""
        request = recognise(data) if self._plain is not None else None
        if self._plain is None or request is None or not self._answers_plainly(request.path):
            return None
        return self._plain.answer(request, client)

    def _closing_at_the_end(self, inner: WSGIApplication) -> WSGIApplication:
        """The application, but that an answer given after the word to stop closes its connection.

        gunicorn looks before it calls the application, and a callback may have waited since then. An answer without an
        end hears the word by a bell in its environment.
        """

        def answer(environ: WSGIEnvironment, start_response: Any) -> Iterable[bytes]:
            def start(*args: Any) -> Any:
                written = start_response(*args)
                if not self.alive or environ["gunicorn.socket"].is_cut:
                    start_response.__self__.force_close()  # gunicorn's Response
                return written

            environ[STOPPING] = self._stopping
            return inner(environ, start)

        return answer

    def timeout_ctx(self) -> Any:
        """Around the wait for a connection's next request, headers included. The client bounds both by itself."""
        self._clients[gevent.getcurrent()].begin_wait()
        return nullcontext()

    def _collect_now_and_then(self) -> None:
        """Free what only a full collection finds; by Python's own count one would be due far more often."""
        while self.alive:
            gevent.sleep(_COLLECT_SECONDS)
            gc.collect()

    def _let_go_of_idle_clients(self) -> None:
        """Once told to stop, close the connections on which nothing is asked: they would hold up the end."""
        while self.alive:
            gevent.sleep(_LOOK_SECONDS)
        self._stopping.set()
        while True:
            for client in list(self._clients.values()):
                with suppress(OSError):  # it may be closed by now
                    if client.is_between_requests and not _has_more(client):
                        client.shutdown(socket.SHUT_RDWR)
            gevent.sleep(_LOOK_SECONDS)


def _has_more(client: _Client) -> bool:
    waiting = select.poll()
    waiting.register(client.fileno(), select.POLLIN)
    return bool(waiting.poll(0))


class OnThreads:
    """A blocking WSGI application, served from the loop on native threads.

    A body is read by the loop first, up to `most_bytes` of it; what is longer reaches the application as its beginning,
    with the length that was claimed or one byte too many, so that it can refuse it in its own words. A `Stream` that it
    answers with needs no thread: the loop takes it from there.
    """

    def __init__(
        self, inner: WSGIApplication, *, threads: int, most_bytes: int, aside: frozenset[str] = frozenset()
    ) -> None:
        """`aside`: paths that have threads of their own, so that they are answered when all others wait."""
        self._inner, self._aside = inner, aside
        self._most_bytes = most_bytes
        self._crew, self._crew_aside = Crew(threads, gives_way=True), Crew(_THREADS_ASIDE)
        self._room = Room(_MOST_BYTES_IN_READING)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """One request."""
        with self._room.taken(claimed_bytes(environ, self._most_bytes)) as has_room:
            if not has_room:
                stop_reading(environ)
                start_response("503 Service Unavailable", [("Retry-After", "1"), ("Content-Length", "0")])
                return []
            return self._answer(environ, start_response)

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        body = _read(environ, self._most_bytes + 1)
        environ["wsgi.input"] = BytesIO(body)
        if environ.get("wsgi.input_terminated"):
            environ["CONTENT_LENGTH"] = str(len(body))
        started: list[tuple[Any, ...]] = []

        def start(*args: Any) -> Callable[[bytes], object]:
            started[:] = [args]
            return bytes  # Flask returns its body and writes nothing

        crew = self._crew_aside if environ["PATH_INFO"] in self._aside else self._crew
        chunks, pieces, first = crew.do(self._begin, environ, start)
        start_response(*started[0])
        if isinstance(chunks, Stream):
            chunks.heed(environ.get(STOPPING))
            return chunks
        return self._rest(crew, chunks, pieces, first, environ.get("gunicorn.socket"))

    def _begin(self, environ: WSGIEnvironment, start: StartResponse) -> tuple[Any, Iterator[bytes], bytes | None]:
        """On a thread: call the application and take the first piece, which for most answers is all there is."""
        chunks = self._inner(environ, start)
        if isinstance(chunks, Stream):
            return chunks, iter(()), None
        pieces = iter(chunks)
        return chunks, pieces, next(pieces, None)

    @staticmethod
    def _rest(crew: Crew, chunks: Any, pieces: Iterator[bytes], first: bytes | None, client: Any) -> Iterator[bytes]:
        """What is left of an answer: a thread for each piece, and none while the client takes it."""
        try:
            piece = first
            while piece is not None:
                yield piece
                piece = crew.do(next, pieces, None)
                if client is not None:
                    client.settimeout(SLOWEST_TAKE_SECONDS)
        finally:
            if hasattr(chunks, "close"):
                crew.do(chunks.close)


def _read(environ: WSGIEnvironment, most: int) -> bytes:
    pieces: list[bytes] = []
    left = most
    try:
        with gevent.Timeout(SLOWEST_BODY_SECONDS):
            while left and (piece := environ["wsgi.input"].read(min(left, _CHUNK))):
                pieces.append(piece)
                left -= len(piece)
    except gevent.Timeout:
        stop_reading(environ)
    return b"".join(pieces)


def stop_reading(environ: WSGIEnvironment) -> None:
    """Take no more from this connection: gunicorn would wait for the rest of the body, to throw it away."""
    client = environ.get("gunicorn.socket")
    if client is not None:
        client.is_cut = True
        with suppress(OSError):
            client.shutdown(socket.SHUT_RD)
