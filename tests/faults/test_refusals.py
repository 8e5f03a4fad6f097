"""What the server refuses by itself: a fixed answer, a reason in the log, a count in the ledger, and nothing repeated."""

import json
import re
import socket
import sqlite3
from contextlib import closing
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from gunicorn.http import errors

from receiptsvc.server import refusals
from tests.faults.conftest import StartWeb, callback_url
from tests.support.forked import Stack
from tests.support.processes import until

NUMBER = b"447700900123"
ANSWER = re.compile(
    rb"HTTP/1\.1 (?P<status>[0-9]{3} [A-Za-z -]+)\r\nConnection: close\r\n"
    rb"Content-Type: text/plain; charset=utf-8\r\nContent-Length: (?P<length>[0-9]+)\r\n\r\n(?P<body>[A-Za-z -]+\n)"
)


class Case(NamedTuple):
    """A request, how it is answered, whether it counts as a refused callback, and what is kept of its query."""

    request: bytes
    status: int
    reason: str
    is_counted: bool = False
    sample: bytes | None = None


LINE, METHOD, VERSION = (
    "its request line is not HTTP",
    "its method is not one of HTTP",
    "its version is not one of HTTP/1",
)
HEADER = "one of its headers is not HTTP, or contradicts another"
LENGTH, HEADERS = "its request line is too long", "its headers are too long or too many"
CODING, CHUNKS = "its transfer coding is not supported", "the chunks of its body are not HTTP"
EXPECTATION = "it expects what is not supported"
HOST = b"\r\nHost: " + NUMBER + b"\r\n\r\n"

# %b: the path of a callback with its token; %t: the token alone.
CASES = [
    Case(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, LINE),
    Case(b"hello " + NUMBER + b"\r\n\r\n", 400, LINE),
    Case(b"GET /v1/search?q=" + NUMBER + b"\r\n\r\n", 400, LINE),
    Case(b"GET /v1/search?q=" + NUMBER + b" HTTP/9.9" + HOST, 400, VERSION),
    Case(NUMBER[:5] + b"a / HTTP/1.1" + HOST, 400, METHOD),
    Case(b"GET %b?to=" + NUMBER + b"\x7f\xe9 HTTP/1.1" + HOST, 400, LINE, True, b"to=" + NUMBER + b"\x7f\xe9"),
    Case(b"GET %b?text=a b HTTP/2.1" + HOST, 400, VERSION, True, b"text=a b"),
    Case(b"GET /v1/search?q=a b HTTP/1.1" + HOST, 400, VERSION),
    Case(b"GET /v1/search?q=\xe9 HTTP/1.1" + HOST, 400, LINE),
    Case(b"GET %b \xe9?a=1 HTTP/1.1" + HOST, 400, VERSION, True),
    Case(b"GET %b?a=1\n" + HOST, 400, LINE, True, b"a=1"),
    Case(b"\r\nGET %b?a=2\r\n\r\n", 400, LINE, True, b"a=2"),
    Case(b"get %b?a=3 HTTP/1.1" + HOST, 400, METHOD, True),
    Case(
        b"GET %b?a=4&echo=%t&key=secret&more=1 HTTP/7.1" + HOST, 400, VERSION, True, b"a=4&echo=[cut]&key=[cut]&more=1"
    ),
    Case(b"GET %b?a=5&echo=%T HTTP/7.1" + HOST, 400, VERSION, True),
    Case(b"GET %b?a=6&k%%65y=secret HTTP/7.1" + HOST, 400, VERSION, True),
    Case(b"GET /callbacks/receipts?key=secret&a=7 HTTP/7.1" + HOST, 400, VERSION, True, b"key=[cut]&a=7"),
    Case(b"GET /callbacks/receipts/no-token?a=8 HTTP/7.1" + HOST, 400, VERSION, True),
    Case(b"GET /callbacks/ HTTP/7.1" + HOST, 400, VERSION, True),
    Case(b"GET //Callbacks/receipts?a=9 HTTP/7.1" + HOST, 400, VERSION, True, b"a=9"),
    Case(b"GET /callbackless?a=9 HTTP/7.1" + HOST, 400, VERSION),
    Case(b"GET %b?a=10&t=" + b"x" * 9000 + HOST, 414, LENGTH, True, b"a=10&t=" + b"x" * 1017),
    Case(b"GET %b" + b"x" * 9000 + HOST, 414, LENGTH, True),
    Case(b"GET %b?a=11 HTTP/1.1\r\nX: " + b"x" * 40_000 + HOST, 431, HEADERS, True, b"a=11"),
    Case(b"GET %b?a=12 HTTP/1.1\r\nX " + NUMBER + HOST, 400, HEADER, True, b"a=12"),
    Case(b"POST %b?a=13 HTTP/1.1\r\nContent-Length: " + NUMBER + b"x" + HOST, 400, HEADER, True, b"a=13"),
    Case(b"POST %b?a=14 HTTP/1.1\r\nTransfer-Encoding: " + NUMBER + HOST, 501, CODING, True, b"a=14"),
    Case(b"GET %b?a=15 HTTP/1.1\r\nExpect: " + NUMBER + HOST, 417, EXPECTATION, True, b"a=15"),
    Case(b"POST %b?a=16 HTTP/1.1\r\nTransfer-Encoding: chunked" + HOST + NUMBER + b"z\r\n", 400, CHUNKS, True, b"a=16"),
]


