"""Counts by the hour, kept in the commits that change what they count, so that no statistic ever scans the rows.

Three kinds, each with a word:
- `messages`: messages of the hour in which they were accepted, by their status now;
- `delays`: those of them that are delivered, by how long after their first offer that was, as a `delay_class`;
- `receipts`: receipts of the hour in which they came, by their effect; of no originator.

A fourth, `changes`, has no word and no originator: how often any other count of the hour was written. Who has added an
hour up need not do so again as long as this stands still.

Each process adds to its own slot, as with the counters of the ledger; a reader sums the slots.
"""

import math
from collections import Counter
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from receiptsvc.domain.statuses import Effect, Status
from receiptsvc.store.core import upsert
from receiptsvc.store.core.models import HourlyCount

MESSAGES, DELAYS, RECEIPTS, CHANGES = "messages", "delays", "receipts", "changes"

_STEP = 1.1  # a class of delays ends a tenth above the one before it
_MAX_CLASS = 200  # some six years

KEYS = ("hour", "kind", "originator", "label")


class CountKey(NamedTuple):
    """What is counted: see the module."""

    hour: datetime
    kind: str
    originator: str
    label: str


class CountedMessage(NamedTuple):
    """What of a message is counted."""

    created_at: datetime
    originator: str | None
    offered_at: datetime | None
    status: str
    status_at: datetime


def of_message(standing: CountedMessage) -> list[CountKey]:
    """Where a message counts, as it stands."""
    hour, originator = hour_of(standing.created_at), standing.originator or ""
    keys = [CountKey(hour, MESSAGES, originator, standing.status)]
    if standing.status == Status.DELIVERED and standing.offered_at is not None:
        took = (standing.status_at - standing.offered_at).total_seconds()
        keys.append(CountKey(hour, DELAYS, originator, delay_class(took)))
    return keys


def of_receipt(received_at: datetime, effect: Effect) -> CountKey:
    """Where a receipt counts that found its message."""
    return CountKey(hour_of(received_at), RECEIPTS, "", effect)


def hour_of(at: datetime) -> datetime:
    """The beginning of the hour, in UTC."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def delay_class(seconds: float) -> str:
    """A delay's class, three digits: `000` up to one second, then each a tenth longer than the one before."""
    place = math.ceil(math.log(seconds) / math.log(_STEP)) if seconds > 1 else 0
    return f"{min(place, _MAX_CLASS):03d}"


def delay_classes() -> list[str]:
    """All classes of delays, the shortest first."""
    return [f"{place:03d}" for place in range(_MAX_CLASS + 1)]


def longest_delay(word: str) -> float:
    """The longest delay of a class, in seconds."""
    return float(_STEP ** int(word))


def read(session: Session, hour: datetime | None = None) -> Counter[CountKey]:
    """The counts as they stand, of all hours or of one; not how often they changed."""
    columns = [getattr(HourlyCount, name) for name in KEYS]
    query = select(*columns, func.sum(HourlyCount.value)).where(HourlyCount.kind != CHANGES).group_by(*columns)
    if hour is not None:
        query = query.where(HourlyCount.hour == hour)
    return Counter({CountKey._make(row[:-1]): int(row[-1]) for row in session.execute(query)})


def add(session: Session, counts: Counter[CountKey]) -> None:
    """Add to this process's slot of each count, in the caller's transaction. Others may wait for it: call it late."""
    moved = {key: value for key, value in counts.items() if value}
    moved |= {CountKey(hour, CHANGES, "", ""): 1 for hour in {key.hour for key in moved}}
    # In one order, so that two transactions that share a slot can't wait for each other in a circle.
    rows = [{**key._asdict(), "slot": session.info["slot"], "value": value} for key, value in sorted(moved.items())]
    if rows:
        statement = upsert.into(session, HourlyCount)
        summed = {"value": HourlyCount.value + statement.excluded.value}
        session.execute(statement.on_conflict_do_update(index_elements=[*KEYS, "slot"], set_=summed), rows)
