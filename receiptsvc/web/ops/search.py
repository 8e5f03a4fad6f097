"""The search box, and the page of a saved search: what a term may mean, by kind, or the list that was asked for.

A search is a POST that leads to an opaque id, so that no address, title or log holds a number or a name.
"""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import marshmallow as ma
from flask import Response, request
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain import numbers
from receiptsvc.store.core.audits import AuditFilter
from receiptsvc.store.core.models import Message
from receiptsvc.store.inbox.receipt_references import ReferenceFilter
from receiptsvc.store.inbox.receipts import WAITING, ReceiptFilter
from receiptsvc.store.outbound import suppressions
from receiptsvc.store.queries import hits, listing, persons
from receiptsvc.store.queries.contacts import ReplyFilter
from receiptsvc.store.queries.failed_messages import FailedFilter
from receiptsvc.store.queries.hits import MAX_COUNTED, Hit, Kind
from receiptsvc.store.queries.listing import MessageFilter
from receiptsvc.web.http import context
from receiptsvc.web.http.errors import by_path
from receiptsvc.web.ops import lists, pages, receipts, saved
from receiptsvc.web.ops.audit import show_audits
from receiptsvc.web.ops.failures import show_failed
from receiptsvc.web.ops.pages import PanelLate, blueprint, only_looks, signed_in
from receiptsvc.web.ops.terms import Asked, Batch, Cancellation, Chosen, Person, Term
from receiptsvc.web.schemas.search import SearchQuery

_FOLDERS = {  # of what has a page of its own
    Kind.MESSAGE: "messages",
    Kind.RECEIPT: "receipts",
    Kind.REPLY: "conversations",
    Kind.CONVERSATION: "conversations",
    Kind.CLIENT_REF: "conversations",
}
_ENDINGS = (Kind.RECIPIENT_ENDS, Kind.NATIONAL_NUMBER)
_PARKED = (Kind.PARKED_RECEIPTS, Kind.PARKED_RECEIPTS_PREFIX)
_HEADINGS = {  # what a term is taken for, and the words that lead to all of it
    Kind.MESSAGE: ("Message", "Open the message"),
    Kind.RECEIPT: ("Receipt", "Open the receipt"),
    Kind.REPLY: ("Reply", "Open its conversation"),
    Kind.CONVERSATION: ("Conversation", "Open the conversation"),
    Kind.RECIPIENT: ("Person", "Open this person"),
    Kind.RECIPIENT_ENDS: ("Numbers that end so", "All their messages"),
    Kind.NATIONAL_NUMBER: ("Numbers that end so: no country is guessed", "All their messages"),
    Kind.TRANSACTION: ("transactionID", "All its messages"),
    Kind.MESSAGE_GUID: ("messageGuid", "Open the message"),
    Kind.CLIENT_REF: ("clientRef", "Open the conversation"),
    Kind.CLIENT_REF_PREFIX: ("clientRefs that begin so", "All their messages"),
    Kind.BATCH: ("Request with this Idempotency-Key", "How far it is"),
    Kind.PARKED_RECEIPTS: ("Receipts that name it and fit no message", "All these receipts"),
    Kind.PARKED_RECEIPTS_PREFIX: ("Receipts whose clientRef begins so, and that fit no message", "All these receipts"),
}


class Found(NamedTuple):
    """A hit as it is shown. `people`: the newest message to each, where several numbers may be meant.

    `page`: its own, below /ops/; None: it is a list, or a person, which a POST makes an address for. `position`: among
    the hits of its kind. `above`: which of its rows an earlier hit lists; `same`: further hits that are no more than
    what this one lists.
    """

    hit: Hit
    heading: str
    opening: str
    page: str | None
    people: Sequence[Message]
    position: int
    above: frozenset[UUID] = frozenset()
    same: Sequence["Found"] = ()


@blueprint.get("/search")
@signed_in
def ask() -> Response:
    """What can be searched for."""
    return pages.render("search.html", term=None)


