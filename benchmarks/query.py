"""`make bench-query`: how long the API's reads take, and whether that depends on the number of messages.

Two databases on one server, with 100,000 messages and with `--scale`, each with its own web processes, are read in
turns. Then the large one is exported, compared with a bare COPY of the same columns, and read while receipts come in.
At last 500 event streams are held open on one process. Then the same on SQLite.
"""

import random
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from itertools import cycle
from pathlib import Path
from statistics import median
from threading import Event, Thread
from time import perf_counter
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID

import click
import psycopg
from sqlalchemy.engine import make_url

from benchmarks import generator, machine, measures, receipts, runs, samples, streams
from benchmarks.generator import Plan, Site
from benchmarks.samples import Sample
from benchmarks.seed import DAYS, fill
from benchmarks.tools import BenchError
from receiptsvc import ids
from receiptsvc.config import Settings
from receiptsvc.demo.processes import Stack, answers
from receiptsvc.store.core.db import plain_url
from tests.support import databases

_SMALL = 100_000
_REQUESTS = 300  # of one kind in a round
_PAGE_REQUESTS = 100
_EXPORTS, _MANY = 3, 1_000_000  # more than so many messages are exported only once
_TIMEOUT_SECONDS = 300
_CHUNK_BYTES = 64 * 1024
_RECEIPTS_PER_SECOND, _RECEIVERS = 500, 1000
_SELECT_ALL = """
    SELECT id, created_at, recipient, originator, client_ref, status, status_at, conflict, transaction_id, encoding,
        segments, text
    FROM messages
"""

MakePath = Callable[[], str]


class Service:
    """The web processes on a database, and one keep-alive connection to them."""

    def __init__(self, stack: Stack, samples: Sequence[Sample]) -> None:
        self.stack, self.samples = stack, samples
        parts = urlsplit(stack.url)
        self._connection = HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT_SECONDS)
        self._headers = {"Authorization": f"Bearer {stack.api_key}"}

    def seconds(self, path: str) -> float:
        """How long one request takes. Raises BenchError if the answer is not 200."""
        started = perf_counter()
        status = self.status(path)
        duration = perf_counter() - started
        if status != 200:
            raise BenchError(f"{path.partition('?')[0]} was answered {status}")
        return duration

    def status(self, path: str) -> int:
        """Make one request, discard the body, and return the status."""
        self._connection.request("GET", path, headers=self._headers)
        with self._connection.getresponse() as response:
            response.read()
            return response.status

    def p99(self, make_path: MakePath, count: int) -> float:
        """The 99th percentile of `count` requests, in seconds, over a warm connection."""
        self._reconnect()
        self.status(make_path())
        return measures.percentile([self.seconds(make_path()) for _ in range(count)], 0.99)

    def export(self, path: str) -> int:
        """Read an export, and count its lines."""
        self._reconnect()
        self._connection.request("GET", path, headers=self._headers)
        lines = 0
        with self._connection.getresponse() as response:
            if response.status != 200:
                raise BenchError(f"an export was answered {response.status}")
            while chunk := response.read(_CHUNK_BYTES):
                lines += chunk.count(b"\n")
        return lines

    def _reconnect(self) -> None:
        """Close the connection, so that the next request opens a new one: the server may have closed it meanwhile."""
        self._connection.close()

    def web_pids(self) -> list[int]:
        """The pids of the web processes."""
        return machine.children(self.stack.pid("web"))

    def close(self) -> None:
        self._connection.close()


@click.command()
@click.option("--scale", type=click.IntRange(1000), default=1_000_000, help="How many messages there are (1,000,000).")
@click.option("--rounds", type=click.IntRange(1), default=5, help="How often each is measured (5).")
@click.option("--only", type=click.Choice(["postgresql", "sqlite"]), help="One database instead of both.")
def main(scale: int, rounds: int, only: str | None) -> None:
    """Measure the API's reads, on an embedded PostgreSQL and on SQLite (with a million messages at most)."""
    with runs.bench("query"):
        values, facts = measure(scale, rounds, only)
    runs.report("query", values, facts)


