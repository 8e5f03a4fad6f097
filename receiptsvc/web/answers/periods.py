"""The period of statistics: whole hours or UTC days, and no more of them than one answer may have."""

from datetime import datetime, timedelta

from receiptsvc.store.messages import hourly_counts
from receiptsvc.store.queries.statistics import DAYS_BY, By
from receiptsvc.web.http.errors import Problem

_DEFAULT_LENGTH = {By.HOUR: timedelta(days=1), By.DAY: timedelta(days=30)}


def round_out(since: datetime | None, until: datetime | None, by: By, now: datetime) -> tuple[datetime, datetime]:
    """Extend a range to whole hours or UTC days; fill in its defaults. Raises Problem 422."""
    end = start_of(until or now, by)
    if until is None or end < until:
        end += by.length
    begin = start_of(since or end - _DEFAULT_LENGTH[by], by)
    if begin >= end:
        raise bad_since("Must be earlier than until.")
    if end - begin > timedelta(days=DAYS_BY[by]):
        longer = f", or {DAYS_BY[By.DAY]} by day" if by is By.HOUR else ""
        raise bad_since(f"Must be at most {DAYS_BY[by]} days before until{longer}.")
    return begin, end


def start_of(time: datetime, by: By) -> datetime:
    """The start of the hour or UTC day that a time is in."""
    hour = hourly_counts.hour_of(time)
    return hour if by is By.HOUR else hour.replace(hour=0)


def bad_since(fault: str) -> Problem:
    """What is said of a period that makes no sense."""
    return Problem(422, "The query can't be understood.", errors={"since": [fault]})


def too_many(fault: str) -> Problem:
    """What is said of a period in which too much was counted."""
    return Problem(422, "The query can't be answered at once.", errors={"since": [fault]})
