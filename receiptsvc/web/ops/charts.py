"""Charts of counts by status: where the bars, ticks and words of one stand. `chart.html` draws them as SVG.

A chart is as wide as a telephone, so that its words can be read there; on a wider screen it grows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from receiptsvc.domain.statuses import Status

WIDTH, HEIGHT = 360, 180

_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 356, 10, 156  # of where the bars stand
_GAP = 0.2  # of a bar's room
_MIN_HEIGHT = 1.5  # of what there is at all: a failure among thousands is seen
_TOPS = (2, 4, 6, 10)  # of the axis, times a power of ten: half of each is a whole number
_THOUSANDS = ((1_000_000, "M"), (10_000, "k"))

# From the bottom of a bar to its top: what has ended well, what has not, what goes on.
ORDER = (
    *(Status.DELIVERED, Status.UNDELIVERED, Status.REJECTED, Status.FAILED, Status.EXPIRED, Status.CANCELLED),
    *(Status.SEND_UNKNOWN, Status.SENT, Status.SUBMITTED, Status.ACCEPTED),
)


class Bar(NamedTuple):
    """What a bar shows: the counts from a time on; None: they were not kept."""

    start: datetime
    counts: Mapping[Status, int] | None


class Tick(NamedTuple):
    """A mark of an axis: how far along it, and its words."""

    at: float
    words: str


class Series(NamedTuple):
    """One status in all bars: the outline of its pieces."""

    status: Status
    outline: str


class Row(NamedTuple):
    """A row of the table behind a chart. `counts`: by column; None: they were not kept."""

    words: str
    counts: Sequence[int] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """How a chart tells times: the words of each bar in the table, and of those that the axis names."""

    row: str  # as for strftime
    tick: str
    has_tick: Callable[[datetime], bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """One chart. `name`: for the ids of its parts. `gaps`: the outline of bars whose counts were not kept."""

    name: str
    title: str
    about: str
    summary: str
    series: Sequence[Series]
    gaps: str
    across: Sequence[Tick]
    up: Sequence[Tick]
    columns: Sequence[Status]
    rows: Sequence[Row]


def draw(name: str, title: str, about: str, bars: Sequence[Bar], scale: Scale) -> Chart:
    """The chart of these bars."""
    totals = {status: sum((bar.counts or {}).get(status, 0) for bar in bars) for status in ORDER}
    columns = [status for status in ORDER if totals[status]]
    highest = max((sum((bar.counts or {}).values()) for bar in bars), default=0)
    top = _top_of(highest)
    step = (_RIGHT - _LEFT) / max(1, len(bars))
    pieces: dict[Status, list[str]] = {status: [] for status in columns}
    for number, bar in enumerate(bars):
        y = float(_BOTTOM)
        for status, count in ((status, (bar.counts or {}).get(status, 0)) for status in columns):
            if count:
                height = max(_MIN_HEIGHT, count / top * (_BOTTOM - _TOP))
                y -= height
                pieces[status].append(_box(_LEFT + number * step, y, step * (1 - _GAP), height))
    unknown = [number for number, bar in enumerate(bars) if bar.counts is None]
    return Chart(
        name=name,
        title=title,
        about=about,
        summary=_summarise(totals, columns, highest, bars),
        series=[Series(status, "".join(pieces[status])) for status in columns],
        gaps="".join(_box(_LEFT + number * step, _TOP, step, _BOTTOM - _TOP) for number in unknown),
        across=[
            Tick(round(_LEFT + number * step, 1), bar.start.strftime(scale.tick))
            for number, bar in enumerate(bars)
            if scale.has_tick(bar.start)
        ],
        up=[Tick(_BOTTOM - share * (_BOTTOM - _TOP), _short(round(share * top))) for share in (0, 0.5, 1)],
        columns=columns,
        rows=[
            Row(
                bar.start.strftime(scale.row),
                None if bar.counts is None else [bar.counts.get(status, 0) for status in columns],
            )
            for bar in bars
        ],
    )


def _summarise(totals: Mapping[Status, int], columns: Sequence[Status], highest: int, bars: Sequence[Bar]) -> str:
    """In words what the chart shows, for who does not see it."""
    unknown = sum(bar.counts is None for bar in bars)
    if unknown == len(bars):
        return "Nothing was kept of this time yet."
    left_out = f" For {unknown} of the {len(bars)} bars nothing was kept." if unknown else ""
    if not columns:
        return f"Nothing was counted.{left_out}"
    counts = ", ".join(f"{totals[status]:,} {status.replace('_', ' ')}" for status in columns)
    return f"{counts}; {highest:,} in the highest of {len(bars)} bars.{left_out}"


def _box(x: float, y: float, width: float, height: float) -> str:
    return f"M{x:.1f} {y:.1f}h{width:.1f}v{height:.1f}h-{width:.1f}z"


def _top_of(highest: int) -> int:
    """The end of the axis: a round number, half of which is one too."""
    power = 1
    while True:
        for top in _TOPS:
            if top * power >= highest:
                return top * power
        power *= 10


def _short(count: int) -> str:
    for size, letter in _THOUSANDS:
        if count >= size:
            return f"{count / (1000 if letter == 'k' else size):g}{letter}"
    return f"{count:,}"
