"""One HTTP call: it ends in time, and its end says whether the request may have gone out."""

import base64
import gzip
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from receiptsvc.dynmark.outbound import exchange
from tests.dynmark import wire
from tests.dynmark.wire import Conversation, Wire

QUICK_SECONDS = 0.4
MAX_SECONDS = 3.0  # for a call of QUICK_SECONDS, on a busy machine


def post(
    url: str, *, timeout_seconds: float = 20, connect_seconds: float = 10, max_bytes: int = 1_000_000
) -> exchange.Answer:
    return exchange.post(
        url,
        body=b"<a/>",
        headers={},
        timeout_seconds=timeout_seconds,
        connect_seconds=connect_seconds,
        max_bytes=max_bytes,
    )


def test_an_answer_is_returned_whole_whatever_its_status() -> None:
    with Wire(wire.answer(b"no \x00\xff", "503 Busy", "text/plain")) as server:
        answer = exchange.post(server.url, body=b"<a/>", headers={"SOAPAction": '"x"'}, timeout_seconds=20)
    assert (answer.status, answer.content_type, answer.body) == (503, "text/plain", b"no \x00\xff")
    (request,) = server.requests
    assert request.line == "POST /service.asmx HTTP/1.1"
    assert request.body == b"<a/>"
    assert request.headers["soapaction"] == '"x"'
    assert request.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_credentials_travel_as_utf8_and_only_when_given(
    tls: bool, tmp_path: Path, trusted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", trusted)
    with Wire(wire.answer(b""), tls=tls) as server:
        post(server.url)
        exchange.post(server.url, body=b"", headers={}, auth=("ü", "€"), timeout_seconds=20)
    without, with_auth = server.requests
    assert "authorization" not in without.headers
    assert with_auth.headers["authorization"] == "Basic " + base64.b64encode("ü:€".encode()).decode()


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    with Wire(wire.answer(b"", "307 Temporary Redirect", Location="/other")) as server:
        assert post(server.url).status == 307
    assert len(server.requests) == 1


def _refused() -> str:
    return f"http://127.0.0.1:{wire.unused_port()}/"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (_refused, "ConnectionRefusedError"),
        (lambda: "http://gateway.invalid/", "gaierror|time is up"),
        (lambda: f"https://{'a' * 64}.invalid/", "Invalid|Error"),
        (lambda: "http://[::1", "InvalidURL|Error"),
    ],
    ids=["refused", "no such host", "bad name", "bad address"],
)
def test_without_a_connection_nothing_was_sent(url: Callable[[], str], reason: str) -> None:
    with pytest.raises(exchange.NotSent, match=reason):
        post(url())


@pytest.mark.parametrize("reply", [wire.answer(b"plain"), wire.raw(b"")], ids=["plain HTTP", "hangs up"])
def test_a_server_without_tls_was_sent_nothing(reply: wire.Reply) -> None:
    with Wire(reply, reads=False) as server, pytest.raises(exchange.NotSent):
        post(server.url.replace("http:", "https:"))


def test_a_server_with_an_untrusted_certificate_was_sent_nothing() -> None:
    with Wire(wire.answer(b""), tls=True) as server, pytest.raises(exchange.NotSent, match="SSLCertVerificationError"):
        post(server.url)
    assert server.requests == []


