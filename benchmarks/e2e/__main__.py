"""`make bench-e2e`: what a receipt costs through the whole stack, in rounds in which every side has one turn."""

import random
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import click

from benchmarks import generator, kept, machine, runs
from benchmarks.e2e import chaos, results, trees, turn
from benchmarks.e2e.chaos import ChaosScale
from benchmarks.e2e.ramp import Steps
from benchmarks.e2e.results import CELERY, OURS, PARENT
from benchmarks.e2e.rival import open_rival
from benchmarks.e2e.sides import Side, open_side
from benchmarks.e2e.turn import Scale

_MIN_CHAOS_RATE = 100  # receipts a second
_USUAL_RATE = 1000  # receipts a second, of which a half is the load beside faults if no rate was measured
_SEED = 1  # so that every run has the same orders


@dataclass(frozen=True, kw_only=True, slots=True)
class Scales:
    """How much is done in a turn: of the service, and of the usual stack, which is slower by far; and beside faults."""

    service: Scale
    rival: Scale
    chaos: ChaosScale

    def of(self, side: Side) -> Scale:
        """The scale of a side's turns."""
        return self.service if side.is_whole else self.rival


_FULL_STEPS = Steps(
    rates=(250, 500, 1000, 1500, 2000, 2500, 3000, 4000, 5000),
    always=(500, 2000),
    halvings=2,
    warm_seconds=1,
    seconds=5,
)
_RIVAL_RATES = (10, 25, 50, 100, 200, 300, 400, 600, 800)
_FULL = Scales(
    service=Scale(warm=2000, spread=16_000, hot=4000, steps=_FULL_STEPS, idle_seconds=12),
    rival=Scale(
        warm=200,
        spread=2000,
        hot=0,
        steps=replace(_FULL_STEPS, rates=_RIVAL_RATES, always=(), halvings=1),
        idle_seconds=10,
    ),
    chaos=ChaosScale(count=40_000, rounds=2, seconds=20, worker_every=3, database_every=5),
)
_QUICK_STEPS = Steps(
    rates=(250, 500, 1000, 2000, 3000, 4000), always=(500, 2000), halvings=0, warm_seconds=0.5, seconds=2
)
_QUICK = Scales(
    service=Scale(warm=500, spread=5000, hot=1000, steps=_QUICK_STEPS, idle_seconds=4),
    rival=Scale(
        warm=50,
        spread=500,
        hot=0,
        steps=replace(_QUICK_STEPS, rates=_RIVAL_RATES, always=()),
        idle_seconds=2,
    ),
    chaos=ChaosScale(count=4000, rounds=1, seconds=8, worker_every=2, database_every=4),
)


@click.command()
@click.option("--rounds", type=click.IntRange(0), help="How many turns each side has (3; quick: 1).")
@click.option("--quick", is_flag=True, help="A short run that shows that it works; its numbers mean little.")
@click.option("--chaos", "has_chaos", is_flag=True, help="Also old snapshots, killed workers, a database that crashes.")
@click.option(
    "--beside", default="HEAD^", help="The commit that is measured in turns with this tree (HEAD^); '': none."
)
@click.option("--celery/--no-celery", "has_celery", default=True, help="Also Flask + Celery + Redis + ORM.")
def main(rounds: int | None, quick: bool, has_chaos: bool, beside: str, has_celery: bool) -> None:
    """Measure the whole stack, each side on an embedded PostgreSQL of its own."""
    with runs.bench("e2e"):
        scale, choice = _QUICK if quick else _FULL, Choice(beside=beside, has_celery=has_celery, has_chaos=has_chaos)
        outcome = measure(scale, (1 if quick else 3) if rounds is None else rounds, choice)
    print(outcome.table, "\n")
    for fault in outcome.faults:
        print(f"FAULT: {fault}")
    runs.report("e2e", outcome.values, outcome.facts)
    sys.exit(1 if outcome.faults else 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What is measured. `beside`: a commit, or empty."""

    beside: str
    has_celery: bool
    has_chaos: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """All that a run has found."""

    values: dict[str, float]
    facts: dict[str, str]
    table: str
    faults: list[str]


def measure(scale: Scales, rounds: int, choice: Choice) -> Outcome:
    """Make all measurements, one after the other. Raises ReceiptsvcError if one can't be made."""
    order = random.Random(_SEED)  # noqa: S311 - an order, no secret
    with tempfile.TemporaryDirectory(prefix="receiptsvc-bench-") as scratch, ExitStack() as contexts:
        folder = Path(scratch)
        facts = runs.facts(folder)
        busy_before = machine.busy_share()
        program = generator.compile_program(folder)
        sides = _open_sides(contexts, folder, choice)
        facts |= machine.postgresql(sides[OURS].server.url)
        turns: list[dict[str, Mapping[str, float]]] = []
        for number in range(rounds):
            runs.say(f"round {number + 1} of {rounds}")
            names = order.sample(sorted(sides), len(sides))
            turns.append({name: turn.take(sides[name], program, scale.of(sides[name])).values for name in names})
        faults = [fault for side in sides.values() if rounds for fault in _find_lost(side, facts)]
        values = results.values(turns)
        if choice.has_chaos:
            rate = max(_MIN_CHAOS_RATE, round(values.get("e2e_rate", _USUAL_RATE) / 2))
            after_faults = chaos.measure(folder / "chaos", program, scale.chaos, rate)
            values |= {f"e2e_{name}": value for name, value in after_faults.values.items()}
            faults += after_faults.faults
        labels = {name: side.label for name, side in sides.items()}
        facts["processors busy with other things"] = f"{busy_before:.0%} before, {machine.busy_share():.0%} after"
    return Outcome(values=values, facts=facts, table=results.table(turns, labels), faults=faults)


def _open_sides(contexts: ExitStack, folder: Path, choice: Choice) -> dict[str, Side]:
    code = {OURS: trees.OURS}
    if choice.beside:
        code[PARENT] = contexts.enter_context(trees.checked_out(choice.beside))
    sides: dict[str, Side] = {
        name: contexts.enter_context(open_side(tree, folder / name)) for name, tree in code.items()
    }
    if choice.has_celery:
        sides[CELERY] = contexts.enter_context(open_rival(folder / CELERY))
    for side in sides.values():
        side.server.vacuum_by_hand()  # before each trial: otherwise it meets one of several sides by chance
    return sides


def _find_lost(side: Side, facts: dict[str, str]) -> list[str]:
    """Look up every number that was answered 200."""
    proof = kept.compare(side.site.acknowledged, kept.numbers(side.url))
    facts[side.label] = f"{side.note}{proof.acknowledged:,} answers 200 looked up, {proof.missing} missing"
    return [] if proof.holds else [f"{side.label}: {proof}"]


if __name__ == "__main__":
    main()
