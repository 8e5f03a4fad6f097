"""Serves a blocking WSGI application (Flask) from the event loop, on native threads."""

import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from http import HTTPStatus
from io import BytesIO
from typing import Any, TypeAlias
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from gevent.lock import Semaphore

from receiptsvc.server.admission import (
    BodyFault,
    BodyRefused,
    ByteBudget,
    IncomingBody,
    Shares,
    claimed_bytes,
    has_body,
    read_body,
)
from receiptsvc.server.application import STOPPING, Connection, connection_of
from receiptsvc.server.loop_stream import LoopStream
from receiptsvc.server.threads import NativeThreads, Result

MAX_PIECE_SECONDS = 60.0  # for a client to take a piece of a long answer: it may have to process it first
MAX_FORM_BYTES = 256 * 1024  # ten thousand characters, each of them percent-encoded
MAX_STRANGERS_FORM_BYTES = 16 * 1024  # a name, a password and where to go then
LARGE_BYTES = 128 * 1024  # of a body: reading it makes tens of megabytes of objects, and holds the processor for long

Run: TypeAlias = "Callable[..., Any]"
"""Runs a task on a native thread, and waits for its result."""

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_RESERVED_THREADS = 2
_PAGE_THREADS = 10
_PAGE_THREADS_OF_ONE = 2  # of one person for pages, and as many for forms
_STRANGERS_PAGE_THREADS = 4
_FORM = "form"  # holds the bodies of all forms of those who are not known
_FREE_THREADS = 2  # of a pool, that no single key gets
_MAX_LARGE = 8  # requests with a large body: one that is served, and those that wait for it
_MAX_LARGE_OF_ONE = 4  # of one key
_MAX_UNAUTHENTICATED = 32  # requests without a key that wait for threads; more would only delay those with a key
_MIN_BUDGET_BYTES = 64 * 1024 * 1024  # of all bodies; a quarter of it has to hold the longest


class _Lane:
    """A thread pool for some requests, of which no key and no person has all threads.

    `of_one`: how many one of them has at most; `of_strangers`: how many those have together that show none.
    `unauthenticated`: how many requests without a key wait for it or are served by it.
    """

    def __init__(
        self,
        threads: int,
        *,
        of_one: int | None = None,
        of_strangers: int | None = None,
        is_low_priority: bool = True,
    ) -> None:
        self._threads = NativeThreads(threads, is_low_priority=is_low_priority)
        # Of each key or person, and of what has none: the server has made all of these names, so there are few.
        self._turns: defaultdict[Hashable, Semaphore] = defaultdict(
            partial(Semaphore, max(1, min(threads - _FREE_THREADS, of_one or threads)))
        )
        if of_strangers is not None:
            self._turns[None] = Semaphore(of_strangers)
        self.unauthenticated = 0

    def run(self, holder: Hashable, task: Callable[..., Result], *arguments: object) -> Result:
        """Run a task of somebody's request, as `NativeThreads.run` does, once it is their turn; None: of a stranger."""
        with self._turns[holder]:
            return self._threads.run(task, *arguments)


