"""A callback's own way through the server answers as gunicorn's general one does, which an escaped address still takes."""

import re
import socket
from urllib.parse import urlsplit

import pytest

from tests.faults.conftest import StartWeb, callback_url
from tests.faults.processes import unread_bytes, until

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


PROBE = "HEAD /callbacks/receipts HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"


def exchange(address: tuple[str, int], *requests: str) -> str:
    """All that comes for requests, each sent after an answer to the one before, but for the time of day."""
    said = b""
    with socket.create_connection(address, 10) as connection:
        connection.settimeout(10)
        try:
            for request in requests[:-1]:
                connection.sendall(request.encode())
                said += connection.recv(65536)  # an answer is written at once
            connection.sendall(requests[-1].encode())
            while piece := connection.recv(65536):
                said += piece
        except (ConnectionResetError, BrokenPipeError):  # what was sent behind an answer that closes is never read
            pass
    return re.sub(r"Date: [^\r]+", "Date: …", said.decode("latin-1"))


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_both_ways_give_the_same_answers(sqlite_url: str, start_web: StartWeb, method: str) -> None:
    stack = start_web(sqlite_url)
    parts = urlsplit(callback_url(stack))
    address = (parts.hostname or "", parts.port or 80)
    for request in REQUESTS:
        direct = exchange(address, request.format(method=method, path=parts.path) + PROBE)
        general = exchange(address, request.format(method=method, path=parts.path.replace("/c", "/%63", 1)) + PROBE)
        assert direct.startswith("HTTP/1.")
        assert direct == general, request


def test_a_usual_request_is_answered_as_by_the_general_way(sqlite_url: str, start_web: StartWeb) -> None:
    stack = start_web(sqlite_url)
    parts = urlsplit(callback_url(stack))
    address = (parts.hostname or "", parts.port or 80)
    usual = f"GET {parts.path}?statusid=1 HTTP/1.1\r\nHost: here\r\n\r\n"
    wrong = usual.replace(parts.path, f"{parts.path}wrong")
    empty = usual.replace("?statusid=1", "")
    general = usual.replace("/c", "/%63", 1)
    assert exchange(address, usual, PROBE) == exchange(address, general, PROBE)
    assert exchange(address, wrong, usual, PROBE) == exchange(address, wrong.replace("/c", "/%63", 1), general, PROBE)
    assert exchange(address, empty, PROBE) == exchange(address, empty.replace("/c", "/%63", 1), PROBE)
    both = exchange(address, usual, general, "GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n", usual, PROBE)
    assert both.count("HTTP/1.1 200 OK") == 4
    assert both.count("HTTP/1.1 403 Forbidden") == 1


@pytest.mark.parametrize(
    "around",
    [
        "POST /callbacks/receipts HTTP/1.1\r\nHost: here\r\nContent-Length: {length}\r\n\r\n{usual}",
        "POST /v1/nothing HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n{usual}",
        "POST /v1/nothing HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{usual}\r\n0\r\n\r\n",
        "GET /v1/nothing HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n{usual}",
    ],
)
def test_what_stands_in_a_body_is_never_a_request(sqlite_url: str, start_web: StartWeb, around: str) -> None:
    stack = start_web(sqlite_url)
    url = callback_url(stack)
    parts = urlsplit(url)
    usual = f"GET {parts.path}?statusid=1 HTTP/1.1\r\nHost: here\r\n\r\n"
    head, usual, rest = around.format(length=len(usual), usual=usual).partition(usual)
    with socket.create_connection((parts.hostname or "", parts.port or 80), 10) as connection:
        connection.settimeout(10)
        connection.sendall(head.encode())
        said = connection.recv(65536)  # by now it waits for the body, or has answered without it
        try:
            connection.sendall(usual.encode())
            until("it is read", lambda: unread_bytes(parts.port or 0) == 0)
            connection.sendall(f"{rest}{PROBE}".encode())
            while piece := connection.recv(65536):
                said += piece
        except (ConnectionResetError, BrokenPipeError):
            pass
    assert said.startswith(b"HTTP/1.1 ")
    assert b" 200 " not in said
