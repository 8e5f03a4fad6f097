"""Group commit: it notifies after commits, not after each, and answers probes whether it could keep a callback."""

import threading
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import gevent
import pytest

from receiptsvc import ids
from receiptsvc.domain.errors import StorageUnavailable
from receiptsvc.domain.inbox import Arrival, Channel, Kept
from receiptsvc.domain.messages import Callback
from receiptsvc.intake.group_commit import GroupCommit
from receiptsvc.server.threads import EventLoop
from receiptsvc.spool.writer import Spool
from receiptsvc.store.core.db import Database
from receiptsvc.store.inbox.writer import open_writer

RUN_SECONDS = 0.5


def arrival() -> Arrival:
    return Arrival(
        id=ids.new(),
        channel=Channel.ACCOUNT,
        message_id=None,
        received_at=datetime.now(UTC),
        callback=Callback(method="GET", query=b"a=1", content_type=None, body=b""),
    )


def test_on_commit_is_called_after_each_commit(database_url: str, database: Database) -> None:
    writer = open_writer(database_url, database.slot, patience_seconds=5)
    kept: list[object] = []

    def count() -> None:
        with database.reading() as session:
            kept.append(session.connection().exec_driver_sql("select count(*) from inbox").scalar())

    group_commit = GroupCommit(writer, budget_seconds=5, on_commit=count)
    for _ in range(3):
        group_commit.keep(arrival())  # alone in its group
    group_commit.close()
    writer.close()
    assert kept == [1, 2, 3]


class FakeWriter:
    """An inbox writer that counts its calls, and raises `error` or hangs if a test says so."""

    def __init__(self) -> None:
        self.trials = self.connects = 0
        self.error: Exception | None = None
        self.is_open = threading.Event()  # while it is not set, writes hang
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


def test_a_probe_uses_the_last_outcome_or_else_a_trial_at_most_once_a_second() -> None:
    writer = FakeWriter()
    group_commit = GroupCommit(writer, budget_seconds=5)
    group_commit.keep(arrival())
    assert group_commit.probe() is Kept.IN_DATABASE
    assert writer.trials == 0, "a callback has just been kept"
    fresh = GroupCommit(writer, budget_seconds=5)
    started_at, probes = monotonic(), 0
    with gevent.Timeout(10):
        while writer.trials < 3:
            probes += 1
            assert fresh.probe() is Kept.IN_DATABASE
            gevent.sleep(0.01)
    assert monotonic() - started_at > 2, "the first trial is at once"
    assert probes > 3
    group_commit.close()
    fresh.close()


def test_probes_at_the_same_time_share_a_trial() -> None:
    writer = FakeWriter()
    group_commit = GroupCommit(writer, budget_seconds=5)
    probes = [gevent.spawn(group_commit.probe) for _ in range(20)]
    gevent.joinall(probes, timeout=5)
    assert [probe.value for probe in probes] == [Kept.IN_DATABASE] * 20
    assert writer.trials == 1
    group_commit.close()


def test_a_callback_refused_for_its_content_does_not_answer_a_probe() -> None:
    writer = FakeWriter()
    group_commit = GroupCommit(writer, budget_seconds=5)
    writer.error = ValueError("a bad callback")
    with pytest.raises(StorageUnavailable):
        group_commit.keep(arrival())
    writer.error = None
    assert group_commit.probe() is Kept.IN_DATABASE
    assert writer.trials == 1
    group_commit.close()


def test_a_probe_fails_without_the_database_unless_there_is_a_spool(tmp_path: Path) -> None:
    writer = FakeWriter()
    writer.error = StorageUnavailable("away")
    spool = Spool(tmp_path / "spool")
    without, spooled = GroupCommit(writer, budget_seconds=0.1), GroupCommit(writer, budget_seconds=0.1, spool=spool)
    for _ in range(2):  # by a trial, then by the last outcome
        with pytest.raises(StorageUnavailable):
            without.probe()
        assert spooled.probe() is Kept.IN_SPOOL
        with pytest.raises(StorageUnavailable):
            without.keep(arrival())
        spooled.keep(arrival())
    spool.close()
    without.close()
    spooled.close()


