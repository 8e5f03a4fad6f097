"""The gunicorn worker: an event loop that serves callbacks, and native threads for everything else.

gevent without monkey-patching. Only the intake knows of the loop; Flask, SQLAlchemy and their drivers run on native
threads as the plain blocking code that they are, so nothing they do can keep a callback from its answer.
"""

import gc
import json
import select
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from http import HTTPStatus
from io import BytesIO
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import gevent
from gevent import socket
from gevent.event import Event
from gunicorn.workers.base_async import AsyncWorker
from gunicorn.workers.ggevent import GeventWorker

from receiptsvc import logs, metrics
from receiptsvc.server.admission import (
    BodyFault,
    BodyRefused,
    ByteBudget,
    IncomingBody,
    claimed_bytes,
    has_body,
    read_body,
    stop_reading,
)
from receiptsvc.server.client import Client
from receiptsvc.server.connections import Connections, capacity, raise_open_files
from receiptsvc.server.event_streams import MAX_STREAMS, STOPPING, Stream
from receiptsvc.server.fast_request import recognise
from receiptsvc.server.fast_response import FastResponder
from receiptsvc.server.threads import NativeThreads

MAX_PIECE_SECONDS = 60.0  # for a client to take a piece of a long answer: it may have to do something with it

_SWITCH_SECONDS = 0.0002  # how long another thread may hold the interpreter while the loop waits for it
_COLLECT_SECONDS = 10.0
_SELDOM = (2000, 10, 1_000_000)
_LOOK_SECONDS = 0.1
_IPV4_IN_IPV6 = "::ffff:"
_THREADS_ASIDE = 2
_MAX_UNAUTHENTICATED = 32  # requests without a key that wait for threads; more would only keep those with one waiting
_MIN_BYTES_IN_READING = 64 * 1024 * 1024  # of all bodies; a quarter of it has to hold the longest


class GunicornWorker(GeventWorker):
    """gunicorn's gevent worker, but that it patches nothing, cuts slow requests, and ends when nobody asks."""

    sockets: list[Any]
    wsgi: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._clients: dict[gevent.Greenlet, Client] = {}
        self._connections: Connections
        self._plain: FastResponder | None = None
        self._stopping: Event
        self._answers_fast: Callable[[str], bool]

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
        open_files = raise_open_files()
        self.worker_connections = capacity(open_files, self.cfg.worker_connections, len(self.sockets))
        self._connections = Connections(self.worker_connections)
        logs.info("web.connections", most=self.worker_connections, open_files=open_files)
        gevent.spawn(self._collect_now_and_then)
        gevent.spawn(self._let_go_of_idle_clients)
        if hasattr(self.wsgi, "answers_fast"):
            self._plain = FastResponder(self.wsgi, self.log.access, self._may_keep)
            self._answers_fast = self.wsgi.answers_fast
        self.wsgi = self._closing_at_the_end(self.wsgi)
        super().run()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """One connection. A request that does not come, or does not move, is cut."""
        current = gevent.getcurrent()
        tracked = Client(client, self.cfg.keepalive, self._answer_fast, self._connections)
        self._clients[current] = tracked
        self._connections.add(tracked)
        try:
            AsyncWorker.handle(self, listener, tracked, _peer(addr))
        finally:
            self._connections.remove(tracked)
            del self._clients[current]

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> Any:
        """A request whose headers are in."""
        sock.end_headers(req)
        is_kept = True
        try:
            if self._plain is None or not self._answers_fast(req.path):
                super().handle_request(listener_name, req, sock, addr)
            else:
                is_kept = self._plain.answer(req, sock)
        except StopIteration:
            is_kept = False
        if not sock.end_request(req) or not is_kept:
            raise StopIteration  # gunicorn's word for: close it

    def _may_keep(self, client: Client) -> bool:
        """Whether a connection may have another request after the answer that is about to be given."""
        if not self.alive or client.is_cut or client.awaits_continue:
            return False
        return not self._connections.is_wanted_back(client)

    def _answer_fast(self, data: bytes, client: Client) -> bool | None:
        """Answer these bytes if they are a usual request for the plain way; whether its connection may be kept."""
        request = recognise(data) if self._plain is not None else None
        if self._plain is None or request is None or not self._answers_fast(request.path):
            return None
        client.is_working = True
        return self._plain.answer(request, client)

    def _closing_at_the_end(self, inner: WSGIApplication) -> WSGIApplication:
        """The application, but that an answer closes its connection if that may not be kept any more.

        gunicorn looks for the word to stop before it calls the application, and a callback may have waited since then.
        An answer without an end hears the word by a bell in its environment.
        """

        def answer(environ: WSGIEnvironment, start_response: Any) -> Iterable[bytes]:
            def start(*args: Any) -> Any:
                written = start_response(*args)
                if not self._may_keep(environ["gunicorn.socket"]):
                    start_response.__self__.force_close()  # gunicorn's Response
                return written

            environ[STOPPING] = self._stopping
            environ[MAX_STREAMS] = self._connections.capacity // 2
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
            self._tell_of_connections()

    def _tell_of_connections(self) -> None:
        """Say what was done for room since it was last said."""
        pool = self._connections
        if pool.closed:
            logs.warning("web.connections_closed", most=pool.capacity, **pool.closed)
            for why, times in pool.closed.items():
                metrics.connections_closed(why).inc(times)
            pool.closed.clear()
        if pool.unrelieved:
            logs.warning("web.connections_nearly_full", most=pool.capacity, times=pool.unrelieved)
            pool.unrelieved = 0

    def _let_go_of_idle_clients(self) -> None:
        """Once told to stop, close the connections on which nothing is asked: they would hold up the end."""
        while self.alive:
            gevent.sleep(_LOOK_SECONDS)
        self._stopping.set()
        while True:
            for client in list(self._clients.values()):
                if client.is_between_requests and not _has_more(client):
                    client.hang_up()
            gevent.sleep(_LOOK_SECONDS)


