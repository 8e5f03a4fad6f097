"""The inbox's time slices on PostgreSQL: its partitions, one a calendar month (UTC), by the time inside the ids.

Here they are listed, and made ahead, empty. None is dropped yet. SQLite keeps one table. Walks over many rows, slice by
slice, are not meant here: see `store.core.slices`.

A row that no slice takes goes to the default slice, so a missing slice refuses nothing. PostgreSQL attaches a slice
only after it has proved that the default slice holds no row of it, and nobody else can use the default slice meanwhile.
A small one is scanned then. For a large one a guard (a CHECK that excludes the range) is validated first, beside
readers and writers. While a guard stands, the default slice would refuse rows of that range: so it is only set well
before the range begins, and `inbox.writer` drops it if a callback needs the range all the same.

Every lock is waited for 50 ms at most, because others queue behind the one who waits; what is not done now is tried
again. Decision 0039 has the reasons.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from itertools import pairwise
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.store.core import locks
from receiptsvc.store.core.db import is_sqlite
from receiptsvc.store.core.locks import Lock

DEFAULT = "inbox_default"
MONTHS_AHEAD = 3

_GUARD = "inbox_guard_"  # and the month
_SMALL_BYTES = 4 * 1024 * 1024  # of a default slice that is scanned under the lock, in some 10 ms
_EARLY = timedelta(days=1)  # a guard is set that long before its range begins, or not at all
_NIL = UUID(int=0)
_MAX = UUID(int=2**128 - 1)

_LOCK_TIMEOUT = text("SET LOCAL lock_timeout = '50ms'")
_IS_MIGRATED = text(f"SELECT to_regclass('{DEFAULT}') IS NOT NULL")
_SLICES = text(
    "SELECT relname, pg_get_expr(relpartbound, pg_class.oid) FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
    " WHERE inhparent = to_regclass('inbox')"
)
_BOUNDS = re.compile(r"FROM \('?([^']+)'?\) TO \('?([^']+)'?\)")
_SPECIAL_BOUNDS = {"MINVALUE": _NIL, "MAXVALUE": _MAX}
_GUARDS = text(
    "SELECT conname, convalidated FROM pg_constraint"  # noqa: S608 - our own words
    f" WHERE conrelid = to_regclass('{DEFAULT}') AND starts_with(conname, '{_GUARD}')"
)
_SMALL = f"pg_relation_size('{DEFAULT}') <= {_SMALL_BYTES}"
_HOLDS = text(f"SELECT EXISTS (SELECT FROM {DEFAULT} WHERE id >= :first AND id < :end)")  # noqa: S608 - our own words

# One statement, so that no round trip is made while others wait. Under the lock it looks once more whether nothing
# large would be scanned: meanwhile a callback may have needed the range, or the default slice may have grown.
_ATTACH = f"""
DO $$ BEGIN
    LOCK TABLE {DEFAULT} IN ACCESS EXCLUSIVE MODE;
    IF NOT {{small}} AND NOT EXISTS (
        SELECT FROM pg_constraint
        WHERE conrelid = to_regclass('{DEFAULT}') AND conname = '{{guard}}' AND convalidated
    ) THEN
        RAISE check_violation;
    END IF;
    ALTER TABLE inbox ATTACH PARTITION {{name}} FOR VALUES FROM ({{first}}) TO ({{end}});
    ALTER TABLE {DEFAULT} DROP CONSTRAINT IF EXISTS {{guard}};
END $$
"""  # noqa: S608 - our own words

_NOT_LOCKED, _VIOLATED = "55P03", "23514"  # SQLSTATEs


class TimeSlice(NamedTuple):
    """The rows with `first` <= id < `end`. The very first slice begins with the nil UUID."""

    name: str
    first: UUID
    end: UUID

    @property
    def guard(self) -> str:
        """The name of the guard that excludes its range from the default slice."""
        return f"{_GUARD}{self.name.removeprefix('inbox_')}"


@dataclass(kw_only=True, slots=True)
class Report:
    """What `make_missing` did. `left`: slices that can't be made; their rows stay in the default slice."""

    made: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    is_complete: bool = False  # otherwise somebody held a lock: try again


class _Step(Enum):
    TAKEN = auto()  # there may be more to do
    LOCKED = auto()
    NOTHING_TO_DO = auto()


def is_slice(table: object) -> bool:
    """Whether a table of this name is a time slice, which no model declares: migrations leave it alone."""
    return re.fullmatch(rf"{DEFAULT}|inbox_\d{{4}}_\d{{2}}", str(table)) is not None


def first_surely_kept(now: datetime) -> UUID:
    """The first id of this month, whose slice is never dropped: that of an older id may have been."""
    return ids.first_at(_months(now, 1)[0])


def is_guard(constraint: str | None) -> bool:
    """Whether a constraint of this name is a guard, which has to make way for a callback."""
    return constraint is not None and constraint.startswith(_GUARD)


def drop_guard(constraint: str) -> str:
    """The statement that drops a guard."""
    return f'ALTER TABLE {DEFAULT} DROP CONSTRAINT IF EXISTS "{constraint}"'


