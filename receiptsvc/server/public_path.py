"""The path of PUBLIC_URL, where it has one: a proxy in front may take it off an address, or may not."""

from collections.abc import Collection, Iterable
from urllib.parse import unquote_to_bytes
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


class UnderPublicPath:
    """A WSGI application whose addresses are found with the path of PUBLIC_URL before them, and without it.

    Only where an address of the application follows, or nothing, is the path taken off: it may itself read like one
    of them.
    """

    def __init__(self, inner: WSGIApplication, path: str, roots: Collection[str]) -> None:
        """`path`: of PUBLIC_URL, without a slash at its end. `roots`: how the application's addresses begin."""
        path = unquote_to_bytes(path).decode("latin-1")  # as WSGI gives the path of a request
        self._inner, self._path = inner, path
        self._beginnings = tuple(f"{path}/{root}" for root in roots)
        reads_like_ours = path.strip("/").partition("/")[0] in roots
        self._whole = frozenset() if reads_like_ours else frozenset({path, f"{path}/"})

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """One request."""
        path = environ["PATH_INFO"]
        if self._path and (path in self._whole or path.startswith(self._beginnings)):
            environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + self._path
            environ["PATH_INFO"] = path.removeprefix(self._path) or "/"
        return self._inner(environ, start_response)
