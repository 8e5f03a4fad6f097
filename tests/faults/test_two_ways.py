"""The fast response answers and keeps the same as gunicorn's general path, which a request with an escaped URL takes."""

import re
import socket
import sqlite3
from base64 import b64encode
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from receiptsvc import tokens
from receiptsvc.config import Settings
from tests.faults.conftest import StartWeb, callback_url
from tests.support.forked import Stack
from tests.support.processes import unread_bytes, until

REQUESTS = [
    "{method} {path}?statusid=1 HTTP/1.1\r\nHost: here\r\n\r\n",
    "{method} {path} HTTP/1.1\r\nHost: here\r\n\r\n",
    "{method} {path}?statusid=1 HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n",
    "{method} {path}?&&& HTTP/1.1\r\nHost: here\r\n\r\n",
    "{method} {path}?statusid=1 HTTP/1.2\r\nHost: here\r\n\r\n",
    "{method} {path}?statusid=1 HTTP/1.0\r\n\r\n",
    "{method} {path}?statusid=1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "{method} {path} HTTP/1.1\r\nHost: here\r\nContent-Length: 10\r\n\r\nstatusid=1",
    "{method} {path} HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\na\r\nstatusid=1\r\n0\r\n\r\n",
    "{method} {path} HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\nstatusid=1",
    "{method} {path}?statusid=1 HTTP/1.1\r\nHost: here\r\nAuthorization: Basic dTpw\r\n\r\n",
    "{method} {path}?statusid=1?clientref=a HTTP/1.1\r\nHost: here\r\n\r\n",
    "PUT {path} HTTP/1.1\r\nHost: here\r\n\r\n",
    "{method} {path}wrong HTTP/1.1\r\nHost: here\r\n\r\n",
    "{method} {path}wrong HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\n12345",
    "{method} {path} HTTP/1.1\r\nHost: here\r\nContent-Length: 1048577\r\n\r\n",
]

PROBE = "HEAD /callbacks/receipts HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"


