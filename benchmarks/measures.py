"""The statistics of rounds: medians with their spread, ratios within a round, percentiles, and a Markdown table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """The median, lowest and highest value of several rounds."""

    median: float
    lowest: float
    highest: float

    def text(self, digits: int = 0) -> str:
        """Such as `5,012 (4,800-5,100)`."""
        middle, lowest, highest = (f"{value:,.{digits}f}" for value in (self.median, self.lowest, self.highest))
        return f"{middle} ({lowest}-{highest})"


def spread(values: Sequence[float]) -> Spread:
    """The spread of `values` (not empty)."""
    return Spread(median=median(values), lowest=min(values), highest=max(values))


def of_each(rounds: Sequence[Mapping[str, float]], name: str) -> Spread:
    """The spread of one candidate's values. `rounds`: candidate → value for each round."""
    return spread([values[name] for values in rounds])


def ratio(rounds: Sequence[Mapping[str, float]], above: str, below: str) -> Spread:
    """`above` ÷ `below` within each round, because what disturbs the machine disturbs both; then the spread."""
    return spread([values[above] / values[below] for values in rounds])


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of `values` (not empty) that at least this share of them does not exceed."""
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first hold numbers."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        return "| " + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]) + " |"

    rule = [f"{'-' * widths[0]}", *(f"{'-' * (width - 1)}:" for width in widths[1:])]
    return "\n".join([line(header), line(rule), *map(line, rows)])
