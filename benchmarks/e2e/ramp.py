"""A rising rate, until a receipt's way from its 200 to visible takes too long."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

from benchmarks.e2e import trial
from benchmarks.e2e.sides import Side
from benchmarks.e2e.trial import Trial, note

MAX_SECONDS = 1.0  # from 200 to visible, at p99


@dataclass(frozen=True, kw_only=True, slots=True)
class Steps:
    """`rates`: receipts a second, rising; `always`: those of them that are tried even if a lower one failed.

    `halvings`: how often the gap between the highest rate that held and the lowest that failed is halved afterwards.
    """

    rates: Sequence[int]
    always: Sequence[int]
    halvings: int
    warm_seconds: float
    seconds: float


@dataclass(kw_only=True, slots=True)
class Ramp:
    """The steps that were made, by rate."""

    trials: dict[int, Trial] = field(default_factory=dict)

    @property
    def sustained(self) -> int:
        """The highest rate that held, all lower ones too; 0 if none did."""
        held = 0
        for rate in sorted(self.trials):
            if not holds(self.trials[rate]):
                break
            held = rate
        return held


def holds(step: Trial) -> bool:
    """Whether a rate can be kept up: everything answered 200 and, at p99, answered and visible in time."""
    return step.report.is_clean and step.report.p99 <= MAX_SECONDS and step.visible_p99 <= MAX_SECONDS


def climb(side: Side, program: Path, steps: Steps) -> Ramp:
    """Try one rate after another, each with new messages of two receipts, once all of the last one's are processed."""
    ramp, has_failed = Ramp(), False
    for rate in steps.rates:
        if not has_failed or rate in steps.always:
            has_failed |= not _try(side, program, steps, ramp, rate)
    for _ in range(steps.halvings):
        failed = [rate for rate in ramp.trials if rate > ramp.sustained]
        if failed:
            _try(side, program, steps, ramp, round((ramp.sustained + min(failed)) / 2))
    return ramp


def _try(side: Side, program: Path, steps: Steps, ramp: Ramp, rate: int) -> bool:
    wave = side.make_wave(ceil(rate * (steps.warm_seconds + steps.seconds) / 2), 2)
    step = ramp.trials[rate] = trial.at_rate(side, program, wave, rate, steps.warm_seconds)
    note(f"{rate:,}/s: visible within {step.visible_p99 * 1000:,.0f} ms at p99, {step.cpu_us():,.0f} µs a receipt")
    return holds(step)
