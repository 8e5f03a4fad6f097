"""Saved searches."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select

from receiptsvc import ids
from receiptsvc.store.access import searches
from receiptsvc.store.access.searches import KEPT_FOR, PREVIEW_KEPT_FOR
from receiptsvc.store.core import audits
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import OpsSearch


def save_at(database: Database, made_at: datetime, kind: str = "term") -> UUID:
    with database.transaction() as session:
        row = OpsSearch(id=ids.part_of(ids.first_at(made_at), 1), made_at=made_at, terms={"kind": kind})
        session.add(row)
    return row.id


def test_a_search_is_found_until_it_expires(database: Database) -> None:
    now = datetime.now(UTC)
    with database.transaction() as session:
        search_id = searches.save(session, {"kind": "term", "asked": {"text": "a"}}, now)
    with database.reading() as session:
        assert searches.find(session, search_id, now) == {"kind": "term", "asked": {"text": "a"}}
        assert searches.find(session, search_id, now + KEPT_FOR) is None
        assert searches.find(session, ids.new(), now) is None


def test_expired_searches_are_deleted_some_at_a_time(database: Database) -> None:
    now = datetime.now(UTC)
    for days in (40, 35, 31, 29):
        save_at(database, now - timedelta(days=days))
    pruned = []
    for _ in range(3):
        with database.transaction() as session:
            pruned.append(searches.prune(session, now, limit=2))
    assert pruned == [2, 1, 0]
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(OpsSearch)) == 1


def test_a_preview_that_nobody_acts_on_is_deleted_after_a_day(database: Database) -> None:
    now = datetime.now(UTC)
    expired = now - PREVIEW_KEPT_FOR - timedelta(minutes=1)
    kinds = ("chosen", "cancellation", "term", "messages", "chosen")
    *kept, acted_on = [save_at(database, expired + timedelta(seconds=at), kind) for at, kind in enumerate(kinds)]
    fresh = save_at(database, now - PREVIEW_KEPT_FOR + timedelta(minutes=1), "chosen")
    with database.transaction() as session:
        subject = ids.public(searches.PREFIX, acted_on)
        audits.write(session, at=now, actor="user anna", action="dismiss receipts", subject=subject)
    for pruned in (2, 0):
        with database.transaction() as session:
            assert searches.prune(session, now, limit=10) == pruned
    with database.reading() as session:
        assert set(session.scalars(select(OpsSearch.id))) == {*kept[2:], acted_on, fresh}
