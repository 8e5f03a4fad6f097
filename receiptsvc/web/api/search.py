"""Search by one term of any kind, and the lookup of many messages by ids, clientRefs or transactionIDs."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from receiptsvc import ids
from receiptsvc.store.core.models import Message
from receiptsvc.store.inbox.receipt_references import ReferenceFilter
from receiptsvc.store.queries import hits, listing
from receiptsvc.store.queries.hits import Hit, Kind
from receiptsvc.store.queries.listing import MAX_PER_TERM, Lookup
from receiptsvc.web.http import context
from receiptsvc.web.http.auth import requires
from receiptsvc.web.http.endpoints import endpoint, new_blueprint
from receiptsvc.web.schemas import search as schemas
from receiptsvc.web.schemas.base import in_body

_FOLDERS = {  # of what has an address of its own
    Kind.MESSAGE: "messages",
    Kind.RECEIPT: "receipts",
    Kind.REPLY: "conversations",
    Kind.CONVERSATION: "conversations",
    Kind.CLIENT_REF: "conversations",
    Kind.RECIPIENT: "recipients",
    Kind.TRANSACTION: "transactions",
}
_PARAMETERS = {  # of the lists of messages and receipts, by the fields of their filters
    "recipient": "recipient",
    "recipient_ends": "recipientEnds",
    "transaction_id": "transactionID",
    "message_guid": "messageGuid",
    "client_ref": "clientRef",
    "client_ref_prefix": "clientRefPrefix",
    "since": "since",
    "until": "until",
}

blueprint = new_blueprint("search", "Finding messages, people and receipts by a term of any kind.")


@endpoint(
    blueprint,
    "GET",
    "/search",
    query=schemas.SearchQuery,
    response=schemas.Hits,
    errors=(422, 503),
    by_post=("/search", in_body(schemas.SearchQuery)),
)
@requires("read")
def search(query: dict[str, Any]) -> dict[str, Any]:
    """Search

    Tries the term as everything that it may be, and gives each hit with a few of its messages, replies or receipts and
    the address of the rest. A receipt that fits no message is found by the number, the transactionID and the clientRef
    that it names; the messages of one request by its Idempotency-Key. Search terms are never logged.
    """
    with context.database().reading() as session:
        found = hits.find(session, query["q"], [key.name for key in context.settings().api_keys])
        return {"items": [_write_hit(hit) for hit in found if hit.messages or hit.looked_to is None]}


@endpoint(blueprint, "POST", "/messages/lookup", body=schemas.Lookup, response=schemas.Found, errors=(503,))
@requires("read")
def look_up_messages(body: dict[str, Any]) -> Lookup:
    """Look messages up

    Up to 500 at once by ids, clientRefs or transactionIDs.
    """
    with context.database().reading() as session:
        if "ids" in body:
            rows = listing.find_by_id(session, body["ids"])
            messages = {ids.public("msg", message_id): [row] for message_id, row in rows.items()}
            return _make_lookup([ids.public("msg", message_id) for message_id in body["ids"]], messages)
        if "transaction_ids" in body:
            terms = body["transaction_ids"]
            return _make_lookup(terms, listing.find_by_transaction(session, terms))
        terms = body["client_refs"]
        return _make_lookup(terms, listing.find_by_client_ref(session, terms))


def _make_lookup(terms: Sequence[str], messages: Mapping[str, Sequence[Message]]) -> Lookup:
    """The answer to a lookup. `messages`: those of each term, newest first, one more than a term may give."""
    terms = list(dict.fromkeys(terms))
    items = {row.id: row for term in terms for row in messages.get(term, ())[:MAX_PER_TERM]}
    return Lookup(
        items=list(items.values()),
        missing=[term for term in terms if not messages.get(term)],
        cut=[term for term in terms if len(messages.get(term, ())) > MAX_PER_TERM],
    )


def _write_hit(hit: Hit) -> dict[str, Any]:
    """A hit as `schemas.Hit` takes it. `query`: list and body, if a term is in its address."""
    base = f"{context.settings().public_url}/v1"
    path, query = _address(hit)
    return {
        "found_as": hit.kind,
        "url": f"{base}/{path}",
        "query": {"url": f"{base}/{query[0]}/query", "body": query[1]} if query is not None else None,
        "messages": hit.messages,
        "message_count": hit.count,
        "replies": hit.replies,
        "receipts": hit.receipts,
    }


def _address(hit: Hit) -> tuple[str, tuple[str, dict[str, str]] | None]:
    """Where all of a hit is, relative to /v1/; and the list and the body by which it is asked for by POST."""
    if hit.where is None:
        query = ("recipients", {"number": hit.subject or ""}) if hit.kind is Kind.RECIPIENT else None
        return f"{_FOLDERS[hit.kind]}/{hit.subject}", query
    given = {name: getattr(hit.where, name) for name in _PARAMETERS if getattr(hit.where, name, None) is not None}
    parameters = {
        _PARAMETERS[name]: value.isoformat() if isinstance(value, datetime) else value for name, value in given.items()
    }
    name = "receipts" if isinstance(hit.where, ReferenceFilter) else "messages"
    path = f"{name}?{urlencode(parameters, quote_via=quote)}"
    return path, None if hit.kind is Kind.BATCH else (name, parameters)
