"""Cancels many messages in two steps: a filter finds them, and what was found, no more, is cancelled for a reason.

What was found is kept by its ids. So what comes after the preview, or comes to fit, is left alone; and the page says
how many were given to the gateway meanwhile.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import marshmallow as ma
from flask import Response, request

from receiptsvc import bulk_actions, ids
from receiptsvc.store.access import searches
from receiptsvc.store.core import audits, time_limits
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import MAX_SECONDS
from receiptsvc.store.core.models import Audit
from receiptsvc.store.messages import operator_actions
from receiptsvc.store.messages.operator_actions import CancelSelection
from receiptsvc.store.outbound import send_gate
from receiptsvc.store.queries import listing
from receiptsvc.web.http import context
from receiptsvc.web.http.errors import by_path
from receiptsvc.web.ops import lists, pages, saved
from receiptsvc.web.ops.pages import blueprint, only_looks, signed_in, signed_in_for
from receiptsvc.web.ops.search import show_unknown
from receiptsvc.web.ops.sending import read_reason
from receiptsvc.web.ops.terms import Cancellation, pack_ids
from receiptsvc.web.schemas import sending as schemas

MAX_CHOSEN = 10_000  # messages of one preview: so many are cancelled within one request

_CONFIRM = "confirm"  # the action of the audit that says who cancelled what a preview shows
_SHOWN = 5  # messages as an example
_LABELS = {  # of the form's fields, by the names that the API has for them
    "clientRef": "clientRef",
    "clientRefPrefix": "clientRef begins with",
    "recipient": "Number",
    "originator": "Sender",
    "createdBy": "API key",
    "since": "Accepted since",
    "until": "Accepted until",
}
_NAMES = re.compile(rf"\b({'|'.join(_LABELS)})\b")
_LONG_SECONDS = MAX_SECONDS + 5
_TOO_MUCH = "that takes too long now. Name more of what is meant, such as a clientRef, or try again in a moment."


@blueprint.get("/cancel")
@signed_in
def ask_what_to_cancel() -> Response:
    """The form that finds what to cancel."""
    return _ask()


@blueprint.post("/cancel")
@signed_in_for(_LONG_SECONDS)
@only_looks
def find_what_to_cancel() -> Response:
    """Find it, keep what was found, and go there. Nothing is cancelled yet."""
    given: dict[str, Any] = {name: text for name in _LABELS if (text := request.form.get(name, "").strip())}
    given |= {name: lists.as_moment(given[name]) for name in lists.TIMES if name in given}
    try:
        asked = schemas.Cancellation().load({**given, "scheduled": "scheduled" in request.form})
    except ma.ValidationError as error:
        return _ask(422, faults=_in_labels(by_path(error.messages)))
    selection = CancelSelection(**{name: value for name, value in asked.items() if name != "dry_run"})
    try:
        with pages.reading_much(time_limits.REQUEST) as session:
            found = operator_actions.find_cancellable(session, selection, limit=MAX_CHOSEN)
    except pages.PanelLate:
        return _ask(503, faults={"body": [_TOO_MUCH]})
    if not found.items:
        return _ask(is_nothing=True)
    kept = Cancellation(**asdict(selection), packed_ids=pack_ids(found.items), is_all=found.next is None)
    return pages.redirect(saved.save(kept))


@blueprint.route("/cancel/<search_id>", methods=["GET", "POST"])
@signed_in
def read_cancellation(search_id: str) -> Response:
    """What would be cancelled, or what has become of it; by POST with numbers and texts."""
    asked = saved.load_as(Cancellation, search_id)
    return show_unknown() if asked is None else _show(search_id, asked)


@blueprint.post("/cancel/<search_id>/confirm")
@signed_in_for(_LONG_SECONDS)
def confirm_cancellation(search_id: str) -> Response:
    """Cancel what the preview has shown, for a reason. Who has an older look at it is told what was done meanwhile."""
    asked = saved.load_as(Cancellation, search_id)
    if asked is None:
        return show_unknown()
    try:
        by = Actor(actor=pages.viewer().actor, reason=read_reason())
    except ma.ValidationError as error:
        return _show(search_id, asked, 422, faults=by_path(error.messages))
    why_not = _begin(search_id, asked, by)
    if why_not is not None:
        return _show(search_id, asked, 409, notice=why_not)
    bulk_actions.cancel_chosen(context.database(), asked.message_ids, by, context.now)
    return pages.redirect(f"cancel/{search_id}")


def _begin(search_id: str, asked: Cancellation, by: Actor) -> str | None:
    """Note who confirms a preview; or why nothing is done: somebody did so since it was shown, or nothing is left."""
    with context.database().transaction() as session:
        identifier = ids.parse(searches.PREFIX, search_id)
        if identifier is not None:
            searches.hold(session, identifier)
        before = _find_confirmations(audits.read(session, search_id))
        left = operator_actions.describe_chosen(session, asked.message_ids).left
        if str(len(before)) != request.form.get("confirmed"):
            return f"Nothing was done here: {before[-1].actor if before else 'somebody'} confirmed this meanwhile."
        if not left:
            return "Nothing was done: none of these can be cancelled any more."
        audits.write(
            session,
            at=context.now(),
            actor=by.actor,
            action=_CONFIRM,
            subject=search_id,
            reason=by.reason,
            details={"count": left},
        )
    return None


def _find_confirmations(notes: Sequence[Audit]) -> Sequence[Audit]:
    return [each for each in notes if each.action == _CONFIRM]


def _show(search_id: str, asked: Cancellation, status: int = 200, **values: Any) -> Response:
    """The page of a preview. Raises PanelLate."""
    message_ids = asked.message_ids
    with pages.reading_much() as session:
        chosen = operator_actions.describe_chosen(session, message_ids)
    with pages.reading() as session:
        notes = audits.read(session, search_id)
        gate = send_gate.read(session)
        examples = listing.read_messages(session, [*message_ids[:_SHOWN], *message_ids[_SHOWN:][-1:]])
        gone = listing.read_messages(session, chosen.gone)
    return pages.render(
        "cancellation.html",
        status,
        about=search_id,
        of=search_id,
        asked=asked,
        count=len(message_ids),
        chosen=chosen,
        confirmations=_find_confirmations(notes),
        audits=notes,
        is_paused=gate.paused_at is not None,
        examples=examples,
        gone=gone,
        typed=request.form.get("reason", ""),
        **({"faults": {}, "notice": None} | values),
    )


def _ask(status: int = 200, *, faults: Mapping[str, Any] | None = None, is_nothing: bool = False) -> Response:
    """The form, with what was typed."""
    form = {name: request.form.get(name, "") for name in (*_LABELS, "scheduled")}
    found: dict[str, Any] = {"faults": faults or {}, "is_nothing": is_nothing}
    return pages.render("cancel.html", status, form=form, labels=_LABELS, most=MAX_CHOSEN, **found)


def _in_labels(faults: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
    """What the API finds wrong, in the words that stand beside the form's fields."""
    return {
        path: [_NAMES.sub(lambda name: f"“{_LABELS[name[0]]}”", fault) for fault in of_field]
        for path, of_field in faults.items()
    }