def measure(scale: int, rounds: int, only: str | None) -> tuple[dict[str, float], dict[str, str]]:
    """Make all measurements, one after the other; returns values and facts by name. Raises ReceiptsvcError."""
    values: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="receiptsvc-bench-") as scratch:
        folder = Path(scratch)
        facts = runs.facts(folder)
        facts["processors busy with other things"] = f"{machine.busy_share():.0%}"
        facts["messages"] = f"{scale:,}, and {_SMALL:,} to compare with"
        if only != "sqlite":
            with databases.embedded_postgresql() as server:
                facts |= machine.postgresql(server)
                with databases.scratch_postgresql(server) as small, databases.scratch_postgresql(server) as large:
                    values |= _measure("pg", folder, (small, large), scale=scale, rounds=rounds, facts=facts)
                with databases.scratch_postgresql(server) as url:
                    databases.migrate(url)
                    values |= streams.measure(folder / "streams", url, facts)
        if only != "postgresql":
            urls = (f"sqlite:///{folder / 'small.db'}", f"sqlite:///{folder / 'large.db'}")
            values |= _measure("sqlite", folder, urls, scale=min(scale, _MANY), rounds=rounds, facts=facts)
    return values, facts


def _measure(
    kind: str, folder: Path, urls: tuple[str, str], *, scale: int, rounds: int, facts: dict[str, str]
) -> dict[str, float]:
    for url, count in zip(urls, (_SMALL, scale), strict=True):
        fill(url, count, label=f"{kind}: ")
    with ExitStack() as contexts:
        small, large = (
            contexts.enter_context(_serving(folder / f"{kind}-{name}", url))
            for name, url in zip(("small", "large"), urls, strict=True)
        )
        values = _measure_reads(kind, small, large, rounds, facts)
        values |= _measure_exports(kind, large, urls[1], scale=scale, facts=facts)
        if kind == "pg":
            values |= _measure_busy_reads(folder, large, rounds, facts)
    return values


@contextmanager
def _serving(folder: Path, url: str) -> Iterator[Service]:
    with Stack(folder, url) as stack:
        stack.start("web")
        stack.wait_until("the web process", lambda: answers(f"{stack.url}/readyz"))
        service = Service(stack, samples.read(url))
        try:
            yield service
        finally:
            service.close()


def _by_id(service: Service) -> dict[str, MakePath]:
    """The reads by id."""

    def any_sample() -> Sample:
        return random.choice(service.samples)  # noqa: S311

    return {
        "message": lambda: f"/v1/messages/{any_sample().id}",
        "transaction": lambda: f"/v1/transactions/{any_sample().transaction_id}",
        "conversation": lambda: f"/v1/conversations/{quote(any_sample().client_ref, safe='')}",
    }


def _pages(service: Service) -> dict[str, MakePath]:
    """Searches and lists, with pages of 100; for rare and absent values too."""

    def any_sample() -> Sample:
        return random.choice(service.samples)  # noqa: S311

    now = datetime.now(UTC)
    week = f"since={now - timedelta(days=9):%Y-%m-%dT%H:%M:%SZ}&until={now - timedelta(days=2):%Y-%m-%dT%H:%M:%SZ}"
    lists: dict[str, MakePath] = {
        "all": lambda: "",
        "recipient": lambda: f"recipient=%2B{any_sample().recipient}",
        "clientRef": lambda: f"clientRef={quote(any_sample().client_ref, safe='')}",
        "transactionID": lambda: f"transactionID={any_sample().transaction_id}",
        "status": lambda: "status=delivered",
        "rare status": lambda: "status=expired",
        "absent status": lambda: "status=cancelled",
        "originator": lambda: "originator=ACME",
        "absent originator": lambda: "originator=NOBODY",
        "a week": lambda: week,
        "status in a week": lambda: f"status=undelivered&{week}",
        "originator and absent status": lambda: "originator=ACME&status=cancelled",
        "originator in a week": lambda: f"originator=ACME&{week}",
        "changed": lambda: f"order=changed&changedSince={now - timedelta(days=3):%Y-%m-%dT%H:%M:%SZ}",
    }
    paths: dict[str, MakePath] = {
        f"messages: {name}": (lambda make=make: f"/v1/messages?limit=100&{make()}".rstrip("&"))  # type: ignore[misc]
        for name, make in lists.items()
    }
    return paths | {
        "search: number": lambda: f"/v1/search?q=%2B{any_sample().recipient}",
        "search: clientRef": lambda: f"/v1/search?q={quote(any_sample().client_ref, safe='')}",
        "search: transactionID": lambda: f"/v1/search?q={any_sample().transaction_id}",
        "search: nothing": lambda: "/v1/search?q=nothing-like-it",
        "conversations": lambda: "/v1/conversations?limit=100",
        "recipient's": lambda: f"/v1/recipients/{any_sample().recipient}?limit=100",
        "replies": lambda: "/v1/inbound?limit=100",
        "overdue": lambda: "/v1/stats/overdue",
    }


