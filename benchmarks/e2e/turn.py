"""All that is measured of one side in its turn of a round."""

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from time import sleep

import psycopg
from sqlalchemy.engine import make_url

from benchmarks import runs
from benchmarks.e2e import ramp, trial, usage
from benchmarks.e2e.ramp import Ramp, Steps
from benchmarks.e2e.sides import Side
from benchmarks.tools import BenchError
from receiptsvc.store.core.db import plain_url

_SETTLED_SECONDS = 11.0  # so late at most does a session of PostgreSQL hand in its statistics once it has nothing to do
PAIR, TEN = 2, 10  # receipts of a message


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """How much is done in a turn. Counts are of receipts."""

    warm: int
    spread: int  # over many messages, as fast as it is answered
    hot: int  # all for one message
    steps: Steps
    idle_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """`values`: by the names that the results use."""

    values: dict[str, float]
    ramp: Ramp


def take(side: Side, program: Path, scale: Scale) -> Turn:
    """Measure one side. Raises BenchError if it loses anything."""
    runs.say(side.label)
    with side.running():
        side.settle()
        trial.as_fast_as_answered(side, program, side.make_wave(scale.warm // PAIR, PAIR))
        values = _measure_cost(side, program, scale)
        if side.is_whole:
            values |= _measure_shapes(side, program, scale, values)
        climbed = ramp.climb(side, program, scale.steps)
        values |= _describe(climbed, scale.steps)
        if side.is_whole:
            values |= _measure_ten_at_rate(side, program, scale.steps, climbed.sustained)
        values |= _measure_idle(side, scale.idle_seconds)
        if not side.is_balanced():
            raise BenchError(f"{side.label}: the ledger does not balance")
    return Turn(values=values, ramp=climbed)


def _measure_cost(side: Side, program: Path, scale: Scale) -> dict[str, float]:
    """Two receipts a message, as fast as they are answered."""
    wave = side.make_wave(scale.spread // PAIR, PAIR)
    before = usage.table_bytes(side.monitor)
    spread = trial.as_fast_as_answered(side, program, wave)
    grown = usage.table_bytes(side.monitor) - before
    trial.note(f"16 connections: {spread.per_second:,.0f}/s processed, {spread.cpu_us():,.0f} µs a receipt")
    return {
        "processed": spread.per_second,
        "cpu_us": spread.cpu_us(),
        **{f"cpu_{kind}_us": spread.cpu_us(kind) for kind in spread.used.seconds},
        "wal_bytes": spread.wal_bytes,
        "bytes": grown / spread.receipts,
    }


def _measure_shapes(side: Side, program: Path, scale: Scale, plain: dict[str, float]) -> dict[str, float]:
    """Ten receipts a message; all for one; and the first once more with two workers."""
    ten = trial.as_fast_as_answered(side, program, side.make_wave(scale.spread // TEN, TEN))
    hot = trial.as_fast_as_answered(side, program, side.make_wave(1, scale.hot))
    with side.second_worker():
        two = trial.as_fast_as_answered(side, program, side.make_wave(scale.spread // PAIR, PAIR))
    return {
        "cpu_ten_us": ten.cpu_us(),
        **{f"cpu_ten_{kind}_us": ten.cpu_us(kind) for kind in ten.used.seconds},
        "hot_cpu_vs_spread": hot.cpu_us() / plain["cpu_us"],
        "hot_rate_vs_spread": hot.per_second / plain["processed"],
        "two_workers_cpu_vs_one": two.cpu_us("worker") / plain["cpu_worker_us"],
        "two_workers_rate_vs_one": two.per_second / plain["processed"],
    }


def _describe(climbed: Ramp, steps: Steps) -> dict[str, float]:
    values = {"rate": float(climbed.sustained)}
    if climbed.sustained:
        highest = climbed.trials[climbed.sustained]
        values |= {"cpu_at_rate_us": highest.cpu_us()}
        values |= {f"cpu_{kind}_at_rate_us": highest.cpu_us(kind) for kind in highest.used.seconds}
    for rate in steps.always:
        values[f"cpu_us_{rate}"] = climbed.trials[rate].cpu_us()
        values[f"visible_p99_ms_{rate}"] = climbed.trials[rate].visible_p99 * 1000
    return values


def _measure_ten_at_rate(side: Side, program: Path, steps: Steps, rate: int) -> dict[str, float]:
    """Ten receipts a message, at the highest rate that held with two."""
    if not rate:
        return {}
    wave = side.make_wave(ceil(rate * (steps.warm_seconds + steps.seconds) / TEN), TEN)
    ten = trial.at_rate(side, program, wave, rate, steps.warm_seconds)
    return {
        "cpu_ten_at_rate_us": ten.cpu_us(),
        **{f"cpu_ten_{kind}_at_rate_us": ten.cpu_us(kind) for kind in ten.used.seconds},
        "visible_p99_ms_ten_at_rate": ten.visible_p99 * 1000,
    }


def _measure_idle(side: Side, seconds: float) -> dict[str, float]:
    """What all processes do while nothing happens: shares of one processor, and transactions a second."""
    name = make_url(side.url).database or ""
    sleep(_SETTLED_SECONDS)
    with psycopg.connect(plain_url(side.server.url), autocommit=True) as server:
        before, transactions = usage.read(side.pids(), server), usage.transactions(server, name)
        sleep(seconds)
        used = usage.read(side.pids(), server).since(before)
        transactions = usage.transactions(server, name) - transactions
    return {
        **{f"idle_{kind}_percent": 100 * spent / seconds for kind, spent in used.seconds.items()},
        "idle_transactions": transactions / seconds,
    }
