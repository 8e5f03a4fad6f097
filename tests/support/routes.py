"""Routes that are compiled once: each test has an application of its own, with the same hundred and fifty of them."""

from collections.abc import Callable
from typing import Any

from werkzeug.routing import Rule


def share() -> None:
    """Have what builds a route's addresses made once for all applications. That took most of an application's making.

    It is the same for the same route: its converters are found by the route that it is asked of.
    """
    made: dict[tuple[object, ...], Callable[..., tuple[str, str]]] = {}
    make = Rule._compile_builder  # noqa: SLF001 - what it returns can't be given

    def look_up(rule: Any, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        if rule.defaults:
            return make(rule, append_unknown)
        key = (rule.rule, tuple(rule._trace), append_unknown)  # noqa: SLF001 - likewise
        if key not in made:
            made[key] = make(rule, append_unknown)
        return made[key]

    Rule._compile_builder = look_up  # type: ignore[assignment,method-assign]  # noqa: SLF001 - likewise