def ask(stack: Stack, *requests: bytes) -> bytes:
    """All that answers these requests, each sent after the answer to the previous one."""
    url, received = urlsplit(stack.url), b""
    with socket.create_connection((url.hostname or "", url.port or 0), 10) as wire:
        for request in requests:
            wire.sendall(request)
            received = wire.recv(65536)
        return received


def read_ledger(stack: Stack) -> tuple[int, list[tuple[str, bytes]]]:
    """How many callbacks were refused, and the sample of them."""
    with closing(sqlite3.connect(stack.environ["DATABASE_URL"].removeprefix("sqlite:///"))) as database:
        (refused,) = database.execute("SELECT coalesce(sum(value), 0) FROM counters WHERE name = 'refused'").fetchone()
        return refused, database.execute("SELECT address, query FROM rejected_callbacks ORDER BY id").fetchall()


def logged(stack: Stack) -> list[tuple[int, str]]:
    read = map(json.loads, (stack.folder / "web.log").read_text().splitlines())
    return [(line["status"], line["reason"]) for line in read if line["action"] == "web.request_refused"]


def test_what_is_not_http_is_answered_counted_and_never_repeated(sqlite_url: str, start_web: StartWeb) -> None:
    stack = start_web(sqlite_url)
    path = urlsplit(callback_url(stack)).path.encode()
    token = path.rpartition(b"/")[2]
    counted, samples = 0, list[bytes]()
    for case in CASES:
        request = case.request.replace(b"%b", path).replace(b"%t", token).replace(b"%T", token.upper())
        answer = ANSWER.fullmatch(ask(stack, request.replace(b"%%", b"%")))
        assert answer is not None, case
        assert int(answer["status"][:3]) == case.status, case
        assert (len(answer["body"]), answer["body"][:-1]) == (int(answer["length"]), answer["status"][4:])
        counted += case.is_counted
        samples += [] if case.sample is None else [case.sample]
        until("it is counted", lambda: read_ledger(stack)[0] == counted)  # noqa: B023 - called at once
    _, kept = read_ledger(stack)
    assert [query for _, query in kept] == samples
    assert {address for address, _ in kept} == {"/callbacks/receipts/<token>", "/callbacks/receipts"}
    assert logged(stack) == [(case.status, case.reason) for case in CASES]
    stack.stop("web")
    for place in ((stack.folder / "web.log").read_bytes(), repr(kept).encode()):
        assert token not in place
        assert b"secret" not in place
    assert NUMBER not in (stack.folder / "web.log").read_bytes()


def test_a_refused_request_is_known_on_a_connection_that_has_had_others(sqlite_url: str, start_web: StartWeb) -> None:
    stack = start_web(sqlite_url)
    path = urlsplit(callback_url(stack)).path.encode()
    fast = b"GET %b?statusid=1 HTTP/1.1\r\nHost: here\r\n\r\n" % path
    general = fast.replace(b"/c", b"/%63", 1)
    post = b"POST %b HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\n\r\na=1" % path
    api = b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n"
    bad = b"GET %b?b=1 HTTP/7.1\r\nHost: here\r\n\r\n" % path
    befores = [(fast,), (general,), (post,), (api,), (fast, general, fast), (post, fast), (api, api)]
    for count, before in enumerate(befores, start=1):
        ask(stack, *before, bad)
        until("it is counted", lambda: read_ledger(stack)[0] == count)  # noqa: B023 - called at once
    for count, first in enumerate((general, post, api), start=len(befores) + 1):
        ask(stack, first + bad[:20], bad[20:])  # the first answer comes before the rest
        until("it is counted", lambda: read_ledger(stack)[0] == count)  # noqa: B023 - called at once
    for count, first in enumerate((general, post, api), start=len(befores) + 4):
        ask(stack, first + bad)
        until("it is counted", lambda: read_ledger(stack)[0] == count)  # noqa: B023 - called at once
    assert {query for _, query in read_ledger(stack)[1]} == {b"b=1"}


UNESCAPED = [
    b"text=caf\xe9&a=1",
    b"text=two words &a=1",
    b" ",
    b"a=\x80\xff b?c= HTTP/1.0",
    b"a=1&text=%%C3%%A9 \xc3\xa9",
]


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST"])
def test_bytes_that_a_query_should_have_escaped_are_kept_as_they_came(
    sqlite_url: str, start_web: StartWeb, method: bytes
) -> None:
    stack = start_web(sqlite_url)
    path = urlsplit(callback_url(stack)).path.encode()
    for query in UNESCAPED:
        line = b"%b %b?%b HTTP/1.1\r\n" % (method, path, query)
        answer = ask(stack, line + b"Host: here\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n"), query
    with closing(sqlite3.connect(stack.environ["DATABASE_URL"].removeprefix("sqlite:///"))) as database:
        kept = database.execute("SELECT query FROM inbox ORDER BY id").fetchall()
    assert [query for (query,) in kept] == UNESCAPED
    assert logged(stack) == []


@pytest.mark.parametrize("error", errors.ParseException.__subclasses__())
def test_every_error_of_the_parser_has_an_answer(error: type[Exception]) -> None:
    made = error.__new__(error)
    refusal = refusals.of(made)
    assert refusal is not None
    assert re.fullmatch(r"4[0-9]{2} .+|501 Not Implemented", refusal.status)


def test_a_fault_of_ours_is_answered_500() -> None:
    assert refusals.of(ValueError("x")) is None
    assert refusals.of(errors.InvalidResponseHeader("x")) is None
    assert refusals.write(None).startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
