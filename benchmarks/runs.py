"""What every bench does around its measurements: say what it is at, and tell and keep what it found."""

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
    """Its measurements. One that can't be made ends the process with 1; told to end, it first stops what it started."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    except ReceiptsvcError as error:
        sys.stderr.write(f"bench-{name}: {error}\n")
        sys.exit(1)


def facts(folder: Path) -> dict[str, str]:
    """What all numbers depend on: the day, the machine, the disk below a folder. Raises BenchError for mere memory."""
    return {"date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", **machine.facts(), **machine.disk(folder)}


def say(what: str) -> None:
    """What begins now."""
    print(f"{datetime.now(UTC):%H:%M:%S} {what} …", flush=True)


def tell(name: str, values: Mapping[str, float], facts: Mapping[str, str]) -> None:
    """Keep all that a bench found in a file, and print it."""
    keep(name, {"facts": facts, "values": values})
    for what, fact in facts.items():
        print(f"- {what}: {fact}")
    tell_values(values)


def tell_values(values: Mapping[str, float]) -> None:
    """A line each, as `name=value`."""
    for name, value in values.items():
        print(f"{name}={value:.0f}" if float(value).is_integer() else f"{name}={value:.3f}")


def keep(name: str, found: Mapping[str, object]) -> None:
    """Write what a bench found as JSON into a file named by it and the time."""
    _RESULTS.mkdir(exist_ok=True)
    file = _RESULTS / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    file.write_text(json.dumps(found, indent=1, default=str))
