"""What exports read: slices of plain values, as many columns as are given out and no more. Nothing is written.

Times come as text, made by the database: that is cheaper than a million objects.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Text, func, select, type_coerce
from sqlalchemy.orm import InstrumentedAttribute, Session

from receiptsvc.store import bulk, listing
from receiptsvc.store.listing import MessageFilter, Place
from receiptsvc.store.models import Message, Transition
from receiptsvc.store.queries import Page

_AT_ONCE = 100  # rows that the driver turns into Python's values while no other thread gets its turn

Values = Sequence[Any]


def read_messages(
    session: Session, where: MessageFilter, *, limit: int, after: Place | None = None
) -> Page[Values, Place]:
    """Messages in the list's order; like one of its pages, a slice may be short or empty and not be the last.

    Each: id, created, recipient, originator, clientRef, status, since when, conflict, transactionID, encoding,
    segments, text.
    """
    page = listing.find_ids(session, where, limit=limit, after=after)
    query = select(
        Message.id,
        _written(session, Message.created_at),
        Message.recipient,
        Message.originator,
        Message.client_ref,
        Message.status,
        _written(session, Message.status_at),
        Message.conflict,
        Message.transaction_id,
        Message.encoding,
        Message.segments,
        Message.text,
    )
    found = {row[0]: row for row in _fetch(session, query, Message.id, page.items)}
    return Page(items=[found[one] for one in page.items], next=page.next)


def read_transitions(
    session: Session, where: MessageFilter, *, limit: int, after: Place | None = None
) -> Page[Values, Place]:
    """What was recorded of up to `limit` messages: in the list's order, and of each in the order recorded.

    Each: the message's id, status, effect, rule, reason, source, the gateway's code and words, when it happened, was
    received and was recorded, the receipt's id.
    """
    page = listing.find_ids(session, where, limit=limit, after=after)
    query = select(
        Transition.message_id,
        Transition.status,
        Transition.effect,
        Transition.rule,
        Transition.reason,
        Transition.source,
        Transition.provider_status_id,
        Transition.provider_description,
        _written(session, Transition.occurred_at),
        _written(session, Transition.received_at),
        _written(session, Transition.recorded_at),
        Transition.receipt_id,
    ).order_by(Transition.id)
    told: dict[UUID, list[Values]] = {one: [] for one in page.items}
    for row in _fetch(session, query, Transition.message_id, page.items):
        told[row[0]].append(row)
    return Page(items=[row for one in page.items for row in told[one]], next=page.next)


def _fetch(
    session: Session, query: Select[*tuple[Any, ...]], column: InstrumentedAttribute[UUID], message_ids: Sequence[UUID]
) -> list[Values]:
    if not message_ids:
        return []
    result = session.connection().execute(query.where(bulk.among(session, column, message_ids)))
    return [row for part in result.partitions(_AT_ONCE) for row in part]


def _written(session: Session, column: InstrumentedAttribute[Any]) -> ColumnElement[str]:
    """A time as RFC 3339 in UTC, to the microsecond, as the API writes it."""
    if session.get_bind().dialect.name == "sqlite":
        return func.replace(type_coerce(column, Text), " ", "T", type_=Text()) + "Z"
    return func.to_char(func.timezone("UTC", column), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"', type_=Text())
