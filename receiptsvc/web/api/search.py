"""Search: one box for whatever somebody has, and messages by the hundred by what names them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain import numbers
from receiptsvc.store.core.models import InboxRow, Message, Reply
from receiptsvc.store.messages import transitions
from receiptsvc.store.queries import contacts, listing, lookup
from receiptsvc.store.queries.listing import MAX_PER_CLIENT_REF, MIN_DIGITS, Lookup, MessageFilter
from receiptsvc.web.http import context
from receiptsvc.web.http.auth import requires
from receiptsvc.web.http.endpoints import endpoint, new_blueprint
from receiptsvc.web.http.fields import parse_transaction_id
from receiptsvc.web.schemas import search as schemas

_A_FEW = 5  # messages of each kind

blueprint = new_blueprint("search", "Finding messages and people by whatever somebody has.")


@endpoint(blueprint, "GET", "/search", query=schemas.SearchQuery, response=schemas.Hits, errors=(422, 503))
@requires("read")
def search(query: dict[str, Any]) -> dict[str, Any]:
    """Search

    Takes the term for everything that it may be, and gives each of these that there is, with a few of its messages and
    the address at which to read on. What was searched for stands in no log.
    """
    with context.database().reading() as session:
        return {"items": list(_hits(session, query["q"].strip()))}


@endpoint(blueprint, "POST", "/messages/lookup", body=schemas.Lookup, response=schemas.Found, errors=(503,))
@requires("read")
def look_up_messages(body: dict[str, Any]) -> Lookup:
    """Look messages up

    Up to 500 at once by ids, clientRefs or transactionIDs.
    """
    with context.database().reading() as session:
        if "ids" in body:
            found = listing.find_by_id(session, body["ids"])
            known = {ids.public("msg", one): [row] for one, row in found.items()}
            return _found([ids.public("msg", one) for one in body["ids"]], known)
        if "transaction_ids" in body:
            return _found(body["transaction_ids"], listing.find_by_transaction(session, body["transaction_ids"]))
        return _found(body["client_refs"], listing.find_by_client_ref(session, body["client_refs"]))


def _found(terms: Sequence[str], found: Mapping[str, Sequence[Message]]) -> Lookup:
    terms = list(dict.fromkeys(terms))
    items = {row.id: row for term in terms for row in found.get(term, ())[:MAX_PER_CLIENT_REF]}
    return Lookup(
        items=list(items.values()),
        missing=[term for term in terms if not found.get(term)],
        cut=[term for term in terms if len(found.get(term, ())) > MAX_PER_CLIENT_REF],
    )


def _hits(session: Session, term: str) -> Iterator[dict[str, Any]]:
    if term:
        yield from _by_id(session, term)
        yield from _by_number(session, term)
        yield from _by_name(session, term)


def _by_id(session: Session, term: str) -> Iterator[dict[str, Any]]:
    prefix, _, _ = term.partition("_")
    identifier = ids.parse(prefix, term)
    if identifier is None:
        return
    if prefix == "msg":
        found = list(listing.find_by_id(session, [identifier]).values())
        if found:
            yield _hit("message", f"messages/{term}", found)
    elif prefix == "rcp" and session.get(InboxRow, identifier) is not None:
        yield _hit("receipt", f"receipts/{term}")
    elif prefix == "rpl":
        reply = session.get(Reply, identifier)
        if reply is not None:
            yield _hit("reply", f"conversations/{ids.public('cnv', reply.conversation_id)}", answers=[reply])
    elif prefix == "cnv" and lookup.has_conversation(session, identifier):
        yield _hit("conversation", f"conversations/{term}")


def _by_number(session: Session, term: str) -> Iterator[dict[str, Any]]:
    digits = numbers.digits_only(term)
    number = numbers.normalise(term) or digits
    if number is not None:
        entries = contacts.read_contact(session, number, limit=_A_FEW).items
        written = [entry.row for entry in entries if isinstance(entry.row, Message)]
        answers = [entry.row for entry in entries if isinstance(entry.row, Reply)]
        if entries:
            yield _hit("recipient", f"recipients/{number}", written, answers)
    if digits is not None and len(digits) >= MIN_DIGITS:
        yield from _listed(session, "recipientEnds", MessageFilter(recipient_ends=digits), recipientEnds=digits)
    transaction_id = parse_transaction_id(term)
    if transaction_id is not None:
        given = listing.find_by_transaction(session, [transaction_id]).get(transaction_id)
        if given:
            yield _hit("transactionID", f"transactions/{transaction_id}", given[:_A_FEW])


def _by_name(session: Session, term: str) -> Iterator[dict[str, Any]]:
    yield from _listed(session, "messageGuid", MessageFilter(message_guid=term), messageGuid=term)
    reference: UUID = transitions.conversation_id(client_ref=term, recipient=None, originator=None)
    if lookup.has_conversation(session, reference):
        newest = listing.list_messages(session, MessageFilter(client_ref=term), limit=_A_FEW).items
        answers = contacts.list_replies(session, contacts.ReplyFilter(client_ref=term), limit=_A_FEW).items
        yield _hit("clientRef", f"conversations/{ids.public('cnv', reference)}", newest, answers)
    others = [row for row in listing.find_by_prefix(session, term, _A_FEW + 1) if row.client_ref != term]
    if others:
        address = f"messages?{urlencode({'clientRefPrefix': term}, quote_via=quote)}"
        yield _hit("clientRefPrefix", address, others[:_A_FEW])


def _listed(session: Session, found_as: str, where: MessageFilter, **asked: str) -> Iterator[dict[str, Any]]:
    found = listing.list_messages(session, where, limit=_A_FEW).items
    if found:
        yield _hit(found_as, f"messages?{urlencode(asked, quote_via=quote)}", found)


def _hit(found_as: str, address: str, written: Sequence[Message] = (), answers: Sequence[Reply] = ()) -> dict[str, Any]:
    url = f"{context.settings().public_url}/v1/{address}"
    return {"found_as": found_as, "url": url, "messages": written, "replies": answers}