def _has_more(client: Client) -> bool:
    waiting = select.poll()
    with suppress(ValueError):  # it is closed by now
        waiting.register(client.fileno(), select.POLLIN)
    return bool(waiting.poll(0))


def _peer(address: Any) -> Any:
    """A client's address. A socket that takes IPv6 and IPv4 writes the latter as `::ffff:…`; nobody else does."""
    if isinstance(address, tuple) and address[0].startswith(_IPV4_IN_IPV6):
        return (address[0].removeprefix(_IPV4_IN_IPV6), address[1])
    return address


class _Lane:
    """Some threads, and how many requests without a key wait for them or are served by them."""

    def __init__(self, crew: NativeThreads) -> None:
        self.crew = crew
        self.unauthenticated = 0


class WsgiBridge:
    """A blocking WSGI application, served from the loop on native threads.

    A body is read by the loop first, and only for a key that is known: without one the application is asked with an
    empty body, to refuse the request in its own words. So it is with a body over `max_bytes`, whose claimed length it
    then sees, or one byte too many. A `Stream` that it answers with needs no thread: the loop takes it from there.
    """

    def __init__(
        self,
        inner: WSGIApplication,
        *,
        threads: int,
        max_bytes: int,
        find_key: Callable[[str], str | None],
        aside: frozenset[str] = frozenset(),
    ) -> None:
        """`find_key`: the name of the key in a header Authorization, None without a right one.

        `aside`: paths that have threads of their own, so that they are answered when all others wait.
        """
        self._inner, self._aside, self._find_key = inner, aside, find_key
        self._max_bytes = max_bytes
        self._lane, self._lane_aside = (
            _Lane(NativeThreads(threads, gives_way=True)),
            _Lane(NativeThreads(_THREADS_ASIDE)),
        )
        self._budget = ByteBudget(max(_MIN_BYTES_IN_READING, 4 * max_bytes))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """One request."""
        lane = self._lane_aside if environ["PATH_INFO"] in self._aside else self._lane
        key = self._find_key(environ.get("HTTP_AUTHORIZATION", ""))
        if key is None:
            return self._answer_unauthenticated(lane, environ, start_response)
        client: Client | None = environ.get("gunicorn.socket")
        if client is not None:
            client.prove(("key", key))
            if client.is_beyond_share():
                return _refuse(BodyFault.FULL, environ, start_response)
        if not has_body(environ):
            return self._answer(lane.crew, environ, start_response, b"")
        with self._budget.incoming(key) as incoming:
            return self._answer_with_body(lane.crew, environ, start_response, incoming)

    def _answer_unauthenticated(
        self, lane: _Lane, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        if lane.unauthenticated >= _MAX_UNAUTHENTICATED:
            return _refuse(BodyFault.FULL, environ, start_response)
        lane.unauthenticated += 1
        try:
            return self._answer(lane.crew, environ, start_response, b"")
        finally:
            lane.unauthenticated -= 1

    def _answer_with_body(
        self, crew: NativeThreads, environ: WSGIEnvironment, start_response: StartResponse, incoming: IncomingBody
    ) -> Iterable[bytes]:
        try:
            body = read_body(environ, incoming, self._max_bytes)
        except BodyRefused as refused:
            if refused.fault is not BodyFault.TOO_LARGE:
                return _refuse(refused.fault, environ, start_response)
            if claimed_bytes(environ) is None:
                environ["CONTENT_LENGTH"] = str(self._max_bytes + 1)
            return self._answer(crew, environ, start_response, b"")
        environ["CONTENT_LENGTH"] = str(len(body))
        return self._answer(crew, environ, start_response, body)

    def _answer(
        self, crew: NativeThreads, environ: WSGIEnvironment, start_response: StartResponse, body: bytes
    ) -> Iterable[bytes]:
        environ["wsgi.input"] = BytesIO(body)
        started: list[tuple[Any, ...]] = []

        def start(*args: Any) -> Callable[[bytes], object]:
            started[:] = [args]
            return bytes  # Flask returns its body and writes nothing

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
    def _rest(
        crew: NativeThreads, chunks: Any, pieces: Iterator[bytes], first: bytes | None, client: Client | None
    ) -> Iterator[bytes]:
        """What is left of an answer: a thread for each piece, and none while the client takes it."""
        try:
            piece = first
            while piece is not None:
                yield piece
                piece = crew.do(next, pieces, None)
                if client is not None:
                    client.may_take_seconds(MAX_PIECE_SECONDS)
        finally:
            if hasattr(chunks, "close"):
                crew.do(chunks.close)


_DETAILS = {
    BodyFault.CUT: "The body ended before the length that was claimed for it.",
    BodyFault.SLOW: "The body came too slowly.",
    BodyFault.FULL: "There is no room for this at the moment.",
}


def _refuse(fault: BodyFault, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer at once, without a thread, and read no more."""
    stop_reading(environ)
    status = int(fault.value[:3])
    problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": _DETAILS[fault]}
    body = json.dumps(problem).encode()
    headers = [("Content-Type", "application/problem+json"), ("Content-Length", str(len(body)))]
    if fault is BodyFault.FULL:
        headers.append(("Retry-After", "1"))
    start_response(fault.value, headers)
    return [body]
