"""Lists of messages: their filters and orders, and the index along which each combination is read.

A new filter needs a place in `_scan_created`, or it is checked row by row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Select,
    Text,
    cast,
    false,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.orm import InstrumentedAttribute, Session

from receiptsvc.domain import conversations, references
from receiptsvc.domain.numbers import INDEXED_DIGITS
from receiptsvc.domain.statuses import Status
from receiptsvc.store.core import bulk, prefixes
from receiptsvc.store.core.db import is_sqlite
from receiptsvc.store.core.keyset import Equals, Key, Scan, collect, scan
from receiptsvc.store.core.models import RECIPIENT_END, Message, MessageTransaction
from receiptsvc.store.core.paging import Page

_MAX_ALIKE = 50  # messages that are looked through for recipients
MAX_PER_TERM = 20  # messages of one clientRef or transactionID that a look-up returns

_COLLECT_PAGES, _MAX_COLLECTED = 8, 1_000  # rows that `collect` may read; with those of `scan` under 20 pages

_recipient_end: ColumnElement[str] = literal_column(RECIPIENT_END.replace("recipient", "messages.recipient"), Text)


class Order(StrEnum):
    """The order of a list."""

    CREATED = "created"  # the newest first
    CHANGED = "changed"  # the longest unchanged first
    CLIENT_REF = "clientRef"  # by code points, then the oldest first


class ListCursor(NamedTuple):
    """The position in a list of this order: after the row with this key."""

    order: Order
    key: Key


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageFilter:
    """Which messages to list: those that fit every given field. `since` ≤ createdAt < `until`.

    `statuses`: those with one of them; empty: with any.

    `order`: None for the default order of the other fields; see `sorting`.
    """

    client_ref: str | None = None
    client_ref_prefix: str | None = None
    transaction_id: str | None = None
    message_guid: str | None = None
    recipient: str | None = None
    recipient_ends: str | None = None  # at least INDEXED_DIGITS
    statuses: Sequence[str] = ()
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
        is_by_client_ref = self.client_ref_prefix is not None and not self._is_selective()
        return Order.CLIENT_REF if is_by_client_ref else Order.CREATED

    @property
    def fault(self) -> str | None:
        """Why its order does not go with its other fields; None: it does."""
        if self.order is Order.CREATED and self.changed_since is not None:
            return "Must be changed with changedSince."
        if self.order is Order.CREATED and self.client_ref_prefix is not None and not self._is_selective():
            return "Must be clientRef or changed with clientRefPrefix, unless a recipient or a clientRef is asked for."
        if self.order is Order.CLIENT_REF and self.client_ref_prefix is None:
            return "Can be clientRef only with clientRefPrefix."
        return None

    def _is_selective(self) -> bool:
        selective = (self.client_ref, self.transaction_id, self.message_guid, self.recipient, self.recipient_ends)
        return any(value is not None for value in selective)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lookup:
    """The messages of some terms. `missing`: terms without a message; `cut`: terms with more messages than returned."""

    items: Sequence[Message]
    missing: Sequence[str]
    cut: Sequence[str] = ()


def list_messages(
    session: Session, where: MessageFilter, *, limit: int, after: ListCursor | None = None
) -> Page[Message, ListCursor]:
    """Messages in the filter's order. A short or empty page need not be the last one: see `keyset`."""
    page = find_ids(session, where, limit=limit, after=after)
    return Page(items=read_messages(session, page.items), next=page.next)


def find_ids(
    session: Session, where: MessageFilter, *, limit: int, after: ListCursor | None = None
) -> Page[UUID, ListCursor]:
    """The ids of what `list_messages` returns. Raises ValueError for a cursor of another order."""
    order = where.sorting
    if after is not None and after.order is not order:
        raise ValueError("a cursor of another order")
    page = scan(session, _plan_scan(session, where, limit), limit=limit, after=after.key if after else None)
    next_cursor = ListCursor(order, page.next) if page.next is not None else None
    return Page(items=[key[-1] for key in page.keys], next=next_cursor)