def _statistics(shorter_by: int = 0) -> str:
    """Thirty days by hour; or some hours less, so that the answer is not cached."""
    until = datetime.now(UTC)
    since = until - timedelta(days=DAYS) + timedelta(hours=shorter_by)
    return f"/v1/stats?by=hour&since={since:%Y-%m-%dT%H:%M:%SZ}&until={until:%Y-%m-%dT%H:%M:%SZ}"


def _measure_reads(kind: str, small: Service, large: Service, rounds: int, facts: dict[str, str]) -> dict[str, float]:
    """By id at both scales in turns, then pages and statistics of the large one. Ratios are within a round."""
    by_id_large, by_id_small = _by_id(large), _by_id(small)
    pages = {name: make for name, make in _pages(large).items() if _is_served(large, name, make, facts)}
    scale_ratios: dict[str, list[float]] = {name: [] for name in by_id_large}
    by_id: list[float] = []
    page_ratios: dict[str, list[float]] = {name: [] for name in pages}
    statistics_ratios: list[float] = []
    uncached_ratios: list[float] = []
    shorter = cycle(range(1, 500))
    names = (*by_id_large, *pages, "statistics", "statistics, never kept")
    all_milliseconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        runs.say(f"{kind}: asking, round {number} of {rounds}" if number else f"{kind}: warming up")
        large_p99 = {name: large.p99(make, _REQUESTS) for name, make in by_id_large.items()}
        small_p99 = {name: small.p99(make, _REQUESTS) for name, make in by_id_small.items()}
        large_p99 |= {name: large.p99(make, _PAGE_REQUESTS) for name, make in pages.items()}
        large_p99["statistics"] = large.p99(_statistics, _PAGE_REQUESTS)
        large_p99["statistics, never kept"] = large.p99(lambda: _statistics(next(shorter)), _PAGE_REQUESTS)
        if not number:
            continue
        for name, seconds in large_p99.items():
            all_milliseconds[name].append(seconds * 1000)
        for name in by_id_large:
            scale_ratios[name].append(large_p99[name] / small_p99[name])
        by_id.append(large_p99["message"])
        for name in pages:
            page_ratios[name].append(large_p99[name] / large_p99["message"])
        statistics_ratios.append(large_p99["statistics"] / large_p99["message"])
        uncached_ratios.append(large_p99["statistics, never kept"] / large_p99["message"])
    for name, milliseconds in all_milliseconds.items():
        facts[f"{kind}, p99 of {name}"] = f"{measures.spread(milliseconds).text(1)} ms"
    slowest = max(page_ratios, key=lambda name: median(page_ratios[name]))
    facts[f"{kind}, the slowest page"] = f"{slowest}, {measures.spread(page_ratios[slowest]).text(1)} of a message"
    return {
        f"query_by_id_ms_{kind}": median(by_id) * 1000,
        **{f"query_{name}_scale_vs_small_{kind}": median(ratios) for name, ratios in scale_ratios.items()},
        f"query_page_vs_by_id_{kind}": median(page_ratios[slowest]),
        f"query_stats_vs_by_id_{kind}": median(statistics_ratios),
        f"query_stats_afresh_vs_by_id_{kind}": median(uncached_ratios),
    }


def _is_served(service: Service, name: str, make_path: MakePath, facts: dict[str, str]) -> bool:
    """Whether the service answers 200; if not, that is noted in `facts`."""
    status = service.status(make_path())
    if status != 200:
        facts[f"not measured: {name}"] = f"answered {status}"
    return status == 200


