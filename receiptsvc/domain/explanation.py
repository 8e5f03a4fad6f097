"""Explains in plain sentences why a message has its status, from its reports in the order recorded.

The fold decides, not this module: the winner is the report that alone would fold to the same state. When the rules of
the fold change, these sentences must change with them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from receiptsvc.domain import sentences
from receiptsvc.domain.correlation import BY_HAND
from receiptsvc.domain.failures import FailureReason, reason_of
from receiptsvc.domain.operator_actions import RESOLVED_BY_HAND
from receiptsvc.domain.statuses import FINAL, Effect, Report, Source, Status, fold
from receiptsvc.domain.times import write_time


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedReport:
    """A report as it was recorded. `rule`: by which a receipt found its message. `reason`: of a step of our own, and
    what is odd about a receipt, such as who matched it by hand.
    """

    report: Report
    effect: Effect
    rule: str | None = None
    reason: str | None = None
    superseded_at: datetime | None = None  # when a new transition of its receipt replaced it


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """Why the status is what it is. `winner`: index of the deciding report; `sentences`: one for each report.

    `befores`: for each report the index of the one that decided when it was recorded; None: none did, or that is not
    known.
    """

    because: str
    winner: int | None
    sentences: Sequence[str]
    befores: Sequence[int | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Delays:
    """How long each step took, in seconds; None where its start or end is unknown.

    A final status has the gateway's own time where it gave one, so a step that ends or starts there can be negative.
    """

    accepted_to_offered: float | None
    offered_to_submitted: float | None
    submitted_to_final: float | None
    provider_to_received: float | None


def winner(reports: Sequence[Report]) -> int | None:
    """The index of the report that the fold's status and time come from; of equal ones the first recorded.

    None: no report has a status.
    """
    if all(report.status is None for report in reports):
        return None
    state = fold(reports)
    indexes = [
        index for index, report in enumerate(reports) if report.status is state.status and report.at == state.status_at
    ]
    # Where the gateway and we reported the same, the fold took the gateway's report.
    return min(
        indexes,
        key=lambda index: (reports[index].source is not Source.GATEWAY, reports[index].occurred_at is None, index),
    )


def explain(history: Sequence[RecordedReport], *, is_waiting: bool = False, gap: int | None = None) -> Explanation:
    """Why a message with this history has its status, and what each report did.

    `is_waiting`: the message waits until it is known whether its account is refused. `gap`: the index before which
    reports are left out; the deciding one and one of each final word of the gateway are there. Then nothing is said
    that a report left out could make untrue.
    """
    current = [index for index, recorded in enumerate(history) if recorded.superseded_at is None]
    found = winner([history[index].report for index in current])
    winner_index = None if found is None else current[found]
    others = [history[index].report for index in current if index != winner_index]
    if winner_index is None:
        because = "No word is known for anything that was recorded of it."
    else:
        explain_status = _explain_status if gap is None else _explain_status_from_part
        because = explain_status(history[winner_index], others)
    if is_waiting:
        because = f"{because} {_WAITS}"
    return Explanation(
        because=because,
        winner=winner_index,
        sentences=list(_explain_each(history, winner_index, gap)),
        befores=list(_find_befores(history, gap)),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Holds:
    """What may hold a message that is due to be given to the gateway.

    `is_scheduled`: it waits for its deliverAfter. `worker_seen_at`: when the last worker was seen; None: never.
    `suspected_until`: while another message is to show whether its account is refused, when one of those that wait is
    tried by itself. `gateway_faults`: what calls find wrong with the gateway, and since when. `per_second`: how many
    may go out.
    """

    due_at: datetime
    is_scheduled: bool
    is_offered_again: bool
    is_being_offered: bool
    paused_at: datetime | None
    paused_by: str | None
    pause_reason: str | None
    refused_at: datetime | None
    account_refused_at: datetime | None
    is_any_worker_alive: bool
    worker_seen_at: datetime | None
    can_send: bool
    suspected_until: datetime | None = None
    gateway_faults: Sequence[tuple[str, datetime]] = ()
    per_second: float | None = None


def explain_holds(holds: Holds, now: datetime) -> str:
    """Why a message waits that is to be given to the gateway, all that holds it, as a sentence."""
    if holds.is_being_offered and holds.is_any_worker_alive:
        return "It is being given to the gateway now."
    turn = "it is kept here until its deliverAfter," if holds.is_scheduled else "its next turn is at"
    turns = [f"{turn} {write_time(holds.due_at)}"] if holds.due_at > now else []
    holding = _list_holds(holds)
    found = turns + holding if holds.is_scheduled else holding + turns
    found += [f"calls to the gateway fail since {write_time(since)}: {fault}" for fault, since in holds.gateway_faults]
    if not found and holds.suspected_until is not None:
        tried_at = write_time(holds.suspected_until)
        found.append(f"without another one, one that waits is offered by itself at {tried_at}")
    elif not found:
        rate = f"; at most {holds.per_second:g} a second go out" if holds.per_second is not None else ""
        found.append(f"others go out before it{rate}")
    what = "It waits to be offered again" if holds.is_offered_again else "It waits"
    return f"{what}: {sentences.end('; '.join(found))}"


def _list_holds(holds: Holds) -> list[str]:
    """What holds all that is to be given to the gateway, or all of its account."""
    found = []
    if holds.paused_at is not None:
        since = write_time(holds.paused_at)
        found.append(f"sending is paused since {since} by {holds.paused_by}: {holds.pause_reason}")
    if holds.refused_at is not None:
        found.append(f"the gateway refuses our credentials since {write_time(holds.refused_at)}")
    elif holds.account_refused_at is not None:
        found.append(f"the gateway refuses its account since {write_time(holds.account_refused_at)}")
    if not holds.is_any_worker_alive:
        seen = f" since {write_time(holds.worker_seen_at)}" if holds.worker_seen_at else ""
        found.append(f"no worker is at work{seen}")
    if not holds.can_send:
        found.append("sending is not configured (DYNMARK_USERNAME, DYNMARK_PASSWORD)")
    return found


def explain_schedule(status: Status, scheduled_at: datetime) -> str | None:
    """What the gateway is to do with a message that it has, or may have, and that goes out later; None: it has not."""
    at = write_time(scheduled_at)
    if status is Status.SUBMITTED:
        return f"The gateway keeps it until its deliverAfter, {at}, and can't give it back."
    return f"If the gateway has it, it goes out at its deliverAfter, {at}." if status is Status.SEND_UNKNOWN else None


def delays(
    history: Sequence[RecordedReport],
    winner_index: int | None,
    *,
    accepted_at: datetime,
    offered_at: datetime | None,
) -> Delays:
    """How long each step took. `winner_index`: of the report that the status comes from.

    `history`: without the reports of a gap a step is None whose end lies in it.
    """
    submitted_at = next(
        (
            recorded.report.received_at
            for recorded in history
            if recorded.report.status is Status.SUBMITTED and recorded.superseded_at is None
        ),
        None,
    )
    report = history[winner_index].report if winner_index is not None else None
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
_MAX_QUOTED = 160  # characters of what the gateway said
_UNTIL_THE_GATEWAY_SPEAKS = "that is final as long as the gateway says nothing else"
_DELIVERED_WINS = "delivered counts more than any other final word"
_OUR_PROGRESS = {
    Status.ACCEPTED: "It was accepted here at {at}",
    Status.SEND_UNKNOWN: "The gateway's answer was lost at {at}, so it may or may not have the message",
    Status.SUBMITTED: "The gateway took it at {at}",
}


def _explain_status(deciding: RecordedReport, others: Sequence[Report]) -> str:
    """`others`: all other reports that count."""
    report = deciding.report
    mapped = [other for other in others if other.status is not None]
    by_gateway = [other for other in mapped if other.source is Source.GATEWAY]
    unless_unmapped = "" if len(mapped) == len(others) else " that a word is known for"
    if report.status not in FINAL:
        beaten = [other for other in mapped if other.status in FINAL]  # our own: the gateway's would have won
        if beaten:
            return f"{_describe(deciding)}; any word of the gateway counts more than our own {_list_statuses(beaten)}."
        return f"{_describe(deciding)}; nothing further{unless_unmapped} has been reported."
    if report.source is Source.OURSELVES:
        rivals = [other for other in mapped if other.status in FINAL]
        why = _explain_win(report, rivals) if rivals else _UNTIL_THE_GATEWAY_SPEAKS
        return f"{_describe(deciding)}; {why}, and it has reported nothing{unless_unmapped}."
    rivals = [other for other in by_gateway if other.status in FINAL]
    if rivals:
        return f"{_describe(deciding)}; {_explain_win(report, rivals)}."
    ours = [other for other in mapped if other.status in FINAL]
    if ours:
        return f"{_describe(deciding)}; any word of the gateway counts more than our own {_list_statuses(ours)}."
    return f"{_describe(deciding)}; that is a final word, and it has given no other."


def _explain_status_from_part(deciding: RecordedReport, others: Sequence[Report]) -> str:
    """`others`: a part of the other reports that count, with one of each final word of the gateway."""
    report = deciding.report
    if report.status not in FINAL:
        return f"{_describe(deciding)}; of all that has been reported nothing counts more."
    if report.source is Source.OURSELVES:
        return (
            f"{_describe(deciding)}; {_UNTIL_THE_GATEWAY_SPEAKS}, and it has reported nothing that a word is known for."
        )
    different = [
        other
        for other in others
        if other.source is Source.GATEWAY and other.status in FINAL and other.status is not report.status
    ]
    if not different:
        return f"{_describe(deciding)}; that is a final word, and it has given no other."
    why = (
        _DELIVERED_WINS if report.status is Status.DELIVERED else "by the fixed order of final words this report counts"
    )
    return f"{_describe(deciding)}; it also said {_list_statuses(different)}, but {why}."


def _explain_win(report: Report, rivals: Sequence[Report]) -> str:
    """Why a final report beats the other final reports of the same source."""
    different = [rival for rival in rivals if rival.status is not report.status]
    who = "it" if report.source is Source.GATEWAY else "we"
    if not different:
        is_latest = any(rival.occurred_at != report.occurred_at for rival in rivals) and report.occurred_at is not None
        latest = ", and the latest by its own time counts" if is_latest else ""
        return f"{who} said so {len(rivals) + 1} times and gave no other final word{latest}"
    but = f"{who} also said {_list_statuses(different)}, but"
    if report.status is Status.DELIVERED:
        return f"{but} {_DELIVERED_WINS}"
    index = winner(different)
    strongest = different[index] if index is not None else different[0]
    if report.occurred_at is not None and strongest.occurred_at is None:
        return f"{but} a report with a time of its own counts more than one without"
    if report.occurred_at != strongest.occurred_at:
        return f"{but} the latest by its own time counts"
    same = "of the same time" if report.occurred_at is not None else "without a time of their own"
    return f"{but} of reports {same} {report.status} counts more than {strongest.status}"


def _describe(recorded: RecordedReport) -> str:
    """A report in words: who reported what, and when."""
    report = recorded.report
    if report.source is Source.GATEWAY:
        who = (recorded.reason or "").partition(BY_HAND)[2]  # behind what else is odd about the receipt
        by_hand = f" ({BY_HAND}{who})" if recorded.rule == BY_HAND else ""
        said = _quote(report)
        what = f"The gateway said: {said}," if said else f"The gateway reported {report.status}"
        means = f", which means {report.status}" if said else ""
        if report.occurred_at is not None:
            return f"{what} at {write_time(report.occurred_at)} by its own clock{means}{by_hand}"
        reached_us = f"it reached us at {write_time(report.received_at)}"
        return f"{what} without a time{means}; {reached_us}{by_hand}"
    if recorded.rule == RESOLVED_BY_HAND:
        return f"A person settled it as {report.status} at {write_time(report.at)} ({recorded.reason})"
    sentence = _OUR_PROGRESS.get(report.status) if report.status is not None else None
    if sentence is not None:
        return sentence.format(at=write_time(report.at))
    if reason_of(report, recorded.rule or "") is FailureReason.REFUSED:
        return f"It was refused at {write_time(report.at)}" + (f": {recorded.reason}" if recorded.reason else "")
    reason = f" ({recorded.reason})" if recorded.reason else ""
    return f"We recorded {report.status} at {write_time(report.at)}{reason}"


def _quote(report: Report) -> str | None:
    """The gateway's code and words; None: there are none, or no more than the status."""
    code, words = map(_quote_text, (report.provider_status_id, report.provider_description))
    if not code and words.casefold() in {"", report.status}:
        return None
    return " · ".join(filter(None, (code, words)))


