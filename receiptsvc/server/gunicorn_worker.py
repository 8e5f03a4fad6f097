"""The gunicorn worker: an event loop that serves callbacks, and native threads for everything else.

gevent without monkey-patching. Only the intake uses the loop; Flask, SQLAlchemy and their drivers run on native threads
as ordinary blocking code, so nothing they do can delay a callback's answer.
"""

import gc
import select
import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from wsgiref.types import WSGIApplication, WSGIEnvironment

import gevent
from gevent import socket
from gevent.event import Event
from gunicorn.http.parser import RequestParser
from gunicorn.workers.base_async import AsyncWorker
from gunicorn.workers.ggevent import GeventWorker

from receiptsvc import logs, metrics
from receiptsvc.server import refusals, tolerant_request
from receiptsvc.server.application import CONNECTION, MAX_STREAMS, STOPPING, Application
from receiptsvc.server.connection import Client
from receiptsvc.server.connections import Connections, capacity, raise_open_files
from receiptsvc.server.fast_path import FastResponder, recognise

_SWITCH_SECONDS = 0.0002  # how long another thread may hold the interpreter while the loop waits for it
_COLLECT_SECONDS = 10.0
_RARE_COLLECTIONS = (2000, 10, 1_000_000)  # thresholds of the three generations
_STOP_CHECK_SECONDS = 0.1
_IPV4_IN_IPV6 = "::ffff:"
_HIGHEST_VERSION = (1, 1)  # of HTTP: a later one with the same major number is answered as this (RFC 9110, 2.5)


