"""The same messages cancelled, claimed, reported on and resolved by everybody at once: no word contradicts what was sent."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import func, select

from receiptsvc import ids, tokens
from receiptsvc.client import ApiError
from receiptsvc.config import Settings
from receiptsvc.demo.processes import answers
from receiptsvc.domain.statuses import Source, Status
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Attempt, Message, Transition
from receiptsvc.store.health import verification
from tests.support.forked import Stack
from tests.support.processes import until

MESSAGES = 80
LOSSES = ("lost-answer=0.1", "lost-answer-silent=0.1", "lost-request=0.1", "fault-taken=0.1", "conflicting=0.3")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("transport", "database_url"), [("rest", "sqlite"), ("soap", "postgresql")], indirect=["database_url"]
)
def test_whoever_wins_no_message_is_both_cancelled_and_sent(
    tmp_path: Path, database_url: str, database: Database, transport: str
) -> None:
    flags = [each for chance in LOSSES for each in ("--chance", chance)]
    settings = {
        "DYNMARK_TRANSPORT": transport,
        "BATCH_SIZE": "3",
        "RESEND_AFTER_SECONDS": "0.3",
        "DYNMARK_TIMEOUT_SECONDS": "2",
    }
    with Stack(
        tmp_path / "stack", database_url, settings=settings, sandbox_flags=[*flags, "--ignore-numbers"]
    ) as stack:
        stack.start("sandbox", "web", "worker")
        workers = [stack]
        if not database.is_sqlite:
            second = Stack(tmp_path / "second", database_url, settings=dict(stack.environ))
            second.environ = stack.environ
            second.start("worker")
            workers.append(second)
        try:
            stack.wait_until("the web process", lambda: answers(f"{stack.url}/readyz"))
            attack(stack)
            until("all calls have ended", lambda: is_quiet(database, stack), seconds=30)
        finally:
            for one in workers[1:]:
                one.stop("worker")
        report: dict[str, Any] = requests.get(f"{stack.sandbox_url}/sandbox/report", timeout=5).json()
    assert (report["doubles"], report["lookalikes"]) == (0, 0)
    assert_sound(database)


def attack(stack: Stack) -> None:
    """Send, and at once cancel, resolve and report on the same messages, in many threads."""
    client = stack.client()
    sent = client.send([{"recipients": [f"4477009{n:05}" for n in range(MESSAGES)], "text": "Hello", "clientRef": "r"}])
    message_ids = [str(item["id"]) for item in sent]
    settings = Settings.from_env(stack.environ)
    words: Counter[str] = Counter()

    def cancel(message_id: str) -> None:
        stack.client().cancel(message_id, "race")
        words["cancelled"] += 1

    def resolve(message_id: str) -> None:
        stack.client().resolve(message_id, random.choice(["delivered", "failed"]), "race")
        words["resolved"] += 1

    def report(message_id: str) -> None:
        parsed = ids.parse("msg", message_id)
        assert parsed
        word = random.choice(["Delivered", "Undelivered", "Message sent"])
        parameters = {"statusid": "1", "statusdescription": word, "datetime": "2026-01-05T12:00:00"}
        requests.get(tokens.receipt_url(settings, parsed), params=parameters, timeout=10).raise_for_status()
        words["reported"] += 1

    def cancel_all(_: str) -> None:
        stack.client().cancel_all(clientRef="r", recipient=f"4477009{random.randrange(MESSAGES):05}")

    def run(step: Callable[[str], None], order: Sequence[str]) -> None:
        for message_id in order:
            with suppress(ApiError):
                step(message_id)

    steps = (cancel, resolve, report, cancel_all)
    with ThreadPoolExecutor(8) as threads:
        for number in range(8):
            order = random.Random(number).sample(message_ids, 40)
            threads.submit(run, steps[number % 4], order)
    assert words["cancelled"]
    assert words["reported"]


def is_quiet(database: Database, stack: Stack) -> bool:
    with database.reading() as session:
        open_calls = session.scalar(select(func.count()).where(Attempt.ended_at.is_(None)))
        due = session.scalar(select(func.count()).where(Message.due_at.is_not(None)))
    return not open_calls and not due and not stack.client().ledger()["pending"]


def assert_sound(database: Database) -> None:
    assert list(verification.verify(database)) == []
    with database.reading() as session:
        messages = list(session.scalars(select(Message)))
        offered = set(session.scalars(select(Attempt.message_id).distinct()))
        reported = set(session.scalars(select(Transition.message_id).where(Transition.source == Source.GATEWAY)))
        cancelled = set(session.scalars(select(Transition.message_id).where(Transition.status == Status.CANCELLED)))
    # Whoever was cancelled was offered to nobody; a report from outside may still win over it.
    assert not cancelled & offered
    for message in messages:
        if message.status == Status.CANCELLED:
            assert message.id in cancelled - reported
        elif message.id in cancelled:
            assert message.id in reported
        else:
            assert message.id in offered | reported, message.status
