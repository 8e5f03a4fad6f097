"""The gunicorn worker: an event loop that serves callbacks, and native threads for everything else.

gevent without monkey-patching. Only the intake knows of the loop; Flask, SQLAlchemy and their drivers run on native
threads as the plain blocking code that they are, so nothing they do can keep a callback from its answer.
"""

import gc
import select
import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from typing import Any
from wsgiref.types import WSGIApplication, WSGIEnvironment

import gevent
from gevent import socket
from gevent.event import Event
from gunicorn.workers.base_async import AsyncWorker
from gunicorn.workers.ggevent import GeventWorker

from receiptsvc import logs, metrics
from receiptsvc.server.application import CONNECTION, MAX_STREAMS, STOPPING, Application
from receiptsvc.server.connection import Client
from receiptsvc.server.connections import Connections, capacity, raise_open_files
from receiptsvc.server.fast_request import recognise
from receiptsvc.server.fast_response import FastResponder

_SWITCH_SECONDS = 0.0002  # how long another thread may hold the interpreter while the loop waits for it
_COLLECT_SECONDS = 10.0
_SELDOM = (2000, 10, 1_000_000)
_LOOK_SECONDS = 0.1
_IPV4_IN_IPV6 = "::ffff:"


class GunicornWorker(GeventWorker):
    """gunicorn's gevent worker, but that it patches nothing, cuts slow requests, and ends when nobody asks."""

    sockets: list[Any]
    wsgi: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._clients: dict[gevent.Greenlet, Client] = {}
        self._connections: Connections
        self._fast: FastResponder
        self._stopping: Event
        self._answers_fast: Callable[[str], bool] | None

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
        application = self.wsgi if isinstance(self.wsgi, Application) else Application(self.wsgi)
        self._answers_fast = application.answers_fast
        self._fast = FastResponder(application, self.log.access, self._may_keep)
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
            if self._answers_fast is None or not self._answers_fast(req.path):
                super().handle_request(listener_name, req, sock, addr)
            else:
                is_kept = self._fast.answer(req, sock)
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
        request = recognise(data) if self._answers_fast is not None else None
        if self._answers_fast is None or request is None or not self._answers_fast(request.path):
            return None
        client.is_working = True
        return self._fast.answer(request, client)

    def _closing_at_the_end(self, inner: WSGIApplication) -> WSGIApplication:
        """The application, but that an answer closes its connection if that may not be kept any more.

        gunicorn looks for the word to stop before it calls the application, and a callback may have waited since then.
        An answer without an end hears the word by a bell in its environment.
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
