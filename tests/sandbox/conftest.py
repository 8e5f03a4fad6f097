from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from receiptsvc import sandbox
from tests.sandbox.receiver import Receiver, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def start() -> Iterator[Callable[..., sandbox.Box]]:
    """Start a sandbox with short delays and these options; it is stopped with the test."""
    with ExitStack() as stack:

        def start_box(**options: Any) -> sandbox.Box:
            quick: dict[str, Any] = {"delay_seconds": 0.002, "spread_seconds": 0.002, "senders": 4} | options
            return stack.enter_context(sandbox.running(sandbox.Options(**quick)))

        yield start_box


@pytest.fixture
def box(start: Callable[..., sandbox.Box]) -> sandbox.Box:
    return start()
