"""`make bench-verify`: how long `verify` takes over all that is kept, and whether its memory depends on how much it is.

Two databases, with a tenth of the receipts and with all of them, each checked to its end by the command itself.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import click

from benchmarks import machine, runs, seeded
from benchmarks.seed import RECEIPTS_PER_MESSAGE
from benchmarks.tools import BenchError
from receiptsvc.demo.processes import Stack
from receiptsvc.store.core.db import plain_url

_MIB = 2**20


@click.command()
@click.option(
    "--receipts", "count", type=click.IntRange(10_000), default=10_000_000, help="How many are kept (10,000,000)."
)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder that keeps the database with all of them, as that of bench-pages with 1 / 1.51 as many messages.",
)
def main(count: int, keep: Path | None) -> None:
    """Measure `verify`, on an embedded PostgreSQL. With `--keep` the next run finds its rows already made."""
    with runs.bench("verify"):
        values, facts = measure(count, keep)
    runs.report("verify", values, facts)


def measure(count: int, keep: Path | None) -> tuple[dict[str, float], dict[str, str]]:
    """Make all measurements, one after the other; returns values and facts by name. Raises ReceiptsvcError."""
    with tempfile.TemporaryDirectory(prefix="receiptsvc-bench-") as scratch:
        folder = Path(scratch)
        facts = runs.facts(folder)
        facts["processors busy with other things"] = f"{machine.busy_share():.0%}"
        _, small = _verify(folder, count // 10, None, facts)
        rate, large = _verify(folder, count, keep, facts)
    return {"verify_receipts_per_second": rate, "verify_mb": large, "verify_mb_vs_tenth": large / small}, facts


def _verify(folder: Path, count: int, keep: Path | None, facts: dict[str, str]) -> tuple[float, float]:
    """Receipts a second, and the most memory that the command took, in MiB. Raises BenchError if it finds a fault."""
    with seeded.database(round(count / RECEIPTS_PER_MESSAGE), keep) as url:
        facts |= machine.postgresql(plain_url(url))
        runs.say(f"verify about {count:,} receipts")
        stack = Stack(folder / str(count), url)  # for its settings: no process of it is started
        started = perf_counter()
        with (folder / "found.json").open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "receiptsvc", "verify", "--json"],
                cwd=stack.project,
                env=stack.environ,
                stdout=output,
            )
            _, status, usage = os.wait4(process.pid, 0)
        seconds = perf_counter() - started
    found = json.loads((folder / "found.json").read_text())
    if status or found["faults"]:
        raise BenchError(f"verify found {len(found['faults'])} faults, exit code {os.waitstatus_to_exitcode(status)}")
    checked = found["checked"]
    memory = usage.ru_maxrss * 1024 / _MIB
    facts[f"verify, {checked['receipts']:,} receipts"] = (
        f"{seconds:,.0f} s, {usage.ru_utime + usage.ru_stime:,.0f} of them its own processor time, "
        f"{memory:.0f} MiB at most; checked: " + ", ".join(f"{kind} {number:,}" for kind, number in checked.items())
    )
    return checked["receipts"] / seconds, memory


if __name__ == "__main__":
    main()
