"""Measures what writing the answer by hand saves of a POST: `python -m benchmarks.twins`. In one process, on SQLite.

A fast path has a general one beside it that does the same. The job is done with and without it, in turns, and what
counts is this process's own time on a processor. The fast path of callbacks has its own measurement: `ablation`.
"""

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias
from unittest import mock

from benchmarks import measures
from receiptsvc.store.core.db import Database
from receiptsvc.web.app import create_app
from receiptsvc.web.schemas import messages as message_schemas
from tests.support import databases
from tests.support.callers import client_of, make_settings

Job: TypeAlias = Callable[[], float]  # does the job once; the processor seconds that it took

_ROUNDS = 9
_RECIPIENTS = 10_000


def _dump_all(messages: Any, warnings: Any = (), *, schema: type[Any], state: Mapping[str, object]) -> str:
    """What `write_messages` writes, by marshmallow."""

    class Read:
        def __init__(self, message: object) -> None:
            self.message = message

        def __getattr__(self, name: str) -> Any:
            return state[name] if name in state else getattr(self.message, name)

    items = schema(many=True).dump([Read(message) for message in messages])
    return json.dumps({"messages": items, "warnings": list(warnings)}, separators=(",", ":")) + "\n"


def _post(folder: Path) -> Job:
    url = f"sqlite:///{folder / 'post'}.db"
    databases.migrate(url)
    client = client_of(create_app(make_settings(), Database(url)))
    serial = iter(range(10**9))

    def job() -> float:
        numbers = [f"4477{next(serial):08}" for _ in range(_RECIPIENTS)]
        body = [{"recipients": [number], "text": "Hello", "clientRef": "a"} for number in numbers]
        started = time.process_time()
        answer = client.post("/v1/messages", json={"messages": body})
        if answer.status_code != 202:
            raise SystemExit(answer.get_data(as_text=True))
        return time.process_time() - started

    return job


def _compare(job: Job, without: Callable[[], Any]) -> tuple[float, float]:
    """The median processor seconds of a job with its fast path and without it."""
    results: dict[bool, list[float]] = {True: [], False: []}
    for number in range(2 * _ROUNDS):
        is_fast = number % 4 in (0, 3)
        with nullcontext() if is_fast else without():
            results[is_fast].append(job())
    return median(results[True]), median(results[False])


def main() -> None:
    """Print a table: the job's processor time with and without the fast path, and their ratio."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as scratch:
        fast, general = _compare(_post(Path(scratch)), _without_writing)
    each = [f"{seconds / _RECIPIENTS * 1e6:.0f}" for seconds in (fast, general)]
    lines = [["writing by hand, POST of 10,000", *each, f"{general / fast:.2f}"]]
    print(measures.table(["fast path", "with, µs each", "without", "ratio"], lines))


def _without_writing() -> Any:
    def general(
        messages: Any, warnings: Any = (), *, schema: Any = message_schemas.Message, state: Mapping[str, object] = {}
    ) -> str:
        return _dump_all(messages, warnings, schema=schema, state=state)

    return mock.patch.object(message_schemas, "write_messages", general)


if __name__ == "__main__":
    main()
