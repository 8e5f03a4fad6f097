"""Admission control: how much a process takes on at once, and how much of it for one holder (a key, a token).

For request bodies there are a byte budget, counted as bytes arrive, and a minimum rate.

The claimed length of a body reserves nothing, since a claim costs its sender nothing. No body waits for another one. A
body that does not fit the budget is refused at once, and one that falls behind the minimum rate is refused then.
Everything here but `Shares` is used on the event loop only.
"""

from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from enum import Enum
from threading import Condition
from time import monotonic
from wsgiref.types import InputStream, WSGIEnvironment

import gevent
from gevent import socket

from receiptsvc.server.application import connection_of

MIN_BYTES_PER_SECOND = 4096  # 32 kbit/s: what a bad mobile uplink still carries
CREDIT_SECONDS = 10.0  # how long a body may be silent: at its start, and later if it was ahead of the minimum rate

_MAX_READ_BYTES = 64 * 1024
_PIECE_BYTES = 8 * 1024  # of a body: after each of them its framing is looked at
_MAX_FRAMING_BYTES = _MAX_READ_BYTES + 16 * 1024  # beside an eighth of the body: some chunks, and what is read ahead


class BodyFault(Enum):
    """Why a body was not read to its end, as a status line."""

    TOO_LARGE = "413 Content Too Large"
    CUT = "400 Bad Request"  # its sender left before the end
    SLOW = "408 Request Timeout"
    FULL = "503 Service Unavailable"


class BodyRefused(Exception):
    """A body is not read any further. `fault` says why."""

    def __init__(self, fault: BodyFault) -> None:
        super().__init__(fault.value)
        self.fault = fault


class Shares:
    """At most so many at once of something, and at most so many of them for one holder. Thread-safe."""

    def __init__(self, most: int, *, of_one: int) -> None:
        self._most, self._most_of_one = most, of_one
        self._held: Counter[Hashable] = Counter()
        self._changed = Condition()

    @contextmanager
    def hold(self, holder: Hashable, *, patience_seconds: float = 0.0) -> Iterator[bool]:
        """Whether there is room for one more of this holder's, by then. It is held while the block lasts."""
        has_room = self.take(holder, patience_seconds=patience_seconds)
        try:
            yield has_room
        finally:
            if has_room:
                self.release(holder)

    def take(self, holder: Hashable, *, patience_seconds: float = 0.0) -> bool:
        """Take room for one; False if there is none by then. Who has taken it calls `release` once."""
        with self._changed:
            has_room = self._has_room(holder) or (
                patience_seconds > 0 and self._changed.wait_for(lambda: self._has_room(holder), patience_seconds)
            )
            if has_room:
                self._held[holder] += 1
            return has_room

    def release(self, holder: Hashable) -> None:
        """Give room back."""
        with self._changed:
            self._held[holder] -= 1
            if not self._held[holder]:
                del self._held[holder]
            self._changed.notify_all()

    def _has_room(self, holder: Hashable) -> bool:
        return self._held.total() < self._most and self._held[holder] < self._most_of_one


class ByteBudget:
    """How many bytes of bodies a process holds at once.

    While more than half of the budget is taken, one holder (a callback's token, an API key) may have a quarter of it at
    most. So a single holder can use up to half and never shuts the others out, and a body of a quarter always fits its
    holder's share.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._taken = 0
        self._taken_by: dict[Hashable, int] = {}

    @contextmanager
    def incoming(self, holder: Hashable) -> Iterator["IncomingBody"]:
        """A body of this holder. Its bytes count against the budget until the block ends."""
        body = IncomingBody(self, holder)
        try:
            yield body
        finally:
            self._release(holder, body.size)

    def take(self, holder: Hashable, size: int) -> bool:
        """Take bytes of the budget for a holder. Returns False, and takes none, if they don't fit."""
        taken, taken_by_holder = self._taken + size, self._taken_by.get(holder, 0) + size
        if taken > self._max_bytes:
            return False
        if taken > self._max_bytes // 2 and taken_by_holder > self._max_bytes // 4:
            return False
        self._taken, self._taken_by[holder] = taken, taken_by_holder
        return True

    def _release(self, holder: Hashable, size: int) -> None:
        self._taken -= size
        remaining = self._taken_by.get(holder, 0) - size
        if remaining > 0:
            self._taken_by[holder] = remaining
        else:
            self._taken_by.pop(holder, None)


