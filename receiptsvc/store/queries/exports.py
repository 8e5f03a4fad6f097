"""What exports read: slices of lines, which the database itself writes as CSV or JSON. Nothing is written to it.

All but our ids, which it can't spell: Python would take several times as long over the same, and hold up everybody.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cache
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Boolean,
    ColumnElement,
    DateTime,
    Integer,
    Select,
    Text,
    any_,
    case,
    cast,
    func,
    literal,
    null,
    select,
    type_coerce,
)
from sqlalchemy.orm import InstrumentedAttribute, Session

from receiptsvc.store.core.db import is_sqlite
from receiptsvc.store.core.models import Message, Transition, UtcDateTime
from receiptsvc.store.core.paging import Page
from receiptsvc.store.queries import listing
from receiptsvc.store.queries.listing import ListCursor, MessageFilter, Order

# A cell that begins so is a formula to a spreadsheet. The last four are the first ones' wide forms.
RISKY = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")

_AT_ONCE = 100  # rows that the driver turns into Python's values while no other thread gets its turn

Column: TypeAlias = "InstrumentedAttribute[Any]"
_Query: TypeAlias = "Select[*tuple[Any, ...]]"


class Form(StrEnum):
    """How a line is written."""

    CSV = "csv"
    JSON = "jsonl"


class Line(NamedTuple):
    """A row: the message's id, the other columns written, and for a transition the receipt that it comes from."""

    message_id: UUID
    text: str
    receipt_id: UUID | None


MESSAGE: Mapping[str, Column] = {
    "createdAt": Message.created_at,
    "recipient": Message.recipient,
    "originator": Message.originator,
    "clientRef": Message.client_ref,
    "status": Message.status,
    "statusAt": Message.status_at,
    "conflict": Message.conflict,
    "transactionID": Message.transaction_id,
    "encoding": Message.encoding,
    "segments": Message.segments,
    "text": Message.text,
}
TRANSITION: Mapping[str, Column] = {
    "status": Transition.status,
    "effect": Transition.effect,
    "rule": Transition.rule,
    "reason": Transition.reason,
    "source": Transition.source,
    "providerStatusId": Transition.provider_status_id,
    "providerDescription": Transition.provider_description,
    "occurredAt": Transition.occurred_at,
    "receivedAt": Transition.received_at,
    "recordedAt": Transition.recorded_at,
}


def read_messages(
    session: Session, where: MessageFilter, form: Form, *, limit: int, after: ListCursor | None = None
) -> Page[Line, ListCursor]:
    """Messages in the list's order; like one of its pages, a slice may be short or empty and not be the last."""
    query = select(Message.id, _written(tuple(MESSAGE.items()), form, on_sqlite=is_sqlite(session)), null())
    if where == MessageFilter():
        rows = [Line(*row) for row in _fetch(session, _newest(query, after).limit(limit + 1))]
        return Page(items=rows[:limit], next=_place(rows[limit - 1].message_id) if len(rows) > limit else None)
    page = listing.find_ids(session, where, limit=limit, after=after)
    found = {row[0]: Line(*row) for row in _fetch_of(session, query, Message.id, page.items)}
    return Page(items=[found[one] for one in page.items], next=page.next)


def read_transitions(
    session: Session, where: MessageFilter, form: Form, *, limit: int, after: ListCursor | None = None
) -> Page[Line, ListCursor]:
    """What was recorded of up to `limit` messages: in the list's order, and of each in the order recorded."""
    if where == MessageFilter():
        ids = session.scalars(_newest(select(Message.id), after).limit(limit + 1)).all()
        page = Page(items=ids[:limit], next=_place(ids[limit - 1]) if len(ids) > limit else None)
    else:
        page = listing.find_ids(session, where, limit=limit, after=after)
    columns = (
        Transition.message_id,
        _written(tuple(TRANSITION.items()), form, on_sqlite=is_sqlite(session)),
        Transition.receipt_id,
    )
    told: dict[UUID, list[Line]] = {one: [] for one in page.items}
    for row in _fetch_of(session, select(*columns).order_by(Transition.id), Transition.message_id, page.items):
        told[row[0]].append(Line(*row))
    return Page(items=[line for one in page.items for line in told[one]], next=page.next)


def _newest(query: _Query, after: ListCursor | None) -> _Query:
    """All messages, the newest first: along their ids alone, which rise with time and which every row has at hand."""
    query = query.order_by(Message.id.desc())
    return query if after is None else query.where(Message.id < after.key[0])


def _place(message_id: UUID) -> ListCursor:
    return ListCursor(Order.CREATED, (message_id,))


def _fetch_of(
    session: Session, query: _Query, column: InstrumentedAttribute[UUID], message_ids: Sequence[UUID]
) -> Iterator[Any]:
    """The rows of some messages. On PostgreSQL their ids travel as one text: an array of them is dear to write."""
    if not message_ids:
        return iter(())
    if is_sqlite(session):
        return _fetch(session, query.where(column.in_(message_ids)))
    given = func.string_to_array(",".join([one.hex for one in message_ids]), ",")
    return _fetch(session, query.where(column == any_(cast(given, ARRAY(column.type)))))


def _fetch(session: Session, query: _Query) -> Iterator[Any]:
    for part in session.connection().execute(query).partitions(_AT_ONCE):
        yield from part


@cache  # to make the expression takes as long as to read some hundred rows by it
def _written(columns: tuple[tuple[str, Column], ...], form: Form, *, on_sqlite: bool) -> ColumnElement[str]:
    """A row's columns as one text: `a,b` by RFC 4180, or `{"a": …}`."""
    if form is Form.CSV:
        line: ColumnElement[str] = literal("", Text)
        for place, column in enumerate(column for _, column in columns):
            line = line + ("," if place else "") + _cell(column, on_sqlite=on_sqlite)
        return line
    pairs = [each for name, column in columns for each in (name, _value(column, on_sqlite=on_sqlite))]
    if on_sqlite:
        return func.json_object(*pairs, type_=Text())
    return cast(func.json_build_object(*(cast(one, Text) if isinstance(one, str) else one for one in pairs)), Text)


def _value(column: Column, *, on_sqlite: bool) -> ColumnElement[Any]:
    if isinstance(column.type, UtcDateTime | DateTime):
        return _time(column, on_sqlite=on_sqlite)
    if isinstance(column.type, Boolean) and on_sqlite:
        return func.json(_flag(column))
    return type_coerce(column, column.type)


def _cell(column: Column, *, on_sqlite: bool) -> ColumnElement[str]:
    """A column's value as CSV. Text stands in quotes, so that null, which is nothing, differs from the empty text."""
    if isinstance(column.type, UtcDateTime | DateTime):
        return func.coalesce(_time(column, on_sqlite=on_sqlite), "")
    if isinstance(column.type, Boolean):
        return _flag(column)
    if isinstance(column.type, Integer):
        return func.coalesce(cast(column, Text), "")
    guarded = case((func.substr(column, 1, 1).in_(RISKY), literal("'") + column), else_=column)
    quoted = literal('"') + func.replace(guarded, '"', '""', type_=Text()) + '"'
    return func.coalesce(quoted, "", type_=Text())


def _flag(column: Column) -> ColumnElement[str]:
    return case((column, "true"), else_="false")


def _time(column: Column, *, on_sqlite: bool) -> ColumnElement[str]:
    """RFC 3339 in UTC, to the microsecond, as the API writes it."""
    if on_sqlite:
        return func.replace(type_coerce(column, Text), " ", "T", type_=Text()) + "Z"
    return func.to_char(func.timezone("UTC", column), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"', type_=Text())
