"""How long a message waits for its final report, and when that is overdue."""

from datetime import datetime, timedelta

from receiptsvc.domain.statuses import FINAL, Status

OVERDUE_AFTER = timedelta(hours=1)


def measure(status: Status, *, created_at: datetime, deliver_after: datetime | None, now: datetime) -> timedelta | None:
    """How long a message has waited, since its acceptance or its deliverAfter; None if its status is final."""
    if status in FINAL:
        return None
    since = max(created_at, deliver_after or created_at)
    return max(now - since, timedelta(0))


def find_overdue_since(
    status: Status, *, created_at: datetime, deliver_after: datetime | None, now: datetime
) -> datetime | None:
    """Since when a message's final report is overdue; None: it is not."""
    waited = measure(status, created_at=created_at, deliver_after=deliver_after, now=now)
    return now - waited + OVERDUE_AFTER if waited is not None and waited >= OVERDUE_AFTER else None


def find_scheduled_at(status: Status, *, deliver_after: datetime | None, now: datetime) -> datetime | None:
    """When a message is to go out, here or at the gateway, before which nothing is wrong with it; None: it is due."""
    return deliver_after if deliver_after is not None and deliver_after > now and status not in FINAL else None
