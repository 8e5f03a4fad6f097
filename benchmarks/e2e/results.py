"""Turns into results: medians of rounds, ratios within a round, one table of all sides."""

from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks import measures

OURS, PARENT, CELERY = "ours", "parent", "celery"
Rounds = Sequence[Mapping[str, Mapping[str, float]]]  # of each round: side → name → value

# What is divided by a baseline's, and printed of the baseline by itself, so that a slow baseline shows.
_COMPARED = {
    PARENT: (
        *("rate", "processed", "cpu_us", "cpu_web_us", "cpu_worker_us", "cpu_postgresql_us", "cpu_ten_us"),
        *("cpu_us_500", "cpu_us_2000", "wal_bytes", "bytes", "visible_p99_ms_500", "visible_p99_ms_2000"),
        *("idle_worker_percent", "idle_web_percent", "idle_postgresql_percent", "idle_transactions"),
    ),
    CELERY: ("rate", "processed", "cpu_us", "cpu_at_rate_us", "wal_bytes", "bytes"),
}
_SHOWN = ("rate", "processed", "cpu_us", "cpu_at_rate_us")


def values(rounds: Rounds) -> dict[str, float]:
    """The lines that the bench ends with."""
    result = {f"e2e_{name}": median(each) for name, each in _by_name(rounds, OURS).items()}
    for baseline, names in _COMPARED.items():
        theirs = _by_name(rounds, baseline)
        for name in names:
            ratios = [
                turns[OURS][name] / turns[baseline][name]
                for turns in rounds
                if turns.get(baseline, {}).get(name) and name in turns[OURS]
            ]
            if ratios:
                result[f"e2e_{name}_vs_{baseline}"] = median(ratios)
        result |= {f"e2e_{baseline}_{name}": median(theirs[name]) for name in _SHOWN if name in theirs}
    return result


def table(rounds: Rounds, labels: Mapping[str, str]) -> str:
    """A Markdown table of all values of all sides, with their spreads over the rounds."""
    columns = [_by_name(rounds, side) for side in labels]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [[name, *(_text(column.get(name)) for column in columns)] for name in names]
    return measures.table(["", *labels.values()], rows)


def _text(each: Sequence[float] | None) -> str:
    if not each:
        return "-"
    spread = measures.spread(each)
    return spread.text(0 if spread.median >= 100 else 1 if spread.median >= 10 else 2)


def _by_name(rounds: Rounds, side: str) -> dict[str, list[float]]:
    names = dict.fromkeys(name for turns in rounds for name in turns.get(side, {}))
    return {name: [turns[side][name] for turns in rounds if name in turns.get(side, {})] for name in names}
