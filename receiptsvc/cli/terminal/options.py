"""Several options for a command at once."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

Decorator: TypeAlias = Callable[[Any], Any]


def with_all(options: Sequence[Decorator]) -> Decorator:
    """Give a command all of these, so that its help tells of them in this order."""

    def give(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return give
