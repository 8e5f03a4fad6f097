"""Hourly counts, updated in the commits that change what they count, so that statistics never scan the rows.

Three kinds, each with a label:
- `messages`: messages accepted in the hour, by their present status;
- `delays`: those of them that are delivered, by the `delay_class` of the time from first offer to delivery;
- `receipts`: receipts received in the hour, by effect; without an originator.

A fourth, `changes`, has neither label nor originator: how often any other count of the hour was written. A sum of an
hour stays valid as long as this count stays the same.

Each process adds to its own slot, as with the counters of the ledger; a reader sums the slots.
"""

import math
from collections import Counter
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from receiptsvc.domain.statuses import Effect, Status
from receiptsvc.store.core import bulk
from receiptsvc.store.core.models import HourlyCount

MESSAGES, DELAYS, RECEIPTS, CHANGES = "messages", "delays", "receipts", "changes"

_STEP = 1.1  # each class of delays ends a tenth above the one before it
_MAX_CLASS = 200  # about six years

KEYS = ("hour", "kind", "originator", "label")


class CountKey(NamedTuple):
    """What a count counts; see the module."""

    hour: datetime
    kind: str
    originator: str
    label: str


class CountedMessage(NamedTuple):
    """The values by which a message is counted."""

    created_at: datetime
    originator: str | None
    offered_at: datetime | None
    status: str
    status_at: datetime


def of_message(message: CountedMessage) -> list[CountKey]:
    """The counts that a message is part of."""
    hour, originator = hour_of(message.created_at), message.originator or ""
    keys = [CountKey(hour, MESSAGES, originator, message.status)]
    if message.status == Status.DELIVERED and message.offered_at is not None:
        delay_seconds = (message.status_at - message.offered_at).total_seconds()
        keys.append(CountKey(hour, DELAYS, originator, delay_class(delay_seconds)))
    return keys


def of_receipt(received_at: datetime, effect: Effect) -> CountKey:
    """The count that a matched receipt is part of."""
    return CountKey(hour_of(received_at), RECEIPTS, "", effect)


def hour_of(at: datetime) -> datetime:
    """The beginning of the hour, in UTC."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def delay_class(seconds: float) -> str:
    """The class of a delay, three digits: `000` up to one second, each further one ends a tenth later."""
    number = math.ceil(math.log(seconds) / math.log(_STEP)) if seconds > 1 else 0
    return f"{min(number, _MAX_CLASS):03d}"


def delay_classes() -> list[str]:
    """All classes of delays, the shortest first."""
    return [f"{number:03d}" for number in range(_MAX_CLASS + 1)]


def longest_delay(label: str) -> float:
    """The longest delay of a class, in seconds."""
    return float(_STEP ** int(label))


def read(session: Session, hour: datetime | None = None) -> Counter[CountKey]:
    """The counts of all hours or of one, summed over the slots; without `changes`."""
    columns = [getattr(HourlyCount, name) for name in KEYS]
    query = select(*columns, func.sum(HourlyCount.value)).where(HourlyCount.kind != CHANGES).group_by(*columns)
    if hour is not None:
        query = query.where(HourlyCount.hour == hour)
    return Counter({CountKey._make(row[:-1]): int(row[-1]) for row in session.execute(query)})


def add(session: Session, counts: Counter[CountKey]) -> None:
    """Add to this process's slot of each count, in the caller's transaction. Others may wait for it: call it late."""
    changed = {key: value for key, value in counts.items() if value}
    changed |= {CountKey(hour, CHANGES, "", ""): 1 for hour in {key.hour for key in changed}}
    # In the order of keys, so that two transactions that share a slot can't deadlock.
    rows = [{**key._asdict(), "slot": session.info["slot"], "value": value} for key, value in sorted(changed.items())]
    if rows:
        statement = bulk.upsert(session, HourlyCount)
        summed = {"value": HourlyCount.value + statement.excluded.value}
        session.execute(statement.on_conflict_do_update(index_elements=[*KEYS, "slot"], set_=summed), rows)
