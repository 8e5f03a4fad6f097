"""`make bench-ack`: the cost of a durable 200, compared with other receivers in one run on this machine.

This module holds the order of the measurements; each measurement is in a module of its own.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import monotonic

import click

from benchmarks import ablation, busy, contest, generator, kept, lineup, machine, measures, runs, servers, visible, wrk
from benchmarks.generator import Plan
from benchmarks.lineup import NAMES, OURS, Lineup
from benchmarks.outcome import Outcome
from tests.support import databases

_FIXED_RATE = 500.0  # receipts a second while the API is measured too
_MAX_BUSY = 0.15  # share of the processors' time that other programs may use
_FILLING_SECONDS = 10.0  # of one turn


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """How long a run takes. `callbacks`: after how many memory is read for the last time, if `max_filling_seconds`
    suffices.
    """

    rounds: int
    warm_seconds: float
    seconds: float
    callbacks: int
    max_filling_seconds: float
    wrk_seconds: int
    busy_rounds: int
    visible_seconds: float

    def plan(self, rate: float = 0, seconds: float | None = None) -> Plan:
        """The plan of one candidate's turn. `rate`: requests a second; 0: as fast as possible."""
        return Plan(rate=rate, warm_seconds=self.warm_seconds, seconds=seconds or self.seconds)


FULL = Scale(
    rounds=7,
    warm_seconds=1,
    seconds=3,
    callbacks=1_000_000,
    max_filling_seconds=270,
    wrk_seconds=3,
    busy_rounds=5,
    visible_seconds=25,
)
QUICK = Scale(
    rounds=2,
    warm_seconds=0.3,
    seconds=0.7,
    callbacks=20_000,
    max_filling_seconds=5,
    wrk_seconds=1,
    busy_rounds=1,
    visible_seconds=4,
)


@click.command()
@click.option("--rounds", type=click.IntRange(1), help="How many turns each candidate has (7).")
@click.option("--quick", is_flag=True, help="A short run that shows that it works; its numbers mean little.")
def main(rounds: int | None, quick: bool) -> None:
    """Measure the acknowledgement, on an embedded PostgreSQL or that of BENCH_DATABASE_URL."""
    scale = QUICK if quick else FULL
    with runs.bench("ack"):
        outcome = measure(replace(scale, rounds=rounds or scale.rounds))
    print(outcome.tables(), "\n")
    for fault in outcome.faults:
        print(f"FAULT: {fault}")
    runs.save("ack", outcome.json())
    runs.print_values(outcome.values())
    sys.exit(1 if outcome.faults else 0)


def measure(scale: Scale) -> Outcome:
    """Make all measurements, one after the other. Raises ReceiptsvcError if one can't be made."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory(prefix="receiptsvc-bench-") as scratch, _postgresql() as server_url:
        folder = Path(scratch)
        outcome.facts |= runs.facts(folder) | machine.postgresql(server_url)
        busy_before = machine.busy_share()
        outcome.facts["load"] = (
            f"{generator.CONNECTIONS} kept connections, {scale.rounds} rounds of {scale.seconds:g} s"
        )
        program = generator.compile_program(folder)
        with lineup.running(folder, server_url) as candidates:
            rounds = contest.Contest(program, candidates.sites, contest.make_settle(server_url))
            _measure_maximum(outcome, scale, candidates, rounds)
            _measure_fixed_rate(outcome, scale, candidates, rounds)
            _measure_memory(outcome, scale, candidates, program)
            _verify_answers(outcome, candidates)
            _measure_with_wrk(outcome, scale, candidates)
        runs.say("without the fast path")
        outcome.ablated = ablation.measure(program, folder, server_url, rounds=scale.rounds, plan=scale.plan())
        runs.say("callbacks while the API is busy")
        plan = scale.plan(_FIXED_RATE, scale.seconds + 1)
        asked = partial(busy.measure, program, folder, server_url, rounds=scale.busy_rounds, plan=plan)
        outcome.while_busy, outcome.while_split = asked(), asked(is_split=True)
        runs.say("from 200 to visible")
        outcome.until_visible = visible.measure(
            program, folder, server_url, scale.plan(_FIXED_RATE, scale.visible_seconds)
        )
        busy_after = machine.busy_share()
    disturbed = " (**these numbers mean little**)" if max(busy_before, busy_after) > _MAX_BUSY else ""
    outcome.facts["processors busy with other things"] = f"{busy_before:.0%} before, {busy_after:.0%} after{disturbed}"
    if not outcome.until_visible.is_balanced:
        outcome.faults.append("the ledger does not balance")
    beside = (outcome.while_busy, outcome.while_split)
    for report in (*(report for each in beside for report in each.reports), outcome.until_visible.report):
        if not report.is_clean:
            outcome.faults.append(f"not every callback was answered 200 in time: {report}")
    return outcome


def _measure_maximum(outcome: Outcome, scale: Scale, candidates: Lineup, rounds: contest.Contest) -> None:
    """Load every candidate as fast as it answers."""
    for number in range(scale.rounds):
        runs.say(f"round {number + 1} of {scale.rounds}, as fast as it goes")
        reports = rounds.run_round(dict.fromkeys(NAMES, scale.plan()))
        outcome.fastest.append(reports)
        outcome.faults += [f"{NAMES[name]}: {reports[name]}" for name in OURS if not reports[name].is_clean]
        _read_memory(outcome, candidates)


def _measure_fixed_rate(outcome: Outcome, scale: Scale, candidates: Lineup, rounds: contest.Contest) -> None:
    """Load ours and the no-op at half of the no-op's maximum."""
    for kind in ("pg", "sqlite"):
        fastest = measures.spread([reports[f"noop_{kind}"].per_second for reports in outcome.fastest])
        outcome.rates |= dict.fromkeys((f"ack_{kind}", f"noop_{kind}"), round(fastest.median / 2))
    for number in range(scale.rounds):
        runs.say(f"round {number + 1} of {scale.rounds}, at a fixed rate")
        reports = rounds.run_round({name: scale.plan(rate) for name, rate in outcome.rates.items()})
        outcome.steady.append(reports)
        outcome.faults += [f"{NAMES[name]}: {reports[name]}" for name in OURS if not reports[name].is_clean]
        _read_memory(outcome, candidates)


