"""Lists of messages: what can be asked for, in which order, and along which index each question is answered.

A new filter needs a place in `_created`, or it is looked at row by row.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import JSON, ColumnElement, Text, cast, column, false, func, literal, literal_column, select
from sqlalchemy.orm import Session

from receiptsvc.domain.statuses import Status
from receiptsvc.store.core import bulk
from receiptsvc.store.core.db import is_sqlite
from receiptsvc.store.core.keyset import Equals, Key, Scan, collect, scan
from receiptsvc.store.core.models import RECIPIENT_END, Message, MessageTransaction
from receiptsvc.store.core.paging import Page
from receiptsvc.store.messages import transitions

MIN_DIGITS = 4  # of a number's end
MAX_PER_CLIENT_REF = 20  # messages of one clientRef that a look-up gives

_RARE_PAGES, _MAX_RARE = 8, 1_000  # rows among which to look for a page, at most; with a walk they are under 20 pages

_recipient_end: ColumnElement[str] = literal_column(RECIPIENT_END.replace("recipient", "messages.recipient"), Text)
_LAST_CHARACTER = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


class Order(StrEnum):
    """The orders of a list."""

    CREATED = "created"  # the newest first
    CHANGED = "changed"  # what changed longest ago first
    CLIENT_REF = "clientRef"  # by code points, then the oldest first


class ListCursor(NamedTuple):
    """Where a list in this order goes on: after the row with this key."""

    order: Order
    key: Key


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageFilter:
    """Which messages to list: all that every given field fits. `until` itself is left out.

    `order`: without one it is that which the other fields ask for.
    """

    client_ref: str | None = None
    client_ref_prefix: str | None = None
    transaction_id: str | None = None
    message_guid: str | None = None
    recipient: str | None = None
    recipient_ends: str | None = None  # at least MIN_DIGITS
    status: str | None = None
    originator: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    changed_since: datetime | None = None
    order: Order | None = None

    @property
    def sorting(self) -> Order:
        """The order of the list."""
        if self.order is not None:
            return self.order
        if self.changed_since is not None:
            return Order.CHANGED
        is_by_reference = self.client_ref_prefix is not None and not self._names_few()
        return Order.CLIENT_REF if is_by_reference else Order.CREATED

    @property
    def fault(self) -> str | None:
        """Why its order can't be had with its other fields; None: it can."""
        if self.order is Order.CREATED and self.changed_since is not None:
            return "Must be changed with changedSince."
        if self.order is Order.CREATED and self.client_ref_prefix is not None and not self._names_few():
            return "Must be clientRef or changed with clientRefPrefix, unless a recipient or a clientRef is asked for."
        if self.order is Order.CLIENT_REF and self.client_ref_prefix is None:
            return "Can be clientRef only with clientRefPrefix."
        return None

    def _names_few(self) -> bool:
        few = (self.client_ref, self.transaction_id, self.message_guid, self.recipient, self.recipient_ends)
        return any(one is not None for one in few)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lookup:
    """What was found of some terms: the messages, terms without any, and those that have more than were given."""

    items: Sequence[Message]
    missing: Sequence[str]
    cut: Sequence[str] = ()


def list_messages(
    session: Session, where: MessageFilter, *, limit: int, after: ListCursor | None = None
) -> Page[Message, ListCursor]:
    """Messages in the filter's order. A page may be short, or empty, and not be the last: see `walks`."""
    page = find_ids(session, where, limit=limit, after=after)
    return Page(items=read_messages(session, page.items), next=page.next)


def find_ids(
    session: Session, where: MessageFilter, *, limit: int, after: ListCursor | None = None
) -> Page[UUID, ListCursor]:
    """The ids of what `list_messages` gives. Raises ValueError for a place in a list of another order."""
    order = where.sorting
    if after is not None and after.order is not order:
        raise ValueError("a place in another order")
    walked = scan(session, _way(session, where, limit), limit=limit, after=after.key if after else None)
    found = ListCursor(order, walked.next) if walked.next is not None else None
    return Page(items=[key[-1] for key in walked.keys], next=found)


