"""Shared by all benches: signals and errors, progress lines, and printing and saving the results."""

import json
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import machine
from receiptsvc.domain.errors import ReceiptsvcError

_RESULTS = Path(__file__).parent / "results"


@contextmanager
def bench(name: str) -> Iterator[None]:
    """Run the measurements in the block. A ReceiptsvcError exits with 1; SIGTERM first stops what was started."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    except ReceiptsvcError as error:
        sys.stderr.write(f"bench-{name}: {error}\n")
        sys.exit(1)


def facts(folder: Path) -> dict[str, str]:
    """What all numbers depend on: date, machine, and the disk of a folder. Raises BenchError if that is memory."""
    return {"date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", **machine.facts(), **machine.disk(folder)}


def say(what: str) -> None:
    """Print what starts now."""
    print(f"{datetime.now(UTC):%H:%M:%S} {what} …", flush=True)


def report(name: str, values: Mapping[str, float], facts: Mapping[str, str]) -> None:
    """Save a bench's results to a file, and print them."""
    save(name, {"facts": facts, "values": values})
    for fact, text in facts.items():
        print(f"- {fact}: {text}")
    print_values(values)


def print_values(values: Mapping[str, float]) -> None:
    """Print each value on a line, as `name=value`."""
    for name, value in values.items():
        print(f"{name}={value:.0f}" if float(value).is_integer() else f"{name}={value:.3f}")


def save(name: str, results: Mapping[str, object]) -> None:
    """Write a bench's results as JSON to a file named by the bench and the time."""
    _RESULTS.mkdir(exist_ok=True)
    file = _RESULTS / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    file.write_text(json.dumps(results, indent=1, default=str))
