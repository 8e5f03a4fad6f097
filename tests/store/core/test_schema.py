"""Whether a release fits a database, by what the database says of itself."""

import pytest
from alembic.script import ScriptDirectory

from receiptsvc.domain.errors import NotMigrated, TooNew
from receiptsvc.store.core import schema
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.schema import Fit, Found
from tests.support.databases import alembic_config


@pytest.mark.parametrize(
    ("found", "fit"),
    [
        (Found(None, None), Fit.EMPTY),
        (Found("0003", "0002"), Fit.BEHIND),
        (Found("0005", "0004"), Fit.CURRENT),
        (Found("0005", None), Fit.CURRENT),
        (Found("0007", "0005"), Fit.COMPATIBLE),
        (Found("0012", "0003"), Fit.COMPATIBLE),
        (Found("10005", "0005"), Fit.COMPATIBLE),
        (Found("0007", "0006"), Fit.TOO_NEW),
        (Found("0007", None), Fit.TOO_NEW),
        (Found("ae1027a6acf", None), Fit.TOO_NEW),
        (Found("0007", "ae1027a6acf"), Fit.TOO_NEW),
    ],
)
def test_a_newer_database_fits_if_it_says_so(found: Found, fit: Fit) -> None:
    assert schema.judge(found, "0005") is fit


def test_a_database_that_does_not_fit_says_in_one_line_what_to_do() -> None:
    with pytest.raises(NotMigrated, match="no tables yet: run python -m receiptsvc migrate"):
        schema.require(Found(None, None))
    with pytest.raises(NotMigrated, match="has migration 0003, and this release needs 0005: run"):
        schema.require(Found("0003", "0003"), "0005")
    with pytest.raises(TooNew, match=r"only for releases from migration 0006 on\. Deploy a newer release"):
        schema.require(Found("0007", "0006"), "0005")
    with pytest.raises(TooNew, match="does not say that older releases may use it") as raised:
        schema.require(Found("0007", None), "0005")
    assert "\n" not in str(raised.value)
    schema.require(Found("0007", "0005"), "0005")


def test_a_migrated_database_says_which_releases_may_use_it(database: Database) -> None:
    newest = ScriptDirectory.from_config(alembic_config()).get_revision("head")
    assert newest is not None
    oldest = newest.module.oldest_compatible
    with database.connection(is_read_only=True) as connection:
        assert schema.read(connection) == Found(schema.REVISION, oldest)
    with database.connection() as connection, connection.begin():
        schema.write_oldest(connection, "0004")
    with database.connection(is_read_only=True) as connection:
        assert schema.read(connection) == Found(schema.REVISION, "0004")
    database.check_schema()
