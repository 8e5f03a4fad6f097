"""The maths: values of rounds, ratios within a round, medians with their spread, and a table to read them in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """What several rounds gave."""

    median: float
    lowest: float
    highest: float

    def text(self, digits: int = 0) -> str:
        """Such as `5,012 (4,800-5,100)`."""
        middle, low, high = (f"{value:,.{digits}f}" for value in (self.median, self.lowest, self.highest))
        return f"{middle} ({low}-{high})"


def spread(values: Sequence[float]) -> Spread:
    """The median of `values` (not empty) and how far they lie apart."""
    return Spread(median=median(values), lowest=min(values), highest=max(values))


def of_each(rounds: Sequence[Mapping[str, float]], name: str) -> Spread:
    """What one candidate reached. `rounds`: candidate → value, a round each."""
    return spread([values[name] for values in rounds])


def ratio(rounds: Sequence[Mapping[str, float]], above: str, below: str) -> Spread:
    """`above` ÷ `below`, first within each round, since what disturbs the machine disturbs both."""
    return spread([values[above] / values[below] for values in rounds])


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of `values` (not empty) that at least this share of them does not exceed."""
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; every column but the first is of numbers."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        return "| " + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]) + " |"

    rule = [f"{'-' * widths[0]}", *(f"{'-' * (width - 1)}:" for width in widths[1:])]
    return "\n".join([line(head), line(rule), *map(line, rows)])
