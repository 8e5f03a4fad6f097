"""Users: one for each name, in any case; what is done to them is audited."""

import pytest
from sqlalchemy import select

from receiptsvc.domain.errors import Refused
from receiptsvc.store.access import users
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Audit
from tests.support.rows import T0

BY = Actor(actor="test", reason="because")


def test_a_name_is_one_users_in_any_case(database: Database) -> None:
    with database.transaction() as session:
        users.add(session, " Anna ", "hash", BY, T0)
    with database.reading() as session:
        found = users.find(session, "ANNA")
        assert found is not None
        assert found.name == "anna"
    with pytest.raises(Refused, match="there is a user anna"), database.transaction() as session:
        users.add(session, "aNNa", "hash", BY, T0)


@pytest.mark.parametrize("name", ["", " ", "anna smith", "x" * 65, "änna", "447700900000\n1"])
def test_a_name_has_few_characters(database: Database, name: str) -> None:
    with pytest.raises(Refused, match="a name has"), database.transaction() as session:
        users.add(session, name, "hash", BY, T0)


def test_what_is_done_to_a_user_is_audited(database: Database) -> None:
    with database.transaction() as session:
        users.add(session, "anna", "hash", BY, T0)
        users.disable(session, "anna", BY, T0)
        users.disable(session, "anna", BY, T0)
        users.set_password(session, "anna", "new", BY, T0)
        session.flush()
        found = users.find(session, "anna")
        assert found is not None
        assert found.disabled_at is None, "a new password lets in again"
    with database.reading() as session:
        rows = session.scalars(select(Audit).order_by(Audit.id)).all()
    assert [row.action for row in rows] == ["add user", "disable user", "set password"]
    assert {row.reason for row in rows} == {"because"}
    assert "hash" not in str([vars(row) for row in rows])


def test_nobody_can_be_disabled_who_is_not_there(database: Database) -> None:
    with pytest.raises(Refused, match="no user ben"), database.transaction() as session:
        users.disable(session, "ben", BY, T0)
