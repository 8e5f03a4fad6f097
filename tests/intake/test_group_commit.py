"""The writer of callbacks tells others of its commits, and not at each of them; and tells whether it could keep one."""

import threading
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from time import monotonic

import gevent
import pytest

from receiptsvc import ids
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.domain.inbox import Arrival, Channel, Kept
from receiptsvc.domain.messages import Callback
from receiptsvc.intake.group_commit import GroupCommit
from receiptsvc.server.threads import Loop
from receiptsvc.spool.writer import Spool
from receiptsvc.store.core.db import Database
from receiptsvc.store.inbox.writer import open_writer

FOR_SECONDS = 0.5


def arrival() -> Arrival:
    return Arrival(
        id=ids.new(),
        channel=Channel.ACCOUNT,
        message_id=None,
        received_at=datetime.now(UTC),
        callback=Callback(method="GET", query=b"a=1", content_type=None, body=b""),
    )


def test_news_are_told_after_commits_and_at_most_once_in_20_ms(database_url: str, database: Database) -> None:
    door = open_writer(database_url, database.slot, patience_seconds=5)
    told: list[float] = []
    keeper = GroupCommit(door, budget_seconds=5, on_commit=lambda: told.append(monotonic()))
    began, commits = monotonic(), 0
    while monotonic() < began + FOR_SECONDS:
        keeper.keep(arrival())  # alone in its group
        commits += 1
    last = monotonic()
    with gevent.Timeout(5):
        while told[-1] < last - 0.02:  # the word of the last commit may have gone out before we looked at the clock
            gevent.sleep(0.005)
    keeper.close()
    door.close()
    gaps = [later - sooner for sooner, later in pairwise(told)]
    assert min(gaps) >= 0.02
    assert commits > len(told) > 1, "each told of several"
    with database.reading() as session:
        assert session.connection().exec_driver_sql("select count(*) from inbox").scalar() == commits


class Storage:
    """A door that counts, and fails as it is told to."""

    def __init__(self) -> None:
        self.trials = self.connects = 0
        self.error: Exception | None = None
        self.is_open = threading.Event()  # while it is not set, everything hangs
        self.is_open.set()

    def connect(self) -> None:
        self.connects += 1

    def keep(self, _arrivals: object) -> None:
        self.is_open.wait(30)
        if self.error:
            raise self.error

    def try_keeping(self) -> None:
        self.trials += 1
        self.keep([])

    def abandon(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_the_outcome_of_keeping_tells_and_without_one_a_trial_at_most_once_a_second() -> None:
    storage = Storage()
    keeper = GroupCommit(storage, budget_seconds=5)
    keeper.keep(arrival())
    assert keeper.find_out() is Kept.IN_DATABASE
    assert storage.trials == 0, "a callback has just been kept"
    fresh = GroupCommit(storage, budget_seconds=5)
    began, asked = monotonic(), 0
    with gevent.Timeout(10):
        while storage.trials < 3:
            asked += 1
            assert fresh.find_out() is Kept.IN_DATABASE
            gevent.sleep(0.01)
    assert monotonic() - began > 2, "the first at once"
    assert asked > 3
    keeper.close()
    fresh.close()


def test_many_who_ask_at_once_share_a_trial() -> None:
    storage = Storage()
    keeper = GroupCommit(storage, budget_seconds=5)
    asked = [gevent.spawn(keeper.find_out) for _ in range(20)]
    gevent.joinall(asked, timeout=5)
    assert [one.value for one in asked] == [Kept.IN_DATABASE] * 20
    assert storage.trials == 1
    keeper.close()


def test_what_was_refused_for_its_content_tells_nothing() -> None:
    storage = Storage()
    keeper = GroupCommit(storage, budget_seconds=5)
    storage.error = ValueError("a bad callback")
    with pytest.raises(StorageUnavailable):
        keeper.keep(arrival())
    storage.error = None
    assert keeper.find_out() is Kept.IN_DATABASE
    assert storage.trials == 1
    keeper.close()


def test_what_could_not_be_kept_tells_so_and_a_spool_stands_in(tmp_path: Path) -> None:
    storage = Storage()
    storage.error = StorageUnavailable("away")
    spool = Spool(tmp_path / "spool")
    without, spooled = GroupCommit(storage, budget_seconds=0.1), GroupCommit(storage, budget_seconds=0.1, spool=spool)
    for _ in range(2):  # at first by a trial
        with pytest.raises(StorageUnavailable):
            without.find_out()
        assert spooled.find_out() is Kept.IN_SPOOL
        with pytest.raises(StorageUnavailable):
            without.keep(arrival())
        spooled.keep(arrival())
    spool.close()
    without.close()
    spooled.close()


def test_while_a_group_hangs_somebody_who_asks_is_answered_within_two_seconds(tmp_path: Path) -> None:
    hanging = Storage()
    hanging.is_open.clear()
    spool = Spool(tmp_path / "spool")
    without, spooled = GroupCommit(hanging, budget_seconds=4), GroupCommit(hanging, budget_seconds=4, spool=spool)
    calls = [gevent.spawn(keeper.keep, arrival()) for keeper in (without, spooled)]
    gevent.sleep(0.05)
    began = monotonic()
    answers = [gevent.spawn(keeper.find_out) for keeper in (without, spooled)]
    gevent.joinall(answers, timeout=5)
    assert monotonic() - began < 2
    assert isinstance(answers[0].exception, StorageUnavailable)
    assert answers[1].value is Kept.IN_SPOOL
    hanging.is_open.set()
    gevent.joinall(calls, timeout=10)
    assert without.find_out() is Kept.IN_DATABASE
    spool.close()
    without.close()
    spooled.close()


def test_the_connection_is_seen_to_while_nothing_comes() -> None:
    storage = Storage()
    keeper = GroupCommit(storage, budget_seconds=5)
    with gevent.Timeout(5):
        while storage.connects < 2:
            gevent.sleep(0.01)
    keeper.close()


def test_a_native_thread_can_ask_and_is_told_errors_too() -> None:
    storage = Storage()
    told: list[Kept | StorageUnavailable] = []
    keeper, loop = GroupCommit(storage, budget_seconds=0.1), Loop()

    def ask() -> None:
        try:
            told.append(loop.do(2, keeper.find_out))
        except StorageUnavailable as error:
            told.append(error)

    with gevent.Timeout(10):
        for error in (None, StorageUnavailable("away")):
            storage.error = error
            thread = threading.Thread(target=ask)
            thread.start()
            while thread.is_alive() or not thread.ident:
                gevent.sleep(0.01)
            gevent.sleep(1)  # a trial tells for so long
    keeper.close()
    assert told[0] is Kept.IN_DATABASE
    assert isinstance(told[1], StorageUnavailable)
