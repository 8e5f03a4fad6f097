"""`make bench-process`: what it costs to work on receipts, beside the same done receipt by receipt through the ORM.

First the two in turns on the same rows of the same database, in this process; then the worker itself, as a process: one
against two, its memory and its pace over a long backlog while somebody holds an old snapshot, and what a receipt
takes on disk.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import perf_counter, sleep
from uuid import UUID
from zoneinfo import ZoneInfo

import click
import psycopg
from sqlalchemy.engine import make_url

from benchmarks import machine, measures, receipts, runs
from benchmarks.candidates import one_by_one
from benchmarks.tools import BenchError
from receiptsvc import ids
from receiptsvc.demo.processes import Stack
from receiptsvc.domain.inbox import Arrival, Channel
from receiptsvc.domain.messages import Callback
from receiptsvc.dynmark import status_map
from receiptsvc.store.core.db import Database, plain_url
from receiptsvc.store.inbox.writer import open_writer
from receiptsvc.worker.process import PendingQueue, ReceiptRules, process
from tests.support import databases

_READING = ReceiptRules(status_map=status_map.load({}), zone=ZoneInfo("UTC"))
_OURS, _ALONE = "set-wise", "receipt by receipt"
_BATCHES = {"postgresql": 1000, "sqlite": 100}  # as the worker's own
_KEPT_AT_ONCE = 500
_LOOK_SECONDS = 0.05
_TABLES = ("inbox", "transitions", "counters", "hourly_counts", "events")


class Receipts:
    """Receipts for messages of a database: two each, sent and delivered, of 250 bytes. Never the same one twice."""

    def __init__(self, url: str, message_ids: Sequence[UUID]) -> None:
        self._door = open_writer(url, 0, patience_seconds=5)
        self._message_ids = message_ids
        self._place = 0

    def keep(self, count: int) -> datetime:
        """Keep so many more, as the intake does; when all of them are due."""
        came_at = datetime.now(UTC)
        for start in range(0, count, _KEPT_AT_ONCE):
            self._door.keep([self._next(came_at) for _ in range(min(_KEPT_AT_ONCE, count - start))])
        return datetime.now(UTC) + timedelta(seconds=1)

    def _next(self, came_at: datetime) -> Arrival:
        place = self._place
        self._place += 1
        query = (
            f"datetime=2026-01-05T12%3A00%3A{place // 2 % 60:02}.{place % 1000:03}&recipient=447700900001"
            f"&statusid={place % 2 + 1}&statusdescription={'Delivered' if place % 2 else 'Message+sent'}"
            f"&transactionid={place // 2}&clientref=order-{place // 2}"
        ).encode()
        return Arrival(
            id=ids.new(),
            channel=Channel.MESSAGE,
            message_id=self._message_ids[place // 2 % len(self._message_ids)],
            received_at=came_at + timedelta(microseconds=place),
            callback=Callback("GET", query.ljust(250, b"&"), None, b""),
        )


@click.command()
@click.option("--backlog", type=click.IntRange(10_000), default=1_000_000, help="How many receipts wait (1,000,000).")
@click.option("--rounds", type=click.IntRange(1), default=7, help="How many turns each way of working has (7).")
@click.option("--receipts", "count", type=click.IntRange(1000), default=10_000, help="In one turn of ours (10,000).")
def main(backlog: int, rounds: int, count: int) -> None:
    """Measure the worker, on a SQLite file and on a PostgreSQL of our own."""
    with runs.bench("process"):
        values, facts = measure(backlog, rounds, count)
    runs.tell("process", values, facts)


def measure(backlog: int, rounds: int, count: int) -> tuple[dict[str, float], dict[str, str]]:
    """All measurements, one after the other. Raises ReceiptsvcError."""
    with tempfile.TemporaryDirectory(prefix="receiptsvc-bench-") as made, databases.embedded_postgresql() as server:
        folder = Path(made)
        facts = runs.facts(folder)
        facts |= machine.postgresql(server) | {"processors busy with other things": f"{machine.busy_share():.0%}"}
        values: dict[str, float] = {}
        url = f"sqlite:///{folder / 'bench.db'}"
        databases.migrate(url)
        values |= _compare(url, rounds, count, facts)
        with databases.scratch_postgresql(server) as url:
            databases.migrate(url)
            values |= _compare(url, rounds, count, facts)
        with databases.scratch_postgresql(server) as url:
            databases.migrate(url)
            values |= _workers(folder, url, max(backlog // 5, count), facts)
        for holds_snapshot in (False, True):
            with databases.scratch_postgresql(server) as url:
                databases.migrate(url)
                values |= _backlog(folder, url, backlog, facts, holds_snapshot=holds_snapshot)
    return values, facts


def _compare(url: str, rounds: int, count: int, facts: dict[str, str]) -> dict[str, float]:
    """Both ways in turns."""
    kind = make_url(url).get_backend_name()
    database = Database(url)
    runs.say(f"{kind}: both ways in turns")
    source = Receipts(url, receipts.accept_messages(url, rounds * count * 21 // 40))
    ways: dict[str, tuple[int, Callable[[datetime], Callable[[], int]]]] = {
        _OURS: (count, lambda due: partial(process, database, _READING, due, _BATCHES[kind], PendingQueue())),
        _ALONE: (count // 20, lambda due: partial(one_by_one.process, database, _READING, due)),
    }
    told: list[dict[str, float]] = []
    for _ in range(rounds):
        speeds = {}
        for name, (receipts_in_turn, way) in ways.items():
            step = way(source.keep(receipts_in_turn))
            began, done = perf_counter(), 0
            while worked_on := step():
                done += worked_on
            speeds[name] = done / (perf_counter() - began)
            if done != receipts_in_turn:
                raise BenchError(f"{done} receipts were worked on, not {receipts_in_turn}")
        told.append(speeds)
    database.close()
    for name in ways:
        facts[f"{kind}, {name}"] = f"{measures.of_each(told, name).text()} receipts/s"
    ratio = measures.ratio(told, _OURS, _ALONE)
    facts[f"{kind}, ratio"] = ratio.text(1)
    return {f"process_vs_orm_{'pg' if kind == 'postgresql' else kind}": ratio.median}


def _workers(folder: Path, url: str, count: int, facts: dict[str, str]) -> dict[str, float]:
    """One worker against two, on as much each, in turns; who waits for a lock meanwhile; what it takes on disk."""
    source = Receipts(url, receipts.accept_messages(url, count // 2))
    speeds: dict[int, list[float]] = {1: [], 2: []}
    waiting = looks = 0
    for number in (1, 2, 1, 2):
        runs.say(f"{number} worker(s) on {count // 4:,} receipts")
        source.keep(count // 4)
        with _working(folder, url, number), _asking(url) as ask:
            began, first = perf_counter(), _pending(ask)
            while (left := _pending(ask)) > count // 40:  # the last of it is the end of a queue, not its pace
                looks += 1
                waiting += int(_one(ask, _LOCKED) > 0)
                sleep(_LOOK_SECONDS)
            speeds[number].append((first - left) / (perf_counter() - began))
            _until_empty(ask)
    with _asking(url) as ask:
        ask.execute("VACUUM")
        size = sum(_one(ask, f"SELECT pg_total_relation_size('{table}')") for table in _TABLES)
        rows = _one(ask, "SELECT count(*) FROM inbox")
    facts["one worker; two"] = "; ".join(measures.spread(speeds[number]).text() for number in (1, 2)) + " receipts/s"
    return {
        "two_workers_vs_one": measures.spread(speeds[2]).median / measures.spread(speeds[1]).median,
        "lock_wait_percent": 100 * waiting / max(looks, 1),
        "bytes_per_receipt": round(size / rows),
    }


def _backlog(folder: Path, url: str, backlog: int, facts: dict[str, str], *, holds_snapshot: bool) -> dict[str, float]:
    """One worker on a long backlog; or while somebody reads from a snapshot that was taken before it began."""
    source = Receipts(url, receipts.accept_messages(url, backlog // 2))
    runs.say(f"keeping {backlog:,} receipts")
    source.keep(backlog)
    runs.say("working on them, beside an old snapshot" if holds_snapshot else "working on them")
    marks: list[tuple[float, int]] = []
    memory = 0
    tenth = backlog // 10
    with psycopg.connect(plain_url(url)) as reader, _asking(url) as ask:
        if holds_snapshot:
            reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            reader.execute("SELECT count(*) FROM heartbeats")
        with _working(folder, url, 1) as process_ids:
            while (left := _pending(ask)) > 0:
                marks.append((perf_counter(), left))
                memory = max(memory, machine.resident_bytes(process_ids[0]))
                sleep(0.5)
        reader.rollback()
    first = _pace([mark for mark in marks if mark[1] > backlog - tenth])
    last = _pace([mark for mark in marks if mark[1] < tenth])
    name = "backlog beside an old snapshot" if holds_snapshot else "backlog"
    facts[name] = f"{backlog:,} receipts; first tenth {first:,.0f}/s, last tenth {last:,.0f}/s"
    if holds_snapshot:
        return {"backlog_last_vs_first_by_snapshot": last / first}
    return {"backlog_last_vs_first": last / first, "worker_mb": memory / 1e6}


_LOCKED = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


def _pace(marks: Sequence[tuple[float, int]]) -> float:
    if len(marks) < 2:
        raise BenchError("the backlog is too short to see a pace in a tenth of it")
    (began, most), (ended, least) = marks[0], marks[-1]
    return (most - least) / (ended - began)


@contextmanager
def _working(folder: Path, url: str, workers: int) -> Iterator[list[int]]:
    """So many worker processes; their process ids."""
    stacks = [Stack(folder / f"worker-{number}", url) for number in range(workers)]
    try:
        for stack in stacks:
            stack.start("worker")
        yield [stack.pid("worker") for stack in stacks]
    finally:
        for stack in stacks:
            stack.stop("worker")


@contextmanager
def _asking(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(plain_url(url), autocommit=True) as connection:
        yield connection


def _pending(connection: psycopg.Connection) -> int:
    return _one(connection, "SELECT sum(value) FROM counters WHERE name = 'pending'")


def _until_empty(connection: psycopg.Connection) -> None:
    while _pending(connection):
        sleep(_LOOK_SECONDS)


def _one(connection: psycopg.Connection, query: str) -> int:
    row = connection.execute(query.encode()).fetchone()
    return int(row[0]) if row else 0


if __name__ == "__main__":
    main()
