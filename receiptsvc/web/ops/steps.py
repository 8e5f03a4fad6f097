"""What was recorded of a message as steps that a person reads: when, how long after the step before, and why."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from receiptsvc.domain.explanation import Delays
from receiptsvc.domain.statuses import Effect
from receiptsvc.domain.times import describe_delay
from receiptsvc.store.core.models import Transition
from receiptsvc.web.answers.explanations import ExplainedReport

_TOLD = frozenset({Effect.STALE.value, Effect.CONFLICTING.value})
_DELAYS = {
    "accepted_to_offered": "accepted to offered",
    "offered_to_submitted": "offered to submitted",
    "submitted_to_final": "submitted to final",
    "provider_to_received": "the gateway's time to its arrival here",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A transition. `delay`: how long after the step before it. `remark`: what came late, and after what."""

    row: Transition
    at: datetime
    is_winner: bool
    why: str
    delay: str | None
    remark: str | None


def make(reports: Sequence[ExplainedReport]) -> Sequence[Step]:
    """The steps of a message, in the order recorded."""
    return list(_make_each(reports))


def describe_delays(delays: Delays) -> Sequence[tuple[str, str]]:
    """How long each part of the way took, as far as that is known."""
    known = ((words, getattr(delays, name)) for name, words in _DELAYS.items())
    return [(words, describe_delay(seconds)) for words, seconds in known if seconds is not None]


def _make_each(reports: Sequence[ExplainedReport]) -> Iterator[Step]:
    last_at: datetime | None = None
    for report in reports:
        at = report.row.occurred_at or report.row.received_at
        yield Step(
            row=report.row,
            at=at,
            is_winner=report.is_winner,
            why=report.why,
            delay=_describe_gap((at - last_at).total_seconds()) if last_at is not None else None,
            remark=_remark(report),
        )
        last_at = at


def _describe_gap(seconds: float) -> str:
    return (
        f"{describe_delay(seconds)} later"
        if round(seconds, 1) >= 0
        else f"{describe_delay(-seconds)} earlier, by its own time"
    )


def _remark(report: ExplainedReport) -> str | None:
    row, before = report.row, report.before
    if row.effect not in _TOLD or before is None or before.status == row.status:
        return None
    seconds = (row.received_at - before.received_at).total_seconds()
    came = f"came {describe_delay(seconds)} after" if seconds >= 0 else "was recorded after"
    return f"{row.effect}: {row.status} {came} {before.status}"