def _quote_text(said: str | None) -> str:
    text = " ".join((said or "").split())
    return text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}…"


def _explain_each(history: Sequence[RecordedReport], winner_index: int | None, gap: int | None = None) -> Iterator[str]:
    heads: dict[tuple[Source, bool], Report] = {}  # the strongest of each kind: they fold to the same as all reports
    for index, recorded in enumerate(history):
        if gap is not None and index >= gap and recorded.superseded_at is None:
            yield _explain_after_gap(recorded, is_winner=index == winner_index)
            continue
        before = fold(heads.values()).status if heads else None
        if recorded.superseded_at is not None:
            replaced_at = write_time(recorded.superseded_at)
            yield f"Another reading of its receipt took its place at {replaced_at}; it counts no more."
            continue
        yield _explain_effect(
            recorded, before, has_gateway_report=_has_gateway_report(heads), is_winner=index == winner_index
        )
        if recorded.report.status is not None:
            kind = recorded.report.source, recorded.report.status in FINAL
            heads[kind] = _stronger(heads[kind], recorded.report) if kind in heads else recorded.report


def _find_befores(history: Sequence[RecordedReport], gap: int | None) -> Iterator[int | None]:
    """For each report the index of the one that decided when it was recorded."""
    heads: dict[tuple[Source, bool], int] = {}  # of the strongest of each kind
    for index, recorded in enumerate(history):
        is_known = recorded.superseded_at is None and (gap is None or index < gap)
        found = winner([history[head].report for head in heads.values()]) if heads and is_known else None
        yield None if found is None else list(heads.values())[found]
        report = recorded.report
        if is_known and report.status is not None:
            kind = report.source, report.status in FINAL
            if kind not in heads or winner([history[heads[kind]].report, report]):
                heads[kind] = index


