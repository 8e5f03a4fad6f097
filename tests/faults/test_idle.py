"""While nothing happens the database is asked little. What happens is told at once, and seen where nothing is heard."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
import requests

from receiptsvc import ids, tokens
from receiptsvc.config import Settings
from receiptsvc.demo.processes import answers
from receiptsvc.store.core.db import Database, plain_url
from tests.support.forked import Stack
from tests.support.postgres import Server
from tests.support.processes import until
from tests.support.rows import read_attempts, read_message

IDLE_SECONDS = 50.0  # two looks at the whole service, which one worker makes every 25 s
PART_OF_LOOK = 10  # statements of a third one, if two end and one begins in that time
SECONDS = 20.0
NOWHERE = "postgresql+psycopg://nobody@127.0.0.1:1/nothing"
CUT_LISTENERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'receiptsvc listener'"

StartStack = Callable[..., Stack]


@pytest.fixture
def start_stack(tmp_path: Path, postgresql_url: str) -> Iterator[StartStack]:
    """Start two web processes and a worker, and wait until it listens, or knows that it does not."""
    with ExitStack() as running:

        def start(*names: str, **settings: str) -> Stack:
            flags = ("--default", "no-receipts")
            stack = running.enter_context(
                Stack(tmp_path / "stack", postgresql_url, settings=settings, sandbox_flags=flags)
            )
            stack.start("web", *names)
            stack.wait_until("the web process", lambda: answers(f"{stack.url}/readyz"))
            if "worker" in names:
                action = "worker.does_not_listen" if "DATABASE_LISTEN_URL" in settings else "worker.listens"
                stack.wait_until(action, lambda: action in stack.tail("worker"))
            return stack

        yield start


def draws_charts(server: Server) -> bool:
    """Whether a web process adds up hours for its first page, as each does once after its start."""
    with server.logged_statements() as statements:
        time.sleep(3)
    return any("hourly_counts.hour" in statement for statement in statements)


def send(stack: Stack) -> UUID:
    """Have a message accepted; its id."""
    answer = stack.client().submit([{"recipients": ["447700900001"], "text": "Hello"}])
    message_id = ids.parse("msg", str(answer["messages"][0]["id"]))
    assert message_id is not None
    return message_id


def call_back(stack: Stack, message_id: UUID, status: str) -> None:
    """Deliver a receipt of a message."""
    url = tokens.receipt_url(Settings.from_env(stack.environ), message_id)
    assert requests.get(f"{url}?statusid=1&statusdescription={status}", timeout=10).status_code == 200


@pytest.mark.parametrize(
    ("settings", "per_second"),
    [pytest.param({}, 3, id="listening"), pytest.param({"DATABASE_LISTEN_URL": NOWHERE}, 10, id="polling")],
)
def test_an_idle_service_asks_little(
    server: Server, start_stack: StartStack, settings: dict[str, str], per_second: int
) -> None:
    start_stack("worker", **settings)
    until("the first page is made", lambda: not draws_charts(server))
    with server.logged_statements() as statements:
        time.sleep(IDLE_SECONDS)  # this is what is looked at, not a wait
    assert statements
    assert len(statements) <= per_second * IDLE_SECONDS + PART_OF_LOOK, statements


def test_the_web_processes_tell_of_callbacks_and_of_messages(start_stack: StartStack, postgresql_url: str) -> None:
    stack = start_stack()
    with psycopg.connect(plain_url(postgresql_url), autocommit=True) as connection:
        connection.execute("LISTEN receiptsvc_inbox; LISTEN receiptsvc_outbox")

        def heard() -> list[str]:
            return [one.channel for one in connection.notifies(timeout=SECONDS, stop_after=1)]

        message_id = send(stack)
        assert heard() == ["receiptsvc_outbox"]
        call_back(stack, message_id, "delivered")
        assert heard() == ["receiptsvc_inbox"]
        stack.client().call("POST", "/v1/sending/pause", body={"reason": "to see"})
        stack.client().call("POST", "/v1/sending/resume", body={})
        assert heard() == ["receiptsvc_outbox"]


def test_what_happens_is_seen_after_the_listening_connection_was_cut(
    server: Server, start_stack: StartStack, postgresql_database: Database
) -> None:
    stack = start_stack("worker", "sandbox")
    with server.connect() as admin:
        assert admin.execute(CUT_LISTENERS).fetchall()
        message_id = send(stack)
        until("it is offered", lambda: bool(read_attempts(postgresql_database, message_id)), seconds=SECONDS)
        until("it listens again", lambda: stack.tail("worker").count("worker.listens") == 2, seconds=SECONDS)
        assert admin.execute(CUT_LISTENERS).fetchall()
        call_back(stack, message_id, "delivered")
        until(
            "the receipt is processed",
            lambda: read_message(postgresql_database, message_id).status == "delivered",
            seconds=SECONDS,
        )
