"""All that is known of one number beside its history: receipts that name it, its conversations, its words."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from receiptsvc.domain import numbers
from receiptsvc.store.core.keyset import force_index_order
from receiptsvc.store.core.models import WORDS, Message, Reply
from receiptsvc.store.core.paging import Page
from receiptsvc.store.inbox import receipts
from receiptsvc.store.inbox.receipt_references import ReferenceFilter
from receiptsvc.store.inbox.receipts import WAITING, ReceiptEntry, ReceiptFilter
from receiptsvc.store.queries import contacts, listing, rarities
from receiptsvc.store.queries.contacts import TimeCursor
from receiptsvc.store.queries.timeline import TimelineRow

MAX_PARKED = 20  # receipts that name a person
MAX_LOOKED_THROUGH = 200  # messages, and as many replies, for a person's conversations


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """A page of a person's history. Only the first page has what else is known of the number.

    `parked`: the newest receipts that name it and fit no message. `alike`: of a number that is written as inside a
    country, the newest message to each recipient that may be meant.
    """

    history: Page[TimelineRow, TimeCursor]
    parked: Sequence[ReceiptEntry] = ()
    alike: Sequence[Message] = ()


class PersonsConversation(NamedTuple):
    """A conversation of a person: when it was last active. `sender`: whom it is with on our side."""

    id: UUID
    at: datetime
    client_ref: str | None
    sender: str | None


def subject(number: str) -> str:
    """What audits of a person's page are about."""
    return f"person:{number}"


def number_of(text: str) -> str | None:
    """The number whose `subject` this is; None: it is another one's."""
    kind, colon, number = text.partition(":")
    return number if kind == "person" and colon else None


def read(session: Session, number: str, *, limit: int, after: TimeCursor | None = None) -> Person:
    """A person's history, and what else is known of the number."""
    history = contacts.read_contact(session, number, limit=limit, after=after)
    if after is not None:
        return Person(history=history)
    parked: Sequence[ReceiptEntry] = ()
    if rarities.find(session, number=number).recipient:
        named = ReceiptFilter(outcomes=WAITING, names=ReferenceFilter(recipient=number))
        parked = receipts.list_receipts(session, named, limit=MAX_PARKED).items
    national = numbers.national_ending(number)
    alike = find_meant(session, national) if national is not None else ()
    return Person(history=history, parked=parked, alike=alike)


def find_meant(session: Session, national: str) -> Sequence[Message]:
    """The newest message to each number that is meant by these digits of `numbers.national_ending`, the newest first.

    Every number that is possible is looked for. Only if there is none, some of those that end so but are not possible.
    """
    found = listing.find_by_recipient(session, numbers.national_candidates(national))
    newest = sorted((of[0] for of in found.values()), key=lambda each: (each.created_at, each.id), reverse=True)
    return newest or listing.find_alike(session, national)


def find_conversations(session: Session, number: str) -> Sequence[PersonsConversation]:
    """The conversations of a person's newest messages and replies, the last active one first."""
    force_index_order(session)
    sent = select(Message.conversation_id, Message.created_at, Message.client_ref, Message.originator)
    received = select(Reply.conversation_id, Reply.received_at, Reply.client_ref, Reply.recipient)
    newest = (
        sent.where(Message.recipient == number).order_by(Message.created_at.desc(), Message.id.desc()),
        received.where(Reply.sender == number).order_by(Reply.received_at.desc(), Reply.id.desc()),
    )
    rows = [
        PersonsConversation._make(row) for query in newest for row in session.execute(query.limit(MAX_LOOKED_THROUGH))
    ]
    found: dict[UUID, PersonsConversation] = {}
    for row in sorted(rows, key=lambda each: each.at, reverse=True):
        found.setdefault(row.id, row)
    return list(found.values())


def find_newest_opt_out(session: Session, number: str) -> Reply | None:
    """The newest reply from a number that was nothing but an opt-out."""
    words = session.scalars(select(Reply).where(Reply.sender == number, text(f"({WORDS})")))  # there are few
    outs = [reply for reply in words if reply.is_opt_out]
    return max(outs, key=lambda reply: (reply.received_at, reply.id), default=None)
