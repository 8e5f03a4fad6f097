"""So many sign-ins are tried with one name, and with all: in all processes together."""

from datetime import datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select

from receiptsvc.store.access import guesses
from receiptsvc.store.access.guesses import TooManyGuesses
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import SignInGuesses
from tests.support.rows import T0


def is_counted(database: Database, who: bytes, now: datetime = T0) -> bool:
    try:
        with database.transaction() as session:
            guesses.count(session, who, now)
    except TooManyGuesses:
        return False
    return True


def test_a_name_can_be_tried_so_often(database: Database) -> None:
    assert [is_counted(database, b"anna") for _ in range(guesses.MAX_OF_ONE + 2)].count(True) == guesses.MAX_OF_ONE
    assert is_counted(database, b"ben")


def test_all_names_together_can_be_tried_so_often(database: Database) -> None:
    tried = [is_counted(database, b"%d" % number) for number in range(guesses.MAX_OF_ALL + 5)]
    assert tried.count(True) == guesses.MAX_OF_ALL


def test_a_name_opens_again_while_it_is_still_being_tried(database: Database) -> None:
    for second in range(0, 130, 2):
        counted = is_counted(database, b"anna", T0 + timedelta(seconds=second))
    assert counted
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(SignInGuesses)) == 2, "the minutes before are deleted"


def test_processes_count_together(database: Database, database_url: str) -> None:
    other = Database(database_url)
    tried = [is_counted(each, b"anna") for _ in range(guesses.MAX_OF_ONE) for each in (database, other)]
    assert tried.count(True) == guesses.MAX_OF_ONE
    other.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=15)
@given(st.lists(st.integers(0, 20), min_size=20, max_size=60))
def test_no_minute_has_more_than_it_may(sqlite_url: str, gaps: list[int]) -> None:
    database = Database(sqlite_url)
    with database.transaction() as session:
        session.execute(delete(SignInGuesses))
    now, counted = T0, list[datetime]()
    for gap in gaps:
        now += timedelta(seconds=gap)
        counted += [now] if is_counted(database, b"anna", now) else []
    for at in counted:
        within = [each for each in counted if at <= each < at + timedelta(minutes=1)]
        assert len(within) <= guesses.MAX_OF_ONE
    database.close()