def estimate(session: Session, where: MessageFilter) -> int | None:
    """About how many messages a filter finds, by PostgreSQL's planner statistics; None on SQLite, which has none."""
    if is_sqlite(session):
        return None
    query = select(Message.id).where(*_conditions(where).values())
    if where.message_guid is not None:
        query = query.where(_has_guid(where.message_guid))
    if where.transaction_id is not None:
        is_linked = MessageTransaction.transaction_id == where.transaction_id
        query = query.where(Message.id.in_(select(MessageTransaction.message_id).where(is_linked)))
    compiled = query.compile(dialect=session.get_bind().dialect, compile_kwargs={"render_postcompile": True})
    plan = session.connection().exec_driver_sql(f"EXPLAIN (FORMAT JSON) {compiled}", dict(compiled.params))
    return int(plan.scalar_one()[0]["Plan"]["Plan Rows"])


def read_messages(session: Session, message_ids: Sequence[UUID]) -> list[Message]:
    """Messages in the order of these ids; ids without a message are left out."""
    if not message_ids:
        return []
    rows = session.scalars(select(Message).where(bulk.among(session, Message.id, message_ids)))
    messages = {row.id: row for row in rows}
    return [messages[message_id] for message_id in message_ids if message_id in messages]


def find_by_id(session: Session, message_ids: Sequence[UUID]) -> dict[UUID, Message]:
    """Messages by id."""
    return {row.id: row for row in read_messages(session, message_ids)}


def find_by_transaction(session: Session, transaction_ids: Sequence[str]) -> dict[str, list[Message]]:
    """Messages by each transactionID that they were ever given: of each at most one more than MAX_PER_TERM."""
    links = select(MessageTransaction.message_id.label("id")).order_by(MessageTransaction.recipient)  # along its index
    return _find_some(session, transaction_ids, links, MessageTransaction.transaction_id)


def find_by_client_ref(session: Session, client_refs: Sequence[str]) -> dict[str, list[Message]]:
    """Messages by clientRef, the newest first: of each writing at most one more than MAX_PER_TERM."""
    spellings = {client_ref: references.client_ref_spellings(client_ref) for client_ref in client_refs}
    newest = select(Message.id.label("id")).order_by(Message.created_at.desc(), Message.id.desc())
    some = _find_some(
        session, list({each for listed in spellings.values() for each in listed}), newest, Message.client_ref
    )
    found = {
        client_ref: [message for each in listed for message in some.get(each, ())]
        for client_ref, listed in spellings.items()
    }
    return {client_ref: sorted(rows, key=_creation_order, reverse=True) for client_ref, rows in found.items() if rows}


def _find_some(
    session: Session, wanted: Sequence[str], found: Select[UUID], by: InstrumentedAttribute[Any]
) -> dict[str, list[Message]]:
    """Messages by term, the newest first. `found`: the messages' ids, in which order they are read; `by`: the term.

    Of each term only a few are read: a campaign's clientRef, or a transaction, may have any number.
    """
    if not wanted:
        return {}
    terms = bulk.listed(session, wanted)
    few = found.where(by == terms.c.value).limit(MAX_PER_TERM + 1).correlate(terms).subquery()
    id_list = select(func.aggregate_strings(cast(few.c.id, Text), ",")).scalar_subquery()
    rows = session.execute(select(terms.c.value, id_list))
    ids = {term: [UUID(each) for each in id_text.split(",")] for term, id_text in rows if id_text}
    messages = find_by_id(session, [message_id for message_ids in ids.values() for message_id in message_ids])
    return {
        term: sorted((messages[message_id] for message_id in message_ids), key=_creation_order, reverse=True)
        for term, message_ids in ids.items()
    }


def find_by_recipient(session: Session, recipients: Sequence[str]) -> dict[str, list[Message]]:
    """Messages by recipient, the newest first: of each at most one more than MAX_PER_TERM."""
    newest = select(Message.id.label("id")).order_by(Message.created_at.desc(), Message.id.desc())
    return _find_some(session, recipients, newest, Message.recipient)


def find_alike(session: Session, digits: str) -> list[Message]:
    """The newest message to each recipient whose number ends in these digits, among the newest to any of them."""
    found = list_messages(session, MessageFilter(recipient_ends=digits), limit=_MAX_ALIKE).items
    return list({message.recipient: message for message in reversed(found)}.values())[::-1]


