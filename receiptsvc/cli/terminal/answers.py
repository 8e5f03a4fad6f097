"""What commands make of the API's answers: a refusal told in its own words with its exit code, JSON for programs."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from receiptsvc.cli.terminal import display
from receiptsvc.client import ApiError

_WRONG_USE = frozenset({400, 401, 403, 409, 413, 422})  # statuses that tell the caller to ask otherwise


@contextmanager
def refusals_told(*, is_conflict_wrong_use: bool = True) -> Iterator[None]:
    """Tell of a refusal in the service's own words, every fault by its path, and exit as the refusal says."""
    try:
        yield
    except ApiError as error:
        raise refusal(error, is_conflict_wrong_use=is_conflict_wrong_use) from error


def refusal(error: ApiError, *, then: str = "", is_conflict_wrong_use: bool = True) -> click.ClickException:
    """An error of the service's as one of the command line's. `then`: what to say after it.

    `is_conflict_wrong_use`: whether 409 is the caller's mistake, and not how things happen to stand.
    """
    lines = [display.plain(error), *([display.plain(error.detail)] if error.detail else [])]
    for path, faults in error.errors.items():
        listed = faults if isinstance(faults, list) else [faults]
        lines += [f"  {display.plain(path)}: {display.plain(fault)}" for fault in listed]
    is_wrong_use = error.status in _WRONG_USE and (is_conflict_wrong_use or error.status != 409)
    kind: type[click.ClickException] = click.UsageError if is_wrong_use else click.ClickException
    return kind("\n".join(lines + [then] * bool(then)))


def print_json(answer: Mapping[str, Any]) -> None:
    """An answer for a program."""
    click.echo(json.dumps(answer, indent=2))
