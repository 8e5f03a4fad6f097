"""Load by a program of our own in C (`load.c`): compiled here, run here, its report read here.

In C because Python would be the bottleneck, and our own because it tells which requests were answered 200.
"""

import json
import shutil
import subprocess
import tempfile
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.tools import BenchError

CONNECTIONS = 32

_SOURCE = Path(__file__).parent / "load.c"
_DRAIN_SECONDS = 12  # as in load.c


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How to load a server. `rate`: requests a second, whatever the answers do; 0: as fast as they come."""

    rate: float
    warm_seconds: float
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What came of a load. Latencies are in seconds, counted from when a request was due."""

    per_second: float  # answers 200, after the warm-up
    sent: int
    ok: int
    others: dict[str, int]  # status → answers
    cut: int  # the server hung up
    unanswered: int
    unsent: int  # due, and no connection ever free for them
    p50: float
    p90: float
    p99: float
    p999: float
    longest: float

    @property
    def is_clean(self) -> bool:
        """Whether everything due was answered 200."""
        return not (self.others or self.cut or self.unanswered or self.unsent)


@dataclass(kw_only=True, slots=True)
class Site:
    """A server under load, and every number that it answered 200 so far.

    `targets`: a file of paths with queries, a line each, to which the generator adds a request's number.
    """

    name: str
    port: int
    targets: Path
    next_number: int = 0
    acknowledged: "array[int]" = field(default_factory=lambda: array("I"))

    def load(self, generator: Path, plan: Plan) -> Report:
        """Load it. Raises BenchError if it did not answer at all."""
        with tempfile.TemporaryDirectory(prefix="receiptsvc-bench-") as folder:
            answered = Path(folder) / "answered"
            numbers = (self.port, CONNECTIONS, plan.rate, plan.warm_seconds, plan.seconds, self.next_number)
            done = subprocess.run(
                [generator, *map(str, numbers), self.targets, answered],
                capture_output=True,
                text=True,
                check=False,
                timeout=plan.warm_seconds + plan.seconds + 2 * _DRAIN_SECONDS,
            )
            if done.returncode:
                raise BenchError(f"the load on {self.name} failed: {done.stderr.strip()}")
            self.acknowledged.frombytes(answered.read_bytes())
        report = read_report(done.stdout, plan.seconds)
        self.next_number += report.sent
        return report


def compiled(folder: Path) -> Path:
    """The generator, compiled into `folder`. Raises BenchError."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise BenchError("a C compiler is needed: install one first (on Debian: apt-get install gcc libc6-dev)")
    program = folder / "load"
    done = subprocess.run(
        [compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, _SOURCE],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"the load generator does not compile:\n{done.stderr}")
    return program


def read_report(text: str, seconds: float) -> Report:
    """What the generator printed. `seconds`: how long it measured."""
    told: dict[str, Any] = json.loads(text)
    return Report(
        per_second=told["in_window"] / seconds,
        sent=told["sent"],
        ok=told["ok"],
        others=told["others"],
        cut=told["cut"],
        unanswered=told["unanswered"],
        unsent=told["unsent"],
        p50=told["p50"] / 1e6,
        p90=told["p90"] / 1e6,
        p99=told["p99"] / 1e6,
        p999=told["p999"] / 1e6,
        longest=told["longest"] / 1e6,
    )
