"""The interface between the server and the application that it serves. Nothing else passes between them.

The application is WSGI. Whoever builds it says which paths are answered the fast way (`Application`). The server puts
into the WSGI environment of each request the connection that it came on (`Connection`), and reads the route from it.
"""

from collections.abc import Callable, Hashable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from gevent import socket

# Keys of the WSGI environment.
CONNECTION = "gunicorn.socket"  # gunicorn's own name for what it reads from and writes to
ROUTE = "receiptsvc.route"  # set by the application: the pattern of the address, for the access log
STOPPING = "receiptsvc.stopping"  # an event that is set when the server stops
MAX_STREAMS = "receiptsvc.max_streams"  # how many event streams the server has connections for

UNAUTHENTICATED = "unauthenticated"  # one credential for all callbacks that are kept without a right key


class IncomingBody(Protocol):
    """Reads a body from a socket by its own rules."""

    def receive(self, source: socket.socket, size: int) -> bytes:
        """The next bytes, nothing at the end. Raises if the body is refused."""
        ...


class Connection(Protocol):
    """The connection that a request came on, as far as an application may use it."""

    is_evicted: bool  # it is being closed to make room

    def prove(self, credential: Hashable) -> None:
        """The request has a right token or key."""
        ...

    def is_beyond_share(self) -> bool:
        """Whether its token or key has more connections than its share while there are many."""
        ...

    def reading(self, incoming: IncomingBody) -> AbstractContextManager[None]:
        """While the block lasts, `incoming` reads what comes."""
        ...

    def stop_reading(self) -> None:
        """Read no more: the rest of a body would have to be read, to throw it away."""
        ...

    def may_take_seconds(self, seconds: float) -> None:
        """How long the client may take over each piece of an answer from here on."""
        ...


@dataclass(frozen=True, slots=True)
class Application:
    """A WSGI application, and which paths it answers without the parts of WSGI that a callback never needs."""

    wsgi: WSGIApplication
    answers_fast: Callable[[str], bool] | None = None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """One request."""
        return self.wsgi(environ, start_response)


def connection_of(environ: WSGIEnvironment) -> Connection | None:
    """The connection that a request came on; None if another server serves the application."""
    return environ.get(CONNECTION)
