"""Faults under load, of the service alone: old snapshots, killed workers, a database that crashes."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle, pairwise
from math import ceil
from pathlib import Path
from statistics import median
from time import monotonic, sleep

import psycopg

from benchmarks import kept, runs
from benchmarks.e2e import trees, trial, usage
from benchmarks.e2e.sides import Side, open_side
from benchmarks.generator import Plan
from benchmarks.tools import BenchError
from receiptsvc.client import ApiError, Unreachable
from receiptsvc.store.core.db import plain_url

_SNAPSHOTS = 4
_WARM_SECONDS = 2.0
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 60.0
_MAX_LEFT_SECONDS = 900.0  # for what is still pending when the load ends
_SESSION = (
    "SELECT pid FROM pg_stat_activity WHERE starts_with(application_name, 'receiptsvc') ORDER BY random() LIMIT 1"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChaosScale:
    """`count`: receipts beside old snapshots. `seconds`: of each of the three parts before, during and after faults.

    `worker_every`, `database_every`: how many seconds after a fault the next one comes.
    """

    count: int
    rounds: int
    seconds: float
    worker_every: float
    database_every: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Faults:
    """`kinds`: what brings them about, in turns, `every` so many seconds."""

    kinds: Sequence[Callable[[], None]]
    every: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Chaos:
    """What came of it."""

    values: dict[str, float]
    faults: list[str]


def measure(folder: Path, program: Path, scale: ChaosScale, rate: int) -> Chaos:
    """Bring about one kind of fault after the other. `rate`: receipts a second while processes are killed."""
    with open_side(trees.OURS, folder) as side:
        with side.running():
            values = _measure_snapshots(side, program, scale)
            runs.say("killing the worker")
            plan = Plan(rate=rate, warm_seconds=_WARM_SECONDS, seconds=3 * scale.seconds)
            kills = Faults(kinds=(partial(_restart_worker, side),), every=scale.worker_every)
            values |= {f"worker_kills_{name}": value for name, value in _measure(side, program, plan, kills).items()}
            runs.say("crashing the database")
            crashes = (partial(side.server.control, "restart", "immediate"), partial(_kill_session, side))
            kills = Faults(kinds=crashes, every=scale.database_every)
            values |= {f"database_kills_{name}": value for name, value in _measure(side, program, plan, kills).items()}
            is_balanced = side.is_balanced()
        proof = kept.compare(side.site.acknowledged, kept.numbers(side.url))
    faults = [] if proof.holds else [f"after faults: {proof}"]
    if not is_balanced:
        faults.append("after faults: the ledger does not balance")
    values |= {"faults_answers_checked": proof.acknowledged, "faults_answers_missing": proof.missing}
    return Chaos(values=values, faults=faults)


def _measure_snapshots(side: Side, program: Path, scale: ChaosScale) -> dict[str, float]:
    """As fast as it is answered, without and beside sessions that hold snapshots from before it, in turns."""
    rates, costs = [], []
    trial.as_fast_as_answered(side, program, side.make_wave(500, 2))
    for number in range(scale.rounds):
        runs.say(f"beside old snapshots, round {number + 1} of {scale.rounds}")
        alone = trial.as_fast_as_answered(side, program, side.make_wave(scale.count // 2, 2))
        with _old_snapshots(side):
            beside = trial.as_fast_as_answered(side, program, side.make_wave(scale.count // 2, 2))
        rates.append(beside.per_second / alone.per_second)
        costs.append(beside.cpu_us() / alone.cpu_us())
    return {"snapshots_rate_vs_none": median(rates), "snapshots_cpu_vs_none": median(costs)}


@contextmanager
def _old_snapshots(side: Side) -> Iterator[None]:
    with ExitStack() as sessions:
        for _ in range(_SNAPSHOTS):
            session = sessions.enter_context(psycopg.connect(plain_url(side.url)))
            session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            session.execute("SELECT count(*) FROM messages")
        yield


def _measure(side: Side, program: Path, plan: Plan, faults: Faults) -> dict[str, float]:
    """Receipts processed a second during faults and after them ÷ before them, a third of a steady load each."""
    seconds = plan.seconds / 3
    side.make_wave(ceil(plan.rate * (plan.warm_seconds + plan.seconds) / 2), 2)
    kinds = cycle(faults.kinds)
    with ThreadPoolExecutor(1) as threads:
        load = threads.submit(side.site.load, program, plan)
        sleep(plan.warm_seconds)
        marks = [_count_processed(side)]
        sleep(seconds)
        marks.append(_count_processed(side))
        until = monotonic() + seconds
        while monotonic() + faults.every <= until:
            next(kinds)()
            sleep(faults.every)
        marks.append(_count_processed(side))
        sleep(max(1.0, until + seconds - monotonic()))
        marks.append(_count_processed(side))
        report = load.result()
    ended_at = monotonic()
    side.connect()  # a crash of the database cuts our session too
    side.stack.wait_until("every receipt is processed", lambda: side.pending() <= 0, seconds=_MAX_LEFT_SECONDS)
    left_seconds = monotonic() - ended_at
    trial.note(str(report))
    before, during, after = ((later[1] - earlier[1]) / (later[0] - earlier[0]) for earlier, later in pairwise(marks))
    trial.note(f"processed before, during, after: {before:,.0f}/s, {during:,.0f}/s, {after:,.0f}/s")
    return {
        "during": during / before,
        "after": after / before,
        "left_seconds": left_seconds,
        "ok_percent": 100 * report.ok / report.sent,
    }


def _count_processed(side: Side) -> tuple[float, int]:
    """The time, and how many receipts have been processed by then. It is asked again while the service can't tell."""
    deadline = monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            ledger = side.stack.client().ledger()
            return monotonic(), int(ledger["received"]) - int(ledger["pending"])
        except (ApiError, Unreachable) as error:
            if monotonic() > deadline:
                raise BenchError("the ledger can't be read after a fault") from error
            sleep(_POLL_SECONDS)


def _restart_worker(side: Side) -> None:
    side.stack.kill("worker")
    side.stack.start("worker")


def _kill_session(side: Side) -> None:
    """Kill a process of the database's that works for the service, upon which PostgreSQL ends all and recovers."""
    with psycopg.connect(plain_url(side.server.url), autocommit=True) as connection:
        pid = usage.read_int(connection, _SESSION)
        if pid:
            os.kill(pid, signal.SIGKILL)
