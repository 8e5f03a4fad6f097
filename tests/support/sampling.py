"""Looks at something again and again, from a thread of its own."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Value = TypeVar("Value")


@contextmanager
def sampled(look: Callable[[], Value], pause_seconds: float) -> Iterator[list[Value]]:
    """What `look` returns, again and again while the block lasts."""
    seen, stop = list[Value](), threading.Event()

    def run() -> None:
        while not stop.wait(pause_seconds):
            seen.append(look())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
