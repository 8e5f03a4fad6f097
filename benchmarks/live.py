"""What a hundred open pages of /ops that are kept as they are now cost the web processes, and the database."""

import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from selectors import EVENT_READ, DefaultSelector
from urllib.parse import urlsplit

import psycopg

from benchmarks import machine, runs
from benchmarks.tools import BenchError
from receiptsvc.demo.processes import Stack
from receiptsvc.store.core.db import plain_url

_PAGES = 100
_SECONDS = 30.0
_SETTLE_SECONDS = 5.0  # until every page has had its parts
_TIMEOUT_SECONDS = 20
_TRANSACTIONS = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"


def measure(stack: Stack, url: str, headers: Mapping[str, str], facts: dict[str, str]) -> dict[str, float]:
    """The processor time that the pages take, as a share of one core, beside that of no page. Raises BenchError."""
    runs.say("pages: a hundred that are live")
    idle_cores, idle_transactions, _ = _watch(stack, url, [])
    with ExitStack() as opened:
        streams = [opened.enter_context(closing(_open(stack, headers))) for _ in range(_PAGES)]
        _drain(streams, _SETTLE_SECONDS)
        cores, transactions, received = _watch(stack, url, streams)
    facts["a hundred live pages, each"] = f"{received / _PAGES / _SECONDS:,.0f} bytes a second"
    facts["transactions a second, with and without them"] = f"{transactions:.1f}; {idle_transactions:.1f}"
    return {"live_pages_cores": cores - idle_cores, "live_pages_transactions": transactions - idle_transactions}


def _open(stack: Stack, headers: Mapping[str, str]) -> HTTPConnection:
    connection = HTTPConnection(urlsplit(stack.url).netloc, timeout=_TIMEOUT_SECONDS)
    connection.request("GET", "/ops/now", headers={**headers, "Accept": "text/event-stream"})
    connection.sock.setblocking(True)
    return connection


def _watch(stack: Stack, url: str, streams: list[HTTPConnection]) -> tuple[float, float, int]:
    """Cores, transactions a second, and bytes that came, during some seconds."""
    processes = [stack.pid("web"), *machine.children(stack.pid("web"))]
    with psycopg.connect(plain_url(url), autocommit=True) as connection:
        before = _count(connection)
        seconds = [machine.processor_seconds(pid) for pid in processes]
        received = _drain(streams, _SECONDS)
        spent = sum(machine.processor_seconds(pid) for pid in processes) - sum(seconds)
        transactions = _count(connection) - before
    if streams and not received:
        raise BenchError("the live pages were sent nothing")
    return spent / _SECONDS, transactions / _SECONDS, received


def _count(connection: psycopg.Connection) -> int:
    row = connection.execute(_TRANSACTIONS).fetchone()
    return int(row[0]) if row else 0


def _drain(streams: list[HTTPConnection], seconds: float) -> int:
    """Read what comes, for so long; how many bytes. Raises BenchError if one ends."""
    received, deadline = 0, time.monotonic() + seconds
    with DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream.sock, EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not streams:
                time.sleep(left)
            for key, _ in selector.select(left) if streams else ():
                data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]  # they are sockets
                if not data:
                    raise BenchError("a live page was cut")
                received += len(data)
    return received
