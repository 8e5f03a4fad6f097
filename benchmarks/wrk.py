"""A second opinion: the same servers under wrk, so that no ratio rests on the word of our own generator."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.generator import CONNECTIONS, Site
from benchmarks.tools import BenchError, need

_SCRIPT = Path(__file__).parent / "receipts.lua"


@dataclass(frozen=True, kw_only=True, slots=True)
class Opinion:
    """What wrk saw. wrk leaves when its time is over: up to CONNECTIONS more requests may have been served."""

    ok: int
    per_second: float


def load(site: Site, seconds: int) -> Opinion:
    """Load a site. Raises BenchError if wrk can't be had, or anything but 200 was answered."""
    target = site.targets.read_text().partition("\n")[0]
    command = [need("wrk", "wrk"), "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(_SCRIPT)]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{site.port}", "--", target],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 30,
    )
    last = done.stdout.strip().rpartition("\n")[2]
    if done.returncode or not last.startswith("{"):
        raise BenchError(f"wrk failed on {site.name}: {done.stderr.strip()}")
    told: dict[str, Any] = json.loads(last)
    if told["others"] or told["cut"]:
        raise BenchError(f"wrk saw {told['others']} other answers and {told['cut']} broken ones from {site.name}")
    return Opinion(ok=told["answers"], per_second=told["answers"] / told["microseconds"] * 1e6)
