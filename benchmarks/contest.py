"""Runs rounds in which every candidate has one turn, in a random order that is repeatable."""

import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psycopg

from benchmarks.generator import Plan, Report, Site
from receiptsvc.store.core.db import plain_url

_SEED = 1  # so that every run has the same orders


def orders(names: Sequence[str], rounds: int) -> Iterator[Sequence[str]]:
    """A random order of all names for each round, repeatable."""
    dealt = random.Random(_SEED)  # noqa: S311 - an order, no secret
    for _ in range(rounds):
        yield dealt.sample(names, len(names))


class Contest:
    """Loads sites in turns. `settle` is called before each turn, so that no candidate pays for another's writes."""

    def __init__(self, generator: Path, sites: Mapping[str, Site], settle: Callable[[], None]) -> None:
        self._generator, self._sites, self._settle = generator, sites, settle
        self._random = random.Random(_SEED)  # noqa: S311 - an order, no secret

    def run_round(self, plans: Mapping[str, Plan]) -> dict[str, Report]:
        """Run one turn of each candidate in `plans`, and return their reports."""
        reports = {}
        for name in self._random.sample(sorted(plans), len(plans)):
            self._settle()
            reports[name] = self._sites[name].load(self._generator, plans[name])
        return reports


def make_settle(server_url: str) -> Callable[[], None]:
    """A function that flushes everything to disk: a PostgreSQL checkpoint, and the system's buffers."""
    url = plain_url(server_url)

    def settle() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CHECKPOINT")
        os.sync()

    return settle
