"""Search by one term of any kind, and the lookup of many messages by ids, clientRefs or transactionIDs."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain import conversations, numbers
from receiptsvc.store.core.models import Message, Reply
from receiptsvc.store.inbox import receipts
from receiptsvc.store.inbox.receipt_references import ReferenceFilter
from receiptsvc.store.inbox.receipts import WAITING, ReceiptEntry, ReceiptFilter
from receiptsvc.store.outbound import idempotency
from receiptsvc.store.queries import contacts, listing, lookup, rarities
from receiptsvc.store.queries.listing import MAX_PER_TERM, Lookup, MessageFilter
from receiptsvc.store.queries.rarities import Rarities
from receiptsvc.web.http import context
from receiptsvc.web.http.auth import requires
from receiptsvc.web.http.endpoints import endpoint, new_blueprint
from receiptsvc.web.http.fields import parse_transaction_id
from receiptsvc.web.schemas import search as schemas
from receiptsvc.web.schemas.base import in_body

_MAX_COUNTED = schemas.MAX_COUNTED
_SAMPLE_SIZE = 5  # messages, and as many replies, of each hit

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
    that it names, the clientRef by its beginning too; the messages of one request by its Idempotency-Key. Search terms
    are never logged.
    """
    with context.database().reading() as session:
        return {"items": list(_find_hits(session, query["q"].strip()))}


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


def _find_hits(session: Session, term: str) -> Iterator[dict[str, Any]]:
    if term:
        rare = rarities.find(
            session,
            number=numbers.read(term),
            digits=_ending(term),
            transaction_id=parse_transaction_id(term),
            term=term,
            api_keys=[key.name for key in context.settings().api_keys],
        )
        yield from _find_by_id(session, term)
        yield from _find_by_number(session, term, rare)
        yield from _find_by_name(session, term, rare)


def _find_by_id(session: Session, term: str) -> Iterator[dict[str, Any]]:
    prefix, _, _ = term.partition("_")
    identifier = ids.parse(prefix, term)
    if identifier is None:
        return
    if prefix == "msg":
        messages = list(listing.find_by_id(session, [identifier]).values())
        if messages:
            yield _make_hit("message", f"messages/{term}", messages)
    elif prefix == "rcp":
        receipt = receipts.find_entry(session, identifier)
        if receipt is not None:
            yield _make_hit("receipt", f"receipts/{term}", entries=[receipt])
    elif prefix == "rpl":
        reply = session.get(Reply, identifier)
        if reply is not None:
            yield _make_hit("reply", f"conversations/{ids.public('cnv', reply.conversation_id)}", replies=[reply])
    elif prefix == "cnv" and lookup.has_conversation(session, identifier):
        yield _make_hit("conversation", f"conversations/{term}")


def _find_by_number(session: Session, term: str, rare: Rarities) -> Iterator[dict[str, Any]]:
    number, digits, is_national = numbers.read(term), _ending(term), numbers.national_ending(term) is not None
    if number is not None:
        entries = contacts.read_contact(session, number, limit=_SAMPLE_SIZE).items
        messages = [entry.row for entry in entries if isinstance(entry.row, Message)]
        replies = [entry.row for entry in entries if isinstance(entry.row, Reply)]
        if entries:
            body = {"number": number}
            count = _count(session, MessageFilter(recipient=number))
            query = ("recipients", body)
            yield _make_hit("recipient", f"recipients/{number}", messages, replies, query=query, count=count)
    if digits is not None and len(digits) >= numbers.INDEXED_DIGITS:
        kind = "nationalNumber" if is_national else "recipientEnds"
        yield from _find_in_list(session, kind, MessageFilter(recipient_ends=digits), recipientEnds=digits)
    if number is not None and not is_national and rare.recipient:
        yield from _find_parked(session, ReferenceFilter(recipient=number), recipient=number)
    elif digits is not None and rare.recipient_end:
        yield from _find_parked(session, ReferenceFilter(recipient_ends=digits), recipientEnds=digits)
    transaction_id = parse_transaction_id(term)
    if transaction_id is not None:
        in_transaction = listing.find_by_transaction(session, [transaction_id]).get(transaction_id)
        if in_transaction:
            messages = in_transaction[:_SAMPLE_SIZE]
            count = min(len(in_transaction), _MAX_COUNTED)
            yield _make_hit("transactionID", f"transactions/{transaction_id}", messages, count=count)
        if rare.transaction_id:
            named = ReferenceFilter(transaction_id=transaction_id)
            yield from _find_parked(session, named, transactionID=transaction_id)


def _ending(term: str) -> str | None:
    """The last digits of a recipient that a term may be: of a number written as inside a country, those of it."""
    return numbers.national_ending(term) or numbers.digits(term)


