"""A WSGI application served in this process over HTTP/1.1, for what must come through a socket."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server


class Quiet(WSGIRequestHandler):
    """Speaks HTTP/1.1, and logs nothing."""

    protocol_version = "HTTP/1.1"

    def log(self, *_: Any, **__: Any) -> None:
        """Log nothing."""


@contextmanager
def served(make: Callable[[str], Any]) -> Iterator[str]:
    """The URL of an application while the block lasts. `make` gets the URL, which the application may have to know."""
    applications: list[Any] = []

    def serve(environ: Any, start_response: Any) -> Any:
        return applications[0](environ, start_response)

    server = make_server("127.0.0.1", 0, serve, threaded=True, request_handler=Quiet)
    url = f"http://127.0.0.1:{server.server_port}"
    applications.append(make(url))
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
