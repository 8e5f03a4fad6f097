"""One load on a side, from its first request until every receipt is processed, with all that it used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import monotonic
from uuid import UUID

from benchmarks import measures
from benchmarks.e2e.sides import Side
from benchmarks.e2e.usage import Usage
from benchmarks.e2e.watch import Watch
from benchmarks.e2e.waves import Wave
from benchmarks.generator import Plan, Report
from benchmarks.tools import BenchError

_CONNECTIONS = 16  # of a load as fast as it is answered
_SAMPLES_PER_SECOND = 80  # receipts whose visibility is watched
_LAST = 50  # messages whose receipts, the last of a load, are watched if nothing else is
_PATIENCE_SECONDS = 90.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """`seconds`: from the first request until all was processed. `delays`: from 200 to visible, of a sample, sorted."""

    receipts: int  # answered 200
    seconds: float
    used: Usage
    report: Report
    delays: Sequence[float]

    @property
    def per_second(self) -> float:
        """Receipts processed a second."""
        return self.receipts / self.seconds

    def cpu_us(self, kind: str | None = None) -> float:
        """The processor time of a receipt in microseconds: that of one kind of process, or all."""
        seconds = self.used.seconds
        return 1e6 * (sum(seconds.values()) if kind is None else seconds[kind]) / self.receipts

    @property
    def wal_bytes(self) -> float:
        """The write-ahead log of a receipt."""
        return self.used.wal_bytes / self.receipts

    @property
    def visible_p99(self) -> float:
        """In seconds."""
        return measures.percentile(self.delays, 0.99)


def as_fast_as_answered(side: Side, program: Path, wave: Wave) -> Trial:
    """Send a wave over 16 connections, each of which sends its next receipt once its last is answered."""
    plan = Plan(rate=0, warm_seconds=0, seconds=_PATIENCE_SECONDS, connections=_CONNECTIONS, most=len(wave))
    last = [message_id for message_id in wave.last_of if message_id][-_LAST:]
    trial = _run(side, program, wave, plan, dict.fromkeys(last, 0.0))
    if not trial.report.is_clean:
        raise BenchError(f"{side.label}: not every receipt was answered 200 in time: {trial.report}")
    return trial


def at_rate(side: Side, program: Path, wave: Wave, rate: float, warm_seconds: float) -> Trial:
    """Send a wave at a fixed rate."""
    plan = Plan(rate=rate, warm_seconds=warm_seconds, seconds=len(wave) / rate - warm_seconds)
    every = max(1, round(rate / _SAMPLES_PER_SECOND))
    measured = ((line, each) for line, each in enumerate(wave.last_of) if each and line >= warm_seconds * rate)
    sample = {each: line / rate for line, each in islice(measured, 0, None, every) if each}
    return _run(side, program, wave, plan, sample)


def note(what: str) -> None:
    """Print what a trial found, under the turn that it belongs to."""
    print(f"  {what}", flush=True)


def _run(side: Side, program: Path, wave: Wave, plan: Plan, due_after: Mapping[UUID, float]) -> Trial:
    before, first, known = side.used(), side.site.next_number, len(side.site.acknowledged)
    started_at = monotonic()
    with Watch(side.monitor, due_after) as watch:
        report = side.site.load(program, plan)
        answers = zip(side.site.acknowledged[known:], side.site.answered_at[known:], strict=True)
        answered_at = {wave.last_of[number - first]: at for number, at in answers}
        watched = {message_id for message_id in due_after if message_id in answered_at}
        watch.wait(watched, _PATIENCE_SECONDS)
    side.stack.wait_until("every receipt is processed", lambda: side.pending() <= 0, seconds=_PATIENCE_SECONDS)
    ended_at = monotonic()
    return Trial(
        receipts=len(side.site.acknowledged) - known,
        seconds=ended_at - started_at,
        used=side.used().since(before),
        report=report,
        delays=sorted(max(0.0, watch.seen_at.get(each, ended_at) - answered_at[each]) for each in watched),
    )
