"""`make bench-query`: how long the API takes over what it is asked, and whether that depends on how much there is.

Two databases of one server, with 100,000 messages and with `--scale`, each with web processes of its own, are asked in
turns; then the large one is exported, beside a bare COPY of the same columns, and asked while receipts come in. At last
500 event streams are held open on one process. Then SQLite.
"""

import random
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
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
from sqlalchemy import select
from sqlalchemy.engine import make_url

from benchmarks import generator, machine, measures, receipts, runs, streams
from benchmarks.generator import Plan, Site
from benchmarks.seed import DAYS, seed
from benchmarks.tools import BenchError
from receiptsvc import ids
from receiptsvc.config import Settings
from receiptsvc.demo.processes import Stack, answers
from receiptsvc.store.core.db import Database, plain_url
from receiptsvc.store.core.models import Message
from tests.support import databases

_SMALL = 100_000
_SAMPLES = 300  # messages to ask for, spread over all of them
_ASKS = 300  # of one kind in a round
_PAGE_ASKS = 100
_EXPORTS, _MANY = 3, 1_000_000  # more messages than that are exported once
_TIMEOUT_SECONDS = 300
_CHUNK = 64 * 1024
_RECEIPTS_A_SECOND, _RECEIVERS = 500, 1000
_ALL = """
    SELECT id, created_at, recipient, originator, client_ref, status, status_at, conflict, transaction_id, encoding,
        segments, text
    FROM messages
"""