class WsgiBridge:
    """A blocking WSGI application, served from the loop on native threads.

    The loop reads a body first, and only if the key is right. Without a right key the application gets an empty body,
    and refuses the request in its own words. It also gets an empty body in place of one over `max_bytes`: it then sees
    the claimed length, or `max_bytes` + 1. A `LoopStream` that it answers with needs no thread: the loop serves it.

    Below `page_path` a browser shows a session in place of a key, which only the application can check. There bodies
    are forms: short, and read without a key, of a stranger only as much as a sign-in needs. These pages have threads of
    their own, so that they open while all others wait for the database; strangers get less than half of them, and so
    does one person, in however many browsers: what takes long must not keep the pages of others waiting.
    """

    def __init__(
        self,
        inner: WSGIApplication,
        *,
        threads: int,
        max_bytes: int,
        connections: int | None = None,
        find_key: Callable[[str], str | None],
        reserved_paths: frozenset[str] = frozenset(),
        reading_posts: frozenset[str] = frozenset(),
        page_path: str | None = None,
        find_person: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        """`find_key`: the name of the key in a header Authorization, None without a right one.

        `connections`: to the database, that the threads share: what reads for one key leaves one of them to others, and
        what writes for it two. `find_person`: whose header Cookie it is, of who has signed in at the page; else None.
        `reserved_paths`: paths with threads of their own, so that they are answered while all other threads are busy.
        `reading_posts`: paths at which a POST only reads.
        """
        self._inner, self._reserved_paths, self._find_key = inner, reserved_paths, find_key
        self._reading_posts = reading_posts
        self._page_path, self._find_person = page_path, find_person
        self._max_bytes = max_bytes
        # What writes may wait for another transaction, and what reads must not wait behind it.
        of_one_key = None if connections is None else max(1, connections - 1)
        self._reading_lane = _Lane(threads - threads // 2, of_one=of_one_key)
        # One less than may write at once: the others' requests, and the page, would wait for all that it does.
        self._writing_lane = _Lane(threads // 2, of_one=of_one_key and max(1, of_one_key - 1))
        self._reserved_lane = _Lane(_RESERVED_THREADS, is_low_priority=False)
        self._page_lane = _Lane(_PAGE_THREADS, of_one=_PAGE_THREADS_OF_ONE, of_strangers=_STRANGERS_PAGE_THREADS)
        self._large_bodies = Shares(_MAX_LARGE, of_one=_MAX_LARGE_OF_ONE)
        self._large_thread = NativeThreads(1, is_low_priority=True)
        self._budget = ByteBudget(max(_MIN_BUDGET_BYTES, 4 * max_bytes))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """One request."""
        if self._is_of_page(environ["PATH_INFO"]):
            return self._answer_page(environ, start_response)
        lane = self._find_lane(environ)
        key = self._find_key(environ.get("HTTP_AUTHORIZATION", ""))
        if key is None:
            return self._answer_unauthenticated(lane, environ, start_response, b"")
        connection = connection_of(environ)
        if connection is not None:
            connection.prove(("key", key))
            if connection.is_beyond_share():
                return _refuse(BodyFault.FULL, environ, start_response)
        run: Run = partial(lane.run, key)
        if not has_body(environ):
            return self._answer(run, environ, start_response, b"")
        with self._budget.incoming(key) as incoming:
            return self._answer_with_body(run, key, environ, start_response, incoming)

    def _find_lane(self, environ: WSGIEnvironment) -> _Lane:
        if environ["PATH_INFO"] in self._reserved_paths:
            return self._reserved_lane
        is_reading = environ["REQUEST_METHOD"] in _READING or environ["PATH_INFO"] in self._reading_posts
        return self._reading_lane if is_reading else self._writing_lane

    def _answer_unauthenticated(
        self, lane: _Lane, environ: WSGIEnvironment, start_response: StartResponse, body: bytes
    ) -> Iterable[bytes]:
        if lane.unauthenticated >= _MAX_UNAUTHENTICATED:
            return _refuse(BodyFault.FULL, environ, start_response)
        lane.unauthenticated += 1
        try:
            return self._answer(partial(lane.run, None), environ, start_response, body)
        finally:
            lane.unauthenticated -= 1

    def _is_of_page(self, path: str) -> bool:
        return self._page_path is not None and (path == self._page_path or path.startswith(f"{self._page_path}/"))

    def _answer_page(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        person = self._find_person(environ.get("HTTP_COOKIE", ""))
        if not has_body(environ):
            return self._answer_on_page(environ, start_response, b"", person)
        with self._budget.incoming(_FORM if person is None else ("person", person)) as incoming:
            try:
                body = read_body(environ, incoming, MAX_STRANGERS_FORM_BYTES if person is None else MAX_FORM_BYTES)
            except BodyRefused as refused:
                return _refuse(refused.fault, environ, start_response)
            environ["CONTENT_LENGTH"] = str(len(body))
            return self._answer_on_page(environ, start_response, body, person)

    def _answer_on_page(
        self, environ: WSGIEnvironment, start_response: StartResponse, body: bytes, person: str | None
    ) -> Iterable[bytes]:
        if person is None:
            return self._answer_unauthenticated(self._page_lane, environ, start_response, body)
        holder = person, environ["REQUEST_METHOD"] in _READING
        return self._answer(partial(self._page_lane.run, holder), environ, start_response, body)

    def _answer_with_body(
        self,
        run: Run,
        key: str,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        incoming: IncomingBody,
    ) -> Iterable[bytes]:
        try:
            body = read_body(environ, incoming, self._max_bytes)
        except BodyRefused as refused:
            if refused.fault is not BodyFault.TOO_LARGE:
                return _refuse(refused.fault, environ, start_response)
            if claimed_bytes(environ) is None:
                environ["CONTENT_LENGTH"] = str(self._max_bytes + 1)
                environ.pop("HTTP_TRANSFER_ENCODING", None)  # with it Flask would take no notice of the length
            return self._answer(run, environ, start_response, b"")
        environ["CONTENT_LENGTH"] = str(len(body))
        if len(body) < LARGE_BYTES:
            return self._answer(run, environ, start_response, body)
        with self._large_bodies.hold(key) as has_room:
            if not has_room:
                return _refuse(BodyFault.FULL, environ, start_response)
            return self._answer(self._large_thread.run, environ, start_response, body)

    def _answer(
        self, run: Run, environ: WSGIEnvironment, start_response: StartResponse, body: bytes
    ) -> Iterable[bytes]:
        environ["wsgi.input"] = BytesIO(body)
        calls: list[tuple[Any, ...]] = []

        def start(*args: Any) -> Callable[[bytes], object]:
            calls[:] = [args]
            return bytes  # Flask returns its body and writes nothing

        chunks, pieces, first = run(self._begin, environ, start)
        start_response(*calls[0])
        if isinstance(chunks, LoopStream):
            chunks.end_on(environ.get(STOPPING))
            return chunks
        has_length = any(name.lower() == "content-length" for name, _ in calls[0][1])
        return self._rest(run, chunks, pieces, first, connection_of(environ), has_length=has_length)

    def _begin(self, environ: WSGIEnvironment, start: StartResponse) -> tuple[Any, Iterator[bytes], bytes | None]:
        """On a thread: call the application and take the first piece, which is the whole of most answers."""
        chunks = self._inner(environ, start)
        if isinstance(chunks, LoopStream):
            return chunks, iter(()), None
        pieces = iter(chunks)
        return chunks, pieces, next(pieces, None)

    @staticmethod
    def _rest(
        run: Run,
        chunks: Any,
        pieces: Iterator[bytes],
        first: bytes | None,
        connection: Connection | None,
        *,
        has_length: bool,
    ) -> Iterator[bytes]:
        """The rest of an answer: each piece is made on a thread, and none is held while the client takes a piece.

        An answer without a length that breaks off ends with a reset.
        """
        try:
            with nullcontext() if connection is None or has_length else connection.whole_or_reset():
                piece = first
                while piece is not None:
                    yield piece
                    piece = run(next, pieces, None)
                    if connection is not None:
                        connection.may_take_seconds(MAX_PIECE_SECONDS)
        finally:
            if hasattr(chunks, "close"):
                run(chunks.close)


_DETAILS = {
    BodyFault.TOO_LARGE: (
        f"A form may have {MAX_FORM_BYTES // 1024} KiB, and {MAX_STRANGERS_FORM_BYTES // 1024} KiB of who has not "
        "signed in."
    ),
    BodyFault.CUT: "The body ended before the length that was claimed for it.",
    BodyFault.SLOW: "The body came too slowly.",
    BodyFault.FULL: "There is no room for this at the moment.",
}


def _refuse(fault: BodyFault, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer on the loop, without a thread, and read no more."""
    connection = connection_of(environ)
    if connection is not None:
        connection.stop_reading()
    status = int(fault.value[:3])
    problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": _DETAILS[fault]}
    body = json.dumps(problem).encode()
    headers = [("Content-Type", "application/problem+json"), ("Content-Length", str(len(body)))]
    if fault is BodyFault.FULL:
        headers.append(("Retry-After", "1"))
    start_response(fault.value, headers)
    return [body]
