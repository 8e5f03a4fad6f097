"""A gateway that is slow, unreachable, refuses the account, or fails on one message: the other messages still go out."""

import time
from typing import Any

import pytest
import requests
from sqlalchemy import func, select, update

from receiptsvc.demo.processes import Stack
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Message, SendingAccount
from receiptsvc.store.health.verification import verify
from tests.support.processes import until
from tests.whole.conftest import MakeStack

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # nothing here is the database's
BOTH = pytest.mark.parametrize("transport", ["soap", "rest"])

QUIET = ("--default", "no-receipts")
NUMBERS = [f"4477009{place:05}" for place in range(1000, 1060)]  # their last digits mean nothing to the sandbox


def statuses(database: Database) -> dict[str, int]:
    with database.reading() as session:
        counted = session.execute(select(Message.status, func.count()).group_by(Message.status))
        return {word: int(count) for word, count in counted}


def is_any_due(database: Database) -> bool:
    with database.reading() as session:
        return session.scalar(select(func.count()).where(Message.due_at.is_not(None))) != 0


def send(stack: Stack, *numbers: str, **fields: str) -> None:
    stack.client().send([{"recipients": [number], "text": "Hello", **fields} for number in numbers])


def report(stack: Stack) -> dict[str, Any]:
    told: dict[str, Any] = requests.get(f"{stack.sandbox_url}/sandbox/report", timeout=5).json()
    return told


def taken(stack: Stack) -> tuple[int, int]:
    """How many messages the gateway took, and how many of them twice."""
    told = report(stack)
    return told["messageGuids"] + told["restMessages"], told["doubles"] + told["lookalikes"]


def change(stack: Stack, **options: object) -> None:
    requests.post(f"{stack.sandbox_url}/sandbox/behaviour", json=options, timeout=5).raise_for_status()


def test_one_message_that_faults_every_call_does_not_hold_up_others(make_stack: MakeStack, database: Database) -> None:
    stack = make_stack(settings={"RESEND_AFTER_SECONDS": "0.1", "BATCH_SIZE": "50"}, sandbox_flags=QUIET)
    stack.start_all()
    # By its digits the whole call ends so, every time: in a fault, in one in the words of a refused logon, in a 403.
    for place, tail in enumerate(("950", "956", "957"), start=1):
        send(stack, *NUMBERS[19 * (place - 1) : 19 * place], f"447700900{tail}")
        ends = {"submitted": 19 * place, "send_unknown": place}
        until("all others are sent", lambda: statuses(database) == ends, seconds=60)  # noqa: B023
    assert taken(stack) == (57, 0)
    assert list(verify(database)) == []


def test_by_rest_a_faulted_call_is_not_repeated_and_an_unread_one_is_without_the_faulty_message(
    make_stack: MakeStack, database: Database
) -> None:
    settings = {"DYNMARK_TRANSPORT": "rest", "RESEND_AFTER_SECONDS": "0.1", "BATCH_SIZE": "50"}
    stack = make_stack(settings=settings | {"DYNMARK_REST_VALIDITY": "validUntil"}, sandbox_flags=QUIET)
    stack.start_all()
    culprit = {"recipients": ["447700901999"], "text": "Hello", "validUntil": "2999-01-01T00:00:00Z"}
    others = [{"recipients": [number], "text": "Hello"} for number in NUMBERS[:39]]
    stack.client().send([*others[:20], culprit, *others[20:]])  # with a member that this gateway spells otherwise
    until("all others are sent", lambda: statuses(database) == {"submitted": 39, "failed": 1})
    send(stack, *NUMBERS[39:59], "447700900950")
    until("the call is lost", lambda: statuses(database).get("send_unknown") == 21)
    send(stack, NUMBERS[59])
    until("the next one is sent", lambda: statuses(database) == {"submitted": 40, "failed": 1, "send_unknown": 21})
    assert not is_any_due(database)
    assert (report(stack)["submissions"], taken(stack)) == (39 + 21 + 1, (40, 0))
    assert list(verify(database)) == []


