"""Runs rounds in which every candidate has one turn, in a random order that is repeatable."""

import os
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import psycopg

from benchmarks.generator import Plan, Report, Site
from receiptsvc.store.core.db import plain_url

_SEED = 1  # so that every run has the same orders


class Contest:
    """Loads sites in turns. `settle` is called before each turn, so that no candidate pays for another's writes."""

    def __init__(self, generator: Path, sites: Mapping[str, Site], settle: Callable[[], None]) -> None:
        self._generator, self._sites, self._settle = generator, sites, settle
        self._random = random.Random(_SEED)  # noqa: S311 - an order, no secret

    def run_round(self, plans: Mapping[str, Plan]) -> dict[str, Report]:
        """Run one turn of each candidate in `plans`, and return their reports."""
        return {name: self.load(name, plans[name]) for name in self.turns(plans)}

    def turns(self, names: Collection[str]) -> Iterator[str]:
        """The candidates of a round in their order, each once everything before it is settled."""
        for name in self._random.sample(sorted(names), len(names)):
            self._settle()
            yield name

    def load(self, name: str, plan: Plan) -> Report:
        """Load a candidate whose turn it is."""
        return self._sites[name].load(self._generator, plan)


def make_settle(server_url: str) -> Callable[[], None]:
    """A function that flushes everything to disk: a PostgreSQL checkpoint, and the system's buffers."""
    url = plain_url(server_url)

    def settle() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CHECKPOINT")
        os.sync()

    return settle
