"""Rounds in which every candidate has its turn, in an order that is dealt anew each time."""

import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import psycopg

from benchmarks.generator import Plan, Report, Site
from receiptsvc.store.core.db import plain_url

_SEED = 1  # the same orders in every run


class Contest:
    """Loads sites in turns. `settle` is called before each turn, so that nobody pays for what another left to write."""

    def __init__(self, generator: Path, sites: Mapping[str, Site], settle: Callable[[], None]) -> None:
        self._generator, self._sites, self._settle = generator, sites, settle
        self._random = random.Random(_SEED)  # noqa: S311 - an order, no secret

    def hold_round(self, plans: Mapping[str, Plan]) -> dict[str, Report]:
        """One turn for each candidate that `plans` names."""
        reports = {}
        for name in self._random.sample(sorted(plans), len(plans)):
            self._settle()
            reports[name] = self._sites[name].load(self._generator, plans[name])
        return reports


def settler(server_url: str) -> Callable[[], None]:
    """What brings everything written so far to disk: a checkpoint, and the system's own buffers."""
    url = plain_url(server_url)

    def settle() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CHECKPOINT")
        os.sync()

    return settle
