"""A walk reads every row once, a slice in each transaction."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from receiptsvc.store.core import slices
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Message
from receiptsvc.store.core.paging import Page
from tests.support.rows import accept, message


@pytest.mark.parametrize(("size", "expected"), [(2, [2, 2, 1]), (5, [5]), (9, [5])])
def test_a_walk_gives_every_row_once_and_may_go_on_after_any_slice(
    database: Database, size: int, expected: list[int]
) -> None:
    made = sorted(accept(database, *(message() for _ in range(5))))
    open_transactions = 0

    @contextmanager
    def begin() -> Iterator[Session]:
        nonlocal open_transactions
        open_transactions += 1
        with database.reading() as session:
            yield session
        open_transactions -= 1

    def step(session: Session, after: UUID | None) -> Page[UUID, UUID]:
        page = slices.read(session, select(Message.id), limit=size, after=after)
        return Page(items=[row.id for row in page.items], next=page.next)

    pages = []
    for page in slices.walk(begin, step):
        assert open_transactions == 0
        pages.append(page)
    assert [len(page.items) for page in pages] == expected
    assert [item for page in pages for item in page.items] == made
    if pages[0].next is not None:
        rest = slices.walk(begin, step, after=pages[0].next)
        assert [item for page in rest for item in page.items] == made[size:]


def test_a_walk_over_nothing_has_one_empty_slice(database: Database) -> None:
    def step(session: Session, after: UUID | None) -> Page[Any, UUID]:
        return slices.read(session, select(Message.id), limit=2, after=after)

    [page] = slices.walk(database.reading, step)
    assert (page.items, page.next) == ([], None)
