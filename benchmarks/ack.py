"""`make bench-ack`: what a durable 200 costs, beside what others give for theirs, in one run on this machine.

This is the order of the measurements; how each is made stands in the modules beside it.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

import click

from benchmarks import busy, contest, generator, kept, lineup, machine, measures, runs, servers, visible, wrk
from benchmarks.generator import Plan
from benchmarks.lineup import NAMES, OURS, Lineup
from benchmarks.outcome import Outcome
from tests.support import databases

_FIXED_RATE = 500.0  # receipts a second where the API is looked at too
_MAX_BUSY = 0.15  # of the processors' time, by others
_FILLING_SECONDS = 10.0  # of one turn


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """How long a run takes. `callbacks`: how many are answered when memory is read for the last time, if the time
    suffices.
    """

    rounds: int
    warm_seconds: float
    seconds: float
    callbacks: int
    most_filling_seconds: float
    opinion_seconds: int
    busy_rounds: int
    visible_seconds: float

    def plan(self, rate: float = 0, seconds: float | None = None) -> Plan:
        """One turn of a candidate, as fast as it can or at a rate."""
        return Plan(rate=rate, warm_seconds=self.warm_seconds, seconds=seconds or self.seconds)


FULL = Scale(
    rounds=7,
    warm_seconds=1,
    seconds=3,
    callbacks=1_000_000,
    most_filling_seconds=270,
    opinion_seconds=3,
    busy_rounds=5,
    visible_seconds=25,
)
QUICK = Scale(
    rounds=2,
    warm_seconds=0.3,
    seconds=0.7,
    callbacks=20_000,
    most_filling_seconds=5,
    opinion_seconds=1,
    busy_rounds=1,
    visible_seconds=4,
)


@click.command()
@click.option("--rounds", type=click.IntRange(1), help="How many turns each candidate has (7).")
@click.option("--quick", is_flag=True, help="A short run that shows that all works; its numbers say little.")
def main(rounds: int | None, quick: bool) -> None:
    """Measure the acknowledgement. PostgreSQL is one of our own, or that of BENCH_DATABASE_URL."""
    scale = QUICK if quick else FULL
    with runs.bench("ack"):
        outcome = measure(replace(scale, rounds=rounds or scale.rounds))
    print(outcome.tables(), "\n")
    for fault in outcome.faults:
        print(f"FAULT: {fault}")
    runs.keep("ack", outcome.json())
    runs.tell_values(outcome.values())
    sys.exit(1 if outcome.faults else 0)


def measure(scale: Scale) -> Outcome:
    """All measurements, one after the other. Raises ReceiptsvcError if one can't be made."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory(prefix="receiptsvc-bench-") as made, _postgresql() as server_url:
        folder = Path(made)
        outcome.facts |= runs.facts(folder) | machine.postgresql(server_url)
        before = machine.busy_share()
        outcome.facts["load"] = (
            f"{generator.CONNECTIONS} kept connections, {scale.rounds} rounds of {scale.seconds:g} s"
        )
        program = generator.compiled(folder)
        with lineup.standing(folder, server_url) as standing:
            held = contest.Contest(program, standing.sites, contest.settler(server_url))
            _race(outcome, scale, standing, held)
            _hold_rate(outcome, scale, standing, held)
            _fill(outcome, scale, standing, program)
            _prove(outcome, standing)
            _ask_wrk(outcome, scale, standing)
        runs.say("callbacks while the API is busy")
        plan = scale.plan(_FIXED_RATE, scale.seconds + 1)
        outcome.while_busy = busy.measure(program, folder, server_url, rounds=scale.busy_rounds, plan=plan)
        runs.say("from 200 to visible")
        outcome.until_visible = visible.measure(
            program, folder, server_url, scale.plan(_FIXED_RATE, scale.visible_seconds)
        )
        after = machine.busy_share()
    disturbed = " (**these numbers say little**)" if max(before, after) > _MAX_BUSY else ""
    outcome.facts["processors busy with other things"] = f"{before:.0%} before, {after:.0%} after{disturbed}"
    if not outcome.until_visible.is_balanced:
        outcome.faults.append("the ledger does not balance")
    for report in (*outcome.while_busy.idle, *outcome.while_busy.busy, outcome.until_visible.report):
        if not report.is_clean:
            outcome.faults.append(f"not every callback was answered 200 in time: {report}")
    return outcome


