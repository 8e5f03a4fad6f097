"""The messages that a receipt which fits none may belong to, and what they share with what it names.

Nothing is decided here: the worker decides by `domain.correlation`, and a person by hand.
"""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain import correlation
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.store.core import bulk
from receiptsvc.store.core.models import Message
from receiptsvc.store.inbox.receipts import MATCHABLE, ReceiptEntry
from receiptsvc.store.queries import listing
from receiptsvc.store.queries.listing import MessageFilter

MAX_ALIKE = 5  # messages that share one thing with a receipt


class Candidate(NamedTuple):
    """A message, and why it is one. `likeness`: what it shares with the receipt; see `correlation`."""

    message: Message
    why: str
    likeness: str


class Candidates(NamedTuple):
    """The messages of one receipt, as many as were asked for. `more`: how many are left out."""

    items: Sequence[Candidate]
    more: int


def find(session: Session, entries: Sequence[ReceiptEntry], *, limit: int) -> dict[UUID, Candidates]:
    """Of each receipt that can be matched: the messages that the worker could not decide between, or its address's."""
    named = {entry.row.id: _named_by(entry) for entry in entries if entry.outcome in MATCHABLE}
    wanted = {message_id for message_ids in named.values() for message_id in message_ids[:limit]}
    messages = _load(session, wanted)
    found = {}
    for entry in entries:
        message_ids = named.get(entry.row.id, [])
        shown = [messages[each] for each in message_ids[:limit] if each in messages]
        items = [_make(entry, message, _why(entry, message.id)) for message in shown]
        found[entry.row.id] = Candidates(items, max(0, len(message_ids) - limit))
    return found


def find_alike(session: Session, entry: ReceiptEntry, without: Sequence[Candidate]) -> Sequence[Candidate]:
    """Further messages that have something of what a receipt names: the newest few by each of these."""
    if entry.outcome not in MATCHABLE:
        return []
    came_at = entry.row.received_at
    filters = {
        "has its transactionID": MessageFilter(transaction_id=entry.transaction_id) if entry.transaction_id else None,
        "has its clientRef": MessageFilter(client_ref=entry.client_ref) if entry.client_ref else None,
        "went to its number": MessageFilter(recipient=entry.recipient, until=came_at) if entry.recipient else None,
    }
    seen = {candidate.message.id for candidate in without}
    found = []
    for why, where in filters.items():
        page = listing.list_messages(session, where, limit=MAX_ALIKE).items if where is not None else ()
        for message in page:
            if message.id not in seen:
                seen.add(message.id)
                found.append(_make(entry, message, why))
    return found


def _named_by(entry: ReceiptEntry) -> list[UUID]:
    candidates = [ids.parse("msg", each) for each in entry.candidates]
    own = [entry.row.message_id] if entry.outcome is not ReceiptOutcome.DISMISSED else []
    return list(dict.fromkeys(each for each in (*own, *candidates) if each is not None))


def _why(entry: ReceiptEntry, message_id: UUID) -> str:
    if message_id == entry.row.message_id:
        return "it came to the address of this message"
    return entry.reason or "it fits"


def _load(session: Session, message_ids: set[UUID]) -> dict[UUID, Message]:
    if not message_ids:
        return {}
    found = session.scalars(select(Message).where(bulk.among(session, Message.id, list(message_ids))))
    return {message.id: message for message in found}


def _make(entry: ReceiptEntry, message: Message, why: str) -> Candidate:
    return Candidate(message, why, correlation.describe_likeness(entry, message))