def estimate(session: Session, where: MessageFilter) -> int | None:
    """About how many messages a filter finds, as the statistics of PostgreSQL guess it; None: SQLite makes no guess."""
    if is_sqlite(session):
        return None
    query = select(Message.id).where(*_wanted(where).values())
    if where.message_guid is not None:
        query = query.where(Message.message_guid == where.message_guid)
    if where.transaction_id is not None:
        given = MessageTransaction.transaction_id == where.transaction_id
        query = query.where(Message.id.in_(select(MessageTransaction.message_id).where(given)))
    compiled = query.compile(dialect=session.get_bind().dialect)
    explained = session.connection().exec_driver_sql(f"EXPLAIN (FORMAT JSON) {compiled}", dict(compiled.params))
    return int(explained.scalar_one()[0]["Plan"]["Plan Rows"])


def read_messages(session: Session, message_ids: Sequence[UUID]) -> list[Message]:
    """These messages in this order; what is not there is left out."""
    if not message_ids:
        return []
    rows = session.scalars(select(Message).where(bulk.among(session, Message.id, message_ids)))
    found = {row.id: row for row in rows}
    return [found[one] for one in message_ids if one in found]


def look_up(session: Session, message_ids: Sequence[UUID]) -> dict[UUID, Message]:
    """Messages by their ids."""
    return {row.id: row for row in read_messages(session, message_ids)}


def look_up_transactions(session: Session, transaction_ids: Sequence[str]) -> dict[str, list[Message]]:
    """Messages by the transactionIDs that they were ever given."""
    given = transitions.find_transaction_links(session, transaction_ids)
    found = look_up(session, list({one.message_id for one in given}))
    by_transaction: dict[str, list[Message]] = defaultdict(list)
    for one in sorted(given):
        by_transaction[one.transaction_id].append(found[one.message_id])
    return by_transaction


def look_up_references(session: Session, client_refs: Sequence[str]) -> dict[str, list[Message]]:
    """Messages by their clientRefs: of each the newest, one more than MAX_PER_CLIENT_REF at most."""
    if not client_refs:
        return {}
    if is_sqlite(session):
        given = func.json_each(json.dumps(list(client_refs))).table_valued(column("value", Text))
    else:
        terms = cast(literal(json.dumps(list(client_refs)), Text), JSON)
        given = func.json_array_elements_text(terms).table_valued(column("value", Text))
    newest = (
        select(cast(Message.id, Text).label("id"))
        .where(Message.client_ref == given.c.value)
        .order_by(Message.created_at.desc(), Message.id.desc())
        .limit(MAX_PER_CLIENT_REF + 1)
        .correlate(given)
        .subquery()
    )
    listed = select(func.aggregate_strings(newest.c.id, ",")).scalar_subquery()
    told = session.execute(select(given.c.value, listed))
    ids = {ref: [UUID(one) for one in some.split(",")] for ref, some in told if some}
    found = look_up(session, [one for some in ids.values() for one in some])
    return {ref: sorted((found[one] for one in some), key=_newest_first, reverse=True) for ref, some in ids.items()}


def begin_with(session: Session, prefix: str, limit: int) -> list[Message]:
    """A message of each of the first clientRefs that begin so, the clientRef itself among them if there is such."""
    found: list[UUID] = []
    query = select(Message.id, Message.client_ref).order_by(Message.client_ref, Message.created_at, Message.id).limit(1)
    row = session.execute(query.where(_begins_with(prefix))).first()
    while row is not None and row.client_ref is not None and len(found) < limit:
        found.append(row.id)  # then past all of that clientRef, of which there can be a million
        row = session.execute(query.where(_begins_with(prefix, beyond=row.client_ref))).first()
    return read_messages(session, found)