def read(session: Session) -> list[TimeSlice]:
    """The slices that exist, the oldest first, without the default slice. None on SQLite."""
    if is_sqlite(session):
        return []
    found = [(name, _BOUNDS.search(bounds or "")) for name, bounds in session.execute(_SLICES)]
    slices = [TimeSlice(name, *map(_parse, bounds.groups())) for name, bounds in found if bounds is not None]
    return sorted(slices, key=lambda each: each.first)


def is_ready(session: Session, now: datetime) -> bool:
    """Whether there is a slice for the callbacks of next month. SQLite needs none."""
    coming = ids.first_at(_months(now, 2)[-1])
    return is_sqlite(session) or any(each.first <= coming < each.end for each in read(session))


def make_missing(begin: Callable[[], AbstractContextManager[Session]], now: datetime) -> Report:
    """Make the missing slices of this month and of the `MONTHS_AHEAD` after it, in short transactions.

    `begin`: opens a transaction. Only slices after the newest one are made, so that one that was dropped never comes
    back.
    """
    report = Report()
    step = _Step.TAKEN
    while step is _Step.TAKEN:
        with begin() as session:
            step = _take_step(session, now, report)
    report.is_complete = step is _Step.NOTHING_TO_DO
    return report


def _take_step(session: Session, now: datetime, report: Report) -> _Step:
    if is_sqlite(session) or not session.scalar(_IS_MIGRATED):
        return _Step.NOTHING_TO_DO
    if not locks.try_to_take(session, Lock.TIME_SLICES):
        return _Step.LOCKED
    guards = _read_guards(session)
    target, left = _choose(session, guards, now)
    report.left += [name for name in left if name not in report.left]
    try:
        with session.begin_nested():
            session.execute(_LOCK_TIMEOUT)
            for guard in guards.keys() - ({target.guard} if target is not None else set()):
                session.execute(text(drop_guard(guard)))  # its slice was made, or can't be
            if target is None:
                return _Step.NOTHING_TO_DO
            if _advance(session, target, guards):
                report.made.append(target.name)
    except DBAPIError as error:
        sqlstate = getattr(error.orig, "sqlstate", None)
        if sqlstate == _NOT_LOCKED:
            return _Step.LOCKED
        if sqlstate != _VIOLATED:  # else the default slice has just got a row of this range: the next step sees it
            raise
    return _Step.TAKEN


def _choose(session: Session, guards: Mapping[str, bool], now: datetime) -> tuple[TimeSlice | None, list[str]]:
    """The first missing slice that can be made, and the names of those before it that can't."""
    left: list[str] = []
    is_small = _is_small(session)
    for each in _find_missing(read(session), now):
        is_early = each.first > ids.first_at(now + _EARLY)
        if (is_small or is_early or guards.get(each.guard)) and not session.scalar(
            _HOLDS, {"first": each.first, "end": each.end}
        ):
            return each, left
        left.append(each.name)
    return None, left


def _find_missing(existing: Sequence[TimeSlice], now: datetime) -> list[TimeSlice]:
    months = [
        TimeSlice(f"inbox_{month:%Y_%m}", ids.first_at(month), ids.first_at(following))
        for month, following in pairwise(_months(now, MONTHS_AHEAD + 2))
    ]
    if not existing:
        months[0] = months[0]._replace(first=_NIL)
    return [month for month in months if not existing or month.first >= existing[-1].end]


def _advance(session: Session, target: TimeSlice, guards: Mapping[str, bool]) -> bool:
    """Take the next step to make a slice; whether it is made."""
    first, end = f"'{target.first}'", f"'{target.end}'"
    if not _is_small(session) and not guards.get(target.guard):
        change = (
            f"VALIDATE CONSTRAINT {target.guard}"  # which lets everybody read and write meanwhile
            if target.guard in guards
            else f"ADD CONSTRAINT {target.guard} CHECK (id < {first} OR id >= {end}) NOT VALID"
        )
        session.execute(text(f"ALTER TABLE {DEFAULT} {change}"))
        return False
    session.execute(text(f"CREATE TABLE {target.name} (LIKE inbox INCLUDING ALL)"))
    session.execute(text(_ATTACH.format(name=target.name, first=first, end=end, guard=target.guard, small=_SMALL)))
    return True


def _is_small(session: Session) -> bool:
    return bool(session.scalar(text(f"SELECT {_SMALL}")))


def _read_guards(session: Session) -> dict[str, bool]:
    """Whether each guard that stands is valid, by its name."""
    return {guard.conname: guard.convalidated for guard in session.execute(_GUARDS)}


def _parse(bound: str) -> UUID:
    return _SPECIAL_BOUNDS.get(bound) or UUID(bound)


def _months(now: datetime, count: int) -> list[datetime]:
    """The beginning of this month and of those after it, in UTC."""
    month = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return [
        month.replace(year=month.year + (month.month - 1 + after) // 12, month=(month.month - 1 + after) % 12 + 1)
        for after in range(count)
    ]
