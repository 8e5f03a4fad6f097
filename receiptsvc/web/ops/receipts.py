"""The parking lot: receipts that fit no message, or can't be read; filters, and a form that chooses many at once."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import marshmallow as ma
from flask import Response, request
from werkzeug.datastructures import MultiDict

from receiptsvc import ids
from receiptsvc.domain.inbox import Channel, ReceiptOutcome
from receiptsvc.store.inbox import receipts
from receiptsvc.store.inbox.receipts import RETRIABLE, ReceiptFilter
from receiptsvc.store.queries import candidates
from receiptsvc.web.http import cursors
from receiptsvc.web.http.errors import by_path
from receiptsvc.web.ops import chosen, lists, pages, saved
from receiptsvc.web.ops.pages import blueprint, only_looks, signed_in
from receiptsvc.web.schemas import receipts as schemas

PARKED = ReceiptFilter(outcomes=RETRIABLE)  # what the page shows of itself: what waits for a person

CHANNELS = {  # in words, by the address that receipts came to
    Channel.MESSAGE: "one message",
    Channel.ACCOUNT: "the account",
    Channel.INBOUND: "replies",
}

_OUTCOMES = (*RETRIABLE, ReceiptOutcome.UNMAPPED, ReceiptOutcome.PENDING, ReceiptOutcome.DISMISSED)
_KEPT = {  # of a filter: what the form has no field for, or would show a number; and in words
    "recipient": "number",
    "recipientEnds": "number that ends in",
    "keyId": "key id",
    "message": "message",
}
_TEXTS = (
    *("number", "clientRef", "transactionID", "providerStatusId", "providerDescription", "channel"),
    *lists.TIMES,
)
_MAX_CANDIDATES = 3  # that a row shows
_TOO_MUCH = "This takes too long now: narrow the filter down, or try again in a moment."


def open_rows(where: ReceiptFilter) -> Response:
    """Lead to the receipts that fit, so that they can be looked through and acted on."""
    return pages.redirect(saved.save(where))


@blueprint.get("/receipts")
@signed_in
def read_newest_receipts() -> Response:
    """The newest receipts of all that wait for a person, and the form that narrows them down."""
    return answer(PARKED)


@blueprint.post("/receipts")
@signed_in
@only_looks
def narrow_receipts() -> Response:
    """Save what the form asks for, and go there. What can't be understood is said beside its field."""
    if request.form.get("action"):
        return answer(PARKED)
    of = request.form.get("of", "")
    before = saved.load_as(ReceiptFilter, of) or PARKED
    try:
        where = _read_form(request.form, before)
    except ma.ValidationError as error:
        typed = {name: request.form.get(name, "") for name in _TEXTS}
        form = {**typed, "outcomes": request.form.getlist("outcome")}
        return _render(422, where=before, form=form, of=of, faults=by_path(error.messages))
    return open_rows(where)


def answer(where: ReceiptFilter, of: str | None = None) -> Response:
    """The list of what a filter finds, or where its form for many at once leads. `of`: the search's id.

    Raises ValidationError for a position of another list, and PanelLate.
    """
    if request.method != "POST" or request.form.get("action") != chosen.PREVIEW:
        return _show(where, of)
    try:
        return pages.redirect(chosen.choose(where))
    except ma.ValidationError as error:
        return _show(where, of, 422, choice=request.form, choice_faults=by_path(error.messages))
    except pages.PanelLate:
        return _show(where, of, 503, choice=request.form, choice_faults={"which": [_TOO_MUCH]})


def _show(where: ReceiptFilter, of: str | None, status: int = 200, **values: Any) -> Response:
    position = lists.read_position(cursors.RECEIPTS)
    with pages.reading() as session:
        page = receipts.list_receipts(session, where, limit=lists.PAGE_SIZE, after=position)
        found = candidates.find(session, page.items, limit=_MAX_CANDIDATES)
    form = {
        "clientRef": where.names.client_ref,
        "transactionID": where.names.transaction_id,
        "providerStatusId": where.names.provider_status_id,
        "providerDescription": where.names.provider_description,
        "channel": where.channel,
        "outcomes": where.outcomes,
        **{name: lists.write_time(getattr(where, name)) for name in lists.TIMES},
    }
    return _render(
        status,
        about=of or "receipts",
        where=where,
        form=form,
        of=of,
        items=page.items,
        candidates=found,
        looked_to=page.next and ids.made_at(page.next),
        next_cursor=page.next and cursors.RECEIPTS.encode(page.next),
        is_first=position is None,
        **values,
    )


def _render(status: int, *, where: ReceiptFilter, about: str | None = None, **values: Any) -> Response:
    further = [outcome for outcome in where.outcomes if outcome not in _OUTCOMES]
    values = {"faults": {}, "choice": {}, "choice_faults": {}} | values
    return pages.render(
        "receipts.html",
        status,
        about=about,
        where=where,
        kept=[(name, _KEPT[name], value) for name, value in _find_kept(where).items()],
        all_outcomes=[*_OUTCOMES, *further],
        all_channels=CHANNELS,
        possible=[word for word, outcomes in chosen.POSSIBLE_BY_WORD.items() if _is_any(outcomes, where)],
        ticked=request.form.getlist("receipt"),
        **values,
    )


def _is_any(outcomes: Sequence[ReceiptOutcome], where: ReceiptFilter) -> bool:
    """Whether a filter can find any with one of these outcomes."""
    return not where.outcomes or bool(set(outcomes) & set(where.outcomes))


def _find_kept(where: ReceiptFilter) -> dict[str, str]:
    """What of a filter its form has no field for, by the API's names."""
    values = {
        "recipient": where.names.recipient,
        "recipientEnds": where.names.recipient_ends,
        "keyId": where.names.kid,
        "message": ids.public("msg", where.message_id) if where.message_id is not None else None,
    }
    return {name: value for name, value in values.items() if value is not None}


def _read_form(form: MultiDict[str, str], before: ReceiptFilter) -> ReceiptFilter:
    """What the form asks for. `before`: the list that it stands on. Raises ValidationError."""
    data: dict[str, Any] = {name: form[name].strip() for name in _TEXTS if form.get(name, "").strip()}
    if form.getlist("outcome"):
        data["outcome"] = form.getlist("outcome")
    number = data.pop("number", None)
    data |= {name: value for name, value in _find_kept(before).items() if _is_kept(name, form.getlist("keep"), number)}
    if number is not None:
        data |= lists.name_number(number)
    exact = {  # a field has minutes only
        name: getattr(before, name)
        for name in lists.TIMES
        if name in data and data[name] == lists.write_time(getattr(before, name))
    }
    data |= {name: lists.as_moment(data[name]) for name in lists.TIMES if name in data}
    try:
        asked = schemas.ReceiptQuery().load(data)
    except ma.ValidationError as error:
        faults = by_path(error.messages)
        number_faults = [fault for name in ("recipient", "recipientEnds") for fault in faults.get(name, ())]
        raise ma.ValidationError(faults | ({"number": number_faults} if number_faults else {})) from None
    where = schemas.filter_of(asked)
    return replace(where, outcomes=tuple(where.outcomes) or PARKED.outcomes, **exact)


def _is_kept(name: str, kept: Sequence[str], number: str | None) -> bool:
    return name in kept and (number is None or not name.startswith("recipient"))
