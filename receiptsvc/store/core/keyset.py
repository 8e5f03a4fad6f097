"""Keyset pagination: pages that read a bounded number of rows, whatever is asked for and however little fits.

A list is read along an index that starts with some of the filters and goes on with the list's order, so that a page is
one range scan. Filters that no index has are checked row by row, but over no more than ten pages of rows: then the page
ends early, and its key says where to go on. So a page can be short, or empty, without being the last one. Before that,
`collect` asks another index whether it holds only a few rows for the same filters, among which to look instead.

PostgreSQL chooses plans by statistics, which know nothing of what was just inserted, nor of values that never occur
together. So it is told not to collect all matching rows and sort them. And where another index has the same order, and
might be scanned past rows that do not fit, an equality is not written as one: its columns are bounded from both sides
and lead the order, which only the right index has.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Select,
    SQLColumnExpression,
    Subquery,
    UnaryExpression,
    and_,
    func,
    literal,
    or_,
    select,
    text,
    tuple_,
    union_all,
)
from sqlalchemy.orm import InstrumentedAttribute, Session

from receiptsvc.store.core.db import is_sqlite

_SORTING = "keyset.sorting"  # in a session's info: whether its transaction lets the planner sort

MAX_PAGES_SCANNED = 10  # pages of rows that are read for one page

Key: TypeAlias = tuple[Any, ...]
Equals: TypeAlias = tuple[SQLColumnExpression[Any], Any]  # a column and its value


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """How a list is read.

    `order`: its columns; the last one is unique. `branches`: conditions that an index has before this order; several
    branches are separate ranges of the index, whose rows are merged. `equals`: for each branch, columns that the index
    has before the order too, with their values. `since` ≤ first column of the order < `until`. `filters`: conditions
    that no index has. `is_small`: the branches name a few rows, which may be sorted.
    `max_pages`: how many pages of rows are checked for one page.
    """

    order: Sequence[InstrumentedAttribute[Any]]
    branches: Sequence[Sequence[ColumnElement[bool]]]
    equals: Sequence[Sequence[Equals]] = ()
    since: Any = None
    until: Any = None
    filters: Sequence[ColumnElement[bool]] = ()
    is_descending: bool = True
    is_small: bool = False
    max_pages: int = MAX_PAGES_SCANNED


_SET_SORTING = text(  # for the rest of the transaction
    "SELECT set_config('enable_sort', :sorting, true), set_config('enable_bitmapscan', :sorting, true)"
)


class ScanPage(NamedTuple):
    """The keys of a page, and the key after which to go on; None: there is nothing more."""

    keys: list[Key]
    next: Key | None


def scan(session: Session, plan: Scan, *, limit: int, after: Key | None = None) -> ScanPage:
    """The keys of the next `limit` rows that fit."""
    _set_sorting(session, "on" if plan.is_small else "off")
    names = [f"key_{index}" for index in range(len(plan.order))]
    max_rows = limit * plan.max_pages if plan.filters else limit + 1
    merged = _merge(plan, names, after, max_rows)
    keys = [merged.c[name] for name in names]
    if not plan.filters:
        query = select(*keys).order_by(*_directed(plan, keys)).limit(max_rows)
        found = [tuple(row) for row in session.execute(query)]
        return ScanPage(found[:limit], found[limit - 1] if len(found) > limit else None)
    number = func.row_number().over(order_by=_directed(plan, keys)).label("number")
    numbered = select(*keys, merged.c.fits, number).subquery()
    # The rows that fit, and the last row that was read: it says where to go on if too few fit.
    wanted = (numbered.c.number <= max_rows) & or_(numbered.c.fits, numbered.c.number == max_rows)
    rows = session.execute(select(numbered).where(wanted).order_by(numbered.c.number).limit(limit + 1)).all()
    fitting = [tuple(row)[: len(names)] for row in rows if row.fits]
    if len(fitting) > limit:
        return ScanPage(fitting[:limit], fitting[limit - 1])
    is_cut = bool(rows) and rows[-1].number == max_rows
    return ScanPage(fitting, tuple(rows[-1])[: len(names)] if is_cut else None)


def collect(session: Session, plan: Scan, *, max_rows: int) -> list[Key] | None:
    """The keys of all rows that fit, in no order; None if more than `max_rows` rows would have to be read.

    For a scan with filters.
    """
    _set_sorting(session, "off")
    names = [f"key_{index}" for index in range(len(plan.order))]
    # The limit on all branches together ends their reading: each of them has the same one.
    part = select(_merge(plan, names, None, max_rows + 1)).limit(max_rows + 1).subquery()
    numbered = select(part, func.row_number().over().label("number"), func.count().over().label("rows")).subquery()
    is_excess = numbered.c.number == max_rows + 1
    query = select(numbered).where(or_(numbered.c.fits & (numbered.c.rows <= max_rows), is_excess))
    rows = session.execute(query).all()
    return None if rows and rows[0].number == max_rows + 1 else [tuple(row)[: len(names)] for row in rows]


def force_index_order(session: Session) -> None:
    """Read along indexes in their order for the rest of the transaction, however few rows the planner expects."""
    _set_sorting(session, "off")


def _set_sorting(session: Session, sorting: str) -> None:
    if not is_sqlite(session) and session.info.get(_SORTING, "on") != sorting:
        session.execute(_SET_SORTING, {"sorting": sorting})
        session.info[_SORTING] = sorting


def with_equals(
    query: Select[*tuple[Any, ...]], equals: Sequence[Equals], *order: InstrumentedAttribute[Any]
) -> Select[*tuple[Any, ...]]:
    """A query for the rows with these values, along the one index that has them first and then this order."""
    columns, values = [column for column, _ in equals], tuple(value for _, value in equals)
    bounds = (_compare(operation, columns, values) for operation in (operator.ge, operator.le))
    return query.where(*bounds).order_by(*columns, *order)


def _merge(plan: Scan, names: Sequence[str], after: Key | None, max_rows: int) -> Subquery:
    """The first rows of each branch, at most `max_rows` of each."""
    equals = plan.equals or [()] * len(plan.branches)
    parts = [
        _branch_query(plan, conditions, pairs, names, after).limit(max_rows).subquery()
        for conditions, pairs in zip(plan.branches, equals, strict=True)
    ]
    return parts[0] if len(parts) == 1 else union_all(*(select(part) for part in parts)).subquery()


def _branch_query(
    plan: Scan,
    conditions: Sequence[ColumnElement[bool]],
    equals: Sequence[Equals],
    names: Sequence[str],
    after: Key | None,
) -> Select[*tuple[Any, ...]]:
    columns: list[ColumnElement[Any]] = [column.label(name) for column, name in zip(plan.order, names, strict=True)]
    if plan.filters:
        columns.append(and_(*plan.filters).label("fits"))
    query = select(*columns).where(*conditions, *_bounds(plan, equals, after))
    return query.order_by(*_directed(plan, [*(column for column, _ in equals), *plan.order]))


def _bounds(plan: Scan, equals: Sequence[Equals], after: Key | None) -> list[ColumnElement[bool]]:
    """The bounds of a page's keys: one on each side, because an index range has one start and one end."""
    columns, values = [*(column for column, _ in equals), *plan.order], tuple(value for _, value in equals)
    upper, lower = (operator.lt, plan.until), (operator.ge, plan.since)
    start, is_past_start = (plan.until, operator.lt) if plan.is_descending else (plan.since, operator.ge)
    bounds: list[ColumnElement[bool]] = []
    if after is not None and (start is None or is_past_start(after[0], start)):
        operation = operator.lt if plan.is_descending else operator.gt
        bounds.append(_compare(operation, columns, (*values, *after)))
        sides = [lower] if plan.is_descending else [upper]
    else:
        sides = [upper, lower]
    for operation, bound in sides:
        if bound is not None:
            bounds.append(_compare(operation, columns, (*values, bound)))
        elif equals:
            bounds.append(_compare(operator.le if operation is operator.lt else operator.ge, columns, values))
    return bounds


def _compare(
    operation: Callable[[Any, Any], ColumnElement[bool]], columns: Sequence[Any], values: Key
) -> ColumnElement[bool]:
    """Compare the first columns with as many values, as one row."""
    pairs = [(column, literal(value, column.type)) for column, value in zip(columns, values, strict=False)]
    if len(pairs) == 1:
        return operation(*pairs[0])
    return operation(tuple_(*(column for column, _ in pairs)), tuple_(*(value for _, value in pairs)))


def _directed(plan: Scan, columns: Sequence[Any]) -> list[UnaryExpression[Any]]:
    return [column.desc() if plan.is_descending else column.asc() for column in columns]
