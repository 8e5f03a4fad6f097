"""Measures what each fast path saves of a whole job: `python -m benchmarks.twins`. In one process, on SQLite in memory.

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

import marshmallow as ma

from benchmarks import measures
from receiptsvc.dynmark.inbound import parser
from receiptsvc.store.core.db import Database
from receiptsvc.web.app import create_app
from receiptsvc.web.schemas import messages as message_schemas
from receiptsvc.web.schemas.submissions import NewMessage
from receiptsvc.worker.receipt_processor import process
from tests.support import databases, rows, work
from tests.support.callers import client_of, make_settings

Job: TypeAlias = Callable[[], float]  # does the job once; the processor seconds that it took

_ROUNDS = 9
_RECIPIENTS = 10_000
_RECEIPTS = 2_000
_QUERY = (
    "datetime=2026-11-22T10%3A00%3A{:02d}.120&recipient=447700900001&statusid=4&statusdescription=Delivered"
    "&clientref=order%2F1234&transactionid={}"
)


def _dump_all(messages: Any, warnings: Any = (), *, schema: type[Any], state: Mapping[str, object]) -> str:
    """What `write_messages` writes, by marshmallow."""

    class Read:
        def __init__(self, message: object) -> None:
            self.message = message

        def __getattr__(self, name: str) -> Any:
            return state[name] if name in state else getattr(self.message, name)

    items = schema(many=True).dump([Read(message) for message in messages])
    return json.dumps({"messages": items, "warnings": list(warnings)}, separators=(",", ":")) + "\n"


def _post(folder: Path, name: str) -> Job:
    url = f"sqlite:///{folder / name}.db"
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


def _receive(folder: Path, name: str) -> Job:
    url = f"sqlite:///{folder / name}.db"
    databases.migrate(url)
    database = Database(url)
    serial = iter(range(10**9))

    def job() -> float:
        made = rows.accept(database, *(rows.message() for _ in range(_RECEIPTS)))
        for message_id in made:
            number = next(serial)
            rows.keep(database, _QUERY.format(number % 60, number + 1), message_id=message_id)
        started = time.process_time()
        while process(database, work.RULES, rows.seconds(3600), 100):
            pass
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
    """Print a table: the job's processor time with and without each fast path, and their ratio."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as scratch:
        folder = Path(scratch)
        post, receive = _post(folder, "post"), _receive(folder, "receive")
        lines = []
        for text, job, count, without in (
            (
                "loading by hand, POST of 10,000",
                post,
                _RECIPIENTS,
                _without_loading,
            ),
            ("writing by hand, POST of 10,000", post, _RECIPIENTS, _without_writing),
            ("plain form, worker", receive, _RECEIPTS, _without_plain_form),
            (
                "sample time, worker",
                receive,
                _RECEIPTS,
                _without_sample_time,
            ),
        ):
            fast, general = _compare(job, without)
            each = [f"{seconds / count * 1e6:.0f}" for seconds in (fast, general)]
            lines.append([text, *each, f"{general / fast:.2f}"])
        print(measures.table(["fast path", "with, µs each", "without", "ratio"], lines))


def _without_loading() -> Any:
    return mock.patch.object(NewMessage, "load", ma.Schema.load)


def _without_plain_form() -> Any:
    return mock.patch.object(parser, "_parse_plain_form", return_value=None)


def _without_sample_time() -> Any:
    return mock.patch.object(parser, "_parse_sample_time", return_value=None)


def _without_writing() -> Any:
    def general(
        messages: Any, warnings: Any = (), *, schema: Any = message_schemas.Message, state: Mapping[str, object] = {}
    ) -> str:
        return _dump_all(messages, warnings, schema=schema, state=state)

    return mock.patch.object(message_schemas, "write_messages", general)


if __name__ == "__main__":
    main()