Ask = Callable[[], str]  # makes a path


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What is asked for: something of messages that are there."""

    id: str
    transaction_id: str
    client_ref: str
    recipient: str


class Service:
    """Web processes on a database, and one kept connection to them."""

    def __init__(self, stack: Stack, samples: Sequence[Sample]) -> None:
        self.stack, self.samples = stack, samples
        parts = urlsplit(stack.url)
        self._connection = HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT_SECONDS)
        self._headers = {"Authorization": f"Bearer {stack.api_key}"}

    def seconds(self, path: str) -> float:
        """How long one answer takes. Raises BenchError if it is not 200."""
        began = perf_counter()
        status = self.status(path)
        taken = perf_counter() - began
        if status != 200:
            raise BenchError(f"{path.partition('?')[0]} was answered {status}")
        return taken

    def status(self, path: str) -> int:
        """The status of an answer that is read and thrown away."""
        self._connection.request("GET", path, headers=self._headers)
        with self._connection.getresponse() as answer:
            answer.read()
            return answer.status

    def p99(self, make: Ask, asks: int) -> float:
        """Of so many answers, in seconds, over a connection that is warm."""
        self._connect()
        self.status(make())
        return measures.percentile([self.seconds(make()) for _ in range(asks)], 0.99)

    def export(self, path: str) -> int:
        """How many lines an export has."""
        self._connect()
        self._connection.request("GET", path, headers=self._headers)
        lines = 0
        with self._connection.getresponse() as answer:
            if answer.status != 200:
                raise BenchError(f"an export was answered {answer.status}")
            while piece := answer.read(_CHUNK):
                lines += piece.count(b"\n")
        return lines

    def _connect(self) -> None:
        """Leave the connection that was kept, since the server may have closed it meanwhile; the next one is new."""
        self._connection.close()

    def processes(self) -> list[int]:
        """The ids of its web processes."""
        return machine.children(self.stack.pid("web"))

    def close(self) -> None:
        self._connection.close()


@click.command()
@click.option("--scale", type=click.IntRange(1000), default=1_000_000, help="How many messages there are (1,000,000).")
@click.option("--rounds", type=click.IntRange(1), default=5, help="How often each is measured (5).")
@click.option("--only", type=click.Choice(["postgresql", "sqlite"]), help="One database instead of both.")
def main(scale: int, rounds: int, only: str | None) -> None:
    """Measure what is asked of the API, on a PostgreSQL of our own and on SQLite (with a million messages at most)."""
    with runs.bench("query"):
        values, facts = measure(scale, rounds, only)
    runs.tell("query", values, facts)


def measure(scale: int, rounds: int, only: str | None) -> tuple[dict[str, float], dict[str, str]]:
    """All measurements, one after the other. Raises ReceiptsvcError."""
    values: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="receiptsvc-bench-") as made:
        folder = Path(made)
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
        databases.migrate(url)
        with click.progressbar(length=count, label=f"{kind}: {count:,} messages", file=sys.stderr) as bar:
            seed(url, count, bar.update)
    with ExitStack() as ends:
        small, large = (
            ends.enter_context(_serving(folder / f"{kind}-{name}", url))
            for name, url in zip(("small", "large"), urls, strict=True)
        )
        values = _ask(kind, small, large, rounds, facts)
        values |= _export(kind, large, urls[1], scale=scale, facts=facts)
        if kind == "pg":
            values |= _ask_busily(folder, large, rounds, facts)
    return values


@contextmanager
def _serving(folder: Path, url: str) -> Iterator[Service]:
    with Stack(folder, url) as stack:
        stack.start("web")
        stack.wait_until("the web process", lambda: answers(f"{stack.url}/readyz"))
        service = Service(stack, _samples(url))
        try:
            yield service
        finally:
            service.close()


def _samples(url: str) -> list[Sample]:
    database = Database(url)
    dealt = random.Random(1)  # noqa: S311 - the same ones each time
    begin = datetime.now(UTC) - timedelta(days=DAYS)
    found: list[Sample] = []
    query = select(Message.id, Message.transaction_id, Message.client_ref, Message.recipient)
    with database.reading() as session:
        for _ in range(_SAMPLES):
            at = begin + dealt.random() * timedelta(days=DAYS)
            near = query.where(Message.id >= ids.first_at(at)).order_by(Message.id).limit(1)
            found += [
                Sample(
                    id=ids.public("msg", row.id),
                    transaction_id=row.transaction_id or "",
                    client_ref=row.client_ref or "",
                    recipient=row.recipient,
                )
                for row in session.execute(near)
            ]
    database.close()
    return found


def _by_id(service: Service) -> dict[str, Ask]:
    """What is asked for by its id."""

    def any_one() -> Sample:
        return random.choice(service.samples)  # noqa: S311

    return {
        "message": lambda: f"/v1/messages/{any_one().id}",
        "transaction": lambda: f"/v1/transactions/{any_one().transaction_id}",
        "conversation": lambda: f"/v1/conversations/{quote(any_one().client_ref, safe='')}",
    }


def _pages(service: Service) -> dict[str, Ask]:
    """Searches and lists, a page of 100 each; rare and absent values too."""

    def any_one() -> Sample:
        return random.choice(service.samples)  # noqa: S311

    now = datetime.now(UTC)
    week = f"since={now - timedelta(days=9):%Y-%m-%dT%H:%M:%SZ}&until={now - timedelta(days=2):%Y-%m-%dT%H:%M:%SZ}"
    lists: dict[str, Ask] = {
        "all": lambda: "",
        "recipient": lambda: f"recipient=%2B{any_one().recipient}",
        "clientRef": lambda: f"clientRef={quote(any_one().client_ref, safe='')}",
        "transactionID": lambda: f"transactionID={any_one().transaction_id}",
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
    paths: dict[str, Ask] = {
        f"messages: {name}": (lambda make=make: f"/v1/messages?limit=100&{make()}".rstrip("&"))  # type: ignore[misc]
        for name, make in lists.items()
    }
    return paths | {
        "search: number": lambda: f"/v1/search?q=%2B{any_one().recipient}",
        "search: clientRef": lambda: f"/v1/search?q={quote(any_one().client_ref, safe='')}",
        "search: transactionID": lambda: f"/v1/search?q={any_one().transaction_id}",
        "search: nothing": lambda: "/v1/search?q=nothing-like-it",
        "conversations": lambda: "/v1/conversations?limit=100",
        "recipient's": lambda: f"/v1/recipients/{any_one().recipient}?limit=100",
        "replies": lambda: "/v1/inbound?limit=100",
        "overdue": lambda: "/v1/stats/overdue",
    }


def _statistics(shorter_by: int = 0) -> str:
    """Thirty days by hour, or some hours less, which nobody has asked for yet."""
    until = datetime.now(UTC)
    since = until - timedelta(days=DAYS) + timedelta(hours=shorter_by)
    return f"/v1/stats?by=hour&since={since:%Y-%m-%dT%H:%M:%SZ}&until={until:%Y-%m-%dT%H:%M:%SZ}"


def _ask(kind: str, small: Service, large: Service, rounds: int, facts: dict[str, str]) -> dict[str, float]:
    """By id at both scales in turns, then pages and statistics of the large one; ratios within a round."""
    here, there = _by_id(large), _by_id(small)
    pages = {name: make for name, make in _pages(large).items() if _is_known(large, name, make, facts)}
    grown: dict[str, list[float]] = {name: [] for name in here}
    by_id: list[float] = []
    paged: dict[str, list[float]] = {name: [] for name in pages}
    statistics: list[float] = []
    afresh: list[float] = []
    shorter = cycle(range(1, 500))
    told: dict[str, list[float]] = {name: [] for name in (*here, *pages, "statistics", "statistics, never kept")}
    for number in range(rounds + 1):
        runs.say(f"{kind}: asking, round {number} of {rounds}" if number else f"{kind}: warming up")
        slow = {name: large.p99(make, _ASKS) for name, make in here.items()}
        few = {name: small.p99(make, _ASKS) for name, make in there.items()}
        slow |= {name: large.p99(make, _PAGE_ASKS) for name, make in pages.items()}
        slow["statistics"] = large.p99(_statistics, _PAGE_ASKS)
        slow["statistics, never kept"] = large.p99(lambda: _statistics(next(shorter)), _PAGE_ASKS)
        if not number:
            continue
        for name, seconds in slow.items():
            told[name].append(seconds * 1000)
        for name in here:
            grown[name].append(slow[name] / few[name])
        by_id.append(slow["message"])
        for name in pages:
            paged[name].append(slow[name] / slow["message"])
        statistics.append(slow["statistics"] / slow["message"])
        afresh.append(slow["statistics, never kept"] / slow["message"])
    for name, milliseconds in told.items():
        facts[f"{kind}, p99 of {name}"] = f"{measures.spread(milliseconds).text(1)} ms"
    slowest = max(paged, key=lambda name: median(paged[name]))
    facts[f"{kind}, the slowest page"] = f"{slowest}, {measures.spread(paged[slowest]).text(1)} of a message"
    return {
        f"query_by_id_ms_{kind}": median(by_id) * 1000,
        **{f"query_{name}_scale_vs_small_{kind}": median(ratios) for name, ratios in grown.items()},
        f"query_page_vs_by_id_{kind}": median(paged[slowest]),
        f"query_stats_vs_by_id_{kind}": median(statistics),
        f"query_stats_afresh_vs_by_id_{kind}": median(afresh),
    }


def _is_known(service: Service, name: str, make: Ask, facts: dict[str, str]) -> bool:
    status = service.status(make())
    if status != 200:
        facts[f"not measured: {name}"] = f"answered {status}"
    return status == 200


def _export(kind: str, service: Service, url: str, *, scale: int, facts: dict[str, str]) -> dict[str, float]:
    """All messages as CSV, beside a bare COPY of the same columns, in turns; and what it adds to a process's memory.

    SQLite has no COPY; there its rows are fetched by the driver alone.
    """
    idle = {pid: machine.resident_bytes(pid) for pid in service.processes()}
    speeds: list[dict[str, float]] = []
    most = 0
    exports = range(_EXPORTS if scale <= _MANY else 1)
    for number in exports:
        runs.say(f"{kind}: exporting, round {number + 1} of {len(exports)}")
        with _watching(idle) as added:
            began = perf_counter()
            rows = service.export("/v1/export/messages.csv") - 1
            ours = rows / (perf_counter() - began)
        most = max(most, *added)
        began = perf_counter()
        bare = _copy(url) if kind == "pg" else _fetch(url)
        speeds.append({"ours": ours, "bare": bare / (perf_counter() - began)})
        if rows != bare:
            raise BenchError(f"the export has {rows} messages, and there are {bare}")
    ratio = measures.ratio(speeds, "ours", "bare")
    for name in ("ours", "bare"):
        facts[f"{kind}, export, {name}"] = f"{measures.of_each(speeds, name).text()} rows/s"
    return {f"export_vs_copy_{kind}": ratio.median, f"export_added_mb_{kind}": most / 1e6}


@contextmanager
def _watching(idle: Mapping[int, int]) -> Iterator[list[int]]:
    """The most that each process has grown over its idle memory while the block lasts; there is at least one number."""
    over, added = Event(), [0]

    def look() -> None:
        while not over.wait(0.1):
            added.append(max(machine.resident_bytes(pid) - before for pid, before in idle.items()))

    thread = Thread(target=look)
    thread.start()
    try:
        yield added
    finally:
        over.set()
        thread.join()


def _copy(url: str) -> int:
    rows = 0
    statement = f"COPY ({_ALL}) TO STDOUT".encode()
    with psycopg.connect(plain_url(url)) as connection, connection.cursor().copy(statement) as copy:
        for piece in copy:
            rows += bytes(piece).count(b"\n")
    return rows


def _fetch(url: str) -> int:
    with closing(sqlite3.connect(make_url(url).database or "")) as connection:
        return sum(1 for _ in connection.execute(_ALL))


def _ask_busily(folder: Path, service: Service, rounds: int, facts: dict[str, str]) -> dict[str, float]:
    """A message by its id while 500 receipts a second come in and a worker works on them, beside the same without."""
    settings = Settings.from_env(service.stack.environ)
    message_ids = [ids.parse("msg", sample.id) for sample in service.samples]
    known: list[UUID] = [one for one in message_ids if one is not None]
    targets = receipts.write_targets(folder / "query.targets", settings, (known * 10)[:_RECEIVERS])
    site, program = Site(name="query", port=settings.port, targets=targets), generator.compiled(folder)
    make = _by_id(service)["message"]
    plan = Plan(rate=_RECEIPTS_A_SECOND, warm_seconds=1, seconds=6)
    told: list[dict[str, float]] = []
    service.stack.start("worker")
    for number in range(rounds):
        runs.say(f"asking beside {_RECEIPTS_A_SECOND} receipts/s, round {number + 1} of {rounds}")
        idle = service.p99(make, _ASKS)
        reports: list[Any] = []
        load = Thread(target=lambda: reports.append(site.load(program, plan)))  # noqa: B023 - ends within the round
        load.start()
        busy: list[float] = []
        while load.is_alive():
            busy.append(service.seconds(make()))
        load.join()
        if not reports or not reports[0].is_clean:
            raise BenchError("not every receipt was answered 200")
        told.append({"idle": idle, "busy": measures.percentile(busy, 0.99)})
    ratio = measures.ratio(told, "busy", "idle")
    for name in ("idle", "busy"):
        milliseconds = measures.spread([each[name] * 1000 for each in told]).text(1)
        facts[f"p99 of a message, {name}"] = f"{milliseconds} ms"
    return {"query_busy_vs_idle": ratio.median}


if __name__ == "__main__":
    main()
