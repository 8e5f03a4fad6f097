"""What most tests stand on: a database built by the migrations, on SQLite and on a real PostgreSQL."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiptsvc.store.db import Database
from tests import databases

ENGINES = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL to make scratch databases in: TEST_DATABASE_URL, else one of our own."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
    else:
        with databases.embedded_postgresql(tmp_path_factory.mktemp("postgresql")) as url:
            yield url


@pytest.fixture(params=ENGINES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a new, migrated database; a test that uses it runs once on each engine."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'test.db'}"
        databases.migrate(url)
        yield url
    else:
        with databases.scratch_postgresql(request.getfixturevalue("postgresql_server")) as url:
            databases.migrate(url)
            yield url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A new, migrated database."""
    database = Database(database_url)
    yield database
    database.close()
