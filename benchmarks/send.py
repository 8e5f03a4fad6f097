"""`make bench-send`: how fast messages are sent, what it costs to submit them, and how the API answers meanwhile.

Service, worker and sandbox are real processes on this machine. The sandbox takes 200 ms for each answer, so four
concurrent calls of 250 messages could send 5,000 a second: that is the ideal.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from time import perf_counter, sleep
from typing import Any

import click
import psycopg
import requests

from benchmarks import machine, measures, runs
from benchmarks.tools import BenchError
from receiptsvc.demo.processes import Stack, answers
from receiptsvc.store.core.db import plain_url
from tests.support import databases

_ANSWER_SECONDS, _CALLS, _BATCH = 0.2, 4, 250
_IDEAL = _CALLS * _BATCH / _ANSWER_SECONDS
_READS_PER_SECOND = 50
_IDLE_SECONDS = 4.0
_SETTINGS = {"SEND_CONCURRENCY": str(_CALLS), "BATCH_SIZE": str(_BATCH), "WEB_CONCURRENCY": "2"}
_FLAGS = ("--ignore-numbers", "--default", "no-receipts", "--answer-ms", f"{_ANSWER_SECONDS * 1000:g}")
_TIMEOUT_SECONDS = 120


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=5, help="How often each is measured (5).")
@click.option("--messages", "count", type=click.IntRange(1000), default=10_000, help="That go out in a round (10,000).")
def main(rounds: int, count: int) -> None:
    """Measure sending, on an embedded PostgreSQL."""
    with runs.bench("send"):
        values, facts = measure(rounds, count)
    runs.report("send", values, facts)


def measure(rounds: int, count: int) -> tuple[dict[str, float], dict[str, str]]:
    """Make all measurements; returns values and facts by name. Raises ReceiptsvcError."""
    with tempfile.TemporaryDirectory(prefix="receiptsvc-bench-") as scratch, databases.embedded_postgresql() as server:
        folder = Path(scratch)
        facts = runs.facts(folder)
        facts |= machine.postgresql(server) | {"processors busy with other things": f"{machine.busy_share():.0%}"}
        with databases.scratch_postgresql(server) as url:
            stack = Stack(folder / "stack", url, settings=_SETTINGS, sandbox_flags=_FLAGS)
            with stack, psycopg.connect(plain_url(url), autocommit=True) as connection:
                stack.migrate()
                stack.start("sandbox", "web")
                stack.wait_until("the sandbox", lambda: answers(f"{stack.sandbox_url}/sandbox/report"))
                stack.wait_until("the web process", lambda: answers(f"{stack.url}/readyz"))
                values = _measure_submission(stack, rounds, facts)
                stack.start("worker")
                _wait_until_sent(stack, connection)
                values |= _measure_sending(stack, connection, rounds, count, facts)
    return values, facts


def _measure_submission(stack: Stack, rounds: int, facts: dict[str, str]) -> dict[str, float]:
    """250 messages in one request, and one by one over one keep-alive connection, in turns; no worker runs."""
    together, one_by_one = [], []
    with _session(stack) as session:
        for number in range(rounds):
            runs.say(f"submitting, round {number + 1} of {rounds}")
            messages = _make_messages(_BATCH, number)
            started = perf_counter()
            _post(session, stack, messages)
            together.append(perf_counter() - started)
            started = perf_counter()
            for message in messages:
                _post(session, stack, [message])
            one_by_one.append(perf_counter() - started)
    ratios = measures.spread([batch / single for batch, single in zip(together, one_by_one, strict=True)])
    facts[f"{_BATCH} messages in one request"] = f"{measures.spread([s * 1000 for s in together]).text()} ms"
    facts[f"{_BATCH} requests"] = f"{measures.spread([s * 1000 for s in one_by_one]).text()} ms"
    facts["one request ÷ many"] = ratios.text(3)
    return {"send_one_request_vs_many": ratios.median}


def _measure_sending(
    stack: Stack, connection: psycopg.Connection, rounds: int, count: int, facts: dict[str, str]
) -> dict[str, float]:
    """How fast `count` messages are sent; and how fast the API answers reads meanwhile, and while nothing is sent."""
    speeds, idle, busy = [], [], []
    with _session(stack) as session:
        for number in range(rounds):
            runs.say(f"sending, round {number + 1} of {rounds}")
            with _reading(stack) as seconds:
                sleep(_IDLE_SECONDS)
            idle.append(measures.percentile(seconds, 0.95))
            _control_sending(session, stack, "pause")
            _post(session, stack, _make_messages(count, 1000 + number))
            _control_sending(session, stack, "resume")
            with _reading(stack) as seconds:
                started = perf_counter()
                _wait_until_sent(stack, connection)
                speeds.append(count / (perf_counter() - started))
            busy.append(measures.percentile(seconds, 0.95))
    if not stack.client().ledger()["balanced"]:
        raise BenchError("the ledger does not balance")
    report = requests.get(f"{stack.sandbox_url}/sandbox/report", timeout=_TIMEOUT_SECONDS).json()
    if report["doubles"] or report["messageGuids"] != rounds * (count + 2 * _BATCH):
        raise BenchError(f"the gateway got {report['messageGuids']} messages, {report['doubles']} of them twice")
    ratios = measures.spread([speed / _IDEAL for speed in speeds])
    busy_ratio = measures.spread([busy_p95 / idle_p95 for busy_p95, idle_p95 in zip(busy, idle, strict=True)])
    facts["messages sent a second"] = f"{measures.spread(speeds).text()}, of {_IDEAL:,.0f} that the gateway could take"
    facts["API p95 idle; busy"] = (
        "; ".join(measures.spread([s * 1000 for s in p95s]).text(1) for p95s in (idle, busy)) + " ms"
    )
    facts["busy ÷ idle"] = busy_ratio.text(2)
    return {"send_vs_ideal": ratios.median, "send_api_p95_vs_idle": busy_ratio.median}


@contextmanager
def _reading(stack: Stack) -> Iterator[list[float]]:
    """Read one message 50 times a second during the block. Gives how long each answer took, in seconds."""
    is_over, seconds = Event(), list[float]()

    def read() -> None:
        with _session(stack) as session:
            page = session.get(f"{stack.url}/v1/messages?limit=1", timeout=_TIMEOUT_SECONDS).json()
            url = page["items"][0]["url"]
            while not is_over.is_set():
                started = perf_counter()
                session.get(url, timeout=_TIMEOUT_SECONDS).raise_for_status()
                seconds.append(perf_counter() - started)
                is_over.wait(max(0.0, 1 / _READS_PER_SECOND - seconds[-1]))

    thread = Thread(target=read)
    thread.start()
    try:
        yield seconds
    finally:
        is_over.set()
        thread.join()
    if not seconds:
        raise BenchError("the API gave no answer")


def _session(stack: Stack) -> requests.Session:
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {stack.api_key}"
    return session


def _make_messages(count: int, salt: int) -> list[dict[str, Any]]:
    return [
        {
            "recipients": [str(447700000000 + number)],
            "text": "Your order is on its way.",
            "clientRef": f"{salt}-{number}",
        }
        for number in range(count)
    ]


def _post(session: requests.Session, stack: Stack, messages: Sequence[dict[str, Any]]) -> None:
    response = session.post(f"{stack.url}/v1/messages", json={"messages": messages}, timeout=_TIMEOUT_SECONDS)
    if response.status_code != 202:
        raise BenchError(f"a POST of {len(messages)} messages was answered {response.status_code}")


def _control_sending(session: requests.Session, stack: Stack, command: str) -> None:
    """`pause` or `resume`."""
    body = {"reason": "a benchmark"}
    session.post(f"{stack.url}/v1/sending/{command}", json=body, timeout=_TIMEOUT_SECONDS).raise_for_status()


def _wait_until_sent(stack: Stack, connection: psycopg.Connection) -> None:
    def is_sent() -> bool:
        row = connection.execute("SELECT 1 FROM messages WHERE due_at IS NOT NULL LIMIT 1").fetchone()
        return row is None

    stack.wait_until("all messages are sent", is_sent, seconds=_TIMEOUT_SECONDS)


if __name__ == "__main__":
    main()
