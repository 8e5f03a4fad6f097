"""Why a message has its status: what the store knows of it, explained, with what holds it now."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from receiptsvc.domain import explanation, gateway_clock, waiting
from receiptsvc.domain.accounts import OWN
from receiptsvc.domain.explanation import Delays, Holds, RecordedReport
from receiptsvc.domain.statuses import Effect, Status
from receiptsvc.store.core.models import Attempt, Message, MessageTransaction, Transition
from receiptsvc.store.messages import transitions
from receiptsvc.store.outbound import accounts, send_gate
from receiptsvc.store.queries import lookup
from receiptsvc.store.queries.histories import History
from receiptsvc.store.queries.lookup import MessageEvidence
from receiptsvc.web.http import context

_OFFERED = frozenset({Status.ACCEPTED, Status.SEND_UNKNOWN})  # what may still be given to the gateway
_HINT = "Of its times: {gateway}: DYNMARK_TIMEZONE?"


@dataclass(frozen=True, kw_only=True, slots=True)
class ExplainedReport:
    """A transition, and what it did. `before`: the one that decided when it was recorded; None: that is not known."""

    row: Transition
    is_winner: bool
    why: str
    before: Transition | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ExplainedMessage:
    """A message and what explains its status. `rest_after`: the id of a transition after which some are left out."""

    row: Message
    because: str
    reports: Sequence[ExplainedReport]
    rest_after: int | None
    attempts: Sequence[Attempt]
    transactions: Sequence[MessageTransaction]
    delays: Delays


def read(session: Session, message_id: UUID) -> ExplainedMessage | None:
    """Explain a message's status; None if there is no such message."""
    evidence = lookup.find_evidence(session, message_id)
    if evidence is None:
        return None
    now, row = context.now(), evidence.row
    reports = [_recorded(each) for each in evidence.history.transitions]
    explained = explanation.explain(reports, is_waiting=bool(row.suspicion), gap=evidence.history.gap)
    holds = _read_holds(session, evidence)
    scheduled_at = waiting.find_scheduled_at(Status(row.status), deliver_after=row.deliver_after, now=now)
    gateway = gateway_clock.describe(context.readiness().votes.read(session, now), now)
    because = [
        *(explained.because, explanation.explain_holds(holds, now) if holds is not None else None),
        explanation.explain_schedule(Status(row.status), scheduled_at) if scheduled_at is not None else None,
        _HINT.format(gateway=gateway) if gateway is not None else None,
    ]
    return ExplainedMessage(
        row=row,
        because=" ".join(filter(None, because)),
        reports=_join(evidence.history, explained),
        rest_after=evidence.history.rest_after,
        attempts=evidence.attempts,
        transactions=evidence.transactions,
        delays=explanation.delays(reports, explained.winner, accepted_at=row.created_at, offered_at=row.offered_at),
    )


def explain_history(history: History) -> Sequence[ExplainedReport]:
    """What each transition of a message did."""
    reports = [_recorded(row) for row in history.transitions]
    return _join(history, explanation.explain(reports, gap=history.gap))


def _join(history: History, explained: explanation.Explanation) -> Sequence[ExplainedReport]:
    rows = history.transitions
    return [
        ExplainedReport(
            row=row, is_winner=index == explained.winner, why=why, before=None if before is None else rows[before]
        )
        for index, (row, why, before) in enumerate(zip(rows, explained.sentences, explained.befores, strict=True))
    ]


def _recorded(row: Transition) -> RecordedReport:
    return RecordedReport(
        report=transitions.report_of(row),
        effect=Effect(row.effect),
        rule=row.rule,
        reason=row.reason,
        superseded_at=row.superseded_at,
    )


def _read_holds(session: Session, evidence: MessageEvidence) -> Holds | None:
    """What may hold a message; None: it does not wait to be given to the gateway, or for what its account is."""
    row, settings = evidence.row, context.settings()
    if row.status not in _OFFERED or row.due_at is None:
        return None
    gate, workers = send_gate.read(session), context.readiness().read_workers(session, context.now())
    account = accounts.find(session, row.impersonate_user_name or OWN)
    return Holds(
        due_at=row.due_at,
        is_scheduled=row.deliver_after is not None and row.due_at == row.deliver_after,
        is_offered_again=row.status == Status.SEND_UNKNOWN,
        is_being_offered=any(attempt.ended_at is None for attempt in evidence.attempts),
        paused_at=gate.paused_at,
        paused_by=gate.paused_by,
        pause_reason=gate.pause_reason,
        refused_at=gate.refused_at,
        account_refused_at=account.refused_at if account is not None else None,
        is_any_worker_alive=bool(workers.alive),
        worker_seen_at=workers.seen_at,
        can_send=settings.account is not None,
        suspected_until=account.try_at if account is not None and row.suspicion else None,
        gateway_faults=workers.gateway_faults,
        per_second=settings.sends_per_second,
    )
