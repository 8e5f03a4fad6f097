"""What a person may do while messages are on their way: pause all, cancel some, settle one."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain.errors import Refused
from receiptsvc.domain.statuses import Status
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.models import SendGate
from receiptsvc.store.messages import operator_actions
from receiptsvc.store.messages.operator_actions import CancelSelection
from receiptsvc.store.outbound import accounts, call_results, send_gate
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
    """Read what holds sending"""
    with context.database().reading() as session:
        return _told(session, send_gate.read(session))


@endpoint(blueprint, "POST", "/sending/pause", body=schemas.Pause, response=schemas.SendingState, errors=(503,))
@requires("ops")
def pause_sending(body: dict[str, Any]) -> dict[str, Any]:
    """Pause sending

    No worker begins a call any more, and messages that are accepted meanwhile wait. Calls that are being made are not
    ended. If it is paused already, who did it first, and why, stays.
    """
    with context.database().transaction() as session:
        return _told(session, send_gate.pause(session, auth.key_name(), body["reason"], context.now()))


@endpoint(blueprint, "POST", "/sending/resume", body=schemas.Because, response=schemas.SendingState, errors=(503,))
@requires("ops")
def resume_sending(body: dict[str, Any]) -> dict[str, Any]:
    """Resume sending

    What has waited goes out, unless its `validUntil` has gone by.
    """
    with context.database().transaction() as session:
        return _told(session, send_gate.resume(session, auth.key_name(), body.get("reason"), context.now()))


@endpoint(
    blueprint,
    "POST",
    "/messages/<id:message_id>/cancel",
    path=_PATH,
    body=schemas.Because,
    response=MessageStory,
    errors=(404, 409, 503),
)
@requires("send")
def cancel_message(body: dict[str, Any], message_id: str) -> MessageDetail:
    """Cancel a message

    Only what was not given to the gateway; else 409, and its status says where it is.
    """
    return _do(operator_actions.cancel, message_id, body.get("reason"))


@endpoint(blueprint, "POST", "/messages/cancel", body=schemas.Cancellation, response=schemas.Cancelled, errors=(503,))
@requires("ops")
def cancel_messages(body: dict[str, Any]) -> dict[str, Any]:
    """Cancel many messages

    All that fit and were not given to the gateway, some hundred at a time, each time for good: if the call ends early,
    what it has done stays done. Pause sending first, and none slips away.
    """
    is_dry_run, reason = body.pop("dry_run"), body.pop("reason", None)
    by = Actor(actor=auth.key_name(), reason=reason)
    done = operator_actions.cancel_all(
        context.database(), CancelSelection(**body), by, context.now(), is_dry_run=is_dry_run
    )
    return {"row": done, "dry_run": is_dry_run}


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

    def resolve(session: Session, identifier: UUID, by: Actor, now: datetime) -> bool:
        return operator_actions.resolve(session, identifier, Status(body["status"]), by, now)

    return _do(resolve, message_id, body["reason"])


def _do(deed: Callable[[Session, UUID, Actor, datetime], bool], message_id: str, reason: str | None) -> MessageDetail:
    """Do something with a message, in the name of the key that the request came with, and give it as it then is."""
    identifier = ids.parse("msg", message_id)
    story = None
    if identifier is not None:
        try:
            with context.database().transaction() as session:
                if deed(session, identifier, Actor(actor=auth.key_name(), reason=reason), context.now()):
                    story = lookup.find_message(session, identifier)
        except Refused as refused:
            raise Problem(409, str(refused)) from None
    if story is None:
        raise Problem(404, "There is no message with this id.")
    return story


def _told(session: Session, held: SendGate) -> dict[str, Any]:
    given_up_before = context.now() - timedelta(seconds=context.settings().resend_for_seconds)
    shown = accounts.show(session)
    own = next((one for one in shown if one.name is None and one.refused_at), None)
    is_all = held.refused_at is not None
    return {
        "row": held,
        "paused": held.paused_at is not None,
        "account_refused_at": held.refused_at if is_all or own is None else own.refused_at,
        "next_probe_at": held.probe_at if is_all or own is None else own.next_try_at,
        "accounts": shown,
        "overdue": call_results.count_overdue(session, given_up_before),
    }
