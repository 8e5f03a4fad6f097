"""What an operator can do about messages that are on their way: pause all, cancel some, resolve one."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from receiptsvc import bulk_actions, ids
from receiptsvc.domain.errors import Refused
from receiptsvc.domain.statuses import Status
from receiptsvc.dynmark.transports import IGNORE_REPEATS
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.models import Audit, SendGate
from receiptsvc.store.health import service_state
from receiptsvc.store.health.service_state import Finding
from receiptsvc.store.messages import operator_actions
from receiptsvc.store.messages.operator_actions import CancelSelection
from receiptsvc.store.outbound import accounts, call_results, next_due, send_gate
from receiptsvc.store.queries import lookup
from receiptsvc.store.queries.lookup import MessageDetail
from receiptsvc.web.http import auth, context
from receiptsvc.web.http.auth import requires
from receiptsvc.web.http.endpoints import endpoint, new_blueprint
from receiptsvc.web.http.errors import Problem
from receiptsvc.web.schemas import sending as schemas
from receiptsvc.web.schemas.messages import MessageStory

blueprint = new_blueprint("sending", "What holds sending, and what can be done about messages that are on their way.")

_PATH = {"message_id": "The message's id."}


@endpoint(blueprint, "GET", "/sending", response=schemas.SendingState, errors=(503,))
@requires("read")
def read_sending() -> dict[str, Any]:
    """Read what holds sending

    Whether messages go out now, and if not: no account, a pause, or an account that the gateway refuses or may refuse.
    """
    with context.database().reading() as session:
        return _describe_state(session, send_gate.read(session))


@endpoint(blueprint, "POST", "/sending/pause", body=schemas.Pause, response=schemas.SendingState, errors=(503,))
@requires("ops")
def pause_sending(body: dict[str, Any]) -> dict[str, Any]:
    """Pause sending

    No worker begins a call any more, and messages that are accepted meanwhile wait. Calls that are being made are not
    ended. If it is paused already, the first pause's key and reason stay.
    """
    with context.database().transaction() as session:
        return _describe_state(session, send_gate.pause(session, auth.key_name(), body["reason"], context.now()))


@endpoint(
    blueprint, "POST", "/sending/resume", body=schemas.OptionalReason, response=schemas.SendingState, errors=(503,)
)
@requires("ops")
def resume_sending(body: dict[str, Any]) -> dict[str, Any]:
    """Resume sending

    What has waited goes out, unless its `validUntil` has gone by.
    """
    with context.database().transaction() as session:
        return _describe_state(session, send_gate.resume(session, auth.key_name(), body.get("reason"), context.now()))


@endpoint(
    blueprint,
    "POST",
    "/messages/<id:message_id>/cancel",
    path=_PATH,
    body=schemas.OptionalReason,
    response=MessageStory,
    errors=(404, 409, 503),
)
@requires("send")
def cancel_message(body: dict[str, Any], message_id: str) -> MessageDetail:
    """Cancel a message

    Only what was not given to the gateway; else 409, and its status says where it is.
    """
    return _act_on_message(operator_actions.cancel, message_id, body.get("reason"))


@endpoint(blueprint, "POST", "/messages/cancel", body=schemas.Cancellation, response=schemas.Cancelled, errors=(503,))
@requires("ops")
def cancel_messages(body: dict[str, Any]) -> dict[str, Any]:
    """Cancel many messages

    All that match and were not given to the gateway, some hundred at a time. If the call ends early, what it has
    cancelled stays cancelled. Pause sending first, so that none goes out meanwhile.
    """
    is_dry_run, reason = body.pop("dry_run"), body.pop("reason", None)
    actor = Actor(actor=auth.key_name(), reason=reason)
    count, is_complete = bulk_actions.cancel(
        context.database(), CancelSelection(**body), actor, context.now(), is_dry_run=is_dry_run
    )
    return {"count": count, "dry_run": is_dry_run, "is_complete": is_complete}


@endpoint(
    blueprint,
    "POST",
    "/messages/<id:message_id>/resolve",
    path=_PATH,
    body=schemas.Resolution,
    response=MessageStory,
    errors=(404, 409, 503),
)
@requires("ops")
def resolve_message(body: dict[str, Any], message_id: str) -> MessageDetail:
    """Resolve a message

    For one that is `send_unknown`, else 409: what a person found out becomes its status, and it is not offered again.
    A receipt that comes later still wins.
    """

    def resolve(session: Session, identifier: UUID, actor: Actor, now: datetime) -> bool:
        return operator_actions.resolve(session, identifier, Status(body["status"]), actor, now)

    return _act_on_message(resolve, message_id, body["reason"])


def _act_on_message(
    action: Callable[[Session, UUID, Actor, datetime], bool], message_id: str, reason: str | None
) -> MessageDetail:
    """Run `action` in the name of the request's key and return the message as it is then.

    Raises Problem 404 without such a message, 409 if `action` raises Refused.
    """
    identifier = ids.parse("msg", message_id)
    detail = None
    if identifier is not None:
        try:
            with context.database().transaction() as session:
                if action(session, identifier, Actor(actor=auth.key_name(), reason=reason), context.now()):
                    detail = lookup.find_message(session, identifier)
        except Refused as refused:
            raise Problem(409, str(refused)) from None
    if detail is None:
        raise Problem(404, "There is no message with this id.")
    return detail


def _describe_last_pause(audits: tuple[Audit, Audit] | None) -> dict[str, Any] | None:
    if audits is None:
        return None
    pause, resume = audits
    began = {"paused_at": pause.at, "paused_by": pause.actor, "reason": pause.reason}
    return {**began, "resumed_at": resume.at, "resumed_by": resume.actor, "resume_reason": resume.reason}


def _describe_state(session: Session, gate: SendGate) -> dict[str, Any]:
    """The fields of SendingState.

    Our own account is the one without a name; a refusal of our credentials, which holds every account, comes first.
    """
    resend_ended_before = context.now() - timedelta(seconds=context.settings().resend_for_seconds)
    impaired = accounts.read_impaired(session, IGNORE_REPEATS)
    refused_at, next_probe_at = gate.refused_at, gate.probe_at
    own = next((account for account in impaired if account.name is None and account.refused_at), None)
    if gate.refused_at is None and own is not None:
        refused_at, next_probe_at = own.refused_at, own.next_try_at
    state = context.readiness().read_state(session, context.now())
    findings = [
        *([Finding("worker_unseen", schemas.NO_WORKER)] if state.workers.is_missing else []),
        *service_state.describe(state),
    ]
    waiting = next_due.count_waiting(session, context.now())
    return {
        "row": gate,
        "can_send": context.settings().account is not None,
        "paused": gate.paused_at is not None,
        "last_pause": _describe_last_pause(send_gate.read_last_pause(session)),
        "waiting": waiting.messages,
        "waiting_since": waiting.since,
        "workers": len(state.workers.alive),
        "worker_seen_at": state.workers.seen_at,
        "gateway_faults": [{"fault": fault, "since": since} for fault, since in state.workers.gateway_faults],
        "messages_late_seconds": state.messages_late_seconds,
        "receipts_late_seconds": state.receipts_late_seconds,
        "no_receipts": state.is_silent,
        "callbacks_refused": sum(entry.callbacks for entry in state.refused),
        **{outcome.value: state.ledger.outcomes[outcome] for outcome in schemas.COUNTED},
        "findings": findings,
        "degraded": [finding.text for finding in findings],
        "account_refused_at": refused_at,
        "next_probe_at": next_probe_at,
        "accounts": impaired,
        "overdue": call_results.count_overdue(session, resend_ended_before),
    }
