"""Statements for many rows of one table.

Few statements, and short turns of Python's global lock, which other threads wait for. On PostgreSQL the rows travel as
one JSON parameter.
"""

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
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, Session

from receiptsvc.store.core.db import is_sqlite

_MAX_CHARACTERS = 128 * 1024  # of JSON in one statement

_Row: TypeAlias = Mapping[str, Any]
Upsert: TypeAlias = "postgresql.Insert | sqlite.Insert"


def insert_all(session: Session, model: type[DeclarativeBase], rows: Iterable[_Row]) -> None:
    """Insert rows of a model's table, without objects in the session. Columns that a row lacks get their default."""
    table = model.__table__
    if not isinstance(table, Table):
        raise TypeError(f"{model.__name__} is not mapped to a table")
    for group in _group_by_columns(rows):
        if is_sqlite(session):
            session.execute(insert(table), group)
        else:
            _insert_group(session, table, group)


def _insert_group(session: Session, table: Table, rows: Sequence[_Row]) -> None:
    # PostgreSQL takes four times as long with one statement a row. Values that all rows share travel once, the others
    # as JSON, which PostgreSQL parses: a parameter for each value, or an array for each column, costs twice as much
    # in Python.
    first = rows[0]
    varying = [name for name in first if any(row[name] != first[name] for row in rows)] or list(first)[:1]
    source = _json_rows(table, varying)
    values = [
        source.c[name] if name in varying else bindparam(f"all_{name}", first[name], type_=table.c[name].type)
        for name in first
    ]
    statement = insert(table).from_select(list(first), select(*values))
    for chunk in _json_chunks({name: row[name] for name in varying} for row in rows):
        session.execute(statement, {"rows": chunk})


def update_all(session: Session, model: type[DeclarativeBase], key: str | Sequence[str], rows: Iterable[_Row]) -> None:
    """Update the row of each `key` in the columns given for it. Objects that the session holds are not refreshed."""
    table = model.__table__
    if not isinstance(table, Table):
        raise TypeError(f"{model.__name__} is not mapped to a table")
    keys = [key] if isinstance(key, str) else list(key)
    for group in _group_by_columns(rows):
        _update_group(session, table, keys, group)


def _update_group(session: Session, table: Table, keys: Sequence[str], rows: Sequence[_Row]) -> None:
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
    source = _json_rows(table, [*keys, *columns])
    statement = update(table).where(*(table.c[name] == source.c[name] for name in keys))
    statement = statement.values({name: source.c[name] for name in columns})
    for chunk in _json_chunks(rows):
        session.connection().execute(statement, {"rows": chunk})


def upsert(session: Session, model: type[DeclarativeBase]) -> Upsert:
    """An insert into `model` with the `on_conflict_*` methods of the session's database."""
    return sqlite.insert(model) if is_sqlite(session) else postgresql.insert(model)


def execute_all(session: Session, statement: Upsert, model: type[DeclarativeBase], rows: Sequence[_Row]) -> None:
    """Execute an upsert into a model's table for rows that all have the same columns."""
    table = model.__table__
    if not rows or not isinstance(table, Table):
        return
    if isinstance(statement, sqlite.Insert):
        session.execute(statement, rows)
        return
    source = _json_rows(table, list(rows[0]))
    filled = statement.from_select(list(rows[0]), select(*source.c))
    for chunk in _json_chunks(rows):
        session.connection().execute(filled, {"rows": chunk})


def among(session: Session, column: InstrumentedAttribute[Any], values: Collection[Any]) -> ColumnElement[bool]:
    """Whether a column has one of `values` (not empty). On PostgreSQL they are one parameter, however many."""
    if is_sqlite(session):
        return column.in_(values)
    return column == any_(literal(list(values), ARRAY(column.type)))


def listed(session: Session, values: Collection[str]) -> TableValuedAlias:
    """Texts as a table with the column `value`: one parameter, however many."""
    if is_sqlite(session):
        return func.json_each(json.dumps(list(values))).table_valued(column("value", Text))
    array = cast(literal(json.dumps(list(values)), Text), JSON)
    return func.json_array_elements_text(array).table_valued(column("value", Text))


def _group_by_columns(rows: Iterable[_Row]) -> Iterable[Sequence[_Row]]:
    """The rows in groups that have the same columns."""
    groups: dict[tuple[str, ...], list[_Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row)].append(row)
    return groups.values()


def _json_rows(table: Table, names: Sequence[str]) -> TableValuedAlias:
    """The rows of the JSON parameter `rows`, as a table with these columns of `table`."""
    return (
        func.json_to_recordset(cast(bindparam("rows", type_=Text), JSON))
        .table_valued(*(column(name, table.c[name].type) for name in names), name="given")
        .render_derived(with_types=True)
    )


def _json_chunks(rows: Iterable[_Row]) -> Iterator[str]:
    """The rows as JSON lists of bounded length."""
    encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, default=_encode_value).encode
    chunk: list[str] = []
    length = 0
    for row in rows:
        text = encode(row)
        if chunk and length + len(text) > _MAX_CHARACTERS:
            yield f"[{','.join(chunk)}]"
            chunk, length = [], 0
        chunk.append(text)
        length += len(text)
    yield f"[{','.join(chunk)}]"


def _encode_value(value: object) -> str:
    if isinstance(value, UUID):
        return value.hex
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.isoformat()
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    raise TypeError(f"a {type(value).__name__} has no JSON form here")
