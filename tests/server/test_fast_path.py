"""A recognised fast request is the same request to gunicorn's parser, with no bytes left over."""

import pytest
from gunicorn.config import Config
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader
from hypothesis import example, given, settings
from hypothesis import strategies as st

from receiptsvc.server.fast_path import recognise
from tests.support.forms import examples

LINE = b"GET /callbacks/receipts/abc?statusid=1 HTTP/1.1\r\n"

PIECES = st.sampled_from(
    [
        *[
            b"GET",
            b"get",
            b"HEAD",
            b"POST",
            b" ",
            b"  ",
            b"\t",
            b"/",
            b"//",
            b"/a",
            b"?b=1",
            b"#c",
            b"%20",
            b"\xc3\xa9",
        ],
        *[b" HTTP/1.1", b" HTTP/1.0", b" HTTP/2", b"\r\n", b"\n", b"\r", b"\0", b": ", b":", b"Host", b"X_Y", b"X-Y"],
        *[b"Content-Length", b"content-length", b"Transfer-Encoding", b"chunked", b"0", b"5", b"Expect", b"Trailer"],
        *[
            b"100-continue",
            b"Connection",
            b"connection",
            b"close",
            b"keep-alive",
            b"Keep-Alive",
            b"Upgrade",
            b"h2c",
            b",",
        ],
        *[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"hello", LINE, b"Host: here\r\n", b"\r\n\r\n"],
    ]
)


def read_by_gunicorn(data: bytes) -> tuple[Request, bytes]:
    unreader = IterUnreader([data])
    request = Request(Config(), unreader, ("127.0.0.1", 1))
    body = request.body.read()
    return request, body + unreader.read()


@pytest.mark.long
@settings(max_examples=examples(500))
@given(st.sampled_from([b"GET ", LINE, LINE + b"Host: here\r\n"]), st.lists(PIECES, max_size=12).map(b"".join))
@example(LINE, b"Host: here\r\n\r\n")
@example(LINE, b"Host: here\r\nConnection: keep-alive\r\n\r\n")
@example(LINE, b"Host:here\r\nAccept:\r\nUser-Agent: a\tb\r\n\r\n")
@example(b"GET /a?b#c?", b"d HTTP/1.1\r\n\r\n")
@example(b"GET /a#b?c", b" HTTP/1.1\r\n\r\n")
@example(b"GET //a/b", b" HTTP/1.1\r\n\r\n")
@example(b"GET /%2e?%00=%ff", b" HTTP/1.1\r\n\r\n")
def test_what_is_recognised_is_what_gunicorn_reads(beginning: bytes, rest: bytes) -> None:
    data = beginning + rest
    request = recognise(data)
    if request is None:
        return
    general, left = read_by_gunicorn(data)
    assert left == b""
    assert (general.method, general.version) == (request.method, request.version)
    assert (general.uri, general.path) == (request.uri, request.path)
    assert general.should_close() == request.should_close() is False
    assert not general._expected_100_continue  # noqa: SLF001 - as the server reads it


@pytest.mark.parametrize(
    "headers",
    [
        b"",
        b"Host: here\r\n",
        b"Host: here\r\nUser-Agent: Dynmark/1.0 (a; b)\r\nAccept: */*\r\nConnection: Keep-Alive\r\n",
        b"host: here\r\nX-Forwarded-For: 1.2.3.4\r\nX-Request-Id: 0-1\r\nVia: 1.1 router\r\n",
    ],
)
def test_a_fast_request_is_recognised(headers: bytes) -> None:
    request = recognise(LINE + headers + b"\r\n")
    assert request is not None
    assert (request.path, request.uri) == ("/callbacks/receipts/abc", "/callbacks/receipts/abc?statusid=1")


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Length: 0",
        b"content-length: 5",
        b"Content-Type: text/plain",
        b"Content-Encoding: gzip",
        b"Transfer-Encoding: chunked",
        b"Connection: close",
        b"connection: keep-alive, upgrade",
        b"Expect: 100-continue",
        b"Upgrade: h2c",
        b"Authorization: Basic dTpw",
        b"authorization:Basic dTpw",
        b"HTTP2-Settings: x",
        b"X_Y: z",
        b"Host : here",
        b" folded: x",
        b"no colon",
        b"X: \xc3\xa9",
        b"X: a\rb",
        b"X: a\0b",
    ],
)
def test_a_request_with_any_other_header_is_left_to_gunicorn(header: bytes) -> None:
    assert recognise(LINE + b"Host: here\r\n\r\n") is not None
    assert recognise(LINE + b"Host: here\r\n" + header + b"\r\n\r\n") is None


@pytest.mark.parametrize(
    "data",
    [
        LINE,
        LINE + b"Host: here\r\n",
        LINE + b"\r\n" + LINE + b"\r\n",
        LINE + b"\r\nx",
        b"\r\n" + LINE + b"\r\n",
        LINE.replace(b"GET", b"HEAD") + b"\r\n",
        LINE.replace(b"1.1", b"1.0") + b"\r\n",
        LINE.replace(b"/callbacks", b"http://here/callbacks") + b"\r\n",
        LINE.replace(b"\r\n", b"\n") + b"\n",
        LINE + b"X: y\r\n" * 65 + b"\r\n",
        b"",
    ],
)
def test_a_request_in_any_other_form_is_left_to_gunicorn(data: bytes) -> None:
    assert recognise(data) is None
