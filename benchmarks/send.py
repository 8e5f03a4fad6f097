"""`make bench-send`: how fast messages go out, what they cost to hand in, and what the API feels of it.

Service, worker and the sandbox are real processes on this machine. The sandbox takes 200 ms over each answer, so that
four calls at once of 250 messages could carry 5,000 a second: that is the ideal.
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
_ASKS_A_SECOND = 50
_IDLE_SECONDS = 4.0
_SETTINGS = {"SEND_CONCURRENCY": str(_CALLS), "BATCH_SIZE": str(_BATCH), "WEB_CONCURRENCY": "2"}
_FLAGS = ("--ignore-numbers", "--default", "no-receipts", "--answer-ms", f"{_ANSWER_SECONDS * 1000:g}")
_TIMEOUT_SECONDS = 120


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=5, help="How often each is measured (5).")
@click.option("--messages", "count", type=click.IntRange(1000), default=10_000, help="That go out in a round (10,000).")
def main(rounds: int, count: int) -> None:
    """Measure sending, on a PostgreSQL of our own."""
    with runs.bench("send"):
        values, facts = measure(rounds, count)
    runs.tell("send", values, facts)


def measure(rounds: int, count: int) -> tuple[dict[str, float], dict[str, str]]:
    """All measurements. Raises ReceiptsvcError."""
    with tempfile.TemporaryDirectory(prefix="receiptsvc-bench-") as made, databases.embedded_postgresql() as server:
        folder = Path(made)
        facts = runs.facts(folder)
        facts |= machine.postgresql(server) | {"processors busy with other things": f"{machine.busy_share():.0%}"}
        with databases.scratch_postgresql(server) as url:
            stack = Stack(folder / "stack", url, settings=_SETTINGS, sandbox_flags=_FLAGS)
            with stack, psycopg.connect(plain_url(url), autocommit=True) as ask:
                stack.migrate()
                stack.start("sandbox", "web")
                stack.wait_until("the sandbox", lambda: answers(f"{stack.sandbox_url}/sandbox/report"))
                stack.wait_until("the web process", lambda: answers(f"{stack.url}/readyz"))
                values = _hand_in(stack, rounds, facts)
                stack.start("worker")
                _until_sent(stack, ask)
                values |= _send(stack, ask, rounds, count, facts)
    return values, facts


def _hand_in(stack: Stack, rounds: int, facts: dict[str, str]) -> dict[str, float]:
    """250 messages in one request, and one by one over the same kept connection, in turns; no worker runs."""
    at_once, one_by_one = [], []
    with _session(stack) as session:
        for number in range(rounds):
            runs.say(f"handing in, round {number + 1} of {rounds}")
            messages = _messages(_BATCH, number)
            began = perf_counter()
            _post(session, stack, messages)
            at_once.append(perf_counter() - began)
            began = perf_counter()
            for message in messages:
                _post(session, stack, [message])
            one_by_one.append(perf_counter() - began)
    ratios = measures.spread([whole / single for whole, single in zip(at_once, one_by_one, strict=True)])
    facts[f"{_BATCH} messages in one request"] = f"{measures.spread([s * 1000 for s in at_once]).text()} ms"
    facts[f"{_BATCH} requests"] = f"{measures.spread([s * 1000 for s in one_by_one]).text()} ms"
    facts["one request ÷ many"] = ratios.text(3)
    return {"send_one_request_vs_many": ratios.median}


def _send(stack: Stack, ask: psycopg.Connection, rounds: int, count: int, facts: dict[str, str]) -> dict[str, float]:
    """How fast so many messages go out, while somebody asks the API; and how it answers while nothing goes out."""
    speeds, idle, busy = [], [], []
    with _session(stack) as session:
        for number in range(rounds):
            runs.say(f"sending, round {number + 1} of {rounds}")
            with _asking(stack) as seconds:
                sleep(_IDLE_SECONDS)
            idle.append(measures.percentile(seconds, 0.95))
            _pause(session, stack, "pause")
            _post(session, stack, _messages(count, 1000 + number))
            _pause(session, stack, "resume")
            with _asking(stack) as seconds:
                began = perf_counter()
                _until_sent(stack, ask)
                speeds.append(count / (perf_counter() - began))
            busy.append(measures.percentile(seconds, 0.95))
    told = stack.client().ledger()
    if not told["balanced"]:
        raise BenchError("the ledger does not balance")
    report = requests.get(f"{stack.sandbox_url}/sandbox/report", timeout=_TIMEOUT_SECONDS).json()
    if report["doubles"] or report["messageGuids"] != rounds * (count + 2 * _BATCH):
        raise BenchError(f"the gateway got {report['messageGuids']} messages, {report['doubles']} of them twice")
    ratios = measures.spread([speed / _IDEAL for speed in speeds])
    slower = measures.spread([one / other for one, other in zip(busy, idle, strict=True)])
    facts["messages sent a second"] = f"{measures.spread(speeds).text()}, of {_IDEAL:,.0f} that the gateway could take"
    facts["API p95 idle; busy"] = (
        "; ".join(measures.spread([s * 1000 for s in one]).text(1) for one in (idle, busy)) + " ms"
    )
    facts["busy ÷ idle"] = slower.text(2)
    return {"send_vs_ideal": ratios.median, "send_api_p95_vs_idle": slower.median}


@contextmanager
def _asking(stack: Stack) -> Iterator[list[float]]:
    """Somebody who asks for a message again and again while the block lasts; how long each answer took."""
    over, seconds = Event(), list[float]()

    def ask() -> None:
        with _session(stack) as session:
            listed = session.get(f"{stack.url}/v1/messages?limit=1", timeout=_TIMEOUT_SECONDS).json()
            url = listed["items"][0]["url"]
            while not over.is_set():
                began = perf_counter()
                session.get(url, timeout=_TIMEOUT_SECONDS).raise_for_status()
                seconds.append(perf_counter() - began)
                over.wait(max(0.0, 1 / _ASKS_A_SECOND - seconds[-1]))

    thread = Thread(target=ask)
    thread.start()
    try:
        yield seconds
    finally:
        over.set()
        thread.join()
    if not seconds:
        raise BenchError("the API gave no answer")


def _session(stack: Stack) -> requests.Session:
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {stack.api_key}"
    return session


def _messages(count: int, salt: int) -> list[dict[str, Any]]:
    return [
        {"recipients": [str(447700000000 + place)], "text": "Your order is on its way.", "clientRef": f"{salt}-{place}"}
        for place in range(count)
    ]


def _post(session: requests.Session, stack: Stack, messages: Sequence[dict[str, Any]]) -> None:
    answer = session.post(f"{stack.url}/v1/messages", json={"messages": messages}, timeout=_TIMEOUT_SECONDS)
    if answer.status_code != 202:
        raise BenchError(f"a POST of {len(messages)} messages was answered {answer.status_code}")


def _pause(session: requests.Session, stack: Stack, word: str) -> None:
    body = {"reason": "a benchmark"}
    session.post(f"{stack.url}/v1/sending/{word}", json=body, timeout=_TIMEOUT_SECONDS).raise_for_status()


def _until_sent(stack: Stack, ask: psycopg.Connection) -> None:
    def is_sent() -> bool:
        row = ask.execute("SELECT 1 FROM messages WHERE due_at IS NOT NULL LIMIT 1").fetchone()
        return row is None

    stack.wait_until("all messages are sent", is_sent, seconds=_TIMEOUT_SECONDS)


if __name__ == "__main__":
    main()
