"""Times on their way to the database and back, on both databases."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import literal, select
from sqlalchemy.exc import StatementError
from sqlalchemy.types import DateTime

from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import UtcDateTime

_NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "given",
    [
        _NOON,
        _NOON.replace(microsecond=7),
        _NOON.replace(year=987),
        datetime(2026, 1, 5, 12, tzinfo=ZoneInfo("UTC")),
        datetime(2026, 7, 5, 12, 30, tzinfo=ZoneInfo("Europe/London")),
        datetime(2026, 1, 5, 1, tzinfo=timezone(timedelta(hours=13, minutes=45))),
    ],
)
def test_a_time_comes_back_as_the_same_moment_in_utc(database: Database, given: datetime) -> None:
    with database.reading() as session:
        found = session.scalar(select(literal(given, UtcDateTime())))
    assert found == given
    assert found is not None
    assert found.tzinfo is UTC


def test_no_time_comes_back_as_none(database: Database) -> None:
    with database.reading() as session:
        assert session.scalar(select(literal(None, UtcDateTime()))) is None


def test_a_time_is_written_to_sqlite_as_sqlalchemy_writes_it(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    with database.reading() as session:
        own = literal(_NOON.replace(microsecond=7), UtcDateTime())
        usual = literal(_NOON.replace(microsecond=7, tzinfo=None), DateTime())
        assert session.scalar(select(own == usual))
    database.close()


def test_a_time_without_a_zone_is_not_stored(database: Database) -> None:
    with database.reading() as session, pytest.raises(StatementError, match="without a zone"):
        session.scalar(select(literal(_NOON.replace(tzinfo=None), UtcDateTime())))