def find_by_prefix(session: Session, prefix: str, limit: int) -> list[Message]:
    """The oldest message of each of the first clientRefs that begin with a prefix, or are equal to it."""
    message_ids: list[UUID] = []
    query = select(Message.id, Message.client_ref).order_by(Message.client_ref, Message.created_at, Message.id).limit(1)
    row = session.execute(query.where(prefixes.begins_with(Message.client_ref, prefix))).first()
    while row is not None and row.client_ref is not None and len(message_ids) < limit:
        message_ids.append(row.id)  # then skip all other messages of this clientRef: there can be a million
        row = session.execute(
            query.where(prefixes.begins_with(Message.client_ref, prefix, beyond=row.client_ref))
        ).first()
    return read_messages(session, message_ids)


def _creation_order(message: Message) -> tuple[datetime, UUID]:
    return message.created_at, message.id


def _plan_scan(session: Session, where: MessageFilter, limit: int) -> Scan:
    """How to read a page: among a few messages if something names them, else along an index in the list's order."""
    conditions = _conditions(where)
    order, is_descending = _COLUMNS[where.sorting]
    few = _named_messages(session, where)
    if few is None:
        plan = _scan_in_order(where, conditions)
        max_rows = min(_COLLECT_PAGES * limit, _MAX_COLLECTED)
        few = _rare_messages(session, where, conditions, max_rows) if plan.filters else None
        if few is None:
            return plan
    return Scan(order=order, branches=[[few, *conditions.values()]], is_descending=is_descending, is_small=True)


def _scan_in_order(where: MessageFilter, conditions: dict[str, ColumnElement[bool]]) -> Scan:
    """The scan along an index in the order of the list."""
    if where.sorting is Order.CREATED:
        return _scan_created(where, conditions)
    order, is_descending = _COLUMNS[where.sorting]
    since: object = where.changed_since
    until, served, branch = None, "changed_since", []
    if where.sorting is Order.CLIENT_REF and where.client_ref_prefix is not None:
        since, until, served = where.client_ref_prefix, prefixes.find_end(where.client_ref_prefix), "client_ref_prefix"
        branch = [Message.client_ref.is_not(None)]
    filters = [condition for name, condition in conditions.items() if name != served]
    return Scan(order=order, branches=[branch], since=since, until=until, filters=filters, is_descending=is_descending)


_COLUMNS = {
    Order.CREATED: ((Message.created_at, Message.id), True),
    Order.CHANGED: ((Message.changed_at, Message.id), False),
    Order.CLIENT_REF: ((Message.client_ref, Message.created_at, Message.id), False),
}


def _named_messages(session: Session, where: MessageFilter) -> ColumnElement[bool] | None:
    """The condition of the messages with the filter's messageGuid and transactionID; None if it has neither.

    A query of its own, so that no plan scans a list for them.
    """
    found: list[set[UUID]] = []
    if where.message_guid is not None:
        found.append(set(session.scalars(select(Message.id).where(_has_guid(where.message_guid)))))
    if where.transaction_id is not None:
        is_linked = MessageTransaction.transaction_id == where.transaction_id
        found.append(set(session.scalars(select(MessageTransaction.message_id).where(is_linked))))
    if not found:
        return None
    message_ids = set.intersection(*found)
    return bulk.among(session, Message.id, message_ids) if message_ids else false()


def _rare_messages(
    session: Session, where: MessageFilter, conditions: dict[str, ColumnElement[bool]], max_rows: int
) -> ColumnElement[bool] | None:
    """The condition of all messages that fit, if an index in another order has at most `max_rows` candidates."""
    is_created = where.sorting is Order.CREATED
    ranges = _index_ranges(where)[is_created:]  # `_scan_created` already reads along the first one
    if not ranges:
        return None
    equals = ranges[0]
    is_by_time = equals[0][0][0] is not Message.originator or len(equals[0]) > 1
    plan = Scan(
        order=(Message.created_at, Message.id) if is_by_time else (Message.status, Message.created_at, Message.id),
        # the condition of the partial indexes among them
        branches=[[column.is_not(None) for column, _ in each] for each in equals],
        equals=equals,
        since=where.since if is_by_time else None,
        until=where.until if is_by_time else None,
        filters=list(conditions.values()),
    )
    keys = collect(session, plan, max_rows=max_rows)
    if keys is None:
        return None
    return bulk.among(session, Message.id, [key[-1] for key in keys]) if keys else false()


