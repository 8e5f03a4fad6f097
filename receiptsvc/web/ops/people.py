"""A person: all of one number, in whatever conversation; what keeps messages from it, and the lifting of that."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import marshmallow as ma
from flask import Response, request
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain import numbers
from receiptsvc.store.core import audits
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.models import Audit, Message, Reply
from receiptsvc.store.inbound import consents
from receiptsvc.store.inbox import receipts
from receiptsvc.store.outbound import suppressions
from receiptsvc.store.outbound.suppressions import Pair
from receiptsvc.store.queries import persons
from receiptsvc.web.http import context, cursors
from receiptsvc.web.http.errors import by_path
from receiptsvc.web.ops import lists, pages, saved
from receiptsvc.web.ops.pages import blueprint, only_looks, signed_in, viewer
from receiptsvc.web.ops.search import show_unknown
from receiptsvc.web.ops.terms import Person
from receiptsvc.web.schemas.suppressions import Stop

_MAX_SUPPRESSIONS = 100  # senders; nobody is suppressed for more
_MAX_ACTS = 20  # of suppressing and lifting, the newest
_LOOKS = timedelta(days=7)  # for how long it is told who looked
_MAX_LOOKS = 20  # the newest


@blueprint.post("/people")
@signed_in
@only_looks
def open_person() -> Response:
    """The page of the person that a message, a reply or a receipt is about."""
    number = _find_number(request.form.get("of", ""))
    if number is None:
        why = "There is no such message, reply or receipt, or it names nobody."
        return pages.render("refused.html", 404, heading="Not here", why=why)
    return pages.redirect(saved.save(Person(number=number)))


@blueprint.route("/people/<search_id>", methods=["GET", "POST"])
@signed_in
def read_person(search_id: str) -> Response:
    """Everything about a person, the newest first."""
    number = _load(search_id)
    if number is None:
        return show_unknown()
    return _show(search_id, number)


@blueprint.post("/people/<search_id>/suppress")
@signed_in
def suppress_person(search_id: str) -> Response:
    """Send this person no more of some senders' messages, for a reason."""

    def suppress(session: Session, pairs: Sequence[Pair], by: Actor) -> bool:
        suppressions.add(session, pairs, by, context.now())
        return True

    return _change(search_id, suppress, "faults")


@blueprint.post("/people/<search_id>/allow")
@signed_in
def allow_person(search_id: str) -> Response:
    """Lift a suppression, for a reason."""

    def lift(session: Session, pairs: Sequence[Pair], by: Actor) -> bool:
        lifted = [suppressions.remove(session, pair, by, context.now()) for pair in pairs]
        return any(lifted)

    return _change(search_id, lift, "lift_faults")


def _change(search_id: str, change: Callable[[Session, Sequence[Pair], Actor], bool], faults: str) -> Response:
    """Change suppressions as the form says.

    `change`: does it; False if there was nothing to change. `faults`: by which name the page has those of this form.
    """
    number = _load(search_id)
    if number is None:
        return show_unknown()
    try:
        pairs, by = _read_form(number)
    except ma.ValidationError as error:
        return _show(search_id, number, 422, **{faults: by_path(error.messages)})
    with context.database().transaction() as session:
        is_done = change(session, pairs, by)
    if not is_done:
        return _show(search_id, number, 404, notice="Somebody else has lifted it already.")
    return pages.redirect(f"people/{search_id}")


def _read_form(number: str) -> tuple[Sequence[Pair], Actor]:
    """Whom to suppress or allow for which senders, and who says so, and why. Raises ValidationError.

    An empty sender is the account's own number, which has to be chosen like any other.
    """
    reason = request.form.get("reason", "").strip()
    if not reason:
        raise ma.ValidationError({"reason": [pages.NO_REASON]})
    typed = request.form.get("originator", "").strip()
    senders = {*request.form.getlist("sender"), *([typed] if typed else [])}
    if not senders or len(senders) > _MAX_SUPPRESSIONS:
        raise ma.ValidationError({"originator": [f"Choose for whom: one sender, and at most {_MAX_SUPPRESSIONS}."]})
    stops = [Stop().load({"recipient": number, "originator": each or None, "reason": reason}) for each in senders]
    pairs = [Pair(stop["recipient"], numbers.fold_originator(stop["originator"])) for stop in stops]
    return pairs, Actor(actor=viewer().actor, reason=stops[0]["reason"])