def _find_by_name(session: Session, term: str, rare: Rarities) -> Iterator[dict[str, Any]]:
    yield from _find_in_list(session, "messageGuid", MessageFilter(message_guid=term), messageGuid=term)
    conversation_id: UUID = conversations.conversation_id(client_ref=term, recipient=None, originator=None)
    if lookup.has_conversation(session, conversation_id):
        messages = listing.list_messages(session, MessageFilter(client_ref=term), limit=_SAMPLE_SIZE).items
        replies = contacts.list_replies(session, contacts.ReplyFilter(client_ref=term), limit=_SAMPLE_SIZE).items
        count = _count(session, MessageFilter(client_ref=term))
        path = f"conversations/{ids.public('cnv', conversation_id)}"
        yield _make_hit("clientRef", path, messages, replies, count=count)
    longer = [row for row in listing.find_by_prefix(session, term, _SAMPLE_SIZE + 1) if row.client_ref != term]
    if longer:
        count = _count(session, MessageFilter(client_ref_prefix=term))
        if count < _MAX_COUNTED:
            count -= _count(session, MessageFilter(client_ref=term))  # a hit of its own
        yield _make_list_hit("clientRefPrefix", longer[:_SAMPLE_SIZE], count, clientRefPrefix=term)
    if rare.client_ref:
        yield from _find_parked(session, ReferenceFilter(client_ref=term), clientRef=term)
    if rare.client_ref_prefix:
        for name in rarities.find_longer_client_refs(session, term, _SAMPLE_SIZE):
            named = ReferenceFilter(client_ref=name)
            yield from _find_parked(session, named, found_as="parkedReceiptsPrefix", clientRef=name)
    if rare.idempotency_key:
        yield from _find_batches(session, term)
    if rare.msgid:
        replies = contacts.find_by_msgid(session, term, _SAMPLE_SIZE)
        yield _make_hit("reply", f"conversations/{ids.public('cnv', replies[0].conversation_id)}", replies=replies)


def _find_batches(session: Session, key: str) -> Iterator[dict[str, Any]]:
    """The messages of each request with this Idempotency-Key: they were all accepted at one moment."""
    for message_ids in idempotency.find_batches(session, [each.name for each in context.settings().api_keys], key):
        messages = idempotency.read_messages(session, message_ids[:_SAMPLE_SIZE])
        if messages:
            accepted_at = messages[0].created_at
            after = accepted_at + timedelta(microseconds=1)
            times = {"since": accepted_at.isoformat(), "until": after.isoformat()}
            count = min(len(message_ids), _MAX_COUNTED)
            yield _make_hit("batch", f"messages?{urlencode(times)}", messages, count=count)


def _find_parked(
    session: Session, named: ReferenceFilter, *, found_as: str = "parkedReceipts", **parameters: str
) -> Iterator[dict[str, Any]]:
    """The receipts that name this and fit no message, as one hit. `parameters`: the same as those of their list."""
    where = ReceiptFilter(outcomes=WAITING, names=named)
    found = receipts.list_receipts(session, where, limit=_SAMPLE_SIZE).items
    if found:
        path = f"receipts?{urlencode(parameters, quote_via=quote)}"
        yield _make_hit(found_as, path, entries=found, query=("receipts", parameters))


def _find_in_list(session: Session, found_as: str, where: MessageFilter, **parameters: str) -> Iterator[dict[str, Any]]:
    """The messages that fit `where`, as one hit. `parameters`: the same filter as query parameters of its URL."""
    messages = listing.list_messages(session, where, limit=_SAMPLE_SIZE).items
    if messages:
        yield _make_list_hit(found_as, messages, _count(session, where), **parameters)


def _count(session: Session, where: MessageFilter) -> int:
    """How many messages fit; at most _MAX_COUNTED are counted."""
    return len(listing.find_ids(session, where, limit=_MAX_COUNTED).items)


def _make_list_hit(found_as: str, messages: Sequence[Message], count: int, **parameters: str) -> dict[str, Any]:
    """A hit that is a list of messages with these parameters."""
    path = f"messages?{urlencode(parameters, quote_via=quote)}"
    return _make_hit(found_as, path, messages, query=("messages", parameters), count=count)


def _make_hit(
    found_as: str,
    path: str,
    messages: Sequence[Message] = (),
    replies: Sequence[Reply] = (),
    *,
    entries: Sequence[ReceiptEntry] = (),
    query: tuple[str, dict[str, str]] | None = None,
    count: int | None = None,
) -> dict[str, Any]:
    """A hit as `schemas.Hit` takes it. `path`: relative to /v1/. `query`: list and body, if a term is in it.

    `count`: of all its messages; None: those given are all.
    """
    base = f"{context.settings().public_url}/v1"
    return {
        "found_as": found_as,
        "url": f"{base}/{path}",
        "query": {"url": f"{base}/{query[0]}/query", "body": query[1]} if query is not None else None,
        "messages": messages,
        "message_count": max(len(messages), count or 0),
        "replies": replies,
        "receipts": entries,
    }
