"""Pages by key that read a bounded number of rows, whatever is asked for and however little fits.

A list is read along an index that has some of what was asked for first and the list's order after it, so that a page is
where its key points. What no index has is looked at row by row, but no further than ten pages: then the page ends
early, and its key says where to go on. A page may so be short, or empty, and not be the last. Before that another index
is asked whether it has but few rows for the same question, among which to look instead.

PostgreSQL chooses its plans by statistics, which know nothing of what was just sent, nor of what never goes together.
So it is told not to gather all that fits and sort it. And where another index has the same order, along which it might
pass over what does not fit, a stretch is not asked for by equality: its columns are bounded from both sides and stand
first in the order, which only the right index has.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Select,
    SQLColumnExpression,
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

_SAID = "walks.may_gather"  # in a session's info

REACH = 10  # how many pages of rows are looked at for one page

Key: TypeAlias = tuple[Any, ...]
Equals: TypeAlias = tuple[SQLColumnExpression[Any], Any]  # a column and its value


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """How a list is read.

    `order`: its columns, of which the last tells rows apart. `branches`: conditions that an index has before this
    order; of several branches, each has its own stretch of the index, and they are merged. `pins`: of each branch,
    columns that the index has before the order too, and their values. `since`, `until`: bounds of the first column of
    the order, the second left out. `others`: the conditions that no index has; only with one branch. `is_few`: the
    branches name a few rows outright, which are gathered and sorted.
    """

    order: Sequence[InstrumentedAttribute[Any]]
    branches: Sequence[Sequence[ColumnElement[bool]]]
    pins: Sequence[Sequence[Equals]] = ()
    since: Any = None
    until: Any = None
    others: Sequence[ColumnElement[bool]] = ()
    is_descending: bool = True
    is_few: bool = False


_MAY_GATHER = text(  # for the rest of the transaction
    "SELECT set_config('enable_sort', :may, true), set_config('enable_bitmapscan', :may, true)"
)


class ScanPage(NamedTuple):
    """The keys of a page, and the key after which to go on; None: there is nothing more."""

    keys: list[Key]
    next: Key | None


def scan(session: Session, way: Scan, *, limit: int, after: Key | None = None) -> ScanPage:
    """The keys of the next `limit` rows that fit."""
    _say(session, "on" if way.is_few else "off")
    names = [f"key_{place}" for place in range(len(way.order))]
    reach = limit * REACH if way.others else limit + 1
    pins = way.pins or [()] * len(way.branches)
    parts = [
        _part(way, conditions, pinned, names, after).limit(reach).subquery()
        for conditions, pinned in zip(way.branches, pins, strict=True)
    ]
    merged = parts[0] if len(parts) == 1 else union_all(*(select(part) for part in parts)).subquery()
    keys = [merged.c[name] for name in names]
    if not way.others:
        query = select(*keys).order_by(*_directed(way, keys)).limit(reach)
        found = [tuple(row) for row in session.execute(query)]
        return ScanPage(found[:limit], found[limit - 1] if len(found) > limit else None)
    place = func.row_number().over(order_by=_directed(way, keys)).label("place")
    placed = select(*keys, merged.c.fits, place).subquery()
    shown = select(placed).where(or_(placed.c.fits, placed.c.place == reach)).order_by(placed.c.place).limit(limit + 1)
    rows = session.execute(shown).all()
    fitting = [tuple(row)[: len(names)] for row in rows if row.fits]
    if len(fitting) > limit:
        return ScanPage(fitting[:limit], fitting[limit - 1])
    is_cut = bool(rows) and rows[-1].place == reach
    return ScanPage(fitting, tuple(rows[-1])[: len(names)] if is_cut else None)


def collect(session: Session, way: Scan, *, most: int) -> list[Key] | None:
    """The keys of all that fit, in no order, if they are among no more than `most` rows; else None.

    Of a way with one branch, and conditions that no index has.
    """
    _say(session, "off")
    names = [f"key_{place}" for place in range(len(way.order))]
    [conditions], [pinned] = way.branches, way.pins
    stretch = _part(way, conditions, pinned, names, None).limit(most + 1).subquery()
    counted = select(stretch, func.row_number().over().label("place"), func.count().over().label("rows")).subquery()
    is_last = counted.c.place == most + 1
    query = select(counted).where(or_(counted.c.fits & (counted.c.rows <= most), is_last))
    rows = session.execute(query).all()
    return None if rows and rows[0].place == most + 1 else [tuple(row)[: len(names)] for row in rows]


def force_index_order(session: Session) -> None:
    """Read along indexes in their order for the rest of the transaction, however few rows the planner expects."""
    _say(session, "off")


def _say(session: Session, may_gather: str) -> None:
    if not is_sqlite(session) and session.info.get(_SAID, "on") != may_gather:
        session.execute(_MAY_GATHER, {"may": may_gather})
        session.info[_SAID] = may_gather


def with_equals(
    query: Select[*tuple[Any, ...]], pins: Sequence[Equals], *order: InstrumentedAttribute[Any]
) -> Select[*tuple[Any, ...]]:
    """A query for the rows that have these values, along the one index that has them first and then this order."""
    columns, values = [column for column, _ in pins], tuple(value for _, value in pins)
    bounds = (_compared(compare, columns, values) for compare in (operator.ge, operator.le))
    return query.where(*bounds).order_by(*columns, *order)


def _part(
    way: Scan,
    conditions: Sequence[ColumnElement[bool]],
    pins: Sequence[Equals],
    names: Sequence[str],
    after: Key | None,
) -> Select[*tuple[Any, ...]]:
    shown: list[ColumnElement[Any]] = [column.label(name) for column, name in zip(way.order, names, strict=True)]
    if way.others:
        shown.append(and_(*way.others).label("fits"))
    query = select(*shown).where(*conditions, *_bounds(way, pins, after))
    return query.order_by(*_directed(way, [*(column for column, _ in pins), *way.order]))


def _bounds(way: Scan, pins: Sequence[Equals], after: Key | None) -> list[ColumnElement[bool]]:
    """Between which keys a page lies: one bound on each side, because an index is entered at one only."""
    columns, values = [*(column for column, _ in pins), *way.order], tuple(value for _, value in pins)
    above, below = (operator.lt, way.until), (operator.ge, way.since)
    near, is_beyond = (way.until, operator.lt) if way.is_descending else (way.since, operator.ge)
    bounds: list[ColumnElement[bool]] = []
    if after is not None and (near is None or is_beyond(after[0], near)):
        compare = operator.lt if way.is_descending else operator.gt
        bounds.append(_compared(compare, columns, (*values, *after)))
        sides = [below] if way.is_descending else [above]
    else:
        sides = [above, below]
    for compare, bound in sides:
        if bound is not None:
            bounds.append(_compared(compare, columns, (*values, bound)))
        elif pins:
            bounds.append(_compared(operator.le if compare is operator.lt else operator.ge, columns, values))
    return bounds


def _compared(
    compare: Callable[[Any, Any], ColumnElement[bool]], columns: Sequence[Any], values: Key
) -> ColumnElement[bool]:
    """The first columns against as many values, as a whole."""
    pairs = [(column, literal(value, column.type)) for column, value in zip(columns, values, strict=False)]
    if len(pairs) == 1:
        return compare(*pairs[0])
    return compare(tuple_(*(column for column, _ in pairs)), tuple_(*(value for _, value in pairs)))


def _directed(way: Scan, columns: Sequence[Any]) -> list[UnaryExpression[Any]]:
    return [column.desc() if way.is_descending else column.asc() for column in columns]
