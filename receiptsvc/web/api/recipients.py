"""A person's history: all messages to one number, and all replies from it."""

from collections.abc import Sequence
from typing import Any

from receiptsvc.domain import numbers
from receiptsvc.store.inbox import receipts
from receiptsvc.store.inbox.receipt_references import ReferenceFilter
from receiptsvc.store.inbox.receipts import WAITING, ReceiptEntry, ReceiptFilter
from receiptsvc.store.queries import contacts, listing, rarities
from receiptsvc.web.http import context
from receiptsvc.web.http.auth import requires
from receiptsvc.web.http.endpoints import endpoint, new_blueprint
from receiptsvc.web.http.errors import Problem
from receiptsvc.web.schemas import conversations as schemas

blueprint = new_blueprint("recipients", "All messages to one person, and all replies from them.")


@endpoint(
    blueprint,
    "GET",
    "/recipients/<anything:number>",
    path={"number": "The person's number, in any usual writing."},
    query=schemas.PersonQuery,
    response=schemas.Person,
    errors=(404, 422, 503),
)
@requires("read")
def read_recipient(query: dict[str, Any], number: str) -> dict[str, Any]:
    """Read all of a person's messages

    Every message to them and every reply from them, in whatever conversation, the newest first; and the receipts that
    name them and fit no message. A number that is written as inside a country is not guessed at: `endsAlike` has the
    numbers that may be meant.
    """
    return _read_page(numbers.read(number), query)


@endpoint(
    blueprint,
    "POST",
    "/recipients/query",
    body=schemas.PersonBody,
    response=schemas.Person,
    errors=(404, 503),
)
@requires("read")
def query_recipient(body: dict[str, Any]) -> dict[str, Any]:
    """Read all of a person's messages, by POST

    The same as `GET /v1/recipients/<number>`, with its parameters in the body: nothing personal is in the URL.
    """
    return _read_page(body["number"], body)


def _read_page(digits: str | None, query: dict[str, Any]) -> dict[str, Any]:
    """A page of a person's history. Raises Problem 404."""
    cursor = query.get("cursor")
    if digits is None:
        raise _nothing()
    parked: Sequence[ReceiptEntry] = ()
    alike: Sequence[str] = ()
    with context.database().reading() as session:
        page = contacts.read_contact(session, digits, limit=query["limit"], after=cursor)
        if cursor is None and rarities.find(session, number=digits).recipient:
            named = ReceiptFilter(outcomes=WAITING, names=ReferenceFilter(recipient=digits))
            parked = receipts.list_receipts(session, named, limit=schemas.MAX_PARKED).items
        national = numbers.national_ending(digits)
        if cursor is None and national is not None:
            alike = listing.find_recipients(session, national)
    if not (page.items or parked or alike or cursor):
        raise _nothing()
    return {
        "number": digits,
        "items": page.items,
        "parked_receipts": parked,
        "ends_alike": alike,
        "next_cursor": page.next,
    }


def _nothing() -> Problem:
    return Problem(404, "Nothing was sent to this number, nothing came from it, and no receipt names it.")
