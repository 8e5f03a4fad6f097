"""A callback's own way through the server answers as gunicorn's general one does, which an escaped address still takes."""

import re
import socket
from urllib.parse import urlsplit

import pytest

from tests.faults.conftest import StartWeb, callback_url

REQUESTS = [
    "{method} {path}?statusid=1 HTTP/1.1\r\nHost: here\r\n\r\n",
    "{method} {path} HTTP/1.1\r\nHost: here\r\n\r\n",
    "{method} {path}?statusid=1 HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n",
    "{method} {path}?statusid=1 HTTP/1.0\r\n\r\n",
    "{method} {path}?statusid=1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "{method} {path} HTTP/1.1\r\nHost: here\r\nContent-Length: 10\r\n\r\nstatusid=1",
    "{method} {path} HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\na\r\nstatusid=1\r\n0\r\n\r\n",
    "{method} {path} HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\nstatusid=1",
    "PUT {path} HTTP/1.1\r\nHost: here\r\n\r\n",
    "{method} {path}wrong HTTP/1.1\r\nHost: here\r\n\r\n",
    "{method} {path}wrong HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\n12345",
    "{method} {path} HTTP/1.1\r\nHost: here\r\nContent-Length: 1048577\r\n\r\n",
]


def exchange(address: tuple[str, int], request: str) -> str:
    """All that comes for a request and a probe behind it, but for the time of day."""
    probe = "HEAD /callbacks/receipts HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
    with socket.create_connection(address, 10) as connection:
        connection.settimeout(10)
        connection.sendall((request + probe).encode())
        said = b""
        try:
            while piece := connection.recv(65536):
                said += piece
        except ConnectionResetError:  # what was sent behind an answer that closes is never read
            pass
    return re.sub(r"Date: [^\r]+", "Date: …", said.decode("latin-1"))


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_both_ways_give_the_same_answers(sqlite_url: str, start_web: StartWeb, method: str) -> None:
    stack = start_web(sqlite_url)
    parts = urlsplit(callback_url(stack))
    address = (parts.hostname or "", parts.port or 80)
    for request in REQUESTS:
        direct = exchange(address, request.format(method=method, path=parts.path))
        general = exchange(address, request.format(method=method, path=parts.path.replace("/c", "/%63", 1)))
        assert direct.startswith("HTTP/1.")
        assert direct == general, request
