"""Statistics by sender, country, prefix, status id or class of reason, from the hourly counts; no message is read."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from sqlalchemy import ARRAY, ColumnElement, any_, cast, func, select
from sqlalchemy.orm import Session

from receiptsvc.domain.failures import FAILURES
from receiptsvc.domain.statuses import FINAL
from receiptsvc.store.core.db import is_sqlite
from receiptsvc.store.core.models import HourlyCount
from receiptsvc.store.messages import hourly_counts
from receiptsvc.store.queries.statistics import MAX_COUNTS, TooManyCounts

MAX_LABELS = 20_000  # that are told apart: of more only the most frequent ones

_HOUR = timedelta(hours=1)


class By(StrEnum):
    """What the counts are broken down by."""

    ORIGINATOR = "originator"
    COUNTRY = "country"
    PREFIX = "prefix"
    STATUS_ID = "providerStatusId"
    REASON = "reason"


class Key(NamedTuple):
    """What a group has in common; None: it is no part of what was asked for."""

    calling_code: str | None = None
    prefix: str | None = None
    status_id: str | None = None
    reason: str | None = None
    originator: str | None = None  # empty: the account's own


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """A group and its counts by status; of reports also `hourly_counts.UNMAPPED`.

    `first_hour`, `last_hour`: the hours of the period in which the first and the last of it were counted.
    """

    key: Key
    count: int
    statuses: Mapping[str, int]
    first_hour: datetime
    last_hour: datetime

    @property
    def failures(self) -> int:
        """How many of them failed."""
        return sum(self.statuses.get(status, 0) for status in FAILURES)


@dataclass(frozen=True, kw_only=True, slots=True)
class Breakdown:
    """Groups, the largest first. `is_bounded`: there are more; `counted_since`: None from the beginning on.

    `statuses`: the counts of all groups together.
    """

    items: Sequence[Group]
    is_bounded: bool
    counted_since: datetime | None
    statuses: Mapping[str, int]


_Part: TypeAlias = tuple[Key, str]  # a group, and the status of what is counted


def read(
    session: Session,
    since: datetime,
    until: datetime,
    by: By,
    *,
    limit: int,
    max_counts: int | None = None,
    max_labels: int | None = None,
) -> Breakdown:
    """The groups of [since, until), both at the start of an hour. Raises TooManyCounts, by default for MAX_COUNTS.

    `max_labels`: the most frequent ones that are looked at, by default MAX_LABELS. A group has a label for each status.
    """
    most, most_labels = max_counts or MAX_COUNTS, max_labels or MAX_LABELS
    kind, split = _SPLITS[by]
    counts = (
        select(HourlyCount.hour, HourlyCount.originator, HourlyCount.label, HourlyCount.value)
        .where(_is_within(session, since, until), HourlyCount.kind == kind)
        .limit(most + 1)
        .subquery()
    )
    total, labels = func.sum(counts.c.value), (counts.c.originator, counts.c.label)
    is_there = counts.c.value > 0  # no more where every message has moved to another status
    query = select(
        *labels,
        total.label("total"),
        func.min(counts.c.hour).filter(is_there).label("first_hour"),
        func.max(counts.c.hour).filter(is_there).label("last_hour"),
        func.sum(func.count()).over().label("rows"),
    )
    query = query.group_by(*labels).order_by(total.desc(), *labels).limit(most_labels + 1)
    rows = session.execute(query).all()
    if rows and rows[0].rows > most:
        raise TooManyCounts
    groups: defaultdict[Key, Counter[str]] = defaultdict(Counter)
    spans: defaultdict[Key, list[datetime]] = defaultdict(list)
    for row in rows[:most_labels]:
        part = split(row.originator, row.label)
        if part is not None and row.total > 0:
            key, status = part
            groups[key][status] += int(row.total)
            spans[key] += (row.first_hour, row.last_hour)
    ordered = sorted(groups.items(), key=lambda each: (-each[1].total(), [part or "" for part in each[0]]))
    items = [
        Group(key=key, count=counted.total(), statuses=counted, first_hour=min(spans[key]), last_hour=max(spans[key]))
        for key, counted in ordered[:limit]
    ]
    return Breakdown(
        items=items,
        is_bounded=len(ordered) > limit or len(rows) > most_labels,
        counted_since=hourly_counts.counted_since(session) if by is not By.ORIGINATOR else None,
        statuses=sum(groups.values(), Counter[str]()),
    )


def _is_within(session: Session, since: datetime, until: datetime) -> ColumnElement[bool]:
    """Whether a count is of one of these hours: each is a range of the primary key, where a span of time is not.

    PostgreSQL lists them itself: as a parameter some hundred hours take longer than the rest of the query.
    """
    if is_sqlite(session):
        return HourlyCount.hour.in_([since + _HOUR * number for number in range((until - since) // _HOUR)])
    series = func.generate_series(since, until - _HOUR, _HOUR, type_=HourlyCount.hour.type).column_valued("hour")
    hours = select(func.array_agg(series)).scalar_subquery()
    return HourlyCount.hour == any_(cast(hours, ARRAY(HourlyCount.hour.type)))


def _by_originator(originator: str, label: str) -> _Part | None:
    return (Key(originator=originator), label) if label in FINAL else None


def _by_country(_: str, label: str) -> _Part | None:
    place = hourly_counts.place_of(label)
    return Key(calling_code=place.calling_code), place.status.value


def _by_prefix(_: str, label: str) -> _Part | None:
    place = hourly_counts.place_of(label)
    if place.status not in FAILURES:
        return None
    return Key(calling_code=place.calling_code, prefix=place.prefix), place.status.value


def _by_status_id(_: str, label: str) -> _Part | None:
    code = hourly_counts.code_of(label)
    return (Key(status_id=code.status_id), code.status) if code.status_id else None


def _by_reason(_: str, label: str) -> _Part | None:
    code = hourly_counts.code_of(label)
    return (Key(reason=code.reason), code.status) if code.reason else None


_SPLITS: Mapping[By, tuple[str, Callable[[str, str], _Part | None]]] = {
    By.ORIGINATOR: (hourly_counts.MESSAGES, _by_originator),
    By.COUNTRY: (hourly_counts.PLACES, _by_country),
    By.PREFIX: (hourly_counts.PLACES, _by_prefix),
    By.STATUS_ID: (hourly_counts.CODES, _by_status_id),
    By.REASON: (hourly_counts.CODES, _by_reason),
}
