"""A gateway that does everything wrong at random, garbage at every callback URL, for two seconds.

In the long form for ten minutes, with a restart of the database half-way.
"""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import func, select, update

from receiptsvc import ids, tokens
from receiptsvc.client import ApiError, Unreachable
from receiptsvc.config import Settings
from receiptsvc.demo.processes import answers
from receiptsvc.sandbox.behaviour import TABLE, ends_call
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Attempt, Message, SendingAccount
from receiptsvc.store.health import verification
from tests.support.forked import Stack
from tests.support.forms import IS_LONG
from tests.support.postgres import Server
from tests.support.processes import until

SECONDS = 600.0 if IS_LONG else 2.0
METHODS = ("GET", "POST", "HEAD", "PUT")
TYPES = (None, "application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/\xff")
# Whole calls end so one time in thirty each, which is two calls in three; each kind of receipt one time in twenty-five.
CHANCES = {name: 0.03 if ends_call(name) else 0.04 for name in TABLE if name != "delivered"}
FAST = {"slow_seconds": 1, "drip_seconds": 0.2, "huge_bytes": 4_000_000, "late_seconds": 0.5, "by_number": False}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("transport", ["soap", "rest"] if IS_LONG else ["soap"])
def test_after_everything_went_wrong_the_books_are_right(
    tmp_path: Path, server: Server, postgresql_url: str, transport: str
) -> None:
    settings = {
        "DYNMARK_TRANSPORT": transport,
        "DYNMARK_TIMEOUT_SECONDS": "1",
        "RESEND_AFTER_SECONDS": "0.2",
        "BATCH_SIZE": "5",
        "CALLBACK_BUDGET_SECONDS": "2",
    }
    with Stack(tmp_path / "stack", postgresql_url, settings=settings) as stack:
        stack.start("sandbox", "web", "worker")
        stack.wait_until("the web process", lambda: answers(f"{stack.url}/readyz"))
        behave(stack, chances=CHANCES, **FAST)
        sent = attack(stack, server)
        behave(stack, chances={}, slow_seconds=0)
        database = Database(postgresql_url)
        calm(stack, database)
        client = stack.client()
        taken = {one["callbackUrl"] for one in ask(stack, "/sandbox/messages")}
        report = ask(stack, "/sandbox/report")
        messages = list(client.messages(limit="500"))
        for message in messages if not IS_LONG else random.Random(1).sample(messages, 500):
            assert client.explain(message["id"]), "each message is explained"
        assert client.ledger()["balanced"]
        urls = Settings.from_env(stack.environ)
    assert (report["doubles"], report["lookalikes"]) == (0, 0)
    assert set(sent) <= {message["id"] for message in messages}, "what was answered 202 is there"
    for message in messages:
        identifier = ids.parse("msg", message["id"])
        assert identifier
        if message["status"] in {"failed", "accepted", "cancelled"}:
            assert tokens.receipt_url(urls, identifier) not in taken, "a false refusal"
    assert list(verification.verify(database)) == []
    database.close()


def attack(stack: Stack, server: Server) -> list[str]:
    """Send, call back with garbage, and restart the database half-way; the ids of what was answered 202."""
    ends_at = time.monotonic() + SECONDS
    sent, numbers, stop = list[str](), iter(range(10**9)), threading.Event()

    def repeat(step: Callable[[], None], pause_seconds: float) -> None:
        while not stop.wait(pause_seconds):
            with suppress(ApiError, Unreachable, requests.RequestException):
                step()

    client = stack.client()

    def send() -> None:
        recipients = [f"4477{next(numbers):08}" for _ in range(5)]
        sent.extend(item["id"] for item in client.send([{"recipients": recipients, "text": "Hello", "clientRef": "h"}]))

    settings = Settings.from_env(stack.environ)
    static = tokens.static_urls(settings)
    fixed = [static.receipts, static.inbound, f"{stack.url}/callbacks/receipts"]

    def call_back() -> None:
        dice = random.Random()
        identifier = ids.parse("msg", dice.choice(sent)) if sent else None
        url = (
            dice.choice(fixed)
            if identifier is None or dice.random() < 0.3
            else tokens.receipt_url(settings, identifier)
        )
        headers = {"Content-Type": kind} if (kind := dice.choice(TYPES)) else {}
        query = dice.randbytes(dice.randrange(60)).decode("latin-1")
        body = dice.randbytes(dice.randrange(2_000))
        answer = requests.request(dice.choice(METHODS), f"{url}?{query}", data=body, headers=headers, timeout=10)
        assert answer.status_code < 500 or answer.status_code == 503, answer.status_code

    with ThreadPoolExecutor(3) as threads:
        running = [threads.submit(repeat, send, 0.1), *(threads.submit(repeat, call_back, 0.02) for _ in range(2))]
        until("it is half over", lambda: time.monotonic() > ends_at - SECONDS / 2, seconds=SECONDS)
        if IS_LONG:  # a claim whose commit was cut off waits for its lease, which is half a minute
            server.stop()
            server.start()
        until("it is over", lambda: time.monotonic() > ends_at, seconds=SECONDS)
        stop.set()
        for each in running:
            each.result()
    return sent


def calm(stack: Stack, database: Database) -> None:
    """Wait until a gateway that behaves again has got and said all."""
    client = stack.client()
    client.send([{"recipients": ["447700900000"], "text": "All is well"}])  # clears a suspicion that is left

    def is_settled() -> bool:
        with database.transaction() as session:
            # As if the pauses had gone by, after which an account is tried that may be refused.
            session.execute(
                update(SendingAccount).values(probe_at=SendingAccount.refused_at, try_at=SendingAccount.suspected_at)
            )
            open_calls = session.scalar(select(func.count()).where(Attempt.ended_at.is_(None)))
            due = session.scalar(select(func.count()).where(Message.due_at.is_not(None)))
        return not open_calls and not due and not client.ledger()["pending"]

    until("all is settled", is_settled, seconds=600 if IS_LONG else 45)


def behave(stack: Stack, **options: object) -> None:
    answer = requests.post(f"{stack.sandbox_url}/sandbox/behaviour", json=options, timeout=5)
    assert answer.ok, answer.text


def ask(stack: Stack, path: str) -> Any:
    return requests.get(f"{stack.sandbox_url}{path}", timeout=30).json()