def _explain_effect(
    recorded: RecordedReport, before: Status | None, *, has_gateway_report: bool, is_winner: bool
) -> str:
    """What a report did when it was recorded. `before`: the status until then."""
    status = recorded.report.status
    match recorded.effect:
        case Effect.APPLIED if before is None:
            return f"The message began as {status}."
        case Effect.APPLIED:
            return f"It changed the status{'' if before is status else f' from {before}'} to {status}."
        case Effect.DUPLICATE:
            return "The gateway had said just that before, so it changed nothing."
        case Effect.UNMAPPED:
            code = recorded.report.provider_status_id
            what = f"the gateway's code {code}" if code else "what the gateway said"
            return f"No word is known for {what}, so it changed nothing."
        case Effect.CONFLICTING:
            counts = "this one counts" if is_winner else "another one counts"
            return (
                "The gateway had given another final word before, and the two contradict each other; by the fixed "
                f"order of final words {counts}."
            )
        case Effect.STALE:
            why = _explain_stale(recorded.report, before, has_gateway_report=has_gateway_report)
            return f"It left the status as it was: {why}."


def _explain_after_gap(recorded: RecordedReport, *, is_winner: bool) -> str:
    """What a report did, where it is not known what the status was before."""
    if recorded.effect is Effect.APPLIED:
        return f"It changed the status to {recorded.report.status}."
    if recorded.effect is Effect.STALE:
        return "It left the status as it was."
    return _explain_effect(recorded, None, has_gateway_report=True, is_winner=is_winner)


def _explain_stale(report: Report, before: Status | None, *, has_gateway_report: bool) -> str:
    if before is None or report.status is None:
        return "it added nothing"
    if report.status is before:
        return f"that was {before} already"
    if report.source is Source.OURSELVES and report.status in FINAL and has_gateway_report:
        return "the gateway had spoken before, and any word of it counts more than a final word of our own"
    if before in FINAL:
        if report.status in FINAL:
            return f"{before}, recorded before, counts more"
        return f"{before} had been recorded before, and a final word is not taken back by {report.status}"
    return f"{before}, recorded before, is further than {report.status}"


def _has_gateway_report(heads: Iterable[tuple[Source, bool]]) -> bool:
    return any(source is Source.GATEWAY for source, _ in heads)


def _stronger(one: Report, other: Report) -> Report:
    """The one of two reports of a kind that the fold takes."""
    return other if winner([one, other]) else one


def _list_statuses(reports: Iterable[Report]) -> str:
    statuses = {report.status for report in reports}
    *others, last = [status.value for status in Status if status in statuses]
    return f"{', '.join(others)} and {last}" if others else last


def _seconds(begin: datetime | None, end: datetime | None) -> float | None:
    return None if begin is None or end is None else (end - begin).total_seconds()
