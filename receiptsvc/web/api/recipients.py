"""A person's history: all messages to one number, and all replies from it."""

from typing import Any

from receiptsvc.domain import numbers
from receiptsvc.store.queries import persons
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
    with context.database().reading() as session:
        person = persons.read(session, digits, limit=query["limit"], after=cursor)
    if not (person.history.items or person.parked or person.alike or cursor):
        raise _nothing()
    return {
        "number": digits,
        "items": person.history.items,
        "parked_receipts": person.parked,
        "ends_alike": [message.recipient for message in person.alike],
        "next_cursor": person.history.next,
    }


def _nothing() -> Problem:
    return Problem(404, "Nothing was sent to this number, nothing came from it, and no receipt names it.")
