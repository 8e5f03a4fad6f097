"""Kills its own process at a point of its work: for the processes that tests start in order to lose them."""

import os
import signal
from collections.abc import Callable
from types import ModuleType
from typing import Any

NEVER = "never"


def killer(times: int) -> Callable[[], None]:
    """A function that kills this process at its `times`-th call."""
    remaining = times

    def visit() -> None:
        nonlocal remaining
        remaining -= 1
        if remaining <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return visit


def watch(owner: ModuleType | type, name: str, visit: Callable[[], None], *, is_before: bool = False) -> None:
    """Replace a function or method of `owner` by one that calls `visit` at its end, or at its beginning."""
    real = getattr(owner, name)

    def watched(*args: Any, **kwargs: Any) -> Any:
        if is_before:
            visit()
        result = real(*args, **kwargs)
        if not is_before:
            visit()
        return result

    setattr(owner, name, watched)
