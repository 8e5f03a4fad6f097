"""A small database plan: the whole set of processes stays within its connections, and everybody is answered."""

import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import requests
from sqlalchemy.engine import make_url

from receiptsvc.connection_shares import DEFAULT, FOR_COMMANDS
from receiptsvc.domain.errors import ReceiptsvcError
from tests.faults.conftest import Form, StartWeb, callback_url
from tests.faults.proof import assert_nothing_lost
from tests.support.forked import Stack
from tests.support.load import Load
from tests.support.postgres import Server
from tests.support.sampling import sampled

ROLE, ROLE_LIMIT = "small_plan", 20
CLIENTS, SECONDS = 32, 3.0


@pytest.fixture
def small_plan_url(server: Server, postgresql_url: str) -> Iterator[str]:
    """A database whose owner may have as many connections as the smallest plans allow."""
    name = make_url(postgresql_url).database or ""
    with server.connect(name) as admin:
        owner = admin.info.user
        admin.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD 'x' CONNECTION LIMIT {ROLE_LIMIT}".encode())
        admin.execute(f'ALTER DATABASE "{name}" OWNER TO {ROLE}'.encode())
        for (table,) in admin.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall():
            admin.execute(f'ALTER TABLE "{table}" OWNER TO {ROLE}'.encode())
        yield make_url(postgresql_url).set(username=ROLE, password="x").render_as_string(hide_password=False)
        admin.execute(f"ALTER ROLE {ROLE} CONNECTION LIMIT 0".encode())
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [ROLE])
        admin.execute(f"REASSIGN OWNED BY {ROLE} TO {owner}".encode())
        admin.execute(f"DROP ROLE {ROLE}".encode())


@contextmanager
def counted(server: Server) -> Iterator[list[int]]:
    """How many connections the role has, looked at again and again while the block lasts."""
    with server.connect() as admin:

        def count() -> int:
            row = admin.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = %s", [ROLE]).fetchone()
            return row[0] if row else 0

        with sampled(count, 0.02) as seen:
            yield seen


def ask(stack: Stack, number: int) -> tuple[list[float], list[str]]:
    """One API client without a pause; how long each call took, and what was refused."""
    took, refused = list[float](), list[str]()
    client = stack.client()
    calls: tuple[Callable[[], object], ...] = (
        client.ledger,
        lambda: next(client.messages(), None),
        lambda: client.send([{"recipients": [f"4477009{number:02}{len(took):03}"], "text": "Hello"}]),
    )
    ends_at = time.monotonic() + SECONDS
    while time.monotonic() < ends_at:
        began = time.monotonic()
        try:
            calls[len(took) % len(calls)]()
        except ReceiptsvcError as error:
            refused.append(str(error))
        took.append(time.monotonic() - began)
    return took, refused


def test_on_a_small_plan_everybody_is_answered(
    server: Server, small_plan_url: str, start_web: StartWeb, form: Form
) -> None:
    with counted(server) as seen:
        stack = start_web(small_plan_url, WEB_CONCURRENCY="2")
        stack.start("worker")
        with Load(callback_url(stack)) as load, ThreadPoolExecutor(CLIENTS) as clients:
            answers = list(clients.map(lambda number: ask(stack, number), range(CLIENTS)))
    refused = [each for _, faults in answers for each in faults]
    assert not refused, refused[:5]
    assert load.statuses == {200}
    assert load.slowest_seconds < form.max_answer_seconds
    assert max(seen) <= DEFAULT - FOR_COMMANDS
    took = [seconds for seconds_of_one, _ in answers for seconds in seconds_of_one]
    assert statistics.quantiles(took, n=20)[-1] <= 5, "on a machine that may be busy"
    stack.stop("web")
    stack.stop("worker")
    assert_nothing_lost(small_plan_url, load.kept)


def test_the_start_says_that_the_server_allows_fewer(small_plan_url: str, start_web: StartWeb) -> None:
    stack = start_web(small_plan_url, DATABASE_CONNECTIONS=str(ROLE_LIMIT + 1))
    stack.start("worker")
    words = f"the processes may open {ROLE_LIMIT + 1} connections, and the database allows {ROLE_LIMIT}"
    stack.wait_until("it is logged", lambda: words in stack.tail("worker"))
    degraded = requests.get(f"{stack.url}/readyz", timeout=5).json()["degraded"]
    assert [each for each in degraded if words in each]
