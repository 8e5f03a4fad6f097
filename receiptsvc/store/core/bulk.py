"""Many rows of one table at once: in few statements, and in short turns of Python's one lock; others wait for it."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    JSON,
    ColumnElement,
    Table,
    TableValuedAlias,
    Text,
    any_,
    bindparam,
    cast,
    column,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, Session

from receiptsvc.store.core import upsert
from receiptsvc.store.core.db import is_sqlite

_MAX_CHARACTERS = 128 * 1024  # of JSON in one statement

_Row: TypeAlias = Mapping[str, Any]


def insert_all(session: Session, model: type[DeclarativeBase], rows: Iterable[_Row]) -> None:
    """Insert rows of a model's table, which become no objects of the session. What a row leaves out has its default."""
    table = model.__table__
    if not isinstance(table, Table):
        raise TypeError(f"{model.__name__} is no table")
    for group in _alike(rows):
        if is_sqlite(session):
            session.execute(insert(table), group)
        else:
            _insert_alike(session, table, group)


def _insert_alike(session: Session, table: Table, rows: Sequence[_Row]) -> None:
    # PostgreSQL takes four times as long over a statement a row. What all rows share travels once, the rest as JSON,
    # which is read over there; a parameter for each value, or an array for each column, is twice the work over here.
    first = rows[0]
    own = [name for name in first if any(row[name] != first[name] for row in rows)] or list(first)[:1]
    given = _given(table, own)
    values = [
        given.c[name] if name in own else bindparam(f"all_{name}", first[name], type_=table.c[name].type)
        for name in first
    ]
    statement = insert(table).from_select(list(first), select(*values))
    for part in _parts({name: row[name] for name in own} for row in rows):
        session.execute(statement, {"rows": part})


def update_all(session: Session, model: type[DeclarativeBase], key: str | Sequence[str], rows: Iterable[_Row]) -> None:
    """Update the row of each `key` in the columns that are given for it. Objects of the session are not told."""
    table = model.__table__
    if not isinstance(table, Table):
        raise TypeError(f"{model.__name__} is no table")
    keys = [key] if isinstance(key, str) else list(key)
    for group in _alike(rows):
        _update_alike(session, table, keys, group)


def _update_alike(session: Session, table: Table, keys: Sequence[str], rows: Sequence[_Row]) -> None:
    columns = [name for name in rows[0] if name not in keys]
    if is_sqlite(session):
        values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in columns}
        statement = update(table).where(*(table.c[name] == bindparam(f"of_{name}") for name in keys)).values(values)
        session.connection().execute(
            statement,
            [
                {f"of_{name}": row[name] for name in keys} | {f"new_{name}": row[name] for name in columns}
                for row in rows
            ],
        )
        return
    given = _given(table, [*keys, *columns])
    statement = update(table).where(*(table.c[name] == given.c[name] for name in keys))
    statement = statement.values({name: given.c[name] for name in columns})
    for part in _parts(rows):
        session.connection().execute(statement, {"rows": part})


def execute_all(session: Session, statement: upsert.Insert, model: type[DeclarativeBase], rows: Sequence[_Row]) -> None:
    """Execute an insert into a model's table, with what it does on a conflict, for rows of the same columns."""
    table = model.__table__
    if not rows or not isinstance(table, Table):
        return
    if isinstance(statement, sqlite.Insert):
        session.execute(statement, rows)
        return
    given = _given(table, list(rows[0]))
    filled = statement.from_select(list(rows[0]), select(*given.c))
    for part in _parts(rows):
        session.connection().execute(filled, {"rows": part})


def among(session: Session, column: InstrumentedAttribute[Any], values: Collection[Any]) -> ColumnElement[bool]:
    """Whether a column has one of `values` (not empty): on PostgreSQL as one parameter, however many there are."""
    if is_sqlite(session):
        return column.in_(values)
    return column == any_(literal(list(values), ARRAY(column.type)))


def _alike(rows: Iterable[_Row]) -> Iterable[Sequence[_Row]]:
    """The rows, those of the same columns together."""
    alike: dict[tuple[str, ...], list[_Row]] = defaultdict(list)
    for row in rows:
        alike[tuple(row)].append(row)
    return alike.values()


def _given(table: Table, names: Sequence[str]) -> TableValuedAlias:
    """The rows that travel as JSON, as a table with these columns of `table`."""
    return (
        func.json_to_recordset(cast(bindparam("rows", type_=Text), JSON))
        .table_valued(*(column(name, table.c[name].type) for name in names), name="given")
        .render_derived(with_types=True)
    )


def _parts(rows: Iterable[_Row]) -> Iterator[str]:
    """The rows as JSON lists of bounded length."""
    encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, default=_spell).encode
    part: list[str] = []
    length = 0
    for row in rows:
        text = encode(row)
        if part and length + len(text) > _MAX_CHARACTERS:
            yield f"[{','.join(part)}]"
            part, length = [], 0
        part.append(text)
        length += len(text)
    yield f"[{','.join(part)}]"


def _spell(value: object) -> str:
    if isinstance(value, UUID):
        return value.hex
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.isoformat()
    raise TypeError(f"a {type(value).__name__} can't be inserted by the thousand")
