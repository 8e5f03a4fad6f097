"""Answers lost and workers killed: every message reaches the gateway once, whatever becomes of our calls."""

import random
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import func, select

from receiptsvc import sandbox
from receiptsvc.domain.statuses import UNSETTLED
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Attempt, Message
from receiptsvc.store.health.verification import verify
from tests.faults import doom, doomed_sender
from tests.faults.conftest import Form
from tests.support import forked, rows
from tests.support.forked import Stack
from tests.support.forms import IS_LONG
from tests.support.processes import until

SILENT = ("--ignore-numbers", "--default", "no-receipts")
LOSSES = ("--chance", "lost-answer=0.05", "--chance", "cut-answer=0.03", "--chance", "lost-request=0.04")

# A killed worker's calls are lost when its lease ends: half a minute on PostgreSQL. The long form waits for it.
SENT = 10_000 if IS_LONG else 4_000
SENT_BY_REST = SENT // 4
KILLED_ON = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"] if IS_LONG else ["sqlite"], indirect=True)
# What is the transport's own of being killed: whether the gateway had the call.
BY_REST = doomed_sender.POINTS if IS_LONG else ("claim committed", "answered")
KILLED_AT = [*((point, "soap") for point in doomed_sender.POINTS), *((point, "rest") for point in BY_REST)]

StartSending = Callable[..., Stack]


@pytest.fixture
def start_sending(database_url: str, tmp_path: Path) -> Iterator[StartSending]:
    """Starts a gateway with these flags and a worker on the database."""
    with ExitStack() as running:

        def start(*flags: str, **settings: str) -> Stack:
            own = {"RESEND_AFTER_SECONDS": "0.2", **settings}
            stack = Stack(tmp_path / "stack", database_url, settings=own, sandbox_flags=[*SILENT, *flags])
            running.enter_context(stack)
            stack.start("sandbox")
            stack.wait_until("the sandbox", lambda: report(stack) is not None)
            stack.start("worker")
            return stack

        yield start


def report(stack: Stack) -> dict[str, Any] | None:
    try:
        told: dict[str, Any] = requests.get(f"{stack.sandbox_url}/sandbox/report", timeout=5).json()
    except requests.RequestException:
        return None
    return told


def accept(database: Database, count: int, transport: str = "soap") -> None:
    rows.accept(database, *(rows.message(f"4477{place:08}", transport=transport) for place in range(count)))


def unsettled(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).where(Message.status.in_(UNSETTLED))) or 0


def due(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).where(Message.due_at.is_not(None))) or 0


def statuses(database: Database) -> dict[str, int]:
    with database.reading() as session:
        counted = session.execute(select(Message.status, func.count()).group_by(Message.status))
        return {word: int(count) for word, count in counted}


def assert_none_was_doubled(database: Database, told: dict[str, Any], count: int) -> int:
    """By REST, where nothing that is unclear goes again: how many messages are send_unknown."""
    assert [told[name] for name in ("messageGuids", "doubles", "lookalikes", "refused")] == [0, 0, 0, 0]
    found = statuses(database)
    unknown = found.get("send_unknown", 0)
    assert found.get("submitted", 0) == count - unknown
    assert count - unknown <= told["restMessages"] <= count, "none is told to be there that the gateway never had"
    assert list(verify(database)) == []
    return unknown


def assert_each_was_sent_once(database: Database, told: dict[str, Any], count: int) -> None:
    assert {name: told[name] for name in ("messageGuids", "doubles", "lookalikes", "refused")} == {
        "messageGuids": count,
        "doubles": 0,
        "lookalikes": 0,
        "refused": 0,
    }
    assert statuses(database) == {"submitted": count}
    assert list(verify(database)) == []


@pytest.mark.parametrize("database_url", ["postgresql", "sqlite"] if IS_LONG else ["postgresql"], indirect=True)
def test_with_a_tenth_of_the_answers_lost_no_message_is_lost_or_doubled(
    start_sending: StartSending, database: Database
) -> None:
    accept(database, SENT)
    stack = start_sending(*LOSSES, BATCH_SIZE="50")
    until("all are sent", lambda: unsettled(database) == 0, seconds=120)
    told = report(stack)
    assert told is not None
    assert told["spoiledAnswers"] >= SENT // 1000, "else nothing was tried"
    assert told["duplicates"] >= SENT // 100
    assert_each_was_sent_once(database, told, SENT)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_by_rest_a_lost_answer_stays_unknown_and_no_message_is_doubled(
    start_sending: StartSending, database: Database
) -> None:
    accept(database, SENT_BY_REST, "rest")
    stack = start_sending(*LOSSES, BATCH_SIZE="20")
    until("nothing is due", lambda: due(database) == 0, seconds=120)
    told = report(stack)
    assert told is not None
    assert told["submissions"] == SENT_BY_REST, "each was offered once"
    assert told["spoiledAnswers"] >= SENT_BY_REST // 500, "else nothing was tried"
    assert assert_none_was_doubled(database, told, SENT_BY_REST) == 20 * told["spoiledAnswers"]


@KILLED_ON
def test_a_sender_killed_at_any_moment_sends_each_once(
    start_sending: StartSending, database: Database, form: Form
) -> None:
    kills = max(4, form.times * 5 // 2)
    count = 400 * kills
    accept(database, count)
    stack = start_sending("--answer-ms", "50", BATCH_SIZE="25", DYNMARK_TIMEOUT_SECONDS="1")
    dice = random.Random(1)
    for turn in range(kills):
        left = count - 250 * turn - dice.randrange(1, 200)
        until("some are sent", lambda left=left: unsettled(database) <= left, seconds=60)  # type: ignore[misc]
        stack.kill("worker")
        stack.start("worker")
    until("all are sent", lambda: unsettled(database) == 0, seconds=120)
    told = report(stack)
    assert told is not None
    assert_each_was_sent_once(database, told, count)


@KILLED_ON
@pytest.mark.parametrize(("point", "transport"), KILLED_AT)
def test_a_sender_killed_at_a_point_sends_each_once(
    database_url: str, database: Database, point: str, transport: str, form: Form
) -> None:
    kills = form.times // 2
    count = 60 + 5 * kills  # by REST what a kill leaves is not offered again
    accept(database, count, transport)
    with sandbox.running(sandbox.Options(default=("no-receipts",), by_number=False)) as box:
        environ = {
            "DATABASE_URL": database_url,
            "CALLBACK_KEYS": "a" * 16,
            "API_KEYS": "a:read:" + "b" * 16,
            "DYNMARK_USERNAME": "sandbox",
            "DYNMARK_PASSWORD": "password",
            "DYNMARK_TRANSPORT": transport,
            "DYNMARK_SOAP_URL": box.soap_url,
            "DYNMARK_REST_URL": box.rest_url,
            "BATCH_SIZE": "5",
            "RESEND_AFTER_SECONDS": "0.001",
        }
        for turn in range(kills):
            assert forked.run(doomed_sender.work, environ, point, turn % 3 + 1) == -signal.SIGKILL
            assert due(database)
        until(
            "all are sent", lambda: forked.run(doomed_sender.work, environ, doom.NEVER, 0) == 0 and due(database) == 0
        )
        with database.reading() as session:
            lost = session.scalar(select(func.count()).where(Attempt.outcome == "unclear")) or 0
        assert (lost == 0) == (point == "claimed"), "what was not committed was never begun"
        if transport == "soap":
            assert_each_was_sent_once(database, box.report(), count)
        else:
            assert assert_none_was_doubled(database, box.report(), count) == lost
            never_had = lost if point == "claim committed" else 0
            assert box.report()["restMessages"] == count - never_had
