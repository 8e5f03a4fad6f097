"""Adds several options to a command at once."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

Decorator: TypeAlias = Callable[[Any], Any]


def with_all(options: Sequence[Decorator]) -> Decorator:
    """A decorator that adds all options; the command's help lists them in this order."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
