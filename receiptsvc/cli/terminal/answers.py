"""Turns the API's errors into the command line's errors with exit codes, and prints answers as JSON."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import click

from receiptsvc.cli.terminal import display
from receiptsvc.cli.terminal.wrong_use import WrongUse
from receiptsvc.client import ApiError, Json

_WRONG_USE = frozenset({400, 401, 403, 409, 413, 422})  # statuses that mean: the caller must change the request
_NOT_UNDERSTOOD = 422
_HINTED = frozenset({404, 422})  # what was named was not found, or not understood


@contextmanager
def api_errors_shown(*, is_conflict_wrong_use: bool = True, hint: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Turn an ApiError within the block into a ClickException: see `click_error`.

    `hint`: asked for what else to say where something was not found or not understood.
    """
    try:
        yield
    except ApiError as error:
        more = hint() if error.status in _HINTED else ""
        raise click_error(error, hint=more, is_conflict_wrong_use=is_conflict_wrong_use) from error


def click_error(error: ApiError, *, hint: str = "", is_conflict_wrong_use: bool = True) -> click.ClickException:
    """The service's reason in its own words, every fault by its path, then `hint`. Exit code 2 for wrong use, else 1.

    `is_conflict_wrong_use`: whether 409 is the caller's mistake, and not due to the present state.
    """
    if error.status == _NOT_UNDERSTOOD and error.errors:
        lines = ["The service refuses this:"]  # the faults say it all; nobody typed a body
    else:
        lines = [f"{display.plain(error.detail)} (HTTP {error.status})" if error.detail else display.plain(error)]
    for path, faults in error.errors.items():
        listed = faults if isinstance(faults, list) else [faults]
        lines += [f"  {display.plain(path)}: {display.plain(fault)}" for fault in listed]
    if error.key_source is not None:
        lines.append(f"The key that was sent is {error.key_source}.")
    is_wrong_use = error.status in _WRONG_USE and (is_conflict_wrong_use or error.status != 409)
    kind: type[click.ClickException] = WrongUse if is_wrong_use else click.ClickException
    return kind("\n".join(lines + [hint] * bool(hint)))


def newest(items: Iterator[Json], limit: int) -> tuple[list[Json], bool]:
    """The first `limit` of a list that is read page by page, and whether that is all of it."""
    some = list(islice(items, limit + 1))
    return some[:limit], len(some) <= limit


def print_json(answer: Mapping[str, Any]) -> None:
    """Print an answer as JSON, for programs."""
    click.echo(json.dumps(answer, indent=2))
