"""A receipt's page: what became of it and why, what it says, what it may belong to, and what can be done about it."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import marshmallow as ma
from flask import Response, request
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain import gateway_clock, meanings
from receiptsvc.domain.errors import Refused
from receiptsvc.domain.inbox import RECORDED, Channel, ReceiptOutcome
from receiptsvc.domain.messages import Origin
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.inbox import receipts
from receiptsvc.store.inbox.receipts import (
    DISMISSIBLE,
    MATCHABLE,
    RETRIABLE,
    NoSuchMessage,
    OtherRecipient,
    ReceiptDetail,
    ReceiptEntry,
)
from receiptsvc.store.messages import adoptions
from receiptsvc.store.queries import candidates
from receiptsvc.store.queries.candidates import Candidate
from receiptsvc.web.http import context
from receiptsvc.web.http.errors import by_path
from receiptsvc.web.ops import callback_reader, pages, raw_callbacks
from receiptsvc.web.ops.pages import blueprint, signed_in
from receiptsvc.web.ops.receipts import CHANNELS
from receiptsvc.web.schemas import receipts as schemas

_MAX_CANDIDATES = 20

_SCHEMAS: Mapping[str, type[ma.Schema]] = {
    "match": schemas.Match,
    "retry": schemas.Retry,
    "dismiss": schemas.Dismissal,
    "restore": schemas.Restoration,
}
_CHANGES: Mapping[str, Callable[[Session, UUID, Actor, datetime], ReceiptEntry | None]] = {
    "retry": receipts.retry,
    "dismiss": receipts.dismiss,
    "restore": receipts.restore,
}
_SETS_SINCE = RECORDED | {ReceiptOutcome.DISMISSED}  # an outcome that is given once; others are given at each try


@blueprint.route("/receipts/<receipt_id>", methods=["GET", "POST"])
@signed_in
def read_receipt(receipt_id: str) -> Response:
    """One that was recorded, or one that is parked; by POST something is done to it first."""
    identifier = ids.parse("rcp", receipt_id)
    if identifier is None:
        return _missing()
    action = request.form.get("action", "")
    return _act(identifier, action) if action in _SCHEMAS else _respond(identifier)


def _respond(identifier: UUID, status: int = 200, **refusal: Any) -> Response:
    """The page. `refusal`: why an action was refused, and what had been typed."""
    with pages.reading() as session:
        receipt = receipts.find_receipt(session, identifier)
        found = _find_candidates(session, receipt) if receipt is not None else ()
    if receipt is None:
        return _missing()
    shown = raw_callbacks.show(receipt.row, receipt.callback, callback_reader.current(), is_revealed=pages.reveals())
    return pages.render(
        "receipt.html",
        status,
        about=ids.public("rcp", identifier),
        id=ids.public("rcp", identifier),
        receipt=receipt,
        message_id=ids.public("msg", receipt.message_id) if receipt.message_id else None,
        meaning=meanings.OUTCOMES[receipt.outcome],
        action=meanings.action_for(receipt.outcome, receipt.reason),
        zone=_suggest_zone(receipt),
        sets_since=receipt.outcome in _SETS_SINCE,
        adopt_at=receipt.adopt_at(context.settings().adopt_after),
        is_unmapped=receipt.outcome is ReceiptOutcome.UNMAPPED,
        channel=CHANNELS[Channel(receipt.row.channel)],
        candidates=found,
        shown=shown,
        can=_find_actions(receipt),
        **({"faults": {}, "typed": {}, "refused": None} | refusal),
    )


def _act(identifier: UUID, action: str) -> Response:
    """Do what a form asks for by the API's rules, and lead back to the page; or the page with the refusal in words."""
    schema = _SCHEMAS[action]()
    names = [str(field.data_key) for field in schema.load_fields.values()]
    typed = {name: value for name in names if (value := request.form.get(name, "").strip())}
    given = typed | ({"anyRecipient": True} if "anyRecipient" in typed else {})
    try:
        body = schema.load(given)
        by = Actor(actor=pages.viewer().actor, reason=body.get("reason"))
        with context.database().transaction() as session:
            entry = _change(session, identifier, action, body, by)
    except ma.ValidationError as error:
        return _respond(identifier, 422, faults={action: by_path(error.messages)}, typed=typed)
    except Refused as refused:
        return _respond(identifier, 409, refused=str(refused), typed=typed)
    except NoSuchMessage:
        faults = {"message": ["There is no message with this id."]}
        return _respond(identifier, 422, faults={action: faults}, typed=typed)
    except OtherRecipient:
        words = "The receipt names another number than the message went to. What is recorded can't be taken back."
        return _respond(identifier, 422, faults={action: {"anyRecipient": [words]}}, typed=typed)
    return pages.redirect(f"receipts/{ids.public('rcp', identifier)}") if entry is not None else _missing()


def _change(session: Session, identifier: UUID, action: str, body: Mapping[str, Any], by: Actor) -> ReceiptEntry | None:
    now = context.now()
    if action in _CHANGES:
        return _CHANGES[action](session, identifier, by, now)
    return adoptions.match(session, identifier, body["message_id"], by, now, to_any_recipient=body["any_recipient"])


def _suggest_zone(receipt: ReceiptDetail) -> str | None:
    """What DYNMARK_TIMEZONE would have to be for a receipt to fit the one message that it names; None: no other."""
    shift = gateway_clock.read_hint(receipt.reason) if receipt.outcome is ReceiptOutcome.UNMATCHED else None
    if shift is None:
        return None
    return gateway_clock.suggest(shift, receipt.row.received_at, context.settings().gateway_timezone)


def _find_candidates(session: Session, receipt: ReceiptDetail) -> Sequence[Candidate]:
    """Messages that it may belong to: first those that the worker could not decide between."""
    if "match" not in _find_actions(receipt):
        return ()
    found = candidates.find(session, [receipt], limit=_MAX_CANDIDATES)[receipt.row.id].items
    return [*found, *candidates.find_alike(session, receipt, found)]


def _find_actions(receipt: ReceiptDetail) -> set[str]:
    """What can be done to it now, by the rules of the API; which decide again when it is done."""
    is_recorded = receipt.transition is not None and receipt.transition.superseded_at is None
    is_adopted = is_recorded and receipt.message is not None and receipt.message.origin == Origin.EXTERNAL
    is_unmatched = receipt.outcome in MATCHABLE and not is_recorded and receipt.row.channel != Channel.INBOUND
    possible = {
        "match": is_unmatched or is_adopted,
        "retry": receipt.outcome in RETRIABLE,
        "dismiss": receipt.outcome in DISMISSIBLE,
        "restore": receipt.outcome is ReceiptOutcome.DISMISSED,
    }
    return {action for action, is_possible in possible.items() if is_possible}


def _missing() -> Response:
    return pages.render("missing.html", 404, why="There is no receipt with this id.")
