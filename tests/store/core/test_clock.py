"""The database's clock: what a process learns of the time, and since when it has had answers."""

from time import monotonic, time

import pytest
import time_machine

from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.store.core.clock import Clock
from receiptsvc.store.core.db import Database


def test_an_answer_that_took_long_shows_that_the_database_stood_still_until_then() -> None:
    slow, still = Clock(), Clock()
    slow.measured(monotonic() - 1, time())
    assert slow.answers_since is None
    still.measured(monotonic() - 3, time())
    assert still.answers_since is not None
    assert still.answers_since <= still.now()
    assert still.ahead_seconds == 0.0, "nothing else can be learnt from it"


def test_an_answer_shows_that_the_database_was_there_when_it_was_asked() -> None:
    clock, began = Clock(), monotonic()
    assert not clock.has_answered_since(began)
    clock.waited(1.0)  # asked before that
    assert not clock.has_answered_since(began)
    clock.measured(monotonic(), time())
    assert clock.has_answered_since(began)


@pytest.mark.parametrize("step", [3600, -3600])
def test_a_step_of_our_own_clock_is_no_step_of_the_databases(step: int) -> None:
    clock, right = Clock(), time()
    clock.measured(monotonic(), right)
    with time_machine.travel(right + step, tick=True):
        assert abs(clock.now().timestamp() - right) < 2
        assert abs(clock.ahead_seconds - step) < 2


def test_a_database_that_was_away_answers_since_then() -> None:
    database = Database("postgresql+psycopg://nobody@127.0.0.1:1/nowhere")
    with pytest.raises(StorageUnavailable), database.reading() as session:
        session.connection()
    assert database.clock.answers_since is not None


def test_a_connection_that_is_not_free_says_nothing_of_the_database(database_url: str) -> None:
    database = Database(database_url, pool_size=1, busy_seconds=0.01)
    with database.reading() as held:
        held.connection()
        with pytest.raises(StorageUnavailable), database.reading() as session:
            session.connection()
    assert database.clock.answers_since is None
    database.close()
