"""The table of numbers and their writings, against which everything is held that asks `domain.numbers`."""

import tomllib
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

_TABLE: dict[str, list[dict[str, Any]]] = tomllib.loads(
    (Path(__file__).parent.parent / "domain" / "numbers_cases.toml").read_text("utf-8")
)


class Case(NamedTuple):
    """A writing, and the number that it is, or is not."""

    written: str
    number: str
    country: str  # alpha-3


class OriginatorCase(NamedTuple):
    """Two writings of originators, and whether they are one."""

    originator: str
    written: str
    is_same: bool


def _cases(kind: str) -> list[Case]:
    return [Case(written, row["number"], row["country"]) for row in _TABLE["number"] for written in row.get(kind, ())]


ALWAYS, STRANGE, HINTED, DOUBTFUL, NEVER = map(_cases, ("always", "strange", "hinted", "doubtful", "never"))
ALL = [*ALWAYS, *STRANGE, *HINTED, *DOUBTFUL, *NEVER]
NUMBERS = [str(row["number"]) for row in _TABLE["number"]]
ORIGINATORS = [
    OriginatorCase(row["originator"], written, is_same)
    for row in _TABLE["originator"]
    for written, is_same in chain(((each, True) for each in row["same"]), ((each, False) for each in row["other"]))
]
