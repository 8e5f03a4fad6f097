"""How long a message waits for its final report."""

from datetime import datetime, timedelta

from receiptsvc.domain import waiting
from receiptsvc.domain.statuses import FINAL, Status
from tests.support.rows import T0, seconds


def measure(status: Status, deliver_after: float | None, now: float) -> timedelta | None:
    later = None if deliver_after is None else seconds(deliver_after)
    return waiting.measure(status, created_at=T0, deliver_after=later, now=seconds(now))


def test_it_waits_since_its_acceptance_or_its_deliver_after_until_it_is_final() -> None:
    assert measure(Status.SENT, None, 90) == timedelta(seconds=90)
    assert measure(Status.ACCEPTED, 60, 90) == timedelta(seconds=30)
    assert measure(Status.ACCEPTED, -600, 90) == timedelta(seconds=90), "never before it was accepted"
    assert measure(Status.ACCEPTED, 600, 90) == timedelta(0), "its time has not come"
    assert measure(Status.SENT, None, -1) == timedelta(0), "a clock that was set back"
    assert {measure(status, None, 90) for status in FINAL} == {None}


def test_it_is_overdue_since_an_hour_after_that() -> None:
    def find(status: Status, now: float) -> datetime | None:
        return waiting.find_overdue_since(status, created_at=T0, deliver_after=seconds(60), now=seconds(now))

    assert find(Status.SENT, 3659) is None
    assert find(Status.SENT, 3660) == find(Status.SENT, 90_000) == seconds(3660)
    assert find(Status.DELIVERED, 90_000) is None


def test_it_is_scheduled_until_its_time_has_come_or_it_is_final() -> None:
    def find(status: Status, deliver_after: float | None) -> datetime | None:
        later = None if deliver_after is None else seconds(deliver_after)
        return waiting.find_scheduled_at(status, deliver_after=later, now=seconds(60))

    assert find(Status.ACCEPTED, 61) == find(Status.SUBMITTED, 61) == seconds(61)
    assert find(Status.ACCEPTED, 60) is find(Status.ACCEPTED, None) is None
    assert {find(status, 61) for status in FINAL} == {None}
