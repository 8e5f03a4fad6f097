"""When a session is open, and what ends it."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from receiptsvc.store.access import sessions, users
from receiptsvc.store.access.sessions import Who
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import OpsSession
from tests.support.rows import T0

KEY = Who(name="ops", key_secret="a-secret-of-a-key")
BY = Actor(actor="test")


def begin(database: Database, who: Who = KEY, now: datetime = T0) -> str:
    with database.transaction() as session:
        return sessions.begin(session, who, now)[0]


def is_open(database: Database, secret: str, now: datetime = T0) -> bool:
    with database.reading() as session:
        return sessions.find(session, secret, now) is not None


def test_only_its_secret_opens_a_session(database: Database) -> None:
    secret = begin(database)
    assert is_open(database, secret)
    assert not is_open(database, secret[:-1])
    with database.reading() as session:
        (row,) = session.scalars(select(OpsSession))
    assert secret not in str(vars(row))
    assert row.who == "key ops"


def test_a_secret_tells_whose_it_is_and_nobody_s_name(database: Database) -> None:
    with database.transaction() as session:
        secrets = [sessions.begin(session, who, T0)[0] for who in (Who(name="anna"), Who(name="anna"), Who(name="ben"))]
        by_key, _ = sessions.begin(session, Who(name="anna", key_secret="x" * 16), T0)
    first, second, other = secrets
    assert sessions.tag_of(first) == sessions.tag_of(second)
    assert len({sessions.tag_of(each) for each in (first, other, by_key)}) == 3
    assert not [each for each in secrets if "anna" in each or "ben" in each]


def test_a_secret_of_an_earlier_release_tells_which_session_it_opens() -> None:
    assert sessions.tag_of("a" * 43) == sessions.tag_of("a" * 43) != sessions.tag_of("b" * 43)
    assert "aaa" not in sessions.tag_of("a" * 43)


def test_a_session_ends_after_an_hour_without_use(database: Database) -> None:
    secret = begin(database)
    assert is_open(database, secret, T0 + timedelta(minutes=59))
    assert not is_open(database, secret, T0 + timedelta(minutes=61))


def test_a_session_in_use_ends_after_twelve_hours(database: Database) -> None:
    secret = begin(database)
    with database.transaction() as session:
        found = sessions.find(session, secret, T0)
        assert found is not None
        sessions.touch(session, found.id, T0 + timedelta(hours=11.5))
    assert is_open(database, secret, T0 + timedelta(hours=11.9))
    assert not is_open(database, secret, T0 + timedelta(hours=12.1))


def test_one_ends_only_ones_own_sessions(database: Database) -> None:
    secret = begin(database)
    with database.transaction() as session:
        (row,) = sessions.list_open(session, "key ops", T0)
        assert sessions.end(session, "key other", [row.id], T0) == 0
    assert is_open(database, secret)
    with database.transaction() as session:
        assert sessions.end(session, "key ops", [row.id], T0) == 1
        assert sessions.end(session, "key ops", [row.id], T0) == 0
    assert not is_open(database, secret)


@pytest.mark.parametrize("is_disabled", [True, False])
def test_a_user_who_is_disabled_or_has_a_new_password_is_signed_out(database: Database, is_disabled: bool) -> None:
    with database.transaction() as session:
        user = users.add(session, "anna", "hash", BY, T0)
    mine, others = begin(database, Who(name="anna", user_id=user.id)), begin(database)
    with database.transaction() as session:
        if is_disabled:
            assert users.disable(session, "anna", BY, T0) == 1
        else:
            assert users.set_password(session, "anna", "new", BY, T0) == 1
    assert not is_open(database, mine)
    assert is_open(database, others)


def test_a_session_begun_while_its_user_was_being_disabled_is_not_open(database: Database) -> None:
    with database.transaction() as session:
        user = users.add(session, "anna", "hash", BY, T0)
        users.disable(session, "anna", BY, T0)
    assert not is_open(database, begin(database, Who(name="anna", user_id=user.id)))


def test_sessions_that_ended_long_ago_are_forgotten(database: Database) -> None:
    begin(database)
    begin(database, now=T0 + timedelta(days=8))
    with database.reading() as session:
        (row,) = session.scalars(select(OpsSession))
    assert row.made_at == T0 + timedelta(days=8)


def test_what_is_stored_of_a_key_tells_nothing_without_the_sessions_secret() -> None:
    digest = sessions.key_digest_of("secret of a session", "secret of a key")
    assert digest != sessions.key_digest_of("another session's", "secret of a key")
    assert digest != sessions.key_digest_of("secret of a session", "another key's")


def test_which_sessions_are_open_is_told_of_many_at_once(database: Database) -> None:
    with database.transaction() as session:
        user = users.add(session, "anna", "hash", BY, T0)
        session.flush()
        anna = Who(name="anna", user_id=user.id)
        [(_, ended), (_, idle), (_, disabled), (_, open_one)] = [
            sessions.begin(session, who, now)
            for who, now in ((KEY, T0), (KEY, T0 - timedelta(hours=2)), (anna, T0), (KEY, T0))
        ]
        sessions.end(session, KEY.actor, [ended], T0)
        users.disable(session, "anna", BY, T0)
    with database.reading() as session:
        found = sessions.find_open(session, [ended, idle, disabled, open_one], T0)
        assert list(found) == [open_one]
        assert list(sessions.find_open(session, [], T0)) == []