# Requests to the static address: target, headers, status, and what is kept of the query; None: nothing is.
# {key} and {inbound} are put in, {basic} is a header with the right key, {wrong} one with another.
STATIC: list[tuple[str, str, int, str | None]] = [
    ("/callbacks/receipts/{key}?statusid=1", "", 200, "statusid=1"),
    ("/callbacks/receipts/{key}/?statusid=1", "", 200, "statusid=1"),
    ("/callbacks/receipts/{KEY}?statusid=1", "", 200, "statusid=1"),
    ("/callbacks/receipts/%{escaped}?statusid=1", "", 200, "statusid=1"),
    ("/callbacks/receipts/{key}?statusid=1?a=2", "", 200, "statusid=1?a=2"),
    ("/callbacks/receipts/{key}?statusid=1&key={key}", "", 200, "statusid=1"),
    ("/callbacks/receipts/{key}?statusid=1&url={key}", "", 200, "statusid=1&url=[cut]"),
    ("/callbacks/receipts/{key}", "", 200, None),
    ("/callbacks/receipts/{key}?&=&", "", 200, "&=&"),
    ("/callbacks/receipts/{key}x", "", 403, None),
    ("/callbacks/receipts/{key}/x?statusid=1", "", 403, None),
    ("/callbacks/receipts/{inbound}?statusid=1", "", 403, None),
    ("/callbacks/inbound/{key}?statusid=1", "", 403, None),
    ("/callbacks/receipts?statusid=1", "{basic}", 200, "statusid=1"),
    ("/callbacks/receipts/?statusid=1", "{basic}", 200, "statusid=1"),
    ("/callbacks/receipts//?statusid=1", "{basic}", 200, "statusid=1"),
    ("/callbacks/receipts/", "{basic}", 200, None),
    ("/callbacks/receipts/?statusid=1", "", 403, None),
    ("/callbacks/receipts/?statusid=1", "{wrong}", 403, None),
    ("/callbacks/receipts/?statusid=1", "Authorization: Basic %\r\n", 403, None),
    ("/callbacks/receipts/{key}?statusid=1", "{wrong}", 200, "statusid=1"),
    ("/callbacks/receipts/?key={key}&statusid=1", "{wrong}", 200, "statusid=1"),
    ("/callbacks/receipts/?key=wrong&statusid=1", "{basic}", 200, "statusid=1"),
    ("/callbacks/receipts/?key={key}&statusid=1", "{basic}", 200, "statusid=1"),
    ("/callbacks/receipts?key={key}", "", 200, None),
    ("/callbacks/receipts?key={key}&statusid=1", "", 200, "statusid=1"),
    ("/callbacks/receipts/?statusid=1&KEY={KEY}&clientref=a", "", 200, "statusid=1&clientref=a"),
    ("/callbacks/receipts/?key=%{escaped}&statusid=1", "", 200, "statusid=1"),
    ("/callbacks/receipts/?key=wrong&key={key}&statusid=1", "", 200, "statusid=1"),
    ("/callbacks/receipts?key={key}?statusid=1&clientref=a", "", 200, "statusid=1&clientref=a"),
    ("/callbacks/receipts/?key={key}?statusid=1&clientref=a", "", 200, "statusid=1&clientref=a"),
    ("/callbacks/receipts/?key={key}%3Fstatusid=1&clientref=a", "", 200, "statusid=1&clientref=a"),
    ("/callbacks/receipts/?key={key}?statusid=1&messagetext=now?key=1", "", 200, "statusid=1&messagetext=now?key=1"),
    ("/callbacks/receipts/?statusid=1?key={key}", "", 200, "statusid=1"),
    ("/callbacks/receipts/?statusid=1?key={key}&clientref=a", "", 200, "statusid=1&clientref=a"),
    ("/callbacks/receipts/??key={key}&statusid=1", "", 200, "statusid=1"),
    ("/callbacks/receipts/?key={key}x?statusid=1", "", 403, None),
    ("/callbacks/receipts?key={inbound}&statusid=1", "", 403, None),
    ("//callbacks/receipts/{key}?statusid=1", "", 200, "statusid=1"),
    ("/callbacks//receipts//{key}//?statusid=1", "", 200, "statusid=1"),
    ("/Callbacks/RECEIPTS/{KEY}?statusid=1", "", 200, "statusid=1"),
    ("//callbacks/receipts?statusid=1", "{basic}", 200, "statusid=1"),
]


def exchange(address: tuple[str, int], *requests: str) -> str:
    """All bytes that answer the requests, each sent after the previous answer, without the Date."""
    received = b""
    with socket.create_connection(address, 10) as connection:
        connection.settimeout(10)
        try:
            for request in requests[:-1]:
                connection.sendall(request.encode())
                received += connection.recv(65536)  # an answer comes in one piece
            connection.sendall(requests[-1].encode())
            while piece := connection.recv(65536):
                received += piece
        except (ConnectionResetError, BrokenPipeError):  # bytes after an answer that closes are never read
            pass
    return re.sub(r"Date: [^\r]+", "Date: …", received.decode("latin-1"))


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_the_fast_response_and_the_general_path_give_the_same_answers(
    sqlite_url: str, start_web: StartWeb, method: str
) -> None:
    stack = start_web(sqlite_url)
    parts = urlsplit(callback_url(stack))
    address = (parts.hostname or "", parts.port or 80)
    for request in REQUESTS:
        direct = exchange(address, request.format(method=method, path=parts.path) + PROBE)
        general = exchange(address, request.format(method=method, path=parts.path.replace("/c", "/%63", 1)) + PROBE)
        assert direct.startswith("HTTP/1.")
        assert direct == general, request


