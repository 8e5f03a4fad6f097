"""A process that is there before its database is: the file appears empty, and another process then fills it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import text

from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.store.core.db import Database
from receiptsvc.store.inbox.writer import open_writer
from tests.support import databases


@contextmanager
def writing(url: str) -> Iterator[Callable[[], None]]:
    writer = open_writer(url, 1, patience_seconds=1)
    try:
        yield writer.connect
    finally:
        writer.close()


@contextmanager
def reading(url: str) -> Iterator[Callable[[], None]]:
    database = Database(url)

    def read() -> None:
        with database.reading() as session:
            session.execute(text("SELECT 1"))

    try:
        yield read
    finally:
        database.close()


@pytest.mark.parametrize("opened", [writing, reading])
def test_who_meets_the_file_while_it_is_empty_goes_on_once_it_is_filled(
    tmp_path: Path, opened: Callable[[str], AbstractContextManager[Callable[[], None]]]
) -> None:
    path = tmp_path / "test.db"
    path.touch()
    with opened(f"sqlite:///{path}") as work:
        with suppress(StorageUnavailable):
            work()
        databases.migrate(f"sqlite:///{path}")
        work()
        assert path.with_name("test.db-wal").exists()
