"""Empty databases, and what starts several upgrades at once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import databases


@pytest.fixture
def empty_postgresql(postgresql_template: str) -> Iterator[str]:
    """The URL of a database without tables on PostgreSQL."""
    with databases.scratch_postgresql(postgresql_template) as url:
        yield url


@pytest.fixture
def empty_sqlite(tmp_path: Path) -> str:
    """The URL of a SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path / 'data' / 'empty.db'}"


@pytest.fixture
def empty_url(request: pytest.FixtureRequest) -> str:
    """Either of them: a test names `sqlite` or `postgresql`."""
    url: str = request.getfixturevalue(f"empty_{request.param}")
    return url
