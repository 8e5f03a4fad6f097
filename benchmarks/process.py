"""`make bench-process`: the cost of processing receipts, compared with processing them one by one through the ORM.

First the two in turns on the same database, in this process. Then the worker as a process: one against two, its memory,
speed and bytes on disk over a long backlog, and the same while another connection holds an old snapshot.
"""

import gc
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
from benchmarks.e2e import usage
from benchmarks.tools import BenchError
from receiptsvc import ids
from receiptsvc.cli.worker import GC_THRESHOLDS
from receiptsvc.demo.processes import Stack
from receiptsvc.domain.inbox import Arrival, Channel
from receiptsvc.domain.messages import Callback
from receiptsvc.dynmark import status_map
from receiptsvc.dynmark.inbound.reader import DynmarkReader
from receiptsvc.store.core.db import Database, plain_url
from receiptsvc.store.inbox.writer import open_writer
from receiptsvc.worker.pending_queue import PendingQueue
from receiptsvc.worker.receipt_batch import ReceiptRules
from receiptsvc.worker.receipt_processor import process
from tests.support import databases

_RULES = ReceiptRules(reader=DynmarkReader(status_map=status_map.load({}), zone=ZoneInfo("UTC")))
_OURS, _ONE_BY_ONE = "set-wise", "receipt by receipt"
_BATCH_SIZES = {"postgresql": 1000, "sqlite": 100}  # as in the worker
_KEEP_BATCH = 500
_POLL_SECONDS = 0.05


