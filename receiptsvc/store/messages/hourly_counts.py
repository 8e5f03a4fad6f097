"""Hourly counts, updated in the commits that change what they count, so that statistics never scan the rows.

Three kinds that statistics begin with, each with a label:
- `messages`: messages accepted in the hour, by their present status;
- `delays`: those of them that are delivered, by the `delay_class` of the time from first offer to delivery;
- `receipts`: receipts received in the hour, by effect; without an originator.

Two more break these down, without an originator, in few rows a commit:
- `places`: messages accepted in the hour that have a final status, by calling code and status; failed ones also by the
  first digits after the code, which delivered ones don't tell: their digits would take a row for nearly each receipt;
- `codes`: what was reported in the hour, but duplicates, by status, class of failure and the gateway's status id; of
  our own steps only failures.

`changes` has neither label nor originator: how often a count of the first three was written for the hour. A sum of
an hour stays valid as long as this count stays the same. `since` names the hour from which on the last two were
counted, if there were messages before that.

Each process adds to its own slot, as with the counters of the ledger; a reader sums the slots.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from receiptsvc.domain import numbers
from receiptsvc.domain.failures import FAILURES, reason_of
from receiptsvc.domain.statuses import FINAL, Effect, Report, Source, Status
from receiptsvc.store.core import bulk
from receiptsvc.store.core.models import HourlyCount

MESSAGES, DELAYS, RECEIPTS, CHANGES = "messages", "delays", "receipts", "changes"
PLACES, CODES, SINCE = "places", "codes", "since"
BREAKDOWNS = frozenset({PLACES, CODES})
UNMAPPED = "unmapped"  # in place of the status of a report without one

_STEP = 1.1  # each class of delays ends a tenth above the one before it
_MAX_CLASS = 200  # about six years

MAX_STATUS_ID = 20  # characters

KEYS = ("hour", "kind", "originator", "label")
_FETCH_ROWS = 1000


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
    recipient: str


class Place(NamedTuple):
    """What a count of `places` is of."""

    calling_code: str  # empty: none is known
    status: Status
    prefix: str  # empty: not told


class Code(NamedTuple):
    """What a count of `codes` is of."""

    status: str  # a status, or UNMAPPED
    reason: str  # of a failure: a `FailureReason`
    status_id: str  # the gateway's, cut; empty: there was none


def of_message(message: CountedMessage) -> list[CountKey]:
    """The counts that a message is part of."""
    hour, originator = hour_of(message.created_at), message.originator or ""
    keys = [CountKey(hour, MESSAGES, originator, message.status)]
    if message.status == Status.DELIVERED and message.offered_at is not None:
        delay_seconds = (message.status_at - message.offered_at).total_seconds()
        keys.append(CountKey(hour, DELAYS, originator, delay_class(delay_seconds)))
    if message.status in FINAL:
        calling_code, prefix = numbers.place(message.recipient)
        keys.append(CountKey(hour, PLACES, "", _place_label(calling_code, message.status, prefix)))
    return keys


def of_receipt(received_at: datetime, effect: Effect) -> CountKey:
    """The count that a matched receipt is part of."""
    return CountKey(hour_of(received_at), RECEIPTS, "", effect)


def of_report(report: Report, rule: str, effect: Effect) -> CountKey | None:
    """The count of `codes` that a report is part of; None: of none. `rule`, `effect`: of its transition."""
    is_failure = report.status in FAILURES
    if effect is Effect.DUPLICATE or (report.source is Source.OURSELVES and not is_failure):
        return None
    reason = reason_of(report, rule) if is_failure else ""
    label = "/".join((report.status or UNMAPPED, reason, cut_status_id(report.provider_status_id)))
    return CountKey(hour_of(report.received_at), CODES, "", label)


def cut_status_id(status_id: str | None) -> str:
    """The gateway's status id as it is counted; empty: there is none."""
    return (status_id or "")[:MAX_STATUS_ID]


def place_of(label: str) -> Place:
    """What a label of `places` says."""
    calling_code, status, prefix = label.split("/")
    return Place(calling_code, Status(status), prefix)


def code_of(label: str) -> Code:
    """What a label of `codes` says."""
    return Code._make(label.split("/", 2))


def counted_since(session: Session) -> datetime | None:
    """The hour from which on `places` and `codes` were counted; None: from the first message on."""
    query = select(HourlyCount.hour).where(text("kind = 'since'"))  # word for word as in its partial index
    return session.scalar(query.order_by(HourlyCount.hour.desc()).limit(1))


def _place_label(calling_code: str, status: str, prefix: str) -> str:
    return f"{calling_code}/{status}/{prefix if status in FAILURES else ''}"


def hour_of(at: datetime) -> datetime:
    """The beginning of the hour, in UTC."""
    return _start_of(int(at.timestamp() // 3600))


@lru_cache(maxsize=1024)  # a batch of receipts asks some thousand times, and mostly for one hour
def _start_of(hours: int) -> datetime:
    """The beginning of the hour that is so many after the first of 1970."""
    return datetime.fromtimestamp(hours * 3600, UTC)


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


def stream(session: Session, hour: datetime | None = None) -> Iterator[tuple[CountKey, int]]:
    """The counts of all hours or of one, summed over the slots; without `changes` and `since`."""
    columns = [getattr(HourlyCount, name) for name in KEYS]
    is_count = HourlyCount.kind.not_in((CHANGES, SINCE))
    query = select(*columns, func.sum(HourlyCount.value)).where(is_count).group_by(*columns)
    if hour is not None:
        query = query.where(HourlyCount.hour == hour)
    for row in session.execute(query.execution_options(yield_per=_FETCH_ROWS)):
        yield CountKey._make(row[:-1]), int(row[-1])


def read_reports(session: Session, hours: Collection[datetime]) -> dict[datetime, Counter[str]]:
    """What was reported in each of these hours, by status or UNMAPPED: the counts of `codes`, added up."""
    query = (
        select(HourlyCount.hour, HourlyCount.label, func.sum(HourlyCount.value))
        .where(bulk.among(session, HourlyCount.hour, hours), HourlyCount.kind == CODES)
        .group_by(HourlyCount.hour, HourlyCount.label)
    )
    found: dict[datetime, Counter[str]] = {hour: Counter() for hour in hours}
    for hour, label, count in session.execute(query):
        found[hour][code_of(label).status] += int(count)
    return found


def add(session: Session, counts: Counter[CountKey]) -> None:
    """Add to this process's slot of each count, in the caller's transaction. Others may wait for it: call it late."""
    changed = {key: value for key, value in counts.items() if value}
    hours = {key.hour for key in changed if key.kind not in BREAKDOWNS}  # of these no sums are remembered
    changed |= {CountKey(hour, CHANGES, "", ""): 1 for hour in hours}
    # In the order of keys, so that two transactions that share a slot can't deadlock.
    rows = [{**key._asdict(), "slot": session.info["slot"], "value": value} for key, value in sorted(changed.items())]
    if rows:
        statement = bulk.upsert(session, HourlyCount)
        summed = {"value": HourlyCount.value + statement.excluded.value}
        session.execute(statement.on_conflict_do_update(index_elements=[*KEYS, "slot"], set_=summed), rows)
