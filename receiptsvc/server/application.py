"""The interface between the server and the application that it serves. Nothing else passes between them.

Both sides speak WSGI. The server puts the connection of each request into its WSGI environment (`Connection`), and
reads the route from there for the access log.
"""

from collections.abc import Callable, Hashable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from gevent import socket

# Keys of the WSGI environment.
CONNECTION = "gunicorn.socket"  # gunicorn's own key for the socket of a request
ROUTE = "receiptsvc.route"  # set by the application: the pattern of the address, for the access log
STOPPING = "receiptsvc.stopping"  # a gevent event that is set when the server stops
MAX_STREAMS = "receiptsvc.max_streams"  # how many event streams the server has connections for

UNAUTHENTICATED = "unauthenticated"  # one credential for all callbacks that are kept without a right key


class IncomingBody(Protocol):
    """A body that is being received, with its own limits of time and size."""

    def receive(self, source: socket.socket, size: int) -> bytes:
        """The next bytes, b"" at the end. Raises if the body is refused."""
        ...


class Connection(Protocol):
    """The connection that a request came on, as far as an application may use it."""

    is_evicted: bool  # it is being closed to make room for others

    def prove(self, credential: Hashable) -> None:
        """Note that the request has a right token or key."""
        ...

    def is_beyond_share(self) -> bool:
        """Whether its token or key has more than its share of connections while there are many."""
        ...

    def reading(self, incoming: IncomingBody) -> AbstractContextManager[None]:
        """While the block lasts, `incoming` reads from the socket."""
        ...

    def stop_reading(self) -> None:
        """Read no more: the rest of a body would only be thrown away."""
        ...

    def whole_or_reset(self) -> AbstractContextManager[None]:
        """While the block lasts, or if it raises, the connection ends with a reset, whatever ends it.

        For an answer without a length: a client that is sent no last chunk, as by HTTP/1.0, takes a part of it for the
        whole if the connection is closed as usual.
        """
        ...

    def may_take_seconds(self, seconds: float) -> None:
        """Set how long the client may take to read each piece of an answer."""
        ...


def _none(_path: str) -> bool:
    return False


def _ignore(_head: bytes) -> None:
    return


@dataclass(frozen=True, slots=True)
class Application:
    """The WSGI applications of a web process: one for callbacks, which must never block, and one for all else.

    `callbacks` may be called with only the parts of WSGI that a fast request has. `is_callback`: whether a path is its,
    as the client wrote it or decoded. `note_refused`: is told the first bytes of each request that the server itself
    refused. `public_path`: of PUBLIC_URL; callbacks come with it or without.
    """

    api: WSGIApplication
    callbacks: WSGIApplication | None = None
    is_callback: Callable[[str], bool] = _none
    note_refused: Callable[[bytes], None] = _ignore
    public_path: str = ""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """One request that gunicorn's parser has read."""
        if self.callbacks is not None and self.is_callback(environ["PATH_INFO"]):
            return self.callbacks(environ, start_response)
        return self.api(environ, start_response)


def connection_of(environ: WSGIEnvironment) -> Connection | None:
    """The connection that a request came on; None if another server serves the application."""
    return environ.get(CONNECTION)