@pytest.mark.parametrize(
    ("transport", "ends"),
    [
        ("soap", {"submitted": 16, "failed": 2}),
        ("rest", {"submitted": 14, "failed": 2, "send_unknown": 2}),  # missing, and unnamed where one is missing
    ],
)
def test_each_message_of_a_call_has_its_own_outcome(
    make_stack: MakeStack, database: Database, transport: str, ends: dict[str, int]
) -> None:
    settings = {"DYNMARK_TRANSPORT": transport, "RESEND_AFTER_SECONDS": "0.5"}
    stack = make_stack(settings=settings, sandbox_flags=QUIET)
    stack.start_all()
    strange = [f"447700900{tail}" for tail in ("962", "963", "964", "965", "966", "967")]
    send(stack, *NUMBERS[:5], "447700900960", *strange, "447700900961", *NUMBERS[5:10])
    until("all are settled", lambda: statuses(database) == ends and not is_any_due(database), seconds=60)
    with database.reading() as session:
        failed = set(session.scalars(select(Message.recipient).where(Message.status == "failed")))
        unknown = set(session.scalars(select(Message.recipient).where(Message.status == "send_unknown")))
    assert failed == {"447700900960", "447700900961"}
    assert unknown == ({"447700900963", "447700900965"} if transport == "rest" else set())
    assert taken(stack) == (16, 0)


@BOTH
def test_a_refused_account_fails_nothing_says_so_and_resumes_by_itself(
    make_stack: MakeStack, database: Database, transport: str
) -> None:
    stack = make_stack(settings={"DYNMARK_TRANSPORT": transport}, sandbox_flags=QUIET)
    stack.start_all()
    change(stack, password="another")
    send(stack, *NUMBERS[:20])
    refused = "the gateway refuses our credentials"
    until("it is told", lambda: refused in requests.get(f"{stack.url}/readyz", timeout=5).json()["degraded"])
    assert "receiptsvc_sending_account_refused 1.0" in requests.get(f"{stack.url}/metrics", timeout=5).text
    assert "send.account_refused" in stack.tail("worker")
    assert statuses(database) == {"accepted": 20}
    change(stack, password=None)
    with database.transaction() as session:
        session.execute(update(SendingAccount).values(probe_at=SendingAccount.refused_at))  # half a minute has gone by
    until("all are sent", lambda: statuses(database) == {"submitted": 20})
    until("nothing is degraded", lambda: requests.get(f"{stack.url}/readyz", timeout=5).json()["degraded"] == [])
    assert taken(stack) == (20, 0)


@BOTH
def test_an_unreachable_gateway_gets_every_message_once_it_is_back(
    make_stack: MakeStack, database: Database, transport: str
) -> None:
    stack = make_stack(settings={"DYNMARK_TRANSPORT": transport}, sandbox_flags=QUIET)
    stack.start_all()
    stack.stop("sandbox")
    send(stack, *NUMBERS)

    def tries() -> int:
        with database.reading() as session:
            return session.scalar(select(func.max(Message.tries))) or 0

    until("it was tried again", lambda: tries() >= 3)
    assert statuses(database) == {"accepted": len(NUMBERS)}
    stack.start("sandbox")
    until("all are sent", lambda: statuses(database) == {"submitted": len(NUMBERS)}, seconds=60)
    assert taken(stack) == (len(NUMBERS), 0)


@BOTH
def test_a_slow_gateway_slows_neither_the_api_nor_receipts(
    make_stack: MakeStack, database: Database, transport: str
) -> None:
    settings = {"DYNMARK_TRANSPORT": transport, "BATCH_SIZE": "1", "DYNMARK_TIMEOUT_SECONDS": "300"}
    stack = make_stack(settings=settings, sandbox_flags=["--answer-ms", "240000"])
    stack.start_all()
    send(stack, "447700900913", *NUMBERS[:10])  # receipts for the first come before its answer

    def story() -> dict[str, Any]:
        [message] = stack.client().messages(recipient="447700900913")
        return stack.client().message(message["id"])

    until("receipts are shown", lambda: statuses(database).get("delivered") == 4, seconds=60)
    waited = []
    for _ in range(20):
        asked = time.monotonic()
        story()
        waited.append(time.monotonic() - asked)
    assert max(waited) < 10, "nothing waits for the gateway"
    assert sorted(waited)[10] < 1
    assert statuses(database) == {"delivered": 4, "accepted": 7}, "receipts overtake four answers, and none has come"
    stack.kill("worker")  # else its end would wait for its calls
