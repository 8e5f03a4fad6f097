"""A gateway that calls back without end on kept connections, and remembers exactly what was answered."""

import errno
import select
import socket
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from urllib.parse import urlsplit

from tests.support.processes import until

_PATIENCE_SECONDS = 40.0  # longer than anything may take


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a server said to one request."""

    status: int
    says_close: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One callback. Without an answer, `was_read` tells whether the server ever took its bytes."""

    serial: int
    sent_at: float  # of the monotonic clock
    seconds: float
    answer: Answer | None
    was_read: bool = True

    @property
    def status(self) -> int | None:
        return self.answer.status if self.answer else None


class Load:
    """Distinct receipts, sent on each of so many connections as soon as the last was answered, while the block lasts.

    `pause_seconds`: between an answer and the next request, so that other processes have their turn too.
    """

    def __init__(self, url: str, *, connections: int = 16, pause_seconds: float = 0.005) -> None:
        self.calls: list[Call] = []
        self.refused_connections = 0
        self._url, self._pause_seconds = url, pause_seconds
        self._serials = count(1)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(connections)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def kept(self) -> set[int]:
        """The serials that were answered 200."""
        return {call.serial for call in self.calls if call.status == 200}

    @property
    def statuses(self) -> set[int | None]:
        """All that was ever answered; None stands for a call without an answer."""
        return {call.status for call in self.calls}

    @property
    def slowest_seconds(self) -> float:
        """How long the slowest call waited for its end."""
        return max(call.seconds for call in self.calls)

    def move_to(self, url: str) -> None:
        """Call another URL from now on, as behind a router that was told of another process."""
        self._url = url

    def wait_for(self, status: int, times: int, *, seconds: float = 30.0) -> None:
        """Wait until a status was answered so many times to calls that are made from now on."""
        from_now, since = len(self.calls), time.monotonic()

        def is_enough() -> bool:
            later = self.calls[from_now:]
            return sum(call.sent_at >= since and call.status == status for call in later) >= times

        until(f"{times} answers {status}", is_enough, seconds=seconds)

    def _call(self) -> None:
        connection: socket.socket | None = None
        url = self._url
        while not self._stop.wait(self._pause_seconds):
            if connection is not None and (url != self._url or _has_ended(connection)):
                connection.close()
                connection = None
            if connection is None:
                url = self._url
                try:
                    connection = connect(url)
                except OSError:
                    self.refused_connections += 1
                    continue  # nobody listens at the moment
            call = self._call_once(connection, url)
            self.calls.append(call)
            if call.answer is None or call.answer.says_close:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def _call_once(self, connection: socket.socket, url: str) -> Call:
        serial, sent_at = next(self._serials), time.monotonic()
        answer, was_read = None, True
        try:
            connection.sendall(request(url, serial))
            answer = read_answer(connection)
        except TimeoutError:
            pass
        except OSError:
            was_read = False
        else:
            # After the end of a stream, this error tells that our bytes met a socket that was closed already.
            was_read = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != errno.EPIPE
        return Call(
            serial=serial,
            sent_at=sent_at,
            seconds=time.monotonic() - sent_at,
            answer=answer,
            was_read=was_read or answer is not None,
        )


def connect(url: str) -> socket.socket:
    """A connection to the server of a URL. Raises OSError."""
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=_PATIENCE_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def request(url: str, serial: int, *, body: bytes | None = None) -> bytes:
    """A receipt as the gateway sends it; a POST if there is a body."""
    method = "GET" if body is None else "POST"
    query = f"serial={serial}&recipient=447700900001&statusid=1&statusdescription=Delivered"
    length = "" if body is None else f"Content-Length: {len(body)}\r\n"
    return f"{method} {urlsplit(url).path}?{query} HTTP/1.1\r\nHost: receipts\r\n{length}\r\n".encode() + (body or b"")


def read_answer(connection: socket.socket) -> Answer | None:
    """The next answer on a connection; None if it ends before. Raises OSError, TimeoutError among them."""
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(65_536)
        if not more:
            return None
        received += more
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    left = int(headers["content-length"]) - len(body)
    while left > 0 and (more := connection.recv(left)):
        left -= len(more)
    return Answer(status=int(status.split()[1]), says_close=headers.get("connection", "").lower() == "close")


def read_answers(connections: Iterable[socket.socket]) -> list[Answer | None]:
    """The next answer of each connection, None where there is none; the connections are closed."""
    answers = []
    for connection in connections:
        answer = None
        with suppress(OSError):
            answer = read_answer(connection)
        answers.append(answer)
        connection.close()
    return answers


def _has_ended(connection: socket.socket) -> bool:
    """Whether the server closed a connection on which nothing was asked: any careful client looks before it asks."""
    return bool(select.select([connection], [], [], 0)[0])
