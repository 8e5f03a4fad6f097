"""Sending: what holds it, what is to go out, and the buttons that stop it and let it go on."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import marshmallow as ma
from flask import Response, request
from sqlalchemy.orm import Session

from receiptsvc.domain import waiting
from receiptsvc.dynmark.transports import IGNORE_REPEATS
from receiptsvc.store.core.models import SendGate
from receiptsvc.store.outbound import accounts, send_gate
from receiptsvc.store.queries import outlook, overdue
from receiptsvc.web.http import context
from receiptsvc.web.http.errors import by_path
from receiptsvc.web.ops import lists, pages
from receiptsvc.web.ops.pages import blueprint, signed_in
from receiptsvc.web.schemas import sending as schemas

_PAUSED_ALREADY = "Nothing was done: somebody else had paused sending already. Who did it, and the reason, stay."
_NOT_PAUSED = "Nothing was done: sending was not paused any more."


@blueprint.route("/sending", methods=["GET", "POST"])
@signed_in
def read_sending() -> Response:
    """What holds sending and what is to go out; by POST with numbers and texts."""
    return _show()


@blueprint.post("/sending/pause")
@signed_in
def pause_sending() -> Response:
    """Have no worker begin a call, for a reason."""
    return _act(send_gate.pause, _PAUSED_ALREADY, is_to_pause=True)


@blueprint.post("/sending/resume")
@signed_in
def resume_sending() -> Response:
    """Let messages go out again, for a reason."""
    return _act(send_gate.resume, _NOT_PAUSED, is_to_pause=False)


def read_reason() -> str:
    """The reason that a form gives, by the API's rules. Raises ValidationError; also without one."""
    typed = request.form.get("reason", "").strip()
    if not typed:
        raise ma.ValidationError({"reason": [pages.NO_REASON]})
    reason: str = schemas.Pause().load({"reason": typed})["reason"]
    return reason


def _act(change: Callable[[Session, str, str, datetime], SendGate], too_late: str, *, is_to_pause: bool) -> Response:
    """Pause or resume; `too_late`: what is said if that was done before."""
    try:
        reason = read_reason()
    except ma.ValidationError as error:
        return _show(422, faults=by_path(error.messages))
    with context.database().transaction() as session:
        is_late = (send_gate.hold(session).paused_at is not None) is is_to_pause
        if not is_late:
            change(session, pages.viewer().actor, reason, context.now())
    return _show(409, notice=too_late) if is_late else pages.redirect("sending")


def _show(status: int = 200, **values: Any) -> Response:
    """The page. Raises PanelLate."""
    now, settings = context.now(), context.settings()
    with pages.reading() as session:
        gate = send_gate.read(session)
        workers = context.readiness().read_workers(session, now)
        impaired = accounts.read_impaired(session, IGNORE_REPEATS)
        last_pause = send_gate.read_last_pause(session)
        late = overdue.count_by_originator(session, now - waiting.OVERDUE_AFTER)
        ahead = outlook.read(session, now)
    has_hold = gate.paused_at or gate.refused_at or impaired or workers.is_missing or settings.account is None
    return pages.render(
        "sending.html",
        status,
        about="sending",
        gate=gate,
        impaired=impaired,
        is_worker_missing=workers.is_missing,
        gateway_faults=workers.gateway_faults,
        can_send=settings.account is not None,
        is_held=bool(has_hold or workers.gateway_faults),
        last_pause=last_pause,
        per_second=settings.sends_per_second,
        is_kept_here=settings.is_scheduled_by_service,
        ahead=ahead,
        overdue=late,
        until_now=lists.write_time(now + timedelta(minutes=1)),  # a field holds no seconds
        overdue_until=lists.write_time(now - waiting.OVERDUE_AFTER),
        most=outlook.MAX_COUNTED,
        typed=request.form.get("reason", ""),
        **({"faults": {}, "notice": None} | values),
    )