@pytest.mark.parametrize("reply", [wire.stall, wire.drip(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc")])
def test_a_tls_handshake_without_end_is_cut_at_the_connect_limit(reply: wire.Reply) -> None:
    with Wire(reply, reads=False) as server:
        started = time.monotonic()
        with pytest.raises(exchange.NotSent, match="time is up"):
            post(server.url.replace("http:", "https:"), connect_seconds=QUICK_SECONDS)
        assert time.monotonic() - started < MAX_SECONDS


@pytest.mark.parametrize(
    "reply",
    [
        wire.raw(b""),
        wire.raw(b"\x00garbage\r\n\r\n"),
        wire.raw(wire.head(Content_Length="100") + b"<cut"),
        wire.raw(wire.head(Transfer_Encoding="chunked") + b"10\r\n<cut"),
        wire.raw(wire.head(Transfer_Encoding="chunked") + b"4\r\n<cut\r\n"),
        wire.raw(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 500 + b"\r\n"),
        wire.raw(b"HTTP/1.1 200 OK\r\na: " + b"b" * 1_000_000 + b"\r\n\r\n"),
        wire.answer(b"packed", Content_Encoding="br"),
    ],
    ids=[
        "no answer",
        "not http",
        "cut in the body",
        "cut in a chunk",
        "cut between chunks",
        "too many headers",
        "too long a header",
        "packed",
    ],
)
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_an_answer_that_is_not_whole_is_unclear_and_not_retried(
    reply: wire.Reply, tls: bool, trusted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", trusted)
    with Wire(reply, tls=tls) as server, pytest.raises(exchange.Unclear) as caught:
        post(server.url)
    assert len(server.requests) == server.connections == 1
    assert "127.0.0.1" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize(
    "reply",
    [
        wire.stall,
        wire.drip(b"HTTP/1.1 200 OK\r\n", b"x-header: slow\r\n" * 1000),
        wire.drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
        wire.drip(wire.head(Content_Length="10000")),
        wire.drip(wire.head()),
        wire.drip(wire.head(Transfer_Encoding="chunked"), b"1\r\n \r\n" * 1000),
    ],
    ids=["silence", "dripping header", "continue without end", "dripping body", "no length", "dripping chunks"],
)
def test_the_deadline_covers_the_whole_call(
    reply: wire.Reply, tls: bool, trusted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", trusted)
    with Wire(reply, tls=tls) as server:
        started = time.monotonic()
        with pytest.raises(exchange.Unclear, match="time is up"):
            post(server.url, timeout_seconds=QUICK_SECONDS)
        assert time.monotonic() - started < MAX_SECONDS


PLAIN = b"<answer>" * 100
GZIP, ZLIB = gzip.compress(PLAIN), zlib.compress(PLAIN)
BARE_DEFLATE = ZLIB[2:-4]  # without zlib's head and check, as some servers write it

PACKED = {
    "gzip": (GZIP, "gzip"),
    "gzip's old name": (GZIP, "x-gzip"),
    "capitals and blanks": (GZIP, " GZIP "),
    "deflate as the standard says": (ZLIB, "deflate"),
    "deflate without head and check": (BARE_DEFLATE, "deflate"),
    "gzip that is called deflate": (GZIP, "deflate"),
    "packed twice": (gzip.compress(ZLIB), "deflate, gzip"),
    "identity, said too": (GZIP, "gzip, identity"),
    "a proxy lost the header": (GZIP, ""),
    "a proxy unpacked and left the header": (PLAIN, "gzip"),
    "not packed": (PLAIN, "identity"),
}


@pytest.mark.parametrize(("body", "coding"), PACKED.values(), ids=PACKED)
def test_an_answer_that_is_compressed_unasked_is_read(body: bytes, coding: str) -> None:
    with Wire(wire.answer(body, Content_Encoding=coding)) as server:
        assert post(server.url).body == PLAIN


def test_an_empty_answer_has_nothing_to_unpack() -> None:
    for coding in ("gzip", "deflate"):
        with Wire(wire.answer(b"", "401 Unauthorized", Content_Encoding=coding)) as server:
            assert post(server.url).status == 401


BOMB = b"0" * 1_000_001
BROKEN = {
    "cut": (GZIP[:-9], "gzip", "can't be unpacked"),
    "its check is cut off": (GZIP[:-1], "gzip", "can't be unpacked"),
    "its check is wrong": (GZIP[:-8] + b"\0" * 8, "gzip", "can't be unpacked"),
    "something behind it": (GZIP + b"more", "gzip", "can't be unpacked"),
    "cut, deflate": (ZLIB[:-5], "deflate", "can't be unpacked"),
    "not packed, but called deflate": (PLAIN, "deflate", "can't be unpacked"),
    "Brotli": (GZIP, "br", "in a way that was not asked for"),
    "Zstandard inside gzip": (GZIP, "zstd, gzip", "in a way that was not asked for"),
    "packed over and over": (GZIP, "gzip, gzip, gzip, gzip", "in a way that was not asked for"),
    "a bomb of gzip": (gzip.compress(BOMB), "gzip", "longer than 1000000 bytes when unpacked"),
    "a bomb of deflate": (zlib.compress(BOMB)[2:-4], "deflate", "longer than 1000000 bytes when unpacked"),
    "a bomb without a header": (gzip.compress(BOMB), "", "longer than 1000000 bytes when unpacked"),
}


@pytest.mark.parametrize(("body", "coding", "reason"), BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_unpacked_whole_and_within_the_bound_is_unclear(body: bytes, coding: str, reason: str) -> None:
    with Wire(wire.answer(body, Content_Encoding=coding)) as server, pytest.raises(exchange.Unclear, match=reason):
        post(server.url)


def test_a_request_that_is_not_read_is_cut_at_the_deadline() -> None:
    def reply(conversation: Conversation) -> None:
        conversation.wire.closing.wait(20)

    with Wire(reply, reads=False) as server, pytest.raises(exchange.Unclear, match="time is up"):
        exchange.post(server.url, body=b" " * 50_000_000, headers={}, timeout_seconds=QUICK_SECONDS)


@pytest.mark.parametrize(
    ("reply", "reads", "scheme"),
    [
        (wire.drip(wire.head()), True, "http:"),
        (wire.stall, True, "http:"),
        (wire.drip(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc"), False, "https:"),
    ],
    ids=["dripping body", "silence", "dripping handshake"],
)
def test_a_call_that_is_over_leaves_no_thread_behind(reply: wire.Reply, reads: bool, scheme: str) -> None:
    with Wire(reply, reads=reads) as server:
        with pytest.raises((exchange.Unclear, exchange.NotSent)):
            post(server.url.replace("http:", scheme), timeout_seconds=QUICK_SECONDS)
        deadline = time.monotonic() + MAX_SECONDS
        while (threads := _running_calls()) and time.monotonic() < deadline:
            threads[0].join(0.1)
        assert threads == []  # though the other side keeps the connection open


def _running_calls() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "exchange"]


@pytest.mark.parametrize("status", ["200 OK", "302 Found"])
@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (wire.head(Content_Length="100000000", Location="/other"), b" " * 1_000_000),
        (wire.head(Location="/other"), b" " * 1_000_000),
        (wire.head(Transfer_Encoding="chunked"), b"f4240\r\n" + b" " * 1_000_000 + b"\r\n"),
        (wire.head(Transfer_Encoding="chunked"), b"1" * 1_000_000),
    ],
    ids=["length", "no length", "chunks", "chunk size without end"],
)
def test_an_answer_without_end_is_cut_at_the_size_limit(start: bytes, piece: bytes, status: str) -> None:
    written = 0

    def reply(conversation: Conversation) -> None:
        nonlocal written
        conversation.line.sendall(start.replace(b"200 OK", status.encode()))
        for _ in range(100):
            conversation.line.sendall(piece)
            written += len(piece)

    tracemalloc.start()
    try:
        with Wire(reply) as server, pytest.raises(exchange.Unclear):
            post(server.url, max_bytes=100_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000
    assert written < 50_000_000


def test_an_answer_of_exactly_the_size_limit_is_read() -> None:
    with Wire(wire.answer(b"x" * 1000)) as server:
        assert len(post(server.url, max_bytes=1000).body) == 1000
        with pytest.raises(exchange.Unclear, match="longer than 999 bytes"):
            post(server.url, max_bytes=999)


def test_the_proxy_in_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with Wire(wire.answer(b"by proxy")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert post("http://gateway.invalid/").body == b"by proxy"
    assert proxy.requests[0].line == "POST http://gateway.invalid/ HTTP/1.1"


@pytest.mark.parametrize(
    "reply",
    [wire.answer(b"", "407 Proxy Authentication Required"), wire.raw(b"HTTP/1.1 200 OK\r\n\r\n")],
    ids=["refuses", "leads nowhere"],
)
def test_without_a_proxys_tunnel_nothing_was_sent(reply: wire.Reply, monkeypatch: pytest.MonkeyPatch) -> None:
    with Wire(reply) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with pytest.raises(exchange.NotSent):
            post("https://gateway.invalid/")
    assert proxy.requests[0].line.startswith("CONNECT gateway.invalid:443")