def test_a_fast_request_is_answered_as_by_the_general_path(sqlite_url: str, start_web: StartWeb) -> None:
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
def test_bytes_of_a_body_are_never_read_as_a_request(sqlite_url: str, start_web: StartWeb, around: str) -> None:
    stack = start_web(sqlite_url)
    url = callback_url(stack)
    parts = urlsplit(url)
    usual = f"GET {parts.path}?statusid=1 HTTP/1.1\r\nHost: here\r\n\r\n"
    head, usual, rest = around.format(length=len(usual), usual=usual).partition(usual)
    with socket.create_connection((parts.hostname or "", parts.port or 80), 10) as connection:
        connection.settimeout(10)
        connection.sendall(head.encode())
        received = connection.recv(65536)  # the server waits for the body now, or has answered without it
        try:
            connection.sendall(usual.encode())
            until("it is read", lambda: unread_bytes(parts.port or 0) == 0)
            connection.sendall(f"{rest}{PROBE}".encode())
            while piece := connection.recv(65536):
                received += piece
        except (ConnectionResetError, BrokenPipeError):
            pass
    assert received.startswith(b"HTTP/1.1 ")
    assert b" 200 " not in received


def kept(stack: Stack) -> list[tuple[Any, ...]]:
    """The channel, method, query and body of each callback in the inbox."""
    with closing(sqlite3.connect(stack.environ["DATABASE_URL"].removeprefix("sqlite:///"))) as database:
        return database.execute("SELECT channel, method, query, body FROM inbox ORDER BY id").fetchall()


def test_the_static_address_accepts_every_form_of_its_key_on_both_paths(sqlite_url: str, start_web: StartWeb) -> None:
    stack = start_web(sqlite_url)
    static = tokens.static_urls(Settings.from_env(stack.environ))
    key, inbound = (url.rpartition("/")[2] for url in (static.receipts, static.inbound))
    parts = urlsplit(stack.url)
    address = (parts.hostname or "", parts.port or 80)
    secrets = {
        "key": key,
        "KEY": key.upper(),
        "escaped": f"{ord(key[0]):x}{key[1:]}",
        "inbound": inbound,
        "basic": f"Authorization: Basic {b64encode(f'us:{key}'.encode()).decode()}\r\n",
        "wrong": f"authorization: basic {b64encode(f'us:{inbound}'.encode()).decode()}\r\n",
    }
    before = f"GET {urlsplit(callback_url(stack)).path} HTTP/1.1\r\nHost: here\r\n\r\n"
    earlier_answer = exchange(address, before, PROBE).removesuffix(exchange(address, PROBE))
    for target, headers, status, query in STATIC:
        request = "{method} " + target + " HTTP/1.1\r\nHost: here\r\n" + headers + "{length}\r\n{body}"
        count = len(kept(stack))
        answers = set()
        for form in (request, request.replace("/c", "/%63", 1)):
            get, head = (form.format(method=method, length="", body="", **secrets) for method in ("GET", "HEAD"))
            post = form.format(method="POST", length="Content-Length: 3\r\n", body="b=1", **secrets)
            answers.add(exchange(address, get, PROBE))
            answers.add(exchange(address, before, get, PROBE).removeprefix(earlier_answer))
            assert {exchange(address, other, PROBE).split()[1] for other in (head, post)} == {str(status)}, target
        (answer,) = answers
        assert answer.startswith(f"HTTP/1.1 {status} "), target
        sent = [("GET", b""), ("GET", b""), ("HEAD", b""), ("POST", b"b=1")] if status == 200 else []
        rows = [("account", method, (query or "").encode(), body) for method, body in sent if query or body]
        assert kept(stack)[count:] == rows * 2, target
    stack.stop("web")
    everything = Path(stack.environ["DATABASE_URL"].removeprefix("sqlite:///")).read_bytes()
    everything += (stack.folder / "web.log").read_bytes()
    for secret in (key, key.upper(), inbound):
        assert secret.encode() not in everything