def test_a_probe_is_answered_within_two_seconds_while_a_group_hangs(tmp_path: Path) -> None:
    hanging = FakeWriter()
    hanging.is_open.clear()
    spool = Spool(tmp_path / "spool")
    without, spooled = GroupCommit(hanging, budget_seconds=4), GroupCommit(hanging, budget_seconds=4, spool=spool)
    calls = [gevent.spawn(group_commit.keep, arrival()) for group_commit in (without, spooled)]
    gevent.sleep(0.05)
    started_at = monotonic()
    answers = [gevent.spawn(group_commit.probe) for group_commit in (without, spooled)]
    gevent.joinall(answers, timeout=5)
    assert monotonic() - started_at < 2
    assert isinstance(answers[0].exception, StorageUnavailable)
    assert answers[1].value is Kept.IN_SPOOL
    hanging.is_open.set()
    gevent.joinall(calls, timeout=10)
    assert without.probe() is Kept.IN_DATABASE
    spool.close()
    without.close()
    spooled.close()


def test_the_connection_is_checked_while_no_callback_comes() -> None:
    writer = FakeWriter()
    group_commit = GroupCommit(writer, budget_seconds=5)
    with gevent.Timeout(5):
        while writer.connects < 2:
            gevent.sleep(0.01)
    group_commit.close()


def test_a_native_thread_can_probe_and_gets_errors_too() -> None:
    writer = FakeWriter()
    outcomes: list[Kept | StorageUnavailable] = []
    group_commit, loop = GroupCommit(writer, budget_seconds=0.1), EventLoop()

    def probe() -> None:
        try:
            outcomes.append(loop.run(2, group_commit.probe))
        except StorageUnavailable as error:
            outcomes.append(error)

    with gevent.Timeout(10):
        for error in (None, StorageUnavailable("away")):
            writer.error = error
            thread = threading.Thread(target=probe)
            thread.start()
            while thread.is_alive() or not thread.ident:
                gevent.sleep(0.01)
            gevent.sleep(1)  # a trial's outcome is valid for so long
    group_commit.close()
    assert outcomes[0] is Kept.IN_DATABASE
    assert isinstance(outcomes[1], StorageUnavailable)


class BrokenSpool:
    """A spool on a disk that takes nothing."""

    def append(self, _arrivals: object) -> None:
        raise StorageUnavailable("SPOOL_DIR: it could not be written", "SPOOL_DIR not writable")

    def try_appending(self) -> None:
        self.append([])


def test_what_can_not_be_kept_is_logged_once_by_its_reason_and_told_to_probes(caplog: pytest.LogCaptureFixture) -> None:
    writer = FakeWriter()
    group_commit = GroupCommit(writer, budget_seconds=0.1, spool=BrokenSpool())  # type: ignore[arg-type]  # all it uses
    writer.error = StorageUnavailable("nothing listens there", "unreachable")
    with pytest.raises(StorageUnavailable, match="nothing listens there; SPOOL_DIR: it could not be written") as caught:
        group_commit.probe()
    assert caught.value.kind == "unreachable, SPOOL_DIR not writable"
    for _ in range(3):
        with pytest.raises(StorageUnavailable):
            group_commit.keep(arrival())
    assert [record.message for record in caplog.records] == [
        "intake.spool_trial_failed",
        "intake.trial_not_in_database",
        "intake.not_spooled",
        "intake.not_kept",
    ]
    caplog.clear()
    writer.error = ValueError("a bad callback")
    another = GroupCommit(writer, budget_seconds=0.1)
    with pytest.raises(StorageUnavailable):
        another.probe()
    with pytest.raises(StorageUnavailable):
        another.keep(arrival())
    assert [record.message for record in caplog.records] == [
        "intake.trial_failed",
        "intake.group_failed",
        "intake.not_kept",
    ]
    group_commit.close()
    another.close()