class GunicornWorker(GeventWorker):
    """gunicorn's gevent worker without monkey-patching. It cuts slow requests and, at its end, idle connections."""

    sockets: list[Any]
    wsgi: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._clients: dict[gevent.Greenlet, Client] = {}
        self._connections: Connections
        self._fast: FastResponder
        self._stopping: Event
        self._is_callback: Callable[[str], bool]
        self._note_refused: Callable[[bytes], None]

    def patch(self) -> None:
        """Turn the listening sockets into gevent's. The standard library stays unpatched."""
        self.sockets = [socket.socket(s.FAMILY, socket.SOCK_STREAM, fileno=s.sock.detach()) for s in self.sockets]

    def run(self) -> None:
        """Serve until told to stop."""
        # Each answer takes the interpreter back some six times; by default it waits 5 ms each time.
        sys.setswitchinterval(_SWITCH_SECONDS)
        gc.collect()
        gc.freeze()  # else every full collection visits all imported objects, and holds the interpreter meanwhile
        # No full collection during a large request either, whose objects are many and alive.
        gc.set_threshold(*_RARE_COLLECTIONS)
        self._stopping = Event()
        open_files = raise_open_files()
        self.worker_connections = capacity(open_files, self.cfg.worker_connections, len(self.sockets))
        self._connections = Connections(self.worker_connections)
        logs.info("web.connections", capacity=self.worker_connections, open_files=open_files)
        gevent.spawn(self._collect_garbage)
        gevent.spawn(self._close_idle_clients_at_stop)
        application = self.wsgi if isinstance(self.wsgi, Application) else Application(self.wsgi)
        RequestParser.mesg_class = tolerant_request.under(application.public_path)
        self._is_callback, self._note_refused = application.is_callback, application.note_refused
        self._fast = FastResponder(application.callbacks or application.api, self.log.access, self._may_keep)
        self.wsgi = self._wrap(application)
        super().run()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve one connection. A request that does not come, or stops half-way, is cut."""
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
        """Answer a request whose headers are in."""
        req.version = min(req.version, _HIGHEST_VERSION)
        sock.end_headers(req)
        is_kept = True
        try:
            if self._is_callback(req.path):
                is_kept = self._fast.answer(req, sock)
            else:
                super().handle_request(listener_name, req, sock, addr)
        except StopIteration:
            is_kept = False
        if not sock.end_request(req) or not is_kept:
            raise StopIteration  # gunicorn closes the connection

    def handle_error(self, req: Any, client: Any, _addr: Any, exc: BaseException) -> None:
        """Answer a request that gunicorn's parser refused, or whose answer failed. Nothing of it is repeated."""
        client.stop_reading()
        refusal = refusals.of(exc)
        if refusal is None:
            logs.error("web.request_failed", exc)
        else:
            logs.warning("web.request_refused", status=int(refusal.status[:3]), reason=refusal.reason)
            self._note_refused(client.head if req is None else f"{req.method} {req.uri}\r\n".encode("latin-1"))
        if req is not None:
            self.log.access(SimpleNamespace(status=refusals.status_line(refusal)), req, {}, timedelta())
        if not client.is_resetting:  # else a part of an answer is out, and this would stand in it
            with suppress(OSError):
                client.sendall(refusals.write(refusal))

    def _may_keep(self, client: Client) -> bool:
        """Whether a connection may have another request after the answer that is about to be sent."""
        if not self.alive or client.is_cut or client.awaits_continue:
            return False
        return not self._connections.should_close(client)

    def _answer_fast(self, data: bytes, client: Client) -> bool | None:
        """Answer these bytes if they are a fast request; returns whether its connection may be kept, else None."""
        request = recognise(data)
        if request is None or not self._is_callback(request.path):
            return None
        client.is_working = True
        return self._fast.answer(request, client)

    def _wrap(self, inner: WSGIApplication) -> WSGIApplication:
        """The application, with answers that close their connection if it may not be kept any more.

        gunicorn checks whether to stop before it calls the application, and a callback may have waited since then. An
        answer without an end is told to stop by an event in its environment.
        """

        def answer(environ: WSGIEnvironment, start_response: Any) -> Iterable[bytes]:
            def start(*args: Any) -> Any:
                written = start_response(*args)
                if not self._may_keep(environ[CONNECTION]):
                    start_response.__self__.force_close()  # gunicorn's Response
                return written

            environ[STOPPING] = self._stopping
            environ[MAX_STREAMS] = self._connections.capacity // 2
            return inner(environ, start)

        return answer

    def timeout_ctx(self) -> Any:
        """The wait for a connection's next request, headers included. `Client` bounds both, so this adds no timeout."""
        self._clients[gevent.getcurrent()].begin_wait()
        return nullcontext()

    def _collect_garbage(self) -> None:
        """Run a full collection every 10 s: by Python's own count it would come far more often."""
        while self.alive:
            gevent.sleep(_COLLECT_SECONDS)
            gc.collect()
            self._report_connections()

    def _report_connections(self) -> None:
        """Log and count what was closed to make room since the last report."""
        pool = self._connections
        if pool.closed:
            logs.warning("web.connections_closed", capacity=pool.capacity, **pool.closed)
            for reason, times in pool.closed.items():
                metrics.connections_closed(reason).inc(times)
            pool.closed.clear()
        if pool.unrelieved:
            logs.warning("web.connections_nearly_full", capacity=pool.capacity, times=pool.unrelieved)
            pool.unrelieved = 0

    def _close_idle_clients_at_stop(self) -> None:
        """Once told to stop, close the connections without a request: they would delay the end."""
        while self.alive:
            gevent.sleep(_STOP_CHECK_SECONDS)
        self._stopping.set()
        while True:
            for client in list(self._clients.values()):
                if client.is_between_requests and not _has_input(client):
                    client.hang_up()
            gevent.sleep(_STOP_CHECK_SECONDS)


def _has_input(client: Client) -> bool:
    poller = select.poll()
    with suppress(ValueError):  # it is closed by now
        poller.register(client.fileno(), select.POLLIN)
    return bool(poller.poll(0))


def _peer(address: Any) -> Any:
    """A client's address. A socket that takes both IPv6 and IPv4 writes an IPv4 address as `::ffff:…`."""
    if isinstance(address, tuple) and address[0].startswith(_IPV4_IN_IPV6):
        return (address[0].removeprefix(_IPV4_IN_IPV6), address[1])
    return address