def _newest_first(message: Message) -> tuple[datetime, UUID]:
    return message.created_at, message.id


def _way(session: Session, where: MessageFilter, limit: int) -> Scan:
    wanted = _wanted(where)
    order, is_descending = _COLUMNS[where.sorting]
    few = _few(session, where)
    if few is None:
        way = _ordered(where, wanted)
        few = _rare(session, where, wanted, min(_RARE_PAGES * limit, _MAX_RARE)) if way.others else None
        if few is None:
            return way
    return Scan(order=order, branches=[[few, *wanted.values()]], is_descending=is_descending, is_few=True)


def _ordered(where: MessageFilter, wanted: dict[str, ColumnElement[bool]]) -> Scan:
    """The way along an index in the order of the list."""
    if where.sorting is Order.CREATED:
        return _created(where, wanted)
    order, is_descending = _COLUMNS[where.sorting]
    since: object = where.changed_since
    until, served, branch = None, "changed_since", []
    if where.sorting is Order.CLIENT_REF and where.client_ref_prefix is not None:
        since, until, served = where.client_ref_prefix, _after(where.client_ref_prefix), "client_ref_prefix"
        branch = [Message.client_ref.is_not(None)]
    others = [condition for name, condition in wanted.items() if name != served]
    return Scan(order=order, branches=[branch], since=since, until=until, others=others, is_descending=is_descending)


_COLUMNS = {
    Order.CREATED: ((Message.created_at, Message.id), True),
    Order.CHANGED: ((Message.changed_at, Message.id), False),
    Order.CLIENT_REF: ((Message.client_ref, Message.created_at, Message.id), False),
}


def _few(session: Session, where: MessageFilter) -> ColumnElement[bool] | None:
    """What picks out a few messages at once, if the filter has such a thing; asked first, so that no plan walks."""
    found: list[set[UUID]] = []
    if where.message_guid is not None:
        found.append(set(session.scalars(select(Message.id).where(Message.message_guid == where.message_guid))))
    if where.transaction_id is not None:
        given = MessageTransaction.transaction_id == where.transaction_id
        found.append(set(session.scalars(select(MessageTransaction.message_id).where(given))))
    if not found:
        return None
    both = set.intersection(*found)
    return bulk.among(session, Message.id, both) if both else false()


def _rare(
    session: Session, where: MessageFilter, wanted: dict[str, ColumnElement[bool]], most: int
) -> ColumnElement[bool] | None:
    """What picks out all that fits, if an index that is in another order has at most so many rows for the question."""
    is_created = where.sorting is Order.CREATED
    stretches = _stretches(where)[is_created:]  # the first is the one along which `_created` goes
    if not stretches:
        return None
    pins = stretches[0]
    is_by_time = pins[0][0] is not Message.originator or len(pins) > 1
    way = Scan(
        order=(Message.created_at, Message.id) if is_by_time else (Message.status, Message.created_at, Message.id),
        branches=[[column.is_not(None) for column, _ in pins]],  # as some of these indexes have it
        pins=[pins],
        since=where.since if is_by_time else None,
        until=where.until if is_by_time else None,
        others=list(wanted.values()),
    )
    found = collect(session, way, most=most)
    if found is None:
        return None
    return bulk.among(session, Message.id, [key[-1] for key in found]) if found else false()


def _stretches(where: MessageFilter) -> list[list[Equals]]:
    """By which values an index finds some of what is asked for, and may then go on by time: the fewest first."""
    found: list[list[Equals]] = []
    status: list[Equals] = [(Message.status, where.status)] if where.status is not None else []
    if where.recipient is not None:
        found.append([(Message.recipient, where.recipient)])
    if where.client_ref is not None and status:
        reference = transitions.conversation_id(client_ref=where.client_ref, recipient=None, originator=None)
        found.append([(Message.conversation_id, reference), *status])
    elif where.client_ref is not None:
        found.append([(Message.client_ref, where.client_ref)])
    if where.recipient_ends is not None:
        found.append([(_recipient_end, where.recipient_ends[-MIN_DIGITS:])])
    if where.originator is not None:
        found.append([(Message.originator, where.originator), *status])
    elif status:
        found.append(status)
    return found


