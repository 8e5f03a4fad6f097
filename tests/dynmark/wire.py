"""A server of raw sockets that says exactly what a test tells it to say, byte by byte if need be."""

import os
import re
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import trustme

AUTHORITY = trustme.CA()  # made anew in each run: no key lies about
_CERTIFICATE = AUTHORITY.issue_cert("127.0.0.1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A request as it came in. Header names are lower case."""

    line: str
    headers: dict[str, str]
    body: bytes


Reply = Callable[["Conversation"], None]


class Wire:
    """A server on 127.0.0.1. Each connection is read up to the end of its request, then handed to `reply`."""

    def __init__(self, reply: Reply, *, tls: bool = False, reads: bool = True) -> None:
        self.reply = reply
        self.requests: list[Request] = []
        self.connections = 0
        self.closing = threading.Event()
        self._reads = reads
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
        if self._tls:
            _CERTIFICATE.configure_cert(self._tls)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/service.asmx"

    def __enter__(self) -> "Wire":
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        for line in self._open:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()
        for thread in self._threads[1:]:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(line.dup())
            thread = threading.Thread(target=self._serve, args=(line,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, line: socket.socket) -> None:
        with suppress(OSError):
            if self._tls:
                line = self._tls.wrap_socket(line, server_side=True)
            conversation = Conversation(self, line)
            if not self._reads or conversation.read():
                self.reply(conversation)
            with suppress(OSError):
                socket.socket.shutdown(line, socket.SHUT_RDWR)
        line.close()


class Conversation:
    """One connection, for a reply to write to. Writing raises OSError once the other side is gone."""

    def __init__(self, wire: Wire, line: socket.socket) -> None:
        self.wire = wire
        self.line = line
        self.request = Request(line="", headers={}, body=b"")

    def read(self) -> bool:
        """Read one request; false if the other side said none."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = self.line.recv(65_536)
            if not piece:
                return False
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (header.partition(":") for header in rest)}
        while len(body) < int(headers.get("content-length", "0")):
            body += self.line.recv(65_536)
        self.request = Request(line=first, headers=headers, body=body)
        self.wire.requests.append(self.request)
        return True

    def drip(self, data: bytes, every_seconds: float = 0.02) -> None:
        """Write byte by byte, until the other side or the server has enough."""
        for place in range(len(data)):
            self.line.sendall(data[place : place + 1])
            if self.wire.closing.wait(every_seconds):
                return


def head(status: str = "200 OK", content_type: str = "text/xml; charset=utf-8", **headers: str) -> bytes:
    """The head of an answer, without a length unless one is given; in names `_` stands for `-`."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answer(
    body: bytes | str, status: str = "200 OK", content_type: str = "text/xml; charset=utf-8", **headers: str
) -> Reply:
    """A reply that gives a whole, proper answer."""
    content = body.encode() if isinstance(body, str) else body
    whole = head(status, content_type, Content_Length=str(len(content)), **headers) + content
    return lambda conversation: conversation.line.sendall(whole)


def raw(data: bytes) -> Reply:
    """A reply that writes these bytes and closes."""
    return lambda conversation: conversation.line.sendall(data)


def drip(start: bytes, data: bytes = b" " * 10_000) -> Reply:
    """A reply that writes `start` at once and goes on byte by byte."""

    def reply(conversation: Conversation) -> None:
        conversation.line.sendall(start)
        conversation.drip(data)

    return reply


def stall(conversation: Conversation) -> None:
    """A reply that never comes, until the test is over or the other side has gone."""
    conversation.line.settimeout(0.05)
    while not conversation.wire.closing.is_set():
        try:
            if not conversation.line.recv(1):
                return
        except TimeoutError:
            continue


def unused_port() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def proxy_variables() -> list[str]:
    """The names of environment variables that would send a test's calls elsewhere."""
    return [name for name in os.environ if re.fullmatch(r"(?i)(https?|all|no)_proxy", name)]