def _measure_memory(outcome: Outcome, scale: Scale, candidates: Lineup, program: Path) -> None:
    """Read the web processes' memory until so many callbacks are answered that a leak would show."""
    site, deadline = candidates.sites["ack_pg"], monotonic() + scale.max_filling_seconds
    runs.say(f"up to {scale.callbacks:,} callbacks")
    while len(site.acknowledged) < scale.callbacks and monotonic() < deadline:
        site.load(program, Plan(rate=0, warm_seconds=0, seconds=_FILLING_SECONDS))
        _read_memory(outcome, candidates)


def _read_memory(outcome: Outcome, candidates: Lineup) -> None:
    outcome.memory.append((len(candidates.sites["ack_pg"].acknowledged), candidates.web_bytes("ack_pg")))


def _verify_answers(outcome: Outcome, candidates: Lineup) -> None:
    """Look up every number that was answered 200, ours and the rivals': they too must have kept what they answered."""
    runs.say("looking up every answer")
    for name, url in candidates.urls.items():
        outcome.proofs[name] = proof = kept.compare(candidates.sites[name].acknowledged, kept.numbers(url))
        if not proof.holds:
            outcome.faults.append(f"{NAMES[name]}: {proof}")
    tasks = int(servers.ask_redis(candidates.redis_port, "LLEN", lineup.QUEUE))
    acknowledged = len(candidates.sites["celery"].acknowledged)
    if tasks < acknowledged:
        outcome.faults.append(f"{acknowledged} answers of the queue, {tasks} tasks in it")


def _measure_with_wrk(outcome: Outcome, scale: Scale, candidates: Lineup) -> None:
    runs.say("the same by wrk")
    for name, site in candidates.sites.items():
        result = wrk.load(site, scale.wrk_seconds)
        outcome.by_wrk[name] = result.per_second
        if result.fault and name in OURS:
            outcome.faults.append(f"{NAMES[name]}: {result.fault}")
        elif result.fault:  # a rival's own affair, to be seen beside its numbers
            outcome.facts[f"{NAMES[name]}, by wrk"] = result.fault
        if name in outcome.proofs:
            rows = sum(1 for _ in kept.numbers(candidates.urls[name])) - outcome.proofs[name].rows
            if not result.ok <= rows <= result.ok + generator.CONNECTIONS:
                outcome.faults.append(f"{NAMES[name]}: wrk saw {result.ok} answers 200, and {rows} rows are new")


@contextmanager
def _postgresql() -> Iterator[str]:
    server_url = os.environ.get("BENCH_DATABASE_URL")
    if server_url:
        yield server_url
    else:
        with databases.embedded_postgresql() as url:
            yield url


if __name__ == "__main__":
    main()
