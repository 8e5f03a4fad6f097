"""The service as its real processes, on both databases."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.forked import Stack

MakeStack = Callable[..., Stack]


class _Prepared(Stack):
    """A stack on a database that has its tables: to find that out takes a process of its own, and a second."""

    def migrate(self) -> None:
        pass


@pytest.fixture
def make_stack(database_url: str, tmp_path: Path) -> Iterator[MakeStack]:
    """Make a stack on a new database; its processes are stopped with the test."""
    with ExitStack() as running:

        def make(**options: object) -> Stack:
            return running.enter_context(_Prepared(tmp_path / "stack", database_url, **options))  # type: ignore[arg-type]  # passed on

        yield make
