"""The counts of each minute: kept once, for two hours, and what their differences say."""

from datetime import timedelta
from math import inf

from sqlalchemy import func, select

from receiptsvc.domain.statuses import Status
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Minute
from receiptsvc.store.health import minutes
from receiptsvc.store.health.minutes import MINUTE, Answers, Growth, Sums
from receiptsvc.store.inbox import counters
from tests.support import rows, stories
from tests.support.rows import T0, seconds


def keep(database: Database, at: float) -> bool:
    with database.transaction() as session:
        return minutes.keep(session, seconds(at))


def read(database: Database, since: float = 0) -> list[Sums]:
    with database.reading() as session:
        return list(minutes.read(session, seconds(since)))


def count(database: Database, **counts: int) -> None:
    with database.transaction() as session:
        counters.add(session, counts)


def test_a_minute_is_kept_once_by_whoever_comes_first(database: Database) -> None:
    count(database, received=3)
    assert [keep(database, at) for at in (1, 30, 59, 60)] == [True, False, False, True]
    kept = read(database)
    assert [sums.at for sums in kept] == [seconds(1), seconds(60)]
    assert kept[0].totals == {"received": 3}
    assert [sums.at for sums in read(database, 70)] == [seconds(60)]


def test_what_is_older_than_two_hours_goes(database: Database) -> None:
    for hour in range(4):
        keep(database, 3600 * hour)
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Minute)) == 3


def test_a_counter_grows_so_much_a_minute(database: Database) -> None:
    count(database, received=3, taken=1)
    keep(database, 0)
    count(database, received=6)
    keep(database, 120)
    before, after = read(database)
    assert minutes.count_per_minute(before, after, counters.RECEIVED) == 3
    assert minutes.count_per_minute(before, after, counters.TAKEN) == 0
    assert minutes.count_per_minute(before, after, "never counted") == 0


def test_the_growth_of_a_counter_is_told_with_its_time_and_fades(database: Database) -> None:
    def growth(total: int, at: float) -> Growth | None:
        with database.reading() as session:
            return minutes.find_growth(session, "stray", total, seconds(at), timedelta(minutes=5))

    assert growth(4, 0) is None, "since when they came, nobody knows"
    for at, more in ((0, 0), (60, 0), (120, 3), (180, 1), (240, 0)):
        count(database, stray=more, received=1)
        keep(database, at)
    assert growth(0, 250) is None
    assert growth(4, 250) == Growth(count=4, first_at=seconds(60), last_at=seconds(180))
    assert growth(6, 250) == Growth(count=6, first_at=seconds(60), last_at=seconds(250)), "the last minute is not over"
    assert growth(4, 420) == Growth(count=1, first_at=seconds(120), last_at=seconds(180))
    assert growth(4, 480) is None


def test_messages_that_came_to_a_status_are_counted_in_the_minute_whatever_hour_their_receipt_is_of(
    database: Database,
) -> None:
    first, second, third = rows.accept(database, *(rows.message(f"44770090000{n}") for n in range(3)))
    stories.report(database, first, Status.SENT, seconds(1))
    keep(database, 3590)
    stories.report(database, first, Status.DELIVERED, seconds(3500))  # in the hour before, and worked on only now
    stories.report(database, second, Status.DELIVERED, seconds(3610))
    stories.report(database, second, Status.DELIVERED, seconds(3610))  # a duplicate
    stories.report(database, third, Status.UNDELIVERED, seconds(3611))
    count(database, taken=4)
    keep(database, 3660)
    before, after = read(database)
    assert minutes.count_changes(before, after) == {
        Status.SUBMITTED: 4,
        Status.DELIVERED: 2,
        Status.UNDELIVERED: 1,
    }
    assert minutes.count_changes(after, after) == {}


def test_the_99th_answer_of_100_is_told_by_its_class(database: Database) -> None:
    with database.transaction() as session:
        counters.add_answers(session, {0.005: 1000})
    keep(database, 0)
    with database.transaction() as session:
        counters.add_answers(session, {0.005: 97, 0.05: 1, 0.5: 1, inf: 1})
    keep(database, 60)
    before, after = read(database)
    assert minutes.measure_answers(before, after) == Answers(count=100, p99=0.5)
    assert minutes.measure_answers(after, after) == Answers(count=0, p99=None)
    with database.transaction() as session:
        counters.add_answers(session, {inf: 2})
    keep(database, 120)
    assert minutes.measure_answers(read(database)[0], read(database)[2]) == Answers(count=102, p99=inf)


def test_the_ledger_does_not_change_by_what_is_counted_beside_it(database: Database) -> None:
    count(database, received=3, callbacks=3, pending=3, taken=5)
    with database.transaction() as session:
        counters.add_answers(session, {0.005: 97})
        ledger = counters.read(session)
    assert (ledger.received, ledger.is_balanced) == (3, True)


def test_sums_of_earlier_minutes_tell_how_old_they_are(database: Database) -> None:
    keep(database, 0)
    with database.reading() as session:
        now = minutes.measure(session, T0 + timedelta(hours=1))
    assert now.at - read(database)[0].at == 60 * MINUTE
