"""The application on a real database, called without a server in between."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from receiptsvc.store.core.db import Database
from receiptsvc.web.app import create_app
from tests.support.callers import client_of, make_settings


@pytest.fixture
def client(database: Database) -> FlaskClient:
    """A caller with every scope, on each database engine."""
    return client_of(create_app(make_settings(), database))


@pytest.fixture(scope="module")
def desk_database(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Database]:
    """A migrated SQLite database that the tests of one module share: for tests that do not depend on its rows."""
    path = tmp_path_factory.mktemp("desk") / "test.db"
    shutil.copy(sqlite_template, path)
    database = Database(f"sqlite:///{path}")
    yield database
    database.close()


@pytest.fixture(scope="module")
def desk(desk_database: Database) -> FlaskClient:
    """A caller with every scope, on the shared database."""
    return client_of(create_app(make_settings(), desk_database))
