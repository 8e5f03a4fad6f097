"""Clients that hold connections and ask for nothing valid: silent, half a request line, dripping, and not reading."""

import select
import socket
import threading
from contextlib import suppress
from itertools import cycle
from types import TracebackType
from urllib.parse import urlsplit

_ROUND_SECONDS = 0.25

# What is sent at once, and what then drips.
KINDS = {
    "silent": (b"", b""),
    "half a request line": (b"GET /callbacks/receipts/0", b""),
    "dripping": (b"GET /callbacks/receipts/0 HTTP/1.1\r\nHost: receipts\r\nX-Slow: ", b"x"),
    "not reading": (b"GET /openapi.json HTTP/1.1\r\nHost: receipts\r\n\r\n" * 40, b""),
}


class Hostile:
    """So many connections of all kinds, kept up while the block lasts: one that is closed is opened again."""

    def __init__(self, url: str, connections: int) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 80)
        self._kinds = cycle(KINDS)
        self._wanted = connections
        self._open: dict[socket.socket, str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.opened = 0

    def __enter__(self) -> "Hostile":
        for _ in range(self._wanted):
            self._connect(next(self._kinds))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        for connection in self._open:
            connection.close()

    def _run(self) -> None:
        while not self._stop.wait(_ROUND_SECONDS):
            for connection in self._ended():
                connection.close()
                self._connect(self._open.pop(connection))
            for connection, kind in self._open.items():
                with suppress(OSError):
                    connection.send(KINDS[kind][1])

    def _connect(self, kind: str) -> None:
        connection = socket.socket()
        if kind == "not reading":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        with suppress(BlockingIOError):
            connection.connect(self._address)
        select.select([], [connection], [], 5)
        with suppress(OSError):  # it is closed already
            connection.send(KINDS[kind][0])
        self._open[connection] = kind
        self.opened += 1

    def _ended(self) -> list[socket.socket]:
        """Those that the server closed. What it says to those that read nothing stays unread."""
        poll = select.poll()
        for connection, kind in self._open.items():
            poll.register(connection, select.POLLRDHUP if kind == "not reading" else select.POLLIN | select.POLLRDHUP)
        by_file = {connection.fileno(): connection for connection in self._open}
        return [by_file[file] for file, _ in poll.poll(0)]
