"""What operators do to many rows at once: work on receipts again or dismiss them, cancel messages.

Each slice is a commit of its own. If a call ends early, what it has done stays done. What is done to a slice belongs in
the store.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from time import monotonic
from typing import NamedTuple, TypeVar
from uuid import UUID

from sqlalchemy.orm import Session

from receiptsvc.store.core import slices
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import MAX_SECONDS, Database
from receiptsvc.store.core.paging import Page
from receiptsvc.store.inbox import bulk_receipts, receipt_groups, receipts
from receiptsvc.store.inbox.bulk_receipts import Changed
from receiptsvc.store.inbox.receipt_groups import Group, GroupAction, Progress
from receiptsvc.store.inbox.receipts import ReceiptFilter
from receiptsvc.store.messages import operator_actions

MAX_CHANGED = 100_000  # rows in one call

_RECEIPTS = 500  # in one transaction
_MESSAGES, _SQLITE_MESSAGES = 250, 100

Key = TypeVar("Key")


class _Act(NamedTuple):
    """What is done to the receipts of a slice. `name`: of its audits."""

    change: Callable[[Session, Sequence[UUID], datetime], Changed]
    name: str


def replay(
    database: Database,
    where: ReceiptFilter,
    by: Actor,
    clock: Callable[[], datetime],
    *,
    after: UUID | None = None,
    is_dry_run: bool = False,
) -> tuple[int, UUID | None]:
    """Make receipts pending again, in the order of ids; how many, and the id to go on after (None: those were all).

    Those that others have locked are skipped. `is_dry_run`: only count. It stops at MAX_CHANGED or after MAX_SECONDS.
    """

    def retry(session: Session, receipt_ids: Sequence[UUID], now: datetime) -> Changed:
        return bulk_receipts.retry(session, receipt_ids, where.outcomes, now)

    act = _Act(retry, bulk_receipts.REPLAYED)
    return _act_on_found(database, where, act, by, clock, after=after, is_dry_run=is_dry_run)


def dismiss(
    database: Database,
    where: ReceiptFilter,
    by: Actor,
    clock: Callable[[], datetime],
    *,
    after: UUID | None = None,
    is_dry_run: bool = False,
) -> tuple[int, UUID | None]:
    """Dismiss receipts; the same as `replay` in all else."""

    def give_up(session: Session, receipt_ids: Sequence[UUID], now: datetime) -> Changed:
        return bulk_receipts.dismiss(session, receipt_ids, where.outcomes, by, now)

    act = _Act(give_up, bulk_receipts.DISMISSED)
    return _act_on_found(database, where, act, by, clock, after=after, is_dry_run=is_dry_run)


def act_on_group(
    database: Database, group: Group, action: GroupAction, by: Actor, clock: Callable[[], datetime], *, seconds: float
) -> Progress:
    """Go on with an action on a group for so many seconds, or to the end of a round; how far it has come then.

    What is worked on meanwhile has its next turn in the next call, so that it has a moment for that.
    """
    ends_at = monotonic() + seconds
    while True:
        with database.transaction() as session:
            progress = receipt_groups.step(session, group, action, by=by, now=clock(), limit=_RECEIPTS)
        if progress.has_round_ended or monotonic() >= ends_at:
            return progress
        database.let_others_write()


def cancel(
    database: Database,
    selection: operator_actions.CancelSelection,
    by: Actor,
    now: datetime,
    *,
    is_dry_run: bool = False,
) -> tuple[int, bool]:
    """Cancel messages, the first due ones first; how many, and whether those were all.

    Messages in a call are left alone. `is_dry_run`: only count. It stops at MAX_CHANGED or after MAX_SECONDS.
    """
    find = partial(operator_actions.find_cancellable, selection=selection)
    change = partial(operator_actions.cancel_found, by=by, now=now)
    size = _SQLITE_MESSAGES if database.is_sqlite else _MESSAGES
    progress = _change_all(database, find, None if is_dry_run else change, size=size)
    return progress[0], progress[1] is None


def cancel_chosen(
    database: Database, message_ids: Sequence[UUID], by: Actor, clock: Callable[[], datetime]
) -> tuple[int, bool]:
    """Cancel those of these messages that still can be, and no others; how many, and whether all were looked at."""

    def find(_session: Session, *, limit: int, after: int | None = None) -> Page[UUID, int]:
        begin = after or 0
        end = begin + limit
        return Page(items=message_ids[begin:end], next=end if end < len(message_ids) else None)

    def change(session: Session, found: Sequence[UUID]) -> int:
        return operator_actions.cancel_found(session, found, by, clock())

    size = _SQLITE_MESSAGES if database.is_sqlite else _MESSAGES
    progress = _change_all(database, find, change, size=size)
    return progress[0], progress[1] is None


def _act_on_found(
    database: Database,
    where: ReceiptFilter,
    act: _Act,
    by: Actor,
    clock: Callable[[], datetime],
    *,
    after: UUID | None,
    is_dry_run: bool,
) -> tuple[int, UUID | None]:
    """Do something to all receipts that a filter finds, each slice with its audit."""

    def change(session: Session, receipt_ids: Sequence[UUID]) -> int:
        now = clock()
        changed = act.change(session, receipt_ids, now)
        bulk_receipts.note(session, act.name, changed, where=where, by=by, now=now)
        return len(changed.receipt_ids)

    find = partial(receipts.find_ids, where=where)
    return _change_all(database, find, None if is_dry_run else change, size=_RECEIPTS, after=after)


def _change_all(
    database: Database,
    find: Callable[..., Page[UUID, Key]],
    change: Callable[[Session, Sequence[UUID]], int] | None,
    *,
    size: int,
    after: Key | None = None,
) -> tuple[int, Key | None]:
    """`change`: what is done to the rows of a slice, and to how many of them; None: only count."""
    count, limit, deadline = 0, MAX_CHANGED, monotonic() + MAX_SECONDS

    def step(session: Session, after: Key | None) -> Page[UUID, Key]:
        nonlocal count
        page = find(session, limit=min(size, limit), after=after)
        count += len(page.items) if change is None else change(session, page.items)
        return page

    for page in slices.walk(database.reading if change is None else database.transaction, step, after):
        limit -= len(page.items)
        if limit <= 0 or monotonic() >= deadline:
            break
        if change is not None:
            database.let_others_write()
    return count, page.next