def _measure_exports(kind: str, service: Service, url: str, *, scale: int, facts: dict[str, str]) -> dict[str, float]:
    """Export all messages as CSV, in turns with a bare COPY of the same columns; and the memory that it adds.

    SQLite has no COPY; there the driver alone fetches the rows.
    """
    idle = {pid: machine.resident_bytes(pid) for pid in service.web_pids()}
    speeds: list[dict[str, float]] = []
    max_added = 0
    exports = range(_EXPORTS if scale <= _MANY else 1)
    for number in exports:
        runs.say(f"{kind}: exporting, round {number + 1} of {len(exports)}")
        with _sampling_memory(idle) as added:
            started = perf_counter()
            rows = service.export("/v1/export/messages.csv") - 1
            ours = rows / (perf_counter() - started)
        max_added = max(max_added, *added)
        started = perf_counter()
        copied = _copy(url) if kind == "pg" else _fetch(url)
        speeds.append({"ours": ours, "bare": copied / (perf_counter() - started)})
        if rows != copied:
            raise BenchError(f"the export has {rows} messages, and there are {copied}")
    ratio = measures.ratio(speeds, "ours", "bare")
    for name in ("ours", "bare"):
        facts[f"{kind}, export, {name}"] = f"{measures.of_each(speeds, name).text()} rows/s"
    return {f"export_vs_copy_{kind}": ratio.median, f"export_added_mb_{kind}": max_added / 1e6}


@contextmanager
def _sampling_memory(idle: Mapping[int, int]) -> Iterator[list[int]]:
    """Sample the processes' memory during the block. Gives, for each sample, the largest growth in bytes.

    `idle`: each process's memory before, by pid. There is at least one sample.
    """
    is_over, added = Event(), [0]

    def sample() -> None:
        while not is_over.wait(0.1):
            added.append(max(machine.resident_bytes(pid) - before for pid, before in idle.items()))

    thread = Thread(target=sample)
    thread.start()
    try:
        yield added
    finally:
        is_over.set()
        thread.join()


def _copy(url: str) -> int:
    rows = 0
    statement = f"COPY ({_SELECT_ALL}) TO STDOUT".encode()
    with psycopg.connect(plain_url(url)) as connection, connection.cursor().copy(statement) as copy:
        for chunk in copy:
            rows += bytes(chunk).count(b"\n")
    return rows


def _fetch(url: str) -> int:
    with closing(sqlite3.connect(make_url(url).database or "")) as connection:
        return sum(1 for _ in connection.execute(_SELECT_ALL))


def _measure_busy_reads(folder: Path, service: Service, rounds: int, facts: dict[str, str]) -> dict[str, float]:
    """Read a message by id while 500 receipts a second come in and a worker processes them, compared with without."""
    settings = Settings.from_env(service.stack.environ)
    parsed_ids = [ids.parse("msg", sample.id) for sample in service.samples]
    message_ids: list[UUID] = [message_id for message_id in parsed_ids if message_id is not None]
    targets = receipts.write_targets(folder / "query.targets", settings, (message_ids * 10)[:_RECEIVERS])
    site, program = Site(name="query", port=settings.port, targets=targets), generator.compile_program(folder)
    make_path = _by_id(service)["message"]
    plan = Plan(rate=_RECEIPTS_PER_SECOND, warm_seconds=1, seconds=6)
    p99s: list[dict[str, float]] = []
    service.stack.start("worker")
    for number in range(rounds):
        runs.say(f"asking beside {_RECEIPTS_PER_SECOND} receipts/s, round {number + 1} of {rounds}")
        idle = service.p99(make_path, _REQUESTS)
        reports: list[Any] = []
        load = Thread(target=lambda: reports.append(site.load(program, plan)))  # noqa: B023 - ends within the round
        load.start()
        busy: list[float] = []
        while load.is_alive():
            busy.append(service.seconds(make_path()))
        load.join()
        if not reports or not reports[0].is_clean:
            raise BenchError("not every receipt was answered 200")
        p99s.append({"idle": idle, "busy": measures.percentile(busy, 0.99)})
    ratio = measures.ratio(p99s, "busy", "idle")
    for name in ("idle", "busy"):
        milliseconds = measures.spread([p99[name] * 1000 for p99 in p99s]).text(1)
        facts[f"p99 of a message, {name}"] = f"{milliseconds} ms"
    return {"query_busy_vs_idle": ratio.median}


if __name__ == "__main__":
    main()