def _race(outcome: Outcome, scale: Scale, standing: Lineup, held: contest.Contest) -> None:
    """Everybody as fast as it goes."""
    for number in range(scale.rounds):
        runs.say(f"round {number + 1} of {scale.rounds}, as fast as it goes")
        reports = held.hold_round(dict.fromkeys(NAMES, scale.plan()))
        outcome.fastest.append(reports)
        outcome.faults += [f"{NAMES[name]}: {reports[name]}" for name in OURS if not reports[name].is_clean]
        _weigh(outcome, standing)


def _hold_rate(outcome: Outcome, scale: Scale, standing: Lineup, held: contest.Contest) -> None:
    """Ours and the no-op at half of what the no-op can do."""
    for kind in ("pg", "sqlite"):
        fastest = measures.spread([reports[f"noop_{kind}"].per_second for reports in outcome.fastest])
        outcome.rates |= dict.fromkeys((f"ack_{kind}", f"noop_{kind}"), round(fastest.median / 2))
    for number in range(scale.rounds):
        runs.say(f"round {number + 1} of {scale.rounds}, at a fixed rate")
        reports = held.hold_round({name: scale.plan(rate) for name, rate in outcome.rates.items()})
        outcome.steady.append(reports)
        outcome.faults += [f"{NAMES[name]}: {reports[name]}" for name in OURS if not reports[name].is_clean]
        _weigh(outcome, standing)


def _fill(outcome: Outcome, scale: Scale, standing: Lineup, program: Path) -> None:
    """Go on until so many callbacks are answered that a leak would show."""
    site, deadline = standing.sites["ack_pg"], monotonic() + scale.most_filling_seconds
    runs.say(f"up to {scale.callbacks:,} callbacks")
    while len(site.acknowledged) < scale.callbacks and monotonic() < deadline:
        site.load(program, Plan(rate=0, warm_seconds=0, seconds=_FILLING_SECONDS))
        _weigh(outcome, standing)


def _weigh(outcome: Outcome, standing: Lineup) -> None:
    outcome.memory.append((len(standing.sites["ack_pg"].acknowledged), standing.web_bytes("ack_pg")))


def _prove(outcome: Outcome, standing: Lineup) -> None:
    """Look up what was answered 200, ours and the rivals': they too must have done what they were measured at."""
    runs.say("looking up every answer")
    for name, url in standing.urls.items():
        outcome.proofs[name] = proof = kept.compare(standing.sites[name].acknowledged, kept.numbers(url))
        if not proof.holds:
            outcome.faults.append(f"{NAMES[name]}: {proof}")
    tasks = int(servers.ask_redis(standing.redis_port, "LLEN", lineup.QUEUE))
    promised = len(standing.sites["celery"].acknowledged)
    if tasks < promised:
        outcome.faults.append(f"{promised} answers of the queue, {tasks} tasks in it")


def _ask_wrk(outcome: Outcome, scale: Scale, standing: Lineup) -> None:
    runs.say("the same by wrk")
    for name, site in standing.sites.items():
        opinion = wrk.load(site, scale.opinion_seconds)
        outcome.opinions[name] = opinion.per_second
        if name in outcome.proofs:
            rows = sum(1 for _ in kept.numbers(standing.urls[name])) - outcome.proofs[name].rows
            if not opinion.ok <= rows <= opinion.ok + generator.CONNECTIONS:
                outcome.faults.append(f"{NAMES[name]}: wrk saw {opinion.ok} answers 200, and {rows} rows are new")


@contextmanager
def _postgresql() -> Iterator[str]:
    given = os.environ.get("BENCH_DATABASE_URL")
    if given:
        yield given
    else:
        with databases.embedded_postgresql() as url:
            yield url


if __name__ == "__main__":
    main()
