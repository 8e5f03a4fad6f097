"""Walks over many rows, slice after slice in the order of a key, each slice in a short transaction of its own.

The caller says how a transaction is opened and what is done in it: the store's functions never commit.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from sqlalchemy import Row, Select, text
from sqlalchemy.orm import Session

from receiptsvc.store.core.db import is_sqlite
from receiptsvc.store.core.paging import Page, cut

# What a slice is joined with is looked up row by row. A merge join would read it from its beginning up to the slice,
# and a hash join all of it: each slice more than the one before. For the rest of the transaction.
_BY_INDEX = text("SELECT set_config('enable_mergejoin', 'off', true), set_config('enable_hashjoin', 'off', true)")

Item = TypeVar("Item")
Key = TypeVar("Key")


def walk(
    begin: Callable[[], AbstractContextManager[Session]],
    step: Callable[[Session, Key | None], Page[Item, Key]],
    after: Key | None = None,
) -> Iterator[Page[Item, Key]]:
    """What `step` returns for each slice, the next one being after `next`. There is at least one.

    `begin`: a method of the database, `reading` or `transaction`; what it opened has ended when the slice is yielded.
    A caller may stop at any slice, and go on later `after` its `next`.
    """
    while True:
        with begin() as session:
            page = step(session, after)
        yield page
        if page.next is None:
            return
        after = page.next


def read(
    session: Session, query: Select[*tuple[Any, ...]], *, limit: int, after: Any = None
) -> Page[Row[*tuple[Any, ...]], Any]:
    """The next rows of a query in the order of its first column, which is unique."""
    if not is_sqlite(session):
        session.execute(_BY_INDEX)
    key = query.selected_columns[0]
    rest = query if after is None else query.where(key > after)
    return cut(session.execute(rest.order_by(key).limit(limit + 1)).all(), limit, lambda row: row[0])
