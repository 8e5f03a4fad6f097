"""What one term of a search may mean: an id, a number, a name. How a hit is shown, and where, its caller decides."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import chain
from uuid import UUID

from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain import conversations, numbers, references
from receiptsvc.store.core.models import Message, Reply
from receiptsvc.store.inbox import receipts
from receiptsvc.store.inbox.receipt_references import ReferenceFilter
from receiptsvc.store.inbox.receipts import WAITING, ReceiptEntry, ReceiptFilter
from receiptsvc.store.outbound import idempotency
from receiptsvc.store.queries import contacts, listing, lookup, rarities
from receiptsvc.store.queries.listing import MessageFilter
from receiptsvc.store.queries.rarities import Rarities

MAX_COUNTED = 20  # messages of one hit

_SAMPLE_SIZE = 5  # messages, and as many replies, of each hit
_MIN_WHOLE = 10  # digits; nobody types as many of the last ones
_MAX_ENDINGS = 50  # messages by the last digits of a number: for so many ten times as many rows may be looked at


class Kind(StrEnum):
    """What a term is taken for."""

    MESSAGE = "message"
    RECEIPT = "receipt"
    REPLY = "reply"
    CONVERSATION = "conversation"
    RECIPIENT = "recipient"
    RECIPIENT_ENDS = "recipientEnds"
    NATIONAL_NUMBER = "nationalNumber"
    TRANSACTION = "transactionID"
    MESSAGE_GUID = "messageGuid"
    CLIENT_REF = "clientRef"
    CLIENT_REF_PREFIX = "clientRefPrefix"
    BATCH = "batch"
    PARKED_RECEIPTS = "parkedReceipts"
    PARKED_RECEIPTS_PREFIX = "parkedReceiptsPrefix"


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """One thing that a term may mean, and some of its messages, replies and receipts.

    `subject`: its public id, number or transactionID, of a kind that has one; of a reply and a clientRef, that of the
    conversation. Of the other kinds `where` finds all of it: messages, or receipts that wait.
    `count`: of its messages; at most MAX_COUNTED are counted. `looked_to`: how far back, where not all messages to a
    number with the same INDEXED_DIGITS were looked at; then there may be no messages, and yet some further back.
    """

    kind: Kind
    subject: str | None = None
    where: MessageFilter | ReferenceFilter | None = None
    messages: Sequence[Message] = ()
    replies: Sequence[Reply] = ()
    receipts: Sequence[ReceiptEntry] = ()
    count: int = 0
    looked_to: datetime | None = None

    @property
    def has_any(self) -> bool:
        """Whether anything was found, so far; a conversation is something by itself."""
        return self.looked_to is None or bool(self.messages)


def find(session: Session, term: str, api_keys: Collection[str]) -> Iterator[Hit]:
    """Everything that a term may mean and that exists, the surest first. `api_keys`: whose Idempotency-Keys count."""
    term = term.strip()
    if term:
        rare = rarities.find(
            session,
            number=numbers.read(term),
            digits=_ending(term),
            transaction_id=references.parse_transaction_id(term),
            term=term,
            api_keys=api_keys,
        )
        yield from _find_by_id(session, term)
        yield from _find_by_number(session, term, rare)
        yield from _find_by_name(session, term, rare, api_keys)


def _find_by_id(session: Session, term: str) -> Iterator[Hit]:
    prefix, _, _ = term.partition("_")
    identifier = ids.parse(prefix, term)
    if identifier is None:
        return
    if prefix == "msg":
        messages = list(listing.find_by_id(session, [identifier]).values())
        if messages:
            yield Hit(kind=Kind.MESSAGE, subject=term, messages=messages, count=1)
    elif prefix == "rcp":
        receipt = receipts.find_entry(session, identifier)
        if receipt is not None:
            yield Hit(kind=Kind.RECEIPT, subject=term, receipts=[receipt])
    elif prefix == "rpl":
        reply = session.get(Reply, identifier)
        if reply is not None:
            yield Hit(kind=Kind.REPLY, subject=ids.public("cnv", reply.conversation_id), replies=[reply])
    elif prefix == "cnv" and lookup.has_conversation(session, identifier):
        yield Hit(kind=Kind.CONVERSATION, subject=term)


def _find_by_number(session: Session, term: str, rare: Rarities) -> Iterator[Hit]:
    number, digits, is_national = numbers.read(term), _ending(term), numbers.national_ending(term) is not None
    if number is not None:
        entries = contacts.read_contact(session, number, limit=_SAMPLE_SIZE).items
        messages = [entry.row for entry in entries if isinstance(entry.row, Message)]
        replies = [entry.row for entry in entries if isinstance(entry.row, Reply)]
        if entries:
            count = max(len(messages), _count(session, MessageFilter(recipient=number)))
            yield Hit(kind=Kind.RECIPIENT, subject=number, messages=messages, replies=replies, count=count)
    if digits is not None and is_national:
        yield from _find_national(session, digits)
    elif digits is not None and len(digits) >= numbers.INDEXED_DIGITS:
        is_whole = numbers.normalise(term) is not None and len(digits) >= _MIN_WHOLE
        yield from _find_by_ending(session, Kind.RECIPIENT_ENDS, digits, is_whole=is_whole)
    if number is not None and not is_national and rare.recipient:
        yield from _find_parked(session, ReferenceFilter(recipient=number))
    elif digits is not None and rare.recipient_end:
        yield from _find_parked(session, ReferenceFilter(recipient_ends=digits))
    transaction_id = references.parse_transaction_id(term)
    if transaction_id is not None:
        in_transaction = listing.find_by_transaction(session, [transaction_id]).get(transaction_id)
        if in_transaction:
            messages, count = in_transaction[:_SAMPLE_SIZE], min(len(in_transaction), MAX_COUNTED)
            yield Hit(kind=Kind.TRANSACTION, subject=transaction_id, messages=messages, count=count)
        if rare.transaction_id:
            yield from _find_parked(session, ReferenceFilter(transaction_id=transaction_id))


def _find_national(session: Session, digits: str) -> Iterator[Hit]:
    """The messages to every number that is possible and ends so; if there are none, to others that end so."""
    found = listing.find_by_recipient(session, numbers.national_candidates(digits))
    if not found:
        yield from _find_by_ending(session, Kind.NATIONAL_NUMBER, digits)
        return
    messages = sorted(chain(*found.values()), key=lambda each: (each.created_at, each.id), reverse=True)
    yield Hit(
        kind=Kind.NATIONAL_NUMBER,
        where=MessageFilter(recipient_ends=digits),
        messages=messages[:_SAMPLE_SIZE],
        count=min(len(messages), MAX_COUNTED),
    )


def _find_by_ending(session: Session, kind: Kind, digits: str, *, is_whole: bool = False) -> Iterator[Hit]:
    """The messages to numbers that end in these digits. `is_whole`: as a number they have a hit of their own."""
    where, limit = MessageFilter(recipient_ends=digits), MAX_COUNTED if is_whole else _MAX_ENDINGS
    page = listing.find_ids(session, where, limit=limit)
    is_cut = page.next is not None and len(page.items) < limit and not is_whole
    looked_to = page.next.key[0] if page.next is not None and is_cut else None
    if page.items or looked_to is not None:
        messages, count = listing.read_messages(session, page.items[:_SAMPLE_SIZE]), min(len(page.items), MAX_COUNTED)
        yield Hit(kind=kind, where=where, messages=messages, count=count, looked_to=looked_to)


def _ending(term: str) -> str | None:
    """The last digits of a recipient that a term may be: of a number written as inside a country, those of it."""
    return numbers.national_ending(term) or numbers.digits(term)


def _find_by_name(session: Session, term: str, rare: Rarities, api_keys: Collection[str]) -> Iterator[Hit]:
    yield from _find_in_list(session, Kind.MESSAGE_GUID, MessageFilter(message_guid=term))
    conversation_id: UUID = conversations.conversation_id(client_ref=term, recipient=None, originator=None)
    if lookup.has_conversation(session, conversation_id):
        messages = listing.list_messages(session, MessageFilter(client_ref=term), limit=_SAMPLE_SIZE).items
        yield Hit(
            kind=Kind.CLIENT_REF,
            subject=ids.public("cnv", conversation_id),
            messages=messages,
            replies=contacts.list_replies(session, contacts.ReplyFilter(client_ref=term), limit=_SAMPLE_SIZE).items,
            count=max(len(messages), _count(session, MessageFilter(client_ref=term))),
        )
    longer = [row for row in listing.find_by_prefix(session, term, _SAMPLE_SIZE + 1) if row.client_ref != term]
    if longer:
        where = MessageFilter(client_ref_prefix=term)
        count = _count(session, where)
        if count < MAX_COUNTED:
            count -= _count(session, MessageFilter(client_ref=term))  # a hit of its own
        longer = longer[:_SAMPLE_SIZE]
        yield Hit(kind=Kind.CLIENT_REF_PREFIX, where=where, messages=longer, count=max(len(longer), count))
    if rare.client_ref:
        yield from _find_parked(session, ReferenceFilter(client_ref=term))
    if rare.client_ref_prefix:
        for name in rarities.find_longer_client_refs(session, term, _SAMPLE_SIZE):
            yield from _find_parked(session, ReferenceFilter(client_ref=name), Kind.PARKED_RECEIPTS_PREFIX)
    if rare.idempotency_key:
        yield from _find_batches(session, term, api_keys)
    if rare.msgid:
        replies = contacts.find_by_msgid(session, term, _SAMPLE_SIZE)
        yield Hit(kind=Kind.REPLY, subject=ids.public("cnv", replies[0].conversation_id), replies=replies)


def _find_batches(session: Session, key: str, api_keys: Collection[str]) -> Iterator[Hit]:
    """The messages of each request with this Idempotency-Key: they were all accepted at one moment."""
    for submission in idempotency.find_submissions(session, api_keys, [key]):
        messages = idempotency.read_messages(session, submission.message_ids[:_SAMPLE_SIZE])
        if messages:
            accepted_at = messages[0].created_at
            where = MessageFilter(since=accepted_at, until=accepted_at + timedelta(microseconds=1))
            yield Hit(
                kind=Kind.BATCH, where=where, messages=messages, count=min(len(submission.message_ids), MAX_COUNTED)
            )


def _find_parked(session: Session, named: ReferenceFilter, kind: Kind = Kind.PARKED_RECEIPTS) -> Iterator[Hit]:
    """The receipts that name this and fit no message, as one hit."""
    where = ReceiptFilter(outcomes=WAITING, names=named)
    found = receipts.list_receipts(session, where, limit=_SAMPLE_SIZE).items
    if found:
        yield Hit(kind=kind, where=named, receipts=found)


def _find_in_list(session: Session, kind: Kind, where: MessageFilter) -> Iterator[Hit]:
    """The messages that fit `where`, as one hit."""
    messages = listing.list_messages(session, where, limit=_SAMPLE_SIZE).items
    if messages:
        yield Hit(kind=kind, where=where, messages=messages, count=max(len(messages), _count(session, where)))


def _count(session: Session, where: MessageFilter) -> int:
    """How many messages fit; at most MAX_COUNTED are counted."""
    return len(listing.find_ids(session, where, limit=MAX_COUNTED).items)
