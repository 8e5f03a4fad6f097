"""Loads the same servers with wrk, so that no ratio depends on our own generator alone."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.generator import CONNECTIONS, Site
from benchmarks.tools import BenchError, need

_SCRIPT = Path(__file__).parent / "receipts.lua"


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What wrk counted. It stops when its time is over: up to CONNECTIONS more requests may have been served."""

    ok: int
    per_second: float
    fault: str | None  # what was not answered 200


def load(site: Site, seconds: int) -> Result:
    """Load a site. Raises BenchError if wrk can't be installed, or fails."""
    target = site.targets.read_text().partition("\n")[0]
    command = [need("wrk", "wrk"), "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(_SCRIPT)]
    completed = subprocess.run(
        [*command, f"http://127.0.0.1:{site.port}", "--", target],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 30,
    )
    last_line = completed.stdout.strip().rpartition("\n")[2]
    if completed.returncode or not last_line.startswith("{"):
        raise BenchError(f"wrk failed on {site.name}: {completed.stderr.strip()}")
    values: dict[str, Any] = json.loads(last_line)
    is_clean = not values["others"] and not values["cut"]
    fault = None if is_clean else f"wrk saw {values['others']} other answers and {values['cut']} broken ones"
    return Result(ok=values["answers"], per_second=values["answers"] / values["microseconds"] * 1e6, fault=fault)