@blueprint.post("/search")
@signed_in
@only_looks
def search() -> Response:
    """Open the one thing that a term means, or else the page that lists what it may mean."""
    term = request.form.get("q", "").strip()
    if not term:
        return pages.redirect("search")
    try:
        SearchQuery().load({"q": term})
    except ma.ValidationError as error:
        return pages.render("search.html", 422, term=None, faults=by_path(error.messages)["q"])
    try:
        with pages.reading() as session:
            found = _find(session, term)
            only = _find_only(session, found, term) if found else _find_suppressed(session, term)
    except PanelLate:
        only = None
    if isinstance(only, str):
        return pages.redirect(only)
    return pages.redirect(saved.save(Term(text=term) if only is None else only))


@blueprint.route("/search/<search_id>", methods=["GET", "POST"])
@signed_in
def read_search(search_id: str) -> Response:
    """What was searched for: again, as it stands now."""
    found = saved.load(search_id)
    if found is None:
        return show_unknown()
    asked = found.asked
    if isinstance(asked, Person | Cancellation | Batch | Chosen):
        return pages.redirect(f"{saved.folder_of(asked)}/{search_id}")
    if not isinstance(asked, Term):
        return _show_list(asked, search_id, found.after)
    with pages.reading() as session:
        shown = _show(session, _find(session, asked.text))
    return pages.render(
        "search.html",
        about=search_id,
        of=search_id,
        term=asked.text,
        is_number=len(numbers.digits(asked.text) or "") >= numbers.MIN_DIGITS,
        may_be_person=numbers.normalise(asked.text) is not None,
        found=shown,
        has_any=any(each.hit.has_any for each in shown),
        max_counted=MAX_COUNTED,
    )


def _show_list(
    asked: MessageFilter | FailedFilter | ReceiptFilter | ReplyFilter | AuditFilter, search_id: str, after: str | None
) -> Response:
    if isinstance(asked, FailedFilter):
        return show_failed(asked, search_id)
    if isinstance(asked, MessageFilter):
        return lists.show_messages(asked, search_id, after)
    if isinstance(asked, ReceiptFilter):
        return receipts.answer(asked, search_id)
    return lists.show_replies(asked, search_id) if isinstance(asked, ReplyFilter) else show_audits(asked, search_id)


@blueprint.post("/search/<search_id>/open")
@signed_in
@only_looks
def open_hit(search_id: str) -> Response:
    """Look further into one of the hits: the list of all of it, or the person."""
    found = saved.load(search_id)
    if found is None or not isinstance(found.asked, Term):
        return show_unknown()
    term = found.asked.text
    number = numbers.normalise(term)
    if request.form.get("kind") == "person" and number is not None:  # may be suppressed without any message
        return pages.redirect(saved.save(Person(number=number)))
    with pages.reading() as session:
        of_kind = [hit for hit in _find(session, term) if hit.kind == request.form.get("kind")]
    position = request.form.get("position", "0")
    at = int(position) if position.isdecimal() and len(position) < 3 else 0
    asked = _list_of(of_kind[at], term) if at < len(of_kind) else None
    return pages.redirect(f"search/{search_id}" if asked is None else saved.save(asked))


@blueprint.post("/search/<search_id>/further")
@signed_in
@only_looks
def look_further(search_id: str) -> Response:
    """The next page of a list by clientRef, whose position no address may hold."""
    found = saved.load(search_id)
    if found is None or not isinstance(found.asked, MessageFilter):
        return show_unknown()
    return pages.redirect(saved.save(found.asked, request.form.get("after")))


def show_unknown() -> Response:
    """What is said of a search that has expired, or never was."""
    why = "This is no longer kept: searches are for 30 days, previews that nobody confirms for one. Search again."
    return pages.render("refused.html", 404, heading="No longer kept", why=why)


def _find(session: Session, term: str) -> list[Hit]:
    """What a term may mean; a number's own page has what ends so, and the receipts that name it."""
    found = list(hits.find(session, term, [key.name for key in context.settings().api_keys]))
    numbers_found = {hit.subject for hit in found if hit.kind is Kind.RECIPIENT}
    return [hit for hit in found if not _is_within(hit, numbers_found)]


