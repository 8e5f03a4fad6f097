"""When keys were last used, on each database engine."""

from receiptsvc.store.access import key_uses
from receiptsvc.store.access.key_uses import Kind
from receiptsvc.store.core.db import Database
from tests.support.rows import seconds


def test_the_last_use_of_each_key_is_kept_by_its_kind(database: Database) -> None:
    for second, uses in ((1, [(Kind.API, "a"), (Kind.CALLBACK, "a")]), (2, [(Kind.API, "b"), (Kind.API, "a")])):
        with database.transaction() as session:
            key_uses.write(session, uses, seconds(second))
    with database.reading() as session:
        assert key_uses.read(session, Kind.API) == {"a": seconds(2), "b": seconds(2)}
        assert key_uses.read(session, Kind.CALLBACK) == {"a": seconds(1)}
