"""Charts: where bars and ticks stand, and that the words and the table behind them say the same."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from receiptsvc.domain.statuses import Status
from receiptsvc.web.ops import charts
from receiptsvc.web.ops.charts import Bar, Chart, Scale

START = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
BY_MINUTE = Scale(row="%H:%M", tick="%H:%M", has_tick=lambda at: at.minute % 15 == 0)
BOX = re.compile(r"M([\d.]+) ([\d.]+)h([\d.]+)v([\d.]+)h-[\d.]+z")


def draw(*counts: Mapping[Status, int] | None) -> Chart:
    bars = [Bar(START + timedelta(minutes=number), each) for number, each in enumerate(counts)]
    return charts.draw("hour", "The last hour", "What was counted.", bars, BY_MINUTE)


def boxes(outline: str) -> list[tuple[float, ...]]:
    """Left, top, width and height of each piece."""
    return [tuple(map(float, found)) for found in BOX.findall(outline)]


def test_each_status_has_its_pieces_one_above_the_other() -> None:
    chart = draw({Status.DELIVERED: 6, Status.UNDELIVERED: 2}, {}, {Status.DELIVERED: 4})
    assert [series.status for series in chart.series] == [Status.DELIVERED, Status.UNDELIVERED]
    [first, third] = boxes(chart.series[0].outline)
    [failed] = boxes(chart.series[1].outline)
    assert first[3] == pytest.approx(3 * failed[3], abs=0.2)
    assert first[3] == pytest.approx(1.5 * third[3], abs=0.2)
    assert failed[1] + failed[3] == pytest.approx(first[1], abs=0.2), "it stands on the other"
    assert first[0] == failed[0] < third[0]
    for left, top, width, height in (first, third, failed):
        assert min(left, top) >= 0
        assert left + width <= charts.WIDTH
        assert top + height <= charts.HEIGHT


def test_one_failure_among_thousands_is_seen() -> None:
    chart = draw({Status.DELIVERED: 100_000, Status.FAILED: 1})
    [(_, _, _, height)] = boxes(chart.series[1].outline)
    assert height >= 1.5


def test_the_axes_have_round_numbers_and_times() -> None:
    for highest, words in ((0, ["0", "1", "2"]), (2, ["0", "1", "2"]), (3, ["0", "2", "4"]), (7, ["0", "5", "10"]),
                           (59, ["0", "30", "60"]), (9_000, ["0", "5,000", "10k"]), (1_200_000, ["0", "1M", "2M"])):  # fmt: skip
        assert [tick.words for tick in draw({Status.DELIVERED: highest}).up] == words
    across = draw(*[{}] * 60).across
    assert [tick.words for tick in across] == ["12:00", "12:15", "12:30", "12:45"]
    assert [later.at > earlier.at for earlier, later in pairwise(across)] == [True] * 3


def test_the_words_and_the_table_have_every_count() -> None:
    chart = draw({Status.DELIVERED: 1_500, Status.SEND_UNKNOWN: 2}, {Status.DELIVERED: 1})
    assert chart.summary == "1,501 delivered, 2 send unknown; 1,502 in the highest of 2 bars."
    assert chart.columns == [Status.DELIVERED, Status.SEND_UNKNOWN]
    assert [(row.words, row.counts) for row in chart.rows] == [("12:00", [1_500, 2]), ("12:01", [1, 0])]


def test_what_was_not_kept_is_no_zero() -> None:
    chart = draw({Status.DELIVERED: 1}, None)
    assert [row.counts for row in chart.rows] == [[1], None]
    assert chart.summary.endswith("For 1 of the 2 bars nothing was kept.")
    assert len(boxes(chart.gaps)) == 1
    assert draw(None, None).summary == "Nothing was kept of this time yet."
    assert draw({}, None).summary == "Nothing was counted. For 1 of the 2 bars nothing was kept."


def test_every_status_has_its_place() -> None:
    assert set(charts.ORDER) == set(Status)
    assert len(charts.ORDER) == len(Status)
