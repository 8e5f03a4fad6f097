"""The fast path of callbacks gives the same whole answers, and keeps the same rows, as gunicorn's general path.

Both are real web processes with the same keys. Connections are made up: requests of every channel, however they are
spelt, one after another or pipelined, split at any byte, kept alive and closed.
"""

import re
import socket
import sqlite3
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiptsvc import ids, tokens
from receiptsvc.config import Settings
from receiptsvc.demo.processes import answers
from tests.support import databases
from tests.support.forked import Stack
from tests.support.forms import examples
from tests.support.processes import unread_bytes, until

KEY = "0123456789abcdef" * 2
LAST = b"HEAD /callbacks/receipts HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
COLUMNS = "channel, message_id, claimed_kid, method, query, content_type, content_encoding, body"


@dataclass
class Way:
    """A web process, and how many rows it has kept."""

    address: tuple[str, int]
    database: sqlite3.Connection
    rows: int = 0

    def exchange(self, pieces: Sequence[bytes]) -> tuple[bytes, list[Any]]:
        """All that answers these pieces of a connection, without the time, and the rows that they made."""
        received = b""
        with socket.create_connection(self.address, 10) as connection:
            connection.settimeout(20)
            # What follows an answer that closes is never read.
            with suppress(ConnectionResetError, BrokenPipeError):
                for piece in pieces:
                    connection.sendall(piece)
                    if len(pieces) > 1:
                        until("it is read", lambda: unread_bytes(self.address[1]) == 0)
            with suppress(ConnectionResetError):
                while more := connection.recv(65536):
                    received += more
        query = f"SELECT {COLUMNS} FROM inbox ORDER BY id LIMIT -1 OFFSET {self.rows}"  # noqa: S608 - our own words
        made = self.database.execute(query).fetchall()
        self.rows += len(made)
        return re.sub(rb"Date: [^\r]+", b"Date: ...", received), made


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Way, Way]]:
    """The service as it is, and without the fast path."""
    with ExitStack() as contexts:
        made = []
        for name, application in (("fast", "wsgi"), ("general", "tests.support.general_path")):
            folder = tmp_path_factory.mktemp(name)
            url = f"sqlite:///{folder / 'receiptsvc.db'}"
            databases.migrate(url)
            stack = contexts.enter_context(Stack(folder, url, settings={"CALLBACK_KEYS": f"k1:{KEY}"}))
            stack.commands["web"][-1] = application
            stack.start("web")
            stack.wait_until("the web process", lambda stack=stack: answers(f"{stack.url}/healthz"))  # type: ignore[misc]
            parts = urlsplit(stack.url)
            database = contexts.enter_context(closing(sqlite3.connect(folder / "receiptsvc.db")))
            made.append(Way((parts.hostname or "", parts.port or 80), database))
        fast, general = made
        yield fast, general


SETTINGS = Settings.from_env({"CALLBACK_KEYS": f"k1:{KEY}", "DATABASE_URL": "sqlite:////nowhere/unused.db"})
STATIC = tokens.static_urls(SETTINGS)
TOKEN, ACCOUNT, INBOUND = (
    url.rpartition("/")[2] for url in (tokens.receipt_url(SETTINGS, ids.new()), STATIC.receipts, STATIC.inbound)
)
BASIC = [b64encode(f"us:{key}".encode()).decode() for key in (ACCOUNT, INBOUND)]

PATHS = st.sampled_from(
    [
        f"/callbacks/{base}{rest}"
        for base in ("receipts", "inbound")
        for rest in ("", "/", *(f"/{token}" for token in (TOKEN, ACCOUNT, INBOUND, f"{TOKEN}x", "nothing")))
    ]
)
PARAMETERS = st.sampled_from(
    [
        *["statusid=1", "transactionid=0017", "clientref=a%20b", "text=%00%ff", "a", "x=1?y=2", "%zz", "a=+b"],
        *["=", "", ";", "?", "#", "text=caf\xe9 x"],
        *[f"key={ACCOUNT}", f"KEY={ACCOUNT.upper()}", f"key={INBOUND}", f"a=1?key={ACCOUNT}", f"url={TOKEN}"],
    ]
)
HEADERS = st.sampled_from(
    [
        *["User-Agent: gateway/1.0", "Accept: */*", "X-Odd:", "X-Odd:  two  words ", "Connection: keep-alive"],
        *["connection: Keep-Alive", "Content-Type: application/x-www-form-urlencoded", "X-Forwarded-For: 10.0.0.1"],
        "Content-Encoding: gzip",
        *[f"Authorization: Basic {BASIC[0]}", f"authorization: basic {BASIC[1]}", "Authorization: Basic %"],
    ]
)


@st.composite
def targets(draw: st.DrawFn) -> str:
    """An address of callbacks in some spelling, with a query."""
    path = draw(PATHS)
    spelling = draw(st.sampled_from(["plain", "plain", "plain", "upper", "slashes", "slash", "escaped"]))
    if spelling == "upper":
        path = path.upper()
    elif spelling == "slashes":
        path = path.replace("/", "//")
    elif spelling == "slash":
        path += "/"
    elif spelling == "escaped":
        place = draw(st.integers(1, len(path) - 1))
        path = f"{path[:place]}%{ord(path[place]):02x}{path[place + 1 :]}"
    query = "&".join(draw(st.lists(PARAMETERS, max_size=4)))
    return f"{path}?{query}" if query or draw(st.booleans()) else path


@st.composite
def requests(draw: st.DrawFn, *, may_close: bool) -> bytes:
    """A request whose end is clear. `may_close`: whether its connection may be closed after it."""
    method = draw(st.sampled_from(["GET", "GET", "GET", "GET", "POST", "HEAD", "PUT"]))
    version = draw(st.sampled_from(["1.1", "1.1", "1.0", "1.2"])) if may_close else "1.1"
    headers = ["Host: here", *draw(st.lists(HEADERS, max_size=5, unique=True))]
    if may_close and draw(st.booleans()):
        headers.append("Connection: close")
    body = b""
    if method == "POST":
        body = draw(st.sampled_from([b"", b"statusid=1", b"a=%00&b=\xff", b"{}"]))
        headers.append(f"Content-Length: {len(body)}")
    headers = draw(st.permutations(headers))
    head = "\r\n".join([f"{method} {draw(targets())} HTTP/{version}", *headers])
    return f"{head}\r\n\r\n".encode("latin-1") + body


@st.composite
def connections(draw: st.DrawFn) -> list[bytes]:
    """What comes on a connection, in the pieces that are sent."""
    kept = draw(st.lists(requests(may_close=False), max_size=3))
    parts = [*kept, draw(requests(may_close=True)), LAST]
    how = draw(st.sampled_from(["one by one", "at once", "split"]))
    if how == "one by one":
        return parts
    whole = b"".join(parts)
    if how == "at once":
        return [whole]
    cuts = sorted(draw(st.sets(st.integers(1, len(whole) - 1), min_size=1, max_size=3)))
    return [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


@settings(max_examples=examples(100), deadline=None, derandomize=True)
@given(pieces=connections())
def test_both_ways_answer_and_keep_the_same(ways: tuple[Way, Way], pieces: list[bytes]) -> None:
    fast, general = (way.exchange(pieces) for way in ways)
    assert fast[0].startswith(b"HTTP/1."), pieces
    assert fast == general, pieces