def _load(search_id: str) -> str | None:
    asked = saved.load_as(Person, search_id)
    return asked.number if asked is not None else None


def _show(search_id: str, number: str, status: int = 200, **values: Any) -> Response:
    """The page. Raises ValidationError for a position that is not of this list, and PanelLate."""
    position = lists.read_position(cursors.RECIPIENT)
    with pages.reading() as session:
        person = persons.read(session, number, limit=lists.PAGE_SIZE, after=position)
        held = suppressions.read(session, recipient=number, limit=_MAX_SUPPRESSIONS).items
        opt_out = persons.find_newest_opt_out(session, number) if consents.find_refused(session, number) else None
        conversations = persons.find_conversations(session, number) if position is None else ()
        writing = sorted({numbers.fold_originator(each.sender) for each in conversations})
        suppressed = [each.originator for each in held]
        senders = {numbers.fold_originator(None), *writing, *suppressed}
        acts = audits.read(session, *(suppressions.subject(Pair(number, each)) for each in senders), limit=_MAX_ACTS)
        looks = _find_looks(session, number, person, conversations) if position is None else ()
    history = person.history
    return pages.render(
        "person.html",
        status,
        about=persons.subject(number),
        of=search_id,
        number=number,
        can_be_suppressed=numbers.normalise(number) is not None,
        person=person,
        conversations=conversations,
        suppressions=held,
        suppressed=suppressed,
        allowed=[each for each in writing if each not in suppressed],
        choices=sorted(senders.difference(suppressed), key=lambda each: (not each, each)),
        acts=acts[-_MAX_ACTS:],
        looks=looks[:_MAX_LOOKS],
        are_more_looks=len(looks) > _MAX_LOOKS,
        opt_out=opt_out,
        form=request.form,
        items=[(entry.row, isinstance(entry.row, Reply)) for entry in history.items],
        looked_to=history.next and history.next.at,
        next_cursor=history.next and cursors.RECIPIENT.encode(history.next),
        is_first=position is None,
        **({"faults": {}, "lift_faults": {}, "notice": None} | values),
    )


def _find_looks(
    session: Session, number: str, person: persons.Person, conversations: Sequence[persons.PersonsConversation]
) -> Sequence[Audit]:
    """Who had the number shown lately: on its own page, or on one of those that it leads to."""
    subjects = {persons.subject(number)}
    subjects |= {ids.public("cnv", each.id) for each in conversations}
    subjects |= {ids.public("rcp", entry.row.id) for entry in person.parked}
    subjects |= {ids.public("msg", entry.row.id) for entry in person.history.items if isinstance(entry.row, Message)}
    return audits.find_since(session, subjects, pages.REVEAL, context.now() - _LOOKS, limit=_MAX_LOOKS + 1)


def _find_number(public_id: str) -> str | None:
    """The number that a message went to, that a reply came from, or that a receipt names."""
    prefix = public_id.partition("_")[0]
    identifier = ids.parse(prefix, public_id)
    if identifier is None:
        return None
    with pages.reading() as session:
        if prefix == "msg":
            message = session.get(Message, identifier)
            named = message.recipient if message is not None else None
        elif prefix == "rpl":
            reply = session.get(Reply, identifier)
            named = reply.sender if reply is not None else None
        else:
            receipt = receipts.find_entry(session, identifier) if prefix == "rcp" else None
            named = receipt.recipient if receipt is not None else None
    return numbers.fold(named) or None if named else None
