"""Compiles and runs our load generator (`load.c`), and reads its report.

In C because Python would be the bottleneck; our own because it reports which requests were answered 200.
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
    """How to load a server. `rate`: requests a second, however slow the answers; 0: as fast as it answers.

    `most`: how many requests end it, before its time if need be; 0: its time alone.
    """

    rate: float
    warm_seconds: float
    seconds: float
    connections: int = CONNECTIONS
    most: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """The results of a load. Latencies are in seconds, counted from when a request was due."""

    per_second: float  # answers 200, after the warm-up
    sent: int
    ok: int
    others: dict[str, int]  # other statuses → answers
    cut: int  # the server closed the connection
    unanswered: int
    unsent: int  # due, but no connection became free for them
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
    """A server under load. `acknowledged`: the numbers of all requests that it has answered 200.

    `answered_at`: when it did, in seconds of `time.monotonic()`, in the same order.
    `targets`: a file with one path and query a line, to which the generator appends a request's number.
    """

    name: str
    port: int
    targets: Path
    next_number: int = 0
    acknowledged: "array[int]" = field(default_factory=lambda: array("I"))
    answered_at: "array[float]" = field(default_factory=lambda: array("d"))

    def load(self, generator: Path, plan: Plan) -> Report:
        """Load the server. Raises BenchError if the generator fails, as it does without any answer."""
        with tempfile.TemporaryDirectory(prefix="receiptsvc-bench-") as folder:
            acknowledged = Path(folder) / "acknowledged"
            numbers = (
                *(self.port, plan.connections, plan.rate, plan.warm_seconds, plan.seconds),
                *(self.next_number, plan.most),
            )
            completed = subprocess.run(
                [generator, *map(str, numbers), self.targets, acknowledged],
                capture_output=True,
                text=True,
                check=False,
                timeout=plan.warm_seconds + plan.seconds + 2 * _DRAIN_SECONDS,
            )
            if completed.returncode:
                raise BenchError(f"the load on {self.name} failed: {completed.stderr.strip()}")
            pairs = array("I")
            pairs.frombytes(acknowledged.read_bytes())
        self.acknowledged.extend(pairs[::2])
        started_at = json.loads(completed.stdout)["start"] / 1e9
        self.answered_at.extend(started_at + microseconds / 1e6 for microseconds in pairs[1::2])
        report = read_report(completed.stdout, plan.seconds)
        self.next_number += report.sent
        return report


def compile_program(folder: Path) -> Path:
    """Compile the generator into `folder`, and return its path. Raises BenchError."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise BenchError("a C compiler is needed: install one first (on Debian: apt-get install gcc libc6-dev)")
    program = folder / "load"
    completed = subprocess.run(
        [compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, _SOURCE],
        capture_output=True,
        text=True,
        check=False,
    )
    if completed.returncode:
        raise BenchError(f"the load generator does not compile:\n{completed.stderr}")
    return program


def read_report(text: str, seconds: float) -> Report:
    """Read the generator's output: JSON with latencies in microseconds. `seconds`: how long it measured."""
    values: dict[str, Any] = json.loads(text)
    return Report(
        per_second=values["in_window"] / seconds,
        sent=values["sent"],
        ok=values["ok"],
        others=values["others"],
        cut=values["cut"],
        unanswered=values["unanswered"],
        unsent=values["unsent"],
        p50=values["p50"] / 1e6,
        p90=values["p90"] / 1e6,
        p99=values["p99"] / 1e6,
        p999=values["p999"] / 1e6,
        longest=values["longest"] / 1e6,
    )
