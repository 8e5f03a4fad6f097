"""Gaps between tries grow from the first to the longest."""

from datetime import timedelta

import pytest

from receiptsvc.domain.backoff import Backoff

GAPS = [
    (Backoff.doubling(timedelta(seconds=30), timedelta(minutes=5)), [30, 60, 120, 240, 300]),
    (Backoff.doubling(timedelta(seconds=0.5), timedelta(seconds=2)), [0.5, 1, 2]),
    (Backoff.doubling(timedelta(seconds=9), timedelta(seconds=9)), [9]),
    (Backoff((timedelta(minutes=1), timedelta(minutes=5), timedelta(days=1))), [60, 300, 86400]),
]


@pytest.mark.parametrize(("backoff", "seconds"), GAPS)
def test_gaps_grow_from_the_first_to_the_longest(backoff: Backoff, seconds: list[float]) -> None:
    expected = [*seconds, seconds[-1], seconds[-1]]
    assert [backoff.gap(before).total_seconds() for before in range(len(expected))] == expected
    gap, following = timedelta(), []
    for _ in expected:
        gap = backoff.following(gap)
        following.append(gap.total_seconds())
    assert following == expected


def test_no_gap_comes_before_the_first() -> None:
    assert Backoff.doubling(timedelta(seconds=1), timedelta(seconds=9)).gap(-1) == timedelta(seconds=1)


def test_a_gap_that_can_not_grow_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Backoff.doubling(timedelta(), timedelta(seconds=1))