class Receipts:
    """Makes and keeps receipts of 250 bytes for messages: two each, sent and delivered. Never the same one twice."""

    def __init__(self, url: str, message_ids: Sequence[UUID]) -> None:
        self._writer = open_writer(url, 0, patience_seconds=5)
        self._message_ids = message_ids
        self._next_number = 0

    def keep(self, count: int) -> datetime:
        """Keep `count` more, as the intake does. Returns a time at which all of them are due."""
        received_at = datetime.now(UTC)
        for start in range(0, count, _KEEP_BATCH):
            self._writer.keep([self._make_next(received_at) for _ in range(min(_KEEP_BATCH, count - start))])
        return datetime.now(UTC) + timedelta(seconds=1)

    def _make_next(self, received_at: datetime) -> Arrival:
        number = self._next_number
        self._next_number += 1
        query = (
            f"datetime=2026-01-05T12%3A00%3A{number // 2 % 60:02}.{number % 1000:03}&recipient=447700900001"
            f"&statusid={number % 2 + 1}&statusdescription={'Delivered' if number % 2 else 'Message+sent'}"
            f"&transactionid={number // 2}&clientref=order-{number // 2}"
        ).encode()
        return Arrival(
            id=ids.new(),
            channel=Channel.MESSAGE,
            message_id=self._message_ids[number // 2 % len(self._message_ids)],
            received_at=received_at + timedelta(microseconds=number),
            callback=Callback("GET", query.ljust(250, b"&"), None, b""),
        )


@click.command()
@click.option("--backlog", type=click.IntRange(10_000), default=1_000_000, help="How many receipts wait (1,000,000).")
@click.option("--rounds", type=click.IntRange(1), default=7, help="How many turns each way of processing has (7).")
@click.option("--receipts", "count", type=click.IntRange(1000), default=10_000, help="In one turn of ours (10,000).")
def main(backlog: int, rounds: int, count: int) -> None:
    """Measure the worker, on a SQLite file and on an embedded PostgreSQL."""
    with runs.bench("process"):
        values, facts = measure(backlog, rounds, count)
    runs.report("process", values, facts)


def measure(backlog: int, rounds: int, count: int) -> tuple[dict[str, float], dict[str, str]]:
    """Make all measurements, one after the other; returns values and facts by name. Raises ReceiptsvcError."""
    with tempfile.TemporaryDirectory(prefix="receiptsvc-bench-") as scratch, databases.embedded_postgresql() as server:
        folder = Path(scratch)
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
            values |= _measure_workers(folder, url, max(backlog // 5, count), facts)
        for holds_snapshot in (False, True):
            with databases.scratch_postgresql(server) as url:
                databases.migrate(url)
                values |= _measure_backlog(folder, url, backlog, facts, holds_snapshot=holds_snapshot)
    return values, facts


def _compare(url: str, rounds: int, count: int, facts: dict[str, str]) -> dict[str, float]:
    """Process receipts set-wise and one by one, in turns."""
    kind = make_url(url).get_backend_name()
    database = Database(url)
    runs.say(f"{kind}: both ways in turns")
    source = Receipts(url, receipts.accept_messages(url, rounds * count * 21 // 40))
    ways: dict[str, tuple[int, Callable[[datetime], Callable[[], int]]]] = {  # receipts in a turn, and the processing
        _OURS: (count, lambda due: partial(process, database, _RULES, due, _BATCH_SIZES[kind], PendingQueue())),
        _ONE_BY_ONE: (count // 20, lambda due: partial(one_by_one.process, database, _RULES, due)),
    }
    usual = gc.get_threshold()
    gc.set_threshold(*GC_THRESHOLDS)  # as in the worker
    speeds: list[dict[str, float]] = []  # receipts a second by way, for each round
    for _ in range(rounds):
        round_speeds = {}
        for name, (receipts_in_turn, make_step) in ways.items():
            step = make_step(source.keep(receipts_in_turn))
            started, processed = perf_counter(), 0
            while batch := step():
                processed += batch
            round_speeds[name] = processed / (perf_counter() - started)
            if processed != receipts_in_turn:
                raise BenchError(f"{processed} receipts were processed, not {receipts_in_turn}")
        speeds.append(round_speeds)
    database.close()
    gc.set_threshold(*usual)
    for name in ways:
        facts[f"{kind}, {name}"] = f"{measures.of_each(speeds, name).text()} receipts/s"
    ratio = measures.ratio(speeds, _OURS, _ONE_BY_ONE)
    facts[f"{kind}, ratio"] = ratio.text(1)
    return {f"process_vs_orm_{'pg' if kind == 'postgresql' else kind}": ratio.median}


def _measure_workers(folder: Path, url: str, count: int, facts: dict[str, str]) -> dict[str, float]:
    """One worker against two, in turns; how often a lock is waited for; the bytes of a receipt on disk."""
    source = Receipts(url, receipts.accept_messages(url, count // 2))
    speeds: dict[int, list[float]] = {1: [], 2: []}
    waiting = samples = 0
    for workers in (1, 2, 1, 2):
        runs.say(f"{workers} worker(s) on {count // 4:,} receipts")
        source.keep(count // 4)
        with _working(folder, url, workers), _connected(url) as connection:
            started, pending_before = perf_counter(), _count_pending(connection)
            while (pending := _count_pending(connection)) > count // 40:  # not the slower end of the queue
                samples += 1
                waiting += int(usage.read_int(connection, _LOCK_WAITS) > 0)
                sleep(_POLL_SECONDS)
            speeds[workers].append((pending_before - pending) / (perf_counter() - started))
            _wait_until_empty(connection)
    facts["one worker; two"] = "; ".join(measures.spread(speeds[workers]).text() for workers in (1, 2)) + " receipts/s"
    return {
        "two_workers_vs_one": measures.spread(speeds[2]).median / measures.spread(speeds[1]).median,
        "lock_wait_percent": 100 * waiting / max(samples, 1),
    }


def _measure_backlog(
    folder: Path, url: str, backlog: int, facts: dict[str, str], *, holds_snapshot: bool
) -> dict[str, float]:
    """One worker on a long backlog: its memory, its speed in the first and the last tenth, a receipt's bytes on disk.

    `holds_snapshot`: while another connection reads from a snapshot that was taken before the worker started.
    """
    source = Receipts(url, receipts.accept_messages(url, backlog // 2))
    with _connected(url) as connection:
        bytes_before = usage.table_bytes(connection)
    runs.say(f"keeping {backlog:,} receipts")
    source.keep(backlog)
    runs.say("processing them, beside an old snapshot" if holds_snapshot else "processing them")
    samples: list[tuple[float, int]] = []  # time, receipts that are pending
    memory = 0
    tenth = backlog // 10
    with psycopg.connect(plain_url(url)) as reader, _connected(url) as connection:
        if holds_snapshot:
            reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            reader.execute("SELECT count(*) FROM heartbeats")
        with _working(folder, url, 1) as pids:
            while (pending := _count_pending(connection)) > 0:
                samples.append((perf_counter(), pending))
                memory = max(memory, machine.resident_bytes(pids[0]))
                sleep(0.5)
        reader.rollback()
        grown = usage.table_bytes(connection) - bytes_before
    first = _speed([sample for sample in samples if sample[1] > backlog - tenth])
    last = _speed([sample for sample in samples if sample[1] < tenth])
    name = "backlog beside an old snapshot" if holds_snapshot else "backlog"
    facts[name] = f"{backlog:,} receipts; first tenth {first:,.0f}/s, last tenth {last:,.0f}/s"
    if holds_snapshot:
        return {"backlog_last_vs_first_by_snapshot": last / first}
    return {
        "backlog_last_vs_first": last / first,
        "worker_mb": memory / 1e6,
        "bytes_per_receipt": round(grown / backlog),
    }


_LOCK_WAITS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


def _speed(samples: Sequence[tuple[float, int]]) -> float:
    """Receipts a second between the first and the last sample."""
    if len(samples) < 2:
        raise BenchError("the backlog is too short to measure the speed in a tenth of it")
    (started, pending_before), (ended, pending_after) = samples[0], samples[-1]
    return (pending_before - pending_after) / (ended - started)


@contextmanager
def _working(folder: Path, url: str, workers: int) -> Iterator[list[int]]:
    """Run worker processes in the block. Gives their pids."""
    stacks = [Stack(folder / f"worker-{number}", url) for number in range(workers)]
    try:
        for stack in stacks:
            stack.start("worker")
        yield [stack.pid("worker") for stack in stacks]
    finally:
        for stack in stacks:
            stack.stop("worker")


@contextmanager
def _connected(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(plain_url(url), autocommit=True) as connection:
        yield connection


def _count_pending(connection: psycopg.Connection) -> int:
    return usage.read_int(connection, "SELECT sum(value) FROM counters WHERE name = 'pending'")


def _wait_until_empty(connection: psycopg.Connection) -> None:
    while _count_pending(connection):
        sleep(_POLL_SECONDS)


if __name__ == "__main__":
    main()
