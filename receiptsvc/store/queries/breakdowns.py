"""Statistics by country, prefix, status id or class of reason, from the hourly counts; no message is read."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from receiptsvc.domain.failures import FAILURES
from receiptsvc.store.core import bulk
from receiptsvc.store.core.models import HourlyCount
from receiptsvc.store.messages import hourly_counts
from receiptsvc.store.queries.statistics import MAX_COUNTS, TooManyCounts

MAX_LABELS = 20_000  # that are told apart: of more only the most frequent ones

_HOUR = timedelta(hours=1)


class By(StrEnum):
    """What the counts are broken down by."""

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """A group and its counts by status; of reports also `hourly_counts.UNMAPPED`."""

    key: Key
    count: int
    statuses: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Breakdown:
    """Groups, the largest first. `is_bounded`: there are more; `counted_since`: None from the beginning on."""

    items: Sequence[Group]
    is_bounded: bool
    counted_since: datetime | None


def read(session: Session, since: datetime, until: datetime, by: By, *, limit: int) -> Breakdown:
    """The groups of [since, until), both at the start of an hour. Raises TooManyCounts."""
    kind, split = _SPLITS[by]
    hours = [since + _HOUR * number for number in range((until - since) // _HOUR)]
    counts = (
        select(HourlyCount.label, HourlyCount.value)
        .where(bulk.among(session, HourlyCount.hour, hours), HourlyCount.kind == kind)
        .limit(MAX_COUNTS + 1)
        .subquery()
    )
    total = func.sum(counts.c.value)
    query = select(counts.c.label, total.label("total"), func.sum(func.count()).over().label("rows"))
    query = query.group_by(counts.c.label).order_by(total.desc(), counts.c.label).limit(MAX_LABELS + 1)
    rows = session.execute(query).all()
    if rows and rows[0].rows > MAX_COUNTS:
        raise TooManyCounts
    groups: defaultdict[Key, Counter[str]] = defaultdict(Counter)
    for row in rows[:MAX_LABELS]:
        part = split(row.label)
        if part is not None and row.total > 0:
            key, status = part
            groups[key][status] += int(row.total)
    ordered = sorted(groups.items(), key=lambda each: (-each[1].total(), [part or "" for part in each[0]]))
    return Breakdown(
        items=[Group(key=key, count=counts.total(), statuses=counts) for key, counts in ordered[:limit]],
        is_bounded=len(ordered) > limit or len(rows) > MAX_LABELS,
        counted_since=hourly_counts.counted_since(session),
    )


def _by_country(label: str) -> tuple[Key, str] | None:
    place = hourly_counts.place_of(label)
    return Key(calling_code=place.calling_code), place.status.value


def _by_prefix(label: str) -> tuple[Key, str] | None:
    place = hourly_counts.place_of(label)
    if place.status not in FAILURES:
        return None
    return Key(calling_code=place.calling_code, prefix=place.prefix), place.status.value


def _by_status_id(label: str) -> tuple[Key, str] | None:
    code = hourly_counts.code_of(label)
    return (Key(status_id=code.status_id), code.status) if code.status_id else None


def _by_reason(label: str) -> tuple[Key, str] | None:
    code = hourly_counts.code_of(label)
    return (Key(reason=code.reason), code.status) if code.reason else None


_SPLITS: Mapping[By, tuple[str, Callable[[str], tuple[Key, str] | None]]] = {
    By.COUNTRY: (hourly_counts.PLACES, _by_country),
    By.PREFIX: (hourly_counts.PLACES, _by_prefix),
    By.STATUS_ID: (hourly_counts.CODES, _by_status_id),
    By.REASON: (hourly_counts.CODES, _by_reason),
}
