"""Hostile clients: no bytes cause a 500, a hang or a leak, and other clients' callbacks are kept."""

import re
import select as system_select
import socket
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from urllib.parse import urlsplit

from sqlalchemy import select

from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import InboxRow
from tests.faults.conftest import Form, StartWeb, callback_url
from tests.faults.fuzz import Case, cases
from tests.faults.proof import assert_nothing_lost
from tests.support.forked import Stack
from tests.support.load import Load, connect
from tests.support.processes import children, resident_megabytes

SEED = 20161101
SENDERS = 8
MAX_SECONDS = 5.0
MAX_GROWTH_MEGABYTES = 6.0
CUT_WITHIN_SECONDS = 30.0
DRIP_SECONDS = 0.25

STATUS_LINE = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")
FUZZ = re.compile(rb"fuzz=([0-9]+)&")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The outcome of a case. No status: the connection was closed without an answer."""

    kind: str
    allowed: frozenset[int]
    status: int | None
    is_over: bool
    seconds: float

    @property
    def is_fine(self) -> bool:
        if not self.is_over:
            return False
        if self.kind == "too large" and self.status is None:
            return True  # it was answered while it still sent
        if self.allowed:
            return self.status in self.allowed
        return (
            self.status is None or self.status < 500 or self.status in {501, 505}
        )  # not implemented, or not supported


def provoke(url: str, case: Case) -> Outcome:
    """Send the bytes and wait until the server ends the connection."""
    started = time.monotonic()
    received, is_over = b"", False
    with connect(url) as connection:
        try:
            with suppress(OSError):  # the server may close before it has read everything
                connection.sendall(case.wire)
                connection.shutdown(socket.SHUT_WR)
            while more := connection.recv(65_536):
                received += more
            is_over = True
        except ConnectionError:
            is_over = True
        except TimeoutError:
            pass
    answer = STATUS_LINE.match(received)
    status = int(answer[1]) if answer else None
    seconds = time.monotonic() - started
    return Outcome(kind=case.kind, allowed=case.allowed, status=status, is_over=is_over, seconds=seconds)


def web_megabytes(stack: Stack) -> float:
    return sum(map(resident_megabytes, children(stack.pid("web"))))


def test_no_bytes_make_it_fail_hang_or_lose_a_callback(database_url: str, start_web: StartWeb, form: Form) -> None:
    stack = start_web(database_url, CALLBACK_BUDGET_SECONDS="7")
    url = callback_url(stack)
    made = cases(url, form.fuzzed, SEED)
    outcomes: list[Outcome] = []
    warm_megabytes = None
    with Load(url, connections=2) as load, ThreadPoolExecutor(SENDERS) as pool:
        while chunk := list(islice(made, 500)):
            outcomes += pool.map(partial(provoke, url), chunk)
            if warm_megabytes is None and len(outcomes) >= form.fuzzed // 2:
                warm_megabytes = web_megabytes(stack)
        assert warm_megabytes is not None
        growth_megabytes = web_megabytes(stack) - warm_megabytes
    bad = Counter((outcome.kind, outcome.status, outcome.is_over) for outcome in outcomes if not outcome.is_fine)
    assert not bad
    assert max(outcome.seconds for outcome in outcomes) < MAX_SECONDS
    assert growth_megabytes < MAX_GROWTH_MEGABYTES
    assert load.statuses == {200}
    assert_nothing_lost(database_url, load.kept)
    assert changed(database_url, cases(url, form.fuzzed, SEED))[:3] == []


def changed(database_url: str, sent: Iterable[Case]) -> list[tuple[bytes, bytes]]:
    """The sound cases that were not kept byte for byte: the sent query, and the stored one."""
    database = Database(database_url)
    try:
        with database.reading() as session:
            rows = session.execute(select(InboxRow.query, InboxRow.body)).all()
    finally:
        database.close()
    kept = {int(found[1]): (query, body) for query, body in rows if (found := FUZZ.match(query))}
    return [
        (case.query, kept.get(case.serial, (b"", b""))[0])
        for case in sent
        if case.serial is not None and kept.get(case.serial) != (case.query, case.body)
    ]


# What is sent at once, and what then drips. The requests are never ended.
SLOW = {
    "nothing at all": (b"", b""),
    "request line that stops": (b"GET %b?a=", b""),
    "headers that stop": (b"GET %b?a=1 HTTP/1.1\r\nHost: rec", b""),
    "headers that drip": (b"GET %b?a=1 HTTP/1.1\r\nHost: receipts\r\nX-Slow: ", b"x"),
    "body that never comes": (b"POST %b HTTP/1.1\r\nHost: receipts\r\nContent-Length: 1000\r\n\r\n", b""),
    "body that drips": (b"POST %b HTTP/1.1\r\nHost: receipts\r\nContent-Length: 1000\r\n\r\n", b"x"),
    "chunk that drips": (b"POST %b HTTP/1.1\r\nHost: receipts\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n", b"x"),
    "chunks that stop": (b"POST %b HTTP/1.1\r\nHost: receipts\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", b""),
}
SLOW_OF_EACH = 25


def test_slow_requests_block_nothing_and_are_cut(sqlite_url: str, start_web: StartWeb) -> None:
    stack = start_web(sqlite_url, CALLBACK_BUDGET_SECONDS="7")
    answers: dict[str, set[bytes]] = {kind: set() for kind in SLOW}
    url = callback_url(stack)
    path = urlsplit(url).path.encode()
    with ExitStack() as opened, Load(url, connections=8) as load:
        slow: dict[socket.socket, str] = {}
        for kind, (beginning, _) in SLOW.items():
            for _ in range(SLOW_OF_EACH):
                connection = opened.enter_context(connect(url))
                connection.sendall(beginning.replace(b"%b", path))
                slow[connection] = kind
        load.wait_for(200, times=500)
        deadline = time.monotonic() + CUT_WITHIN_SECONDS
        while slow and time.monotonic() < deadline:
            for connection in waiting_to_be_read(slow):
                received = read_more(connection)
                if received:
                    answers[slow[connection]].add(received[:12])
                else:
                    del slow[connection]
            for connection, kind in slow.items():
                with suppress(ConnectionError):
                    connection.sendall(SLOW[kind][1])
    assert set(slow.values()) == set(), f"not cut within {CUT_WITHIN_SECONDS:g} s"
    assert {kind: received for kind, received in answers.items() if received} == {
        kind: {b"HTTP/1.1 408"} for kind in SLOW if kind.startswith(("body", "chunk"))
    }
    assert load.statuses == {200}
    assert load.slowest_seconds < 3, "on a machine that may be busy: a blocked call waits until the slow are cut"
    assert_nothing_lost(sqlite_url, load.kept)


def waiting_to_be_read(connections: Iterable[socket.socket]) -> list[socket.socket]:
    """The connections with bytes from the server, within a quarter of a second."""
    found: list[socket.socket] = system_select.select(list(connections), [], [], DRIP_SECONDS)[0]
    return found


def read_more(connection: socket.socket) -> bytes:
    """Bytes from a connection; b"" once it has ended."""
    try:
        return connection.recv(65_536)
    except ConnectionError:
        return b""
