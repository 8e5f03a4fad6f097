"""Messages that belong together, added up by status, on each database engine."""

import pytest

from receiptsvc.domain.statuses import Status
from receiptsvc.store.core.db import Database
from receiptsvc.store.queries import batches
from receiptsvc.store.queries.batches import RollUp
from tests.support import rows, stories
from tests.support.rows import seconds

NONE = RollUp(statuses={}, first_at=None, last_at=None, changed_at=None)


def test_chosen_messages_are_added_up_by_status(database: Database) -> None:
    first, second, other = (rows.message(f"44770090000{n}") for n in range(3))
    rows.accept(database, first, now=seconds(1))
    rows.accept(database, second, other, now=seconds(5))
    stories.report(database, second.id, Status.DELIVERED, seconds(9))
    stories.report(database, other.id, Status.DELIVERED, seconds(99))
    with database.reading() as session:
        found = batches.roll_up(session, [first.id, second.id])
        nothing = batches.roll_up(session, [])
    assert list(found.statuses.items()) == [(Status.ACCEPTED, 1), (Status.DELIVERED, 1)]
    assert (found.count, found.final) == (2, 1)
    assert (found.first_at, found.last_at) == (seconds(1), seconds(5))
    assert found.changed_at is not None
    assert found.changed_at >= seconds(9)
    assert nothing == NONE


def test_those_of_a_client_ref_prefix_are_counted_to_a_bound(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = ["spring/a", "spring/b", "spring/b", "springtime", "Spring/a", None]
    rows.accept(database, *(rows.message(f"44770090000{n}", client_ref=ref) for n, ref in enumerate(refs)))
    with database.reading() as session:
        whole = batches.roll_up_prefix(session, "spring/")
        nothing = batches.roll_up_prefix(session, "autumn/")
    assert (whole.statuses, whole.looked_to) == ({Status.ACCEPTED: 3}, None)
    assert nothing == NONE
    monkeypatch.setattr(batches, "MAX_COUNTED", 2)
    with database.reading() as session:
        cut = batches.roll_up_prefix(session, "spring/")
    assert (cut.count, cut.looked_to) == (2, "spring/b")


def test_the_messages_of_a_request_are_those_accepted_with_one_of_them(database: Database) -> None:
    together = [rows.message(f"44770090000{n}") for n in range(3)]
    rows.accept(database, *together, now=seconds(1))
    rows.accept(database, rows.message("447700900010", created_by="other"), now=seconds(1))
    rows.accept(database, rows.message("447700900011"), now=seconds(1.000001))
    with database.reading() as session:
        found = batches.find_request(session, together[1].id, 99)
        some = batches.find_request(session, together[1].id, 2)
        none = batches.find_request(session, rows.message().id, 99)
    assert (list(found), list(some), list(none)) == ([one.id for one in together], list(found)[:2], [])
