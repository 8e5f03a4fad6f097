"""Slices of lines for exports, which the database itself writes as CSV or JSON.

Only our public ids are left to Python, as SQL can't spell them. For the rest Python would take several times as long,
and block other threads meanwhile.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cache
from itertools import accumulate
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

from receiptsvc.domain import numbers
from receiptsvc.domain.spreadsheets import GUARD, RISKY, write_cell
from receiptsvc.store.core.db import is_sqlite
from receiptsvc.store.core.models import Message, Transition, UtcDateTime
from receiptsvc.store.core.paging import Page, cut
from receiptsvc.store.queries import failed_messages, listing
from receiptsvc.store.queries.failed_messages import Failure
from receiptsvc.store.queries.listing import ListCursor, MessageFilter, Order

_FETCH_ROWS = 100  # that the driver converts while it blocks other threads
_MAX_TRANSITIONS = 10_000  # in a slice: 1,000 messages usually have less than half as many

Column: TypeAlias = "InstrumentedAttribute[Any]"
_Query: TypeAlias = "Select[*tuple[Any, ...]]"


class Form(StrEnum):
    """How a line is written."""

    CSV = "csv"
    JSON = "jsonl"


class Line(NamedTuple):
    """A line: the message's id, the other columns as text, and for a transition the receipt that it comes from.

    `recipient`: only where it is not in the text, since SQL can't mask it.
    """

    message_id: UUID
    text: str
    receipt_id: UUID | None
    recipient: str = ""


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
MASKED: Mapping[str, Column] = {name: column for name, column in MESSAGE.items() if name not in {"recipient", "text"}}
FAILURE = ("reason", "providerStatusId", "providerDescription")  # as `failed_messages.Failure` has them
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
    """Messages in the order of the list. A short or empty slice need not be the last one: see `keyset`."""
    query = select(Message.id, _line_expression(tuple(MESSAGE.items()), form, on_sqlite=is_sqlite(session)), null())
    return _read_in_order(session, query, where, limit, after)


def read_masked(
    session: Session, where: MessageFilter, form: Form, *, limit: int, after: ListCursor | None = None
) -> Page[Line, ListCursor]:
    """The same without texts, and with the recipients apart, for who may not see them."""
    line = _line_expression(tuple(MASKED.items()), form, on_sqlite=is_sqlite(session))
    return _read_in_order(session, select(Message.id, line, null(), Message.recipient), where, limit, after)


def _read_in_order(
    session: Session, query: _Query, where: MessageFilter, limit: int, after: ListCursor | None
) -> Page[Line, ListCursor]:
    if where == MessageFilter():
        rows = [Line(*row) for row in _fetch(session, _newest_first(query, after).limit(limit + 1))]
        return cut(rows, limit, lambda line: _cursor(line.message_id))
    page = listing.find_ids(session, where, limit=limit, after=after)
    return Page(items=_read_lines(session, query, page.items), next=page.next)


def read_chosen(
    session: Session, message_ids: Sequence[UUID], form: Form, *, limit: int, after: int | None = None
) -> Page[Line, int]:
    """Messages in the order of these ids. `after`: how many of them were read before."""
    query = select(Message.id, _line_expression(tuple(MESSAGE.items()), form, on_sqlite=is_sqlite(session)), null())
    begin = after or 0
    end = begin + limit
    lines = _read_lines(session, query, message_ids[begin:end])
    return Page(items=lines, next=end if end < len(message_ids) else None)


def read_failed(session: Session, found: Page[UUID, Any], *, is_masked: bool) -> Page[Line, Any]:
    """Failed messages as CSV, in the order of these ids, with the columns of FAILURE behind all others."""
    columns = MASKED if is_masked else MESSAGE
    query = select(Message.id, _line_expression(tuple(columns.items()), Form.CSV, on_sqlite=is_sqlite(session)), null())
    if is_masked:
        query = query.add_columns(Message.recipient)
    failures = failed_messages.find_failures(session, found.items)
    hide = numbers.hide_all if is_masked else str
    lines = _read_lines(session, query, found.items)
    return Page(items=[_add_failure(line, failures.get(line.message_id), hide) for line in lines], next=found.next)


def _add_failure(line: Line, failure: Failure | None, hide: Callable[[str], str]) -> Line:
    texts = [None if text is None else hide(text) for text in failure or (None,) * len(FAILURE)]
    return line._replace(text=",".join([line.text, *map(write_cell, texts)]))


def _read_lines(session: Session, query: _Query, message_ids: Sequence[UUID]) -> list[Line]:
    """The lines of messages in the order of these ids; ids without a message are left out."""
    lines = {row[0]: Line(*row) for row in _fetch_of_messages(session, query, Message.id, message_ids)}
    return [lines[message_id] for message_id in message_ids if message_id in lines]


class TransitionPlace(NamedTuple):
    """The place of an export of transitions: the messages of a slice that are left to write, and the next slice."""

    message_ids: Sequence[UUID]
    last_id: int  # of the transitions of the first of them, the last one that was written
    next: ListCursor | None


def read_transitions(
    session: Session, where: MessageFilter, form: Form, *, limit: int, after: TransitionPlace | None = None
) -> Page[Line, TransitionPlace]:
    """The transitions of messages in the order of the list, each message's in the order recorded.

    Of up to `limit` messages, and as many transitions as a slice may have: one message may have more by itself.
    """
    if after is None or not after.message_ids:
        messages = _find_ids(session, where, limit, after and after.next)
        after = TransitionPlace(messages.items, 0, messages.next)
    taken = _take(session, after.message_ids)
    columns = (
        Transition.message_id,
        _line_expression(tuple(TRANSITION.items()), form, on_sqlite=is_sqlite(session)),
        Transition.receipt_id,
    )
    query = select(*columns, Transition.id).order_by(Transition.id)
    if len(taken) == 1:
        query = query.where(Transition.id > after.last_id).limit(_MAX_TRANSITIONS + 1)
    rows = list(_fetch_of_messages(session, query, Transition.message_id, taken))
    left = after.message_ids[len(taken) :]
    place = TransitionPlace(left, 0, after.next) if left or after.next else None
    if len(taken) == 1 and len(rows) > _MAX_TRANSITIONS:
        rows.pop()
        place = TransitionPlace(after.message_ids, rows[-1].id, after.next)
    lines: dict[UUID, list[Line]] = {message_id: [] for message_id in taken}
    for message_id, text, receipt_id, _ in rows:
        lines[message_id].append(Line(message_id, text, receipt_id))
    return Page(items=[line for message_id in taken for line in lines[message_id]], next=place)


def _find_ids(session: Session, where: MessageFilter, limit: int, after: ListCursor | None) -> Page[UUID, ListCursor]:
    if where != MessageFilter():
        return listing.find_ids(session, where, limit=limit, after=after)
    ids = session.scalars(_newest_first(select(Message.id), after).limit(limit + 1)).all()
    return cut(ids, limit, _cursor)


def _take(session: Session, message_ids: Sequence[UUID]) -> Sequence[UUID]:
    """The first of them that have as many transitions as a slice may have together; at least one."""
    query = select(Message.id, Message.transition_count)
    counts = {row[0]: row[1] for row in _fetch_of_messages(session, query, Message.id, message_ids)}
    running = accumulate(counts.get(message_id, 0) for message_id in message_ids)
    return message_ids[: max(1, sum(count <= _MAX_TRANSITIONS for count in running))]


def _newest_first(query: _Query, after: ListCursor | None) -> _Query:
    """All messages, the newest first, by their ids alone: ids rise with time, and are the primary key."""
    query = query.order_by(Message.id.desc())
    return query if after is None else query.where(Message.id < after.key[0])


def _cursor(message_id: UUID) -> ListCursor:
    return ListCursor(Order.CREATED, (message_id,))


def _fetch_of_messages(
    session: Session, query: _Query, column: InstrumentedAttribute[UUID], message_ids: Sequence[UUID]
) -> Iterator[Any]:
    """The rows of some messages. On PostgreSQL their ids travel as one text: an array costs more to encode."""
    if not message_ids:
        return iter(())
    if is_sqlite(session):
        return _fetch(session, query.where(column.in_(message_ids)))
    ids = func.string_to_array(",".join([message_id.hex for message_id in message_ids]), ",")
    return _fetch(session, query.where(column == any_(cast(ids, ARRAY(column.type)))))


def _fetch(session: Session, query: _Query) -> Iterator[Any]:
    for part in session.connection().execute(query).partitions(_FETCH_ROWS):
        yield from part


@cache  # building the expression takes as long as reading some hundred rows with it
def _line_expression(columns: tuple[tuple[str, Column], ...], form: Form, *, on_sqlite: bool) -> ColumnElement[str]:
    """The columns of a row as one text: `a,b` by RFC 4180, or `{"a": …}`."""
    if form is Form.CSV:
        line: ColumnElement[str] = literal("", Text)
        for index, column in enumerate(column for _, column in columns):
            line = line + ("," if index else "") + _csv_cell(column, on_sqlite=on_sqlite)
        return line
    members = [each for name, column in columns for each in (name, _json_value(column, on_sqlite=on_sqlite))]
    if on_sqlite:
        return func.json_object(*members, type_=Text())
    return cast(
        func.json_build_object(*(cast(each, Text) if isinstance(each, str) else each for each in members)), Text
    )


def _json_value(column: Column, *, on_sqlite: bool) -> ColumnElement[Any]:
    if isinstance(column.type, UtcDateTime | DateTime):
        return _time_text(column, on_sqlite=on_sqlite)
    if isinstance(column.type, Boolean) and on_sqlite:
        return func.json(_bool_text(column))
    return type_coerce(column, column.type)


def _csv_cell(column: Column, *, on_sqlite: bool) -> ColumnElement[str]:
    """A column's value as CSV. Text is quoted, so that the empty text (`""`) differs from null (nothing)."""
    if isinstance(column.type, UtcDateTime | DateTime):
        return func.coalesce(_time_text(column, on_sqlite=on_sqlite), "")
    if isinstance(column.type, Boolean):
        return _bool_text(column)
    if isinstance(column.type, Integer):
        return func.coalesce(cast(column, Text), "")
    # Also one that looks guarded by itself, so that the guard can be taken off again.
    first = func.substr(func.ltrim(column, GUARD), 1, 1)
    guarded = case((first.in_(RISKY), literal(GUARD) + column), else_=column)
    quoted = literal('"') + func.replace(guarded, '"', '""', type_=Text()) + '"'
    return func.coalesce(quoted, "", type_=Text())


def _bool_text(column: Column) -> ColumnElement[str]:
    return case((column, "true"), else_="false")


def _time_text(column: Column, *, on_sqlite: bool) -> ColumnElement[str]:
    """RFC 3339 in UTC, to the microsecond, as the API writes it."""
    if on_sqlite:
        return func.replace(type_coerce(column, Text), " ", "T", type_=Text()) + "Z"
    return func.to_char(func.timezone("UTC", column), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"', type_=Text())
