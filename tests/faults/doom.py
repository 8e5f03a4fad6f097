"""Killing this very process at a point of its work: for the processes that tests start so as to lose them."""

import os
import signal
from collections.abc import Callable
from types import ModuleType
from typing import Any

NEVER = "never"


def killer(times: int) -> Callable[[], None]:
    """What counts visits, and kills this process at the so-many-th."""
    left = times

    def visit() -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return visit


def watch(place: ModuleType | type, name: str, visit: Callable[[], None], *, is_before: bool = False) -> None:
    """Have the function or method of this name visit at its end, or at its beginning."""
    real = getattr(place, name)

    def watched(*args: Any, **kwargs: Any) -> Any:
        if is_before:
            visit()
        result = real(*args, **kwargs)
        if not is_before:
            visit()
        return result

    setattr(place, name, watched)