def _is_within(hit: Hit, numbers_found: set[str | None]) -> bool:
    if hit.kind is Kind.RECIPIENT_ENDS and isinstance(hit.where, MessageFilter):
        return hit.where.recipient_ends in numbers_found and len(hit.where.recipient_ends or "") >= numbers.MIN_DIGITS
    return isinstance(hit.where, ReferenceFilter) and hit.where.recipient in numbers_found


def _find_only(session: Session, found: Sequence[Hit], term: str) -> str | Asked | None:
    """The page, or what to save, of a term that means one thing; None if it means several, or nothing."""
    if len(found) != 1:
        return None
    [hit] = found
    page = _page_of(hit)
    if page is not None:
        return page
    if hit.kind in _ENDINGS:
        people = _find_people(session, hit)
        is_all = hit.looked_to is None and (hit.kind is Kind.NATIONAL_NUMBER or hit.count < MAX_COUNTED)
        return Person(number=people[0].recipient) if len(people) == 1 and is_all else None
    return _list_of(hit, term)


def _find_suppressed(session: Session, term: str) -> Person | None:
    """The person that a term is, to whom nothing was ever sent, but who is suppressed."""
    number = numbers.normalise(term)
    if number is None or not suppressions.find(session, [number]):
        return None
    return Person(number=number)


def _show(session: Session, found: Sequence[Hit]) -> list[Found]:
    shown: list[Found] = []
    for hit in found:
        people = _find_people(session, hit) if hit.kind in _ENDINGS else ()
        position = sum(each.hit.kind is hit.kind for each in shown)
        shown.append(Found(hit, *_HEADINGS[hit.kind], _page_of(hit), people, position))
    return _list_once(shown)


def _list_once(found: Sequence[Found]) -> list[Found]:
    """The hits without what an earlier one lists: what was found by two keys is listed once, and both are named."""
    sections: list[Found] = []
    listed: dict[UUID, int] = {}  # what is listed, and in which section
    for each in found:
        hit = each.hit
        rows = [] if each.people else _ids_of(hit)
        above = frozenset(row for row in rows if row in listed)
        if rows and len(above) == len(set(rows)) and hit.count <= len(hit.messages) and hit.looked_to is None:
            at = listed[rows[0]]
            sections[at] = sections[at]._replace(same=(*sections[at].same, each))
            continue
        listed |= dict.fromkeys(set(rows) - above, len(sections))
        sections.append(each._replace(above=above))
    return sections


def _ids_of(hit: Hit) -> list[UUID]:
    """Of all rows that it lists."""
    entries = [entry.row.id for entry in hit.receipts]
    return [*(message.id for message in hit.messages), *(reply.id for reply in hit.replies), *entries]


def _find_people(session: Session, hit: Hit) -> Sequence[Message]:
    digits = hit.where.recipient_ends if isinstance(hit.where, MessageFilter) else None
    if digits is None:
        return ()
    is_national = hit.kind is Kind.NATIONAL_NUMBER
    return persons.find_meant(session, digits) if is_national else listing.find_alike(session, digits)


def _page_of(hit: Hit) -> str | None:
    """The page of a hit, below /ops/; None of a list and of a person."""
    if hit.kind in _FOLDERS:
        return f"{_FOLDERS[hit.kind]}/{hit.subject}"
    if hit.kind not in {*_ENDINGS, Kind.RECIPIENT} and len(hit.messages) == hit.count == 1:
        return f"messages/{ids.public('msg', hit.messages[0].id)}"
    if hit.kind in _PARKED and len(hit.receipts) == 1:
        return f"receipts/{ids.public('rcp', hit.receipts[0].row.id)}"
    return None


def _list_of(hit: Hit, term: str) -> Asked | None:
    """What to save, so that a hit has an address; None if it has one."""
    if hit.kind is Kind.RECIPIENT:
        return Person(number=hit.subject or "")
    if hit.kind is Kind.TRANSACTION:
        return MessageFilter(transaction_id=hit.subject)
    if hit.kind is Kind.BATCH:
        return Batch(key=term.strip())
    return ReceiptFilter(outcomes=WAITING, names=hit.where) if isinstance(hit.where, ReferenceFilter) else hit.where