def _index_ranges(where: MessageFilter) -> list[list[list[Equals]]]:
    """The values by which indexes find a part of the filter, and then go on by time: the smallest range first.

    Each has the alternatives that a value may have been stored as.
    """
    ranges: list[list[list[Equals]]] = []
    statuses: list[Equals] = [(Message.status, status) for status in where.statuses]
    if where.recipient is not None:
        ranges.append([[(Message.recipient, where.recipient)]])
    if where.client_ref is not None and statuses:
        ids = _conversation_ids(where)
        ranges.append([[(Message.conversation_id, each), status] for each in ids for status in statuses])
    elif where.client_ref is not None:
        spellings = references.client_ref_spellings(where.client_ref)
        ranges.append([[(Message.client_ref, each)] for each in spellings])
    if where.recipient_ends is not None:
        ranges.append([[(_recipient_end, where.recipient_ends[-INDEXED_DIGITS:])]])
    if where.originator is not None and statuses:
        ranges.append([[(Message.originator, where.originator), status] for status in statuses])
    elif where.originator is not None:
        ranges.append([[(Message.originator, where.originator)]])
    elif statuses:
        ranges.append([[status] for status in statuses])
    return ranges


def _conversation_ids(where: MessageFilter) -> list[UUID]:
    return conversations.ids_of_client_ref(where.client_ref) if where.client_ref is not None else []


def _scan_created(where: MessageFilter, conditions: dict[str, ColumnElement[bool]]) -> Scan:
    """The scan for the newest first, along the index with the smallest range."""
    branches: list[list[ColumnElement[bool]]] = [[]]
    equals: list[list[Equals]] = [[]]
    served = {"since", "until"}
    if where.recipient is not None:
        branches, served = [[conditions["recipient"]]], served | {"recipient"}
    elif where.client_ref is not None and where.statuses:
        equals = [
            [(Message.conversation_id, each), (Message.status, status)]
            for each in _conversation_ids(where)
            for status in where.statuses
        ]
        branches = [[] for _ in equals]
        served |= {"client_ref", "statuses"}
    elif where.client_ref is not None:
        spellings = references.client_ref_spellings(where.client_ref)
        branches, served = [[Message.client_ref == each] for each in spellings], served | {"client_ref"}
        equals = [[] for _ in branches]
    elif where.recipient_ends is not None:
        branches = [[_recipient_end == where.recipient_ends[-INDEXED_DIGITS:]]]
        served |= {"recipient_ends"} if len(where.recipient_ends) == INDEXED_DIGITS else set()
    else:
        # These indexes have the status before the time: one branch for each status that is asked for, merged.
        statuses = where.statuses or [status.value for status in Status]
        served |= {"originator", "statuses"}
        if where.originator is None:
            branches, equals = [[Message.status == status] for status in statuses], []
        else:
            branches = [[Message.originator.is_not(None)] for _ in statuses]
            equals = [[(Message.originator, where.originator), (Message.status, status)] for status in statuses]
    return Scan(
        order=(Message.created_at, Message.id),
        branches=branches,
        equals=equals,
        since=where.since,
        until=where.until,
        filters=[condition for name, condition in conditions.items() if name not in served],
    )


def _conditions(where: MessageFilter) -> dict[str, ColumnElement[bool]]:
    """The condition of each given field, but for messageGuid and transactionID, which `_named_messages` serves."""
    conditions: dict[str, ColumnElement[bool]] = {}
    equal_columns = {
        "recipient": Message.recipient,
        "originator": Message.originator,
    }
    for name, attribute in equal_columns.items():
        value = getattr(where, name)
        if value is not None:
            conditions[name] = attribute == value
    if where.statuses:
        conditions["statuses"] = Message.status.in_(where.statuses)
    if where.client_ref is not None:
        spellings = references.client_ref_spellings(where.client_ref)
        conditions["client_ref"] = or_(*(Message.client_ref == each for each in spellings))
    if where.client_ref_prefix is not None:
        conditions["client_ref_prefix"] = prefixes.begins_with(Message.client_ref, where.client_ref_prefix)
    if where.recipient_ends is not None:
        conditions["recipient_ends"] = Message.recipient.endswith(where.recipient_ends, autoescape=True)
    if where.since is not None:
        conditions["since"] = Message.created_at >= where.since
    if where.until is not None:
        conditions["until"] = Message.created_at < where.until
    if where.changed_since is not None:
        conditions["changed_since"] = Message.changed_at >= where.changed_since
    return conditions


def _has_guid(guid: str) -> ColumnElement[bool]:
    return or_(*(func.lower(Message.message_guid) == spelling for spelling in references.guid_spellings(guid)))
