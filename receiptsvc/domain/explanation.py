"""Why a message has its status, in plain sentences: from what was recorded of it, in the order in which it was.

The fold decides, nothing here does: the winner is the report that alone would add up to the same. What these sentences
say of the fold's rules has to change with them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from receiptsvc.domain.statuses import FINAL, Effect, Report, Source, Status, fold


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedReport:
    """A report as it was recorded. `reason`: why, where it was a step of our own."""

    report: Report
    effect: Effect
    reason: str | None = None
    superseded_at: datetime | None = None  # when another reading of its receipt took its place


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """`winner`: the place of the report that the status comes from; `whys`: a sentence for each report."""

    because: str
    winner: int | None
    whys: Sequence[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Delays:
    """How long each part of the way took, in seconds; None where an end of it is not known.

    A final word stands at the gateway's time where it gave one, so what ends or begins with it may be below zero.
    """

    accepted_to_offered: float | None
    offered_to_submitted: float | None
    submitted_to_final: float | None
    provider_to_received: float | None


def winner(reports: Sequence[Report]) -> int | None:
    """The place of the report that the fold's status and time come from; of equal ones the one recorded first.

    None: no word is known for any of them.
    """
    if all(report.status is None for report in reports):
        return None
    state = fold(reports)
    places = [
        place for place, report in enumerate(reports) if report.status is state.status and report.at == state.status_at
    ]
    # Where our own word and the gateway's are the same, it is the gateway's that the fold took.
    return min(
        places,
        key=lambda place: (reports[place].source is not Source.GATEWAY, reports[place].occurred_at is None, place),
    )


def explain(told: Sequence[RecordedReport], *, is_waiting: bool = False) -> Explanation:
    """Why what was recorded adds up to its status, and what each report did.

    `is_waiting`: the message waits until it is known whether its account is refused.
    """
    standing = [place for place, one in enumerate(told) if one.superseded_at is None]
    found = winner([told[place].report for place in standing])
    first = None if found is None else standing[found]
    others = [told[place].report for place in standing if place != first]
    if first is None:
        because = "No word is known for anything that was recorded of it."
    else:
        because = _because(told[first], others)
    if is_waiting:
        because = f"{because} {_WAITS}"
    return Explanation(because=because, winner=first, whys=list(_whys(told, first)))


def delays(
    told: Sequence[RecordedReport], first: int | None, *, accepted_at: datetime, offered_at: datetime | None
) -> Delays:
    """How long each part of the way took. `first`: the place of the report that the status comes from."""
    submitted_at = next(
        (one.report.received_at for one in told if one.report.status is Status.SUBMITTED and one.superseded_at is None),
        None,
    )
    report = told[first].report if first is not None else None
    final_at = report.at if report is not None and report.status in FINAL else None
    provider_at = report.occurred_at if report is not None else None
    return Delays(
        accepted_to_offered=_seconds(accepted_at, offered_at),
        offered_to_submitted=_seconds(offered_at, submitted_at),
        submitted_to_final=_seconds(submitted_at, final_at),
        provider_to_received=_seconds(provider_at, report.received_at if report is not None else None),
    )


_WAITS = (
    "It was offered, and the gateway's answer was in the words of a refused logon, or a 403: it waits until another "
    "message shows whether its account is refused, or this one."
)
_OUR_PROGRESS = {
    Status.ACCEPTED: "It was accepted here at {at}",
    Status.SEND_UNKNOWN: "The gateway's answer was lost at {at}, so it may or may not have the message",
    Status.SUBMITTED: "The gateway took it at {at}",
}


def _because(first: RecordedReport, others: Sequence[Report]) -> str:
    report = first.report
    spoken = [other for other in others if other.status is not None]
    by_gateway = [other for other in spoken if other.source is Source.GATEWAY]
    silent = "" if len(spoken) == len(others) else " that a word is known for"
    if report.status not in FINAL:
        beaten = [other for other in spoken if other.status in FINAL]  # our own: the gateway's would have won
        if beaten:
            return f"{_said(first)}; any word of the gateway counts more than our own {_listed(beaten)}."
        return f"{_said(first)}; nothing further{silent} has been reported."
    if report.source is Source.OURSELVES:
        rivals = [other for other in spoken if other.status in FINAL]
        why = _why_it_beats(report, rivals) if rivals else "that is final as long as the gateway says nothing else"
        return f"{_said(first)}; {why}, and it has reported nothing{silent}."
    rivals = [other for other in by_gateway if other.status in FINAL]
    if rivals:
        return f"{_said(first)}; {_why_it_beats(report, rivals)}."
    ours = [other for other in spoken if other.status in FINAL]
    if ours:
        return f"{_said(first)}; any word of the gateway counts more than our own {_listed(ours)}."
    return f"{_said(first)}; that is a final word, and it has given no other."


def _why_it_beats(report: Report, rivals: Sequence[Report]) -> str:
    """Why a final report counts more than the others of the same source."""
    different = [rival for rival in rivals if rival.status is not report.status]
    who = "it" if report.source is Source.GATEWAY else "we"
    if not different:
        is_latest = any(rival.occurred_at != report.occurred_at for rival in rivals) and report.occurred_at is not None
        latest = ", and the latest by its own time counts" if is_latest else ""
        return f"{who} said so {len(rivals) + 1} times and gave no other final word{latest}"
    but = f"{who} also said {_listed(different)}, but"
    if report.status is Status.DELIVERED:
        return f"{but} delivered counts more than any other final word"
    place = winner(different)
    strongest = different[place] if place is not None else different[0]
    if report.occurred_at is not None and strongest.occurred_at is None:
        return f"{but} a report with a time of its own counts more than one without"
    if report.occurred_at != strongest.occurred_at:
        return f"{but} the latest by its own time counts"
    same = "of the same time" if report.occurred_at is not None else "without a time of their own"
    return f"{but} of reports {same} {report.status} counts more than {strongest.status}"


def _said(told: RecordedReport) -> str:
    """A report in words: who said what, and when."""
    report = told.report
    if report.source is Source.GATEWAY:
        if report.occurred_at is not None:
            return f"The gateway reported {report.status} at {_moment(report.occurred_at)} by its own clock"
        return f"The gateway reported {report.status} without a time; it reached us at {_moment(report.received_at)}"
    what = _OUR_PROGRESS.get(report.status) if report.status is not None else None
    if what is not None:
        return what.format(at=_moment(report.at))
    return f"We recorded {report.status} at {_moment(report.at)}{f' ({told.reason})' if told.reason else ''}"


def _whys(told: Sequence[RecordedReport], first: int | None) -> Iterator[str]:
    heads: dict[tuple[Source, bool], Report] = {}  # the strongest of each kind: they add up to what all do
    for place, one in enumerate(told):
        before = fold(heads.values()).status if heads else None
        if one.superseded_at is not None:
            yield f"Another reading of its receipt took its place at {_moment(one.superseded_at)}; it counts no more."
            continue
        yield _why(one, before, has_gateway_spoken=_has_gateway(heads), is_winner=place == first)
        if one.report.status is not None:
            kind = one.report.source, one.report.status in FINAL
            heads[kind] = _stronger(heads[kind], one.report) if kind in heads else one.report


def _why(one: RecordedReport, before: Status | None, *, has_gateway_spoken: bool, is_winner: bool) -> str:
    """What a report did when it was recorded. `before`: what had been recorded added up to this."""
    word = one.report.status
    match one.effect:
        case Effect.APPLIED if before is None:
            return f"It gave the message its first status, {word}."
        case Effect.APPLIED:
            return f"It changed the status{'' if before is word else f' from {before}'} to {word}."
        case Effect.DUPLICATE:
            return "The gateway had said just that before, so it changed nothing."
        case Effect.UNMAPPED:
            code = one.report.provider_status_id
            what = f"the gateway's code {code}" if code else "what the gateway said"
            return f"No word is known for {what}, so it changed nothing."
        case Effect.CONFLICTING:
            counts = "this one counts" if is_winner else "another one counts"
            return (
                "The gateway had given another final word before, and the two contradict each other; by the fixed "
                f"order of final words {counts}."
            )
        case Effect.STALE:
            why = _why_stale(one.report, before, has_gateway_spoken=has_gateway_spoken)
            return f"It left the status as it was: {why}."


def _why_stale(report: Report, before: Status | None, *, has_gateway_spoken: bool) -> str:
    if before is None or report.status is None:
        return "it added nothing"
    if report.status is before:
        return f"that was {before} already"
    if report.source is Source.OURSELVES and report.status in FINAL and has_gateway_spoken:
        return "the gateway had spoken before, and any word of it counts more than a final word of our own"
    if before in FINAL:
        if report.status in FINAL:
            return f"{before}, recorded before, counts more"
        return f"{before} had been recorded before, and a final word is not taken back by {report.status}"
    return f"{before}, recorded before, is further than {report.status}"


def _has_gateway(heads: Iterable[tuple[Source, bool]]) -> bool:
    return any(source is Source.GATEWAY for source, _ in heads)


def _stronger(one: Report, other: Report) -> Report:
    """Which of two reports of a kind the fold takes."""
    return other if winner([one, other]) else one


def _listed(reports: Iterable[Report]) -> str:
    words = {report.status for report in reports}
    *most, last = [status.value for status in Status if status in words]
    return f"{', '.join(most)} and {last}" if most else last


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _seconds(begin: datetime | None, end: datetime | None) -> float | None:
    return None if begin is None or end is None else (end - begin).total_seconds()