class IncomingBody:
    """A body that is being received. `size`: the bytes that have come, with the framing of chunks."""

    def __init__(self, budget: ByteBudget, holder: Hashable) -> None:
        self._budget, self._holder = budget, holder
        self._due_at = monotonic() + CREDIT_SECONDS
        self.size = 0

    def receive(self, source: socket.socket, size: int) -> bytes:
        """The next bytes from a socket, b"" at its end. Raises BodyRefused if they are too late or don't fit."""
        source.settimeout(max(self._due_at - monotonic(), 0.0))
        try:
            data: bytes = source.recv(min(size, _MAX_READ_BYTES))
        except (TimeoutError, BlockingIOError):
            raise BodyRefused(BodyFault.SLOW) from None
        self.count(len(data))
        gevent.sleep(0)  # a fast sender's bytes are there at once, and what is done with them must not stop the loop
        return data

    def count(self, size: int) -> None:
        """Count bytes that came. Raises BodyRefused if they don't fit the budget or the body is still behind."""
        if not self._budget.take(self._holder, size):
            raise BodyRefused(BodyFault.FULL)
        self.size += size
        now = monotonic()
        self._due_at = min(self._due_at + size / MIN_BYTES_PER_SECOND, now + CREDIT_SECONDS)
        if self._due_at < now:
            raise BodyRefused(BodyFault.SLOW)


def has_body(environ: WSGIEnvironment) -> bool:
    """Whether a request has a body, or claims one: an empty body with a length counts."""
    return bool(environ.get("CONTENT_LENGTH")) or "HTTP_TRANSFER_ENCODING" in environ


def claimed_bytes(environ: WSGIEnvironment) -> int | None:
    """The length that a body claims to have, in bytes; None if it claims none."""
    claimed = environ.get("CONTENT_LENGTH") or ""
    return int(claimed) if claimed.isdigit() else None


def read_body(
    environ: WSGIEnvironment, incoming: IncomingBody, max_bytes: int, *, may_have_tiny_chunks: bool = False
) -> bytes:
    """The whole body, of at most `max_bytes`. Raises BodyRefused.

    TOO_LARGE is also one whose chunks are so small that their framing takes more than an eighth of it; with
    `may_have_tiny_chunks` only if it is then longer than `max_bytes` on the wire.
    """
    claimed = claimed_bytes(environ)
    if claimed is not None and claimed > max_bytes:
        raise BodyRefused(BodyFault.TOO_LARGE)
    connection = connection_of(environ)
    try:
        if connection is None:  # another server has read the body already
            body: bytes = environ["wsgi.input"].read(max_bytes + 1)
            incoming.count(len(body))
        else:
            with connection.reading(incoming):
                spare = max_bytes if may_have_tiny_chunks else 0
                body = _read_pieces(environ["wsgi.input"], incoming, max_bytes, spare)
    except OSError:
        body, claimed = b"", 1
    if len(body) > max_bytes:
        raise BodyRefused(BodyFault.TOO_LARGE)
    if claimed is not None and len(body) < claimed:
        raise BodyRefused(BodyFault.FULL if connection is not None and connection.is_evicted else BodyFault.CUT)
    return body


def _read_pieces(source: InputStream, incoming: IncomingBody, max_bytes: int, spare: int) -> bytes:
    """The bytes of a body, at most one more than `max_bytes`. Raises BodyRefused for one of tiny chunks.

    Each chunk is parsed alone: a mebibyte in chunks of one byte kept the loop for seconds. `spare`: how much of this
    length the framing may take, as far as the body does not.
    """
    pieces, size = list[bytes](), 0
    while piece := source.read(min(_PIECE_BYTES, max_bytes + 1 - size)):
        pieces.append(piece)
        size += len(piece)
        if incoming.size - size > _MAX_FRAMING_BYTES + size // 8 + max(0, spare - size):
            raise BodyRefused(BodyFault.TOO_LARGE)
    return b"".join(pieces)