def _created(where: MessageFilter, wanted: dict[str, ColumnElement[bool]]) -> Scan:
    """The way for the newest first, along the index that finds the fewest."""
    branches: list[list[ColumnElement[bool]]] = [[]]
    pins: list[list[Equals]] = [[]]
    served = {"since", "until"}
    if where.recipient is not None:
        branches, served = [[wanted["recipient"]]], served | {"recipient"}
    elif where.client_ref is not None and where.status is not None:
        reference = transitions.conversation_id(client_ref=where.client_ref, recipient=None, originator=None)
        pins = [[(Message.conversation_id, reference), (Message.status, where.status)]]
        served |= {"client_ref", "status"}
    elif where.client_ref is not None:
        branches, served = [[wanted["client_ref"]]], served | {"client_ref"}
    elif where.recipient_ends is not None:
        branches = [[_ends_in(where.recipient_ends[-MIN_DIGITS:])]]
        served |= {"recipient_ends"} if len(where.recipient_ends) == MIN_DIGITS else set()
    else:
        # Their indexes have the status before the time, so that they serve both with one and, merged, without.
        statuses = [where.status] if where.status is not None else [status.value for status in Status]
        served |= {"originator", "status"}
        if where.originator is None:
            branches, pins = [[Message.status == status] for status in statuses], []
        else:
            branches = [[Message.originator.is_not(None)] for _ in statuses]
            pins = [[(Message.originator, where.originator), (Message.status, status)] for status in statuses]
    return Scan(
        order=(Message.created_at, Message.id),
        branches=branches,
        pins=pins,
        since=where.since,
        until=where.until,
        others=[condition for name, condition in wanted.items() if name not in served],
    )


def _ends_in(digits: str) -> ColumnElement[bool]:
    """Whether a recipient has these last four digits, in the words of their index."""
    return _recipient_end == digits


def _wanted(where: MessageFilter) -> dict[str, ColumnElement[bool]]:
    """The condition of each filter."""
    wanted: dict[str, ColumnElement[bool]] = {}
    same = {
        "client_ref": Message.client_ref,
        "recipient": Message.recipient,
        "status": Message.status,
        "originator": Message.originator,
    }
    for name, attribute in same.items():
        value = getattr(where, name)
        if value is not None:
            wanted[name] = attribute == value
    if where.client_ref_prefix is not None:
        wanted["client_ref_prefix"] = _begins_with(where.client_ref_prefix)
    if where.recipient_ends is not None:
        wanted["recipient_ends"] = Message.recipient.endswith(where.recipient_ends, autoescape=True)
    if where.since is not None:
        wanted["since"] = Message.created_at >= where.since
    if where.until is not None:
        wanted["until"] = Message.created_at < where.until
    if where.changed_since is not None:
        wanted["changed_since"] = Message.changed_at >= where.changed_since
    return wanted


def _begins_with(prefix: str, beyond: str | None = None) -> ColumnElement[bool]:
    """Whether a message's clientRef begins so, as a stretch of the index. `beyond`: only what stands behind this."""
    begins = Message.client_ref >= prefix if beyond is None else Message.client_ref > beyond
    end = _after(prefix)
    return begins & (Message.client_ref < end) if end else begins


def _after(prefix: str) -> str | None:
    """The first text, by code points, behind all that begin so; None: there is none."""
    head = prefix.rstrip(chr(_LAST_CHARACTER))
    if not head:
        return None
    following = ord(head[-1]) + 1
    return head[:-1] + chr(_SURROGATES.stop if following in _SURROGATES else following)
