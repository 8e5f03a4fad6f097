"""Lists of messages and of replies, and what every list has: pages, positions, fields for times and numbers.

Each says how far it has looked.
"""

from datetime import datetime
from typing import Any, TypeVar

import marshmallow as ma
from flask import Response, request
from werkzeug.datastructures import MultiDict

from receiptsvc.domain import numbers
from receiptsvc.domain.statuses import Status
from receiptsvc.store.queries import contacts, failed_messages, listing
from receiptsvc.store.queries.contacts import ReplyFilter
from receiptsvc.store.queries.failed_messages import FAILED
from receiptsvc.store.queries.listing import MessageFilter, Order
from receiptsvc.web.http import context, cursors
from receiptsvc.web.http.cursors import Cursor
from receiptsvc.web.http.errors import by_path
from receiptsvc.web.ops import pages, saved, terms
from receiptsvc.web.ops.pages import blueprint, only_looks, signed_in
from receiptsvc.web.schemas.messages import MessageQuery

PAGE_SIZE = 50  # rows

KEPT = {  # of a list that is narrowed down further: what its form has no field for, and by which name it is asked for
    "recipient": "recipient",
    "recipient_ends": "recipientEnds",
    "message_guid": "messageGuid",
    "client_ref_prefix": "clientRefPrefix",
}
_TIME = "%Y-%m-%dT%H:%M"  # as a browser's field has it
TIMES = ("since", "until")
_TEXTS = ("number", "clientRef", "transactionID", "originator", *TIMES)

Position = TypeVar("Position")


@blueprint.get("/messages")
@signed_in
def read_newest() -> Response:
    """The newest messages, and the form that narrows them down."""
    return show_messages(MessageFilter())


@blueprint.post("/messages")
@signed_in
@only_looks
def narrow_messages() -> Response:
    """Save what the form asks for, and go there. What can't be understood is said beside its field."""
    if pages.reveals():
        return show_messages(MessageFilter())
    of = request.form.get("of", "")
    before = saved.load_as(MessageFilter, of) or MessageFilter()
    try:
        where = _read_form(request.form, before)
    except ma.ValidationError as error:
        typed = {name: request.form.get(name, "") for name in _TEXTS}
        form = {**typed, "statuses": request.form.getlist("status")}
        return _render("messages.html", 422, where=before, form=form, of=of, faults=by_path(error.messages))
    return pages.redirect(saved.save(where))


def show_messages(where: MessageFilter, of: str | None = None, after: str | None = None) -> Response:
    """A page of messages. `of`: the search's id. `after`: the position of a page whose address can't hold it.

    Raises ValidationError for a position that is none of this list, and PanelLate.
    """
    position = read_position(cursors.MESSAGES, after)
    if position is not None and position.order is not where.sorting:
        raise ma.ValidationError("of another order")
    with pages.reading() as session:
        page = listing.list_messages(session, where, limit=PAGE_SIZE, after=position)
        failures = failed_messages.find_failures(session, [row.id for row in page.items if row.status in FAILED])
    looked_to = page.next.key[0] if page.next is not None else None  # a time, or a clientRef
    form = {
        "clientRef": where.client_ref,
        "transactionID": where.transaction_id,
        "originator": where.originator,
        "statuses": where.statuses,
        **{name: write_time(getattr(where, name)) for name in TIMES},
    }
    return _render(
        "messages.html",
        about=of or "messages",
        where=where,
        form=form,
        of=of,
        items=page.items,
        failures=failures,
        can_be_sent=of is not None and terms.is_of_failed(where),
        looked_to=looked_to,
        next_cursor=page.next and cursors.MESSAGES.encode(page.next),
        is_by_time=where.sorting is Order.CREATED,
        is_first=position is None or after is not None,  # this address has no other first page
    )


def show_replies(where: ReplyFilter, of: str) -> Response:
    """A page of replies. `of`: the search's id, or `replies`. Raises ValidationError and PanelLate."""
    position = read_position(cursors.REPLIES)
    with pages.reading() as session:
        page = contacts.list_replies(session, where, limit=PAGE_SIZE, after=position)
    return _render(
        "replies.html",
        about=of,
        where=where,
        items=page.items,
        looked_to=page.next and page.next.at,
        next_cursor=page.next and cursors.REPLIES.encode(page.next),
        is_first=position is None,
    )


@blueprint.route("/replies", methods=["GET", "POST"])
@signed_in
def read_newest_replies() -> Response:
    """The newest replies of all."""
    return show_replies(ReplyFilter(), "replies")


def read_position(cursor: Cursor[Position], text: str | None = None) -> Position | None:
    """Where the page begins that the address names. Raises ValidationError."""
    text = text or request.args.get("after")
    return cursor.decode(text) if text else None


@blueprint.errorhandler(ma.ValidationError)
def show_lost_place(_: ma.ValidationError) -> Response:
    """What is said of an address whose position can't be read."""
    why = "This address is cut or changed: it does not say where the list goes on. Begin again at its first page."
    return pages.render("refused.html", 422, why=why)


def _render(template: str, status: int = 200, **values: Any) -> Response:
    today = context.now().replace(hour=0, minute=0)
    values = {"all_statuses": list(Status), "kept": KEPT, "today": write_time(today), "faults": {}} | values
    return pages.render(template, status, **values)


def _read_form(form: MultiDict[str, str], before: MessageFilter) -> MessageFilter:
    """What the form asks for. `before`: the list that it stands on. Raises ValidationError."""
    data: dict[str, Any] = {name: form[name].strip() for name in _TEXTS if form.get(name, "").strip()}
    if form.getlist("status"):
        data["status"] = form.getlist("status")
    number = data.pop("number", None)
    for name in form.getlist("keep"):
        if name in KEPT and (number is None or not name.startswith("recipient")):
            data[KEPT[name]] = getattr(before, name)
    if number is not None:
        data |= name_number(number)
    exact = {
        name: getattr(before, name)
        for name in TIMES
        if name in data and data[name] == write_time(getattr(before, name))
    }
    data |= {name: as_moment(data[name]) for name in TIMES if name in data}
    try:
        asked = MessageQuery().load({name: value for name, value in data.items() if value is not None})
    except ma.ValidationError as error:
        faults = by_path(error.messages)
        number_faults = [fault for name in ("recipient", "recipientEnds") for fault in faults.get(name, ())]
        raise ma.ValidationError(faults | ({"number": number_faults} if number_faults else {})) from None
    return MessageFilter(**{name: value for name, value in asked.items() if name != "limit"} | exact)


def name_number(text: str) -> dict[str, str]:
    """A number, or its last digits, as the list's filters take it."""
    digits = numbers.national_ending(text) or numbers.digits(text)
    is_whole = numbers.normalise(text) is not None or text.startswith(("+", "00"))
    return {"recipient": text} if is_whole or digits is None else {"recipientEnds": digits}


def as_moment(text: str) -> str:
    """What a browser's field for a time holds, which is in UTC and to the minute, as the API takes times."""
    return f"{text}:00Z"


def write_time(time: datetime | None) -> str | None:
    """A time as a browser's field has it."""
    return time.strftime(_TIME) if time is not None else None
