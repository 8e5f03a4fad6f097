"""The fault tests' two forms, the PostgreSQL that they break, and the web process that must survive it."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from receiptsvc import ids, tokens
from receiptsvc.config import Settings
from receiptsvc.demo import processes
from receiptsvc.demo.processes import answers
from tests.support.forked import Stack
from tests.support.forms import IS_LONG
from tests.support.postgres import Server


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """How long and how often the tests run. `slack_seconds`: what a client on the same machine may measure in addition."""

    times: int
    restarts: int  # of processes that start slowly
    frozen_seconds: float
    budget_seconds: float
    fuzzed: int
    slack_seconds: float

    @property
    def max_answer_seconds(self) -> float:
        """The longest that an answer may take: the budget, a second and the slack."""
        return self.budget_seconds + 1 + self.slack_seconds


# Beside the three other processes of the gate a client waits for the processor too.
SHORT = Form(times=2, restarts=1, frozen_seconds=4, budget_seconds=1, fuzzed=1_500, slack_seconds=2)
LONG = Form(times=20, restarts=20, frozen_seconds=15, budget_seconds=2, fuzzed=100_000, slack_seconds=0.5)


class StartWeb(Protocol):
    """Starts a web process on a database and waits until it is ready. It is ended with the test."""

    def __call__(self, database_url: str, open_files: int | None = None, /, **settings: str) -> Stack: ...


@pytest.fixture(scope="session")
def form() -> Form:
    """The short form, or with RECEIPTSVC_FAULTS=long the long one."""
    return LONG if IS_LONG else SHORT


@pytest.fixture(scope="session")
def one_server() -> Iterator[Server]:
    """The PostgreSQL that the fault tests share."""
    with tempfile.TemporaryDirectory(prefix="receiptsvc-faults-") as folder:
        Path(folder).chmod(0o755)  # as root the server runs as a user of its own
        server = Server(Path(folder))
        yield server
        server.stop()


@pytest.fixture
def server(one_server: Server) -> Server:
    """The PostgreSQL to break, running."""
    one_server.start()
    return one_server


@pytest.fixture
def postgresql_url(server: Server) -> str:
    """A new, migrated database on the PostgreSQL that can be broken."""
    return server.new_database()


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A new folder on a disk, not in memory as for other tests: here it matters what has reached the disk."""
    with tempfile.TemporaryDirectory(prefix="receiptsvc-faults-") as folder:
        yield Path(folder)


@pytest.fixture
def start_web(tmp_path: Path, form: Form) -> Iterator[StartWeb]:
    """Start the web process, with the form's budget unless told otherwise."""
    with ExitStack() as running:

        def start(database_url: str, open_files: int | None = None, /, **settings: str) -> Stack:
            settings = {"CALLBACK_BUDGET_SECONDS": f"{form.budget_seconds:g}", **settings}
            stack = Stack(tmp_path / "stack", database_url, settings=settings, open_files=open_files)
            running.enter_context(stack)
            stack.start("web")
            stack.wait_until("the web process", lambda: answers(f"{stack.url}/readyz"))
            return stack

        yield start


def callback_url(stack: processes.Stack) -> str:
    """A callback URL as the gateway gets it with a message."""
    return tokens.receipt_url(Settings.from_env(stack.environ), ids.new())
