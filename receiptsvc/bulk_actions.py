"""What operators do to many rows at once: replay receipts, cancel messages. Each slice is a commit of its own.

If a call ends early, what it has done stays done. What is done to a slice belongs in the store.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from time import monotonic
from typing import TypeVar
from uuid import UUID

from sqlalchemy.orm import Session

from receiptsvc.store.core import slices
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import MAX_SECONDS, Database
from receiptsvc.store.core.paging import Page
from receiptsvc.store.inbox import receipts
from receiptsvc.store.messages import operator_actions

MAX_CHANGED = 100_000  # rows in one call

_RECEIPTS = 500  # in one transaction
_MESSAGES, _SQLITE_MESSAGES = 250, 100

Key = TypeVar("Key")


def replay(
    database: Database,
    selection: receipts.ReplaySelection,
    by: Actor,
    clock: Callable[[], datetime],
    *,
    after: UUID | None = None,
    is_dry_run: bool = False,
) -> tuple[int, UUID | None]:
    """Make receipts pending again, in the order of ids; how many, and the id to go on after (None: those were all).

    Those that others have locked are skipped. `is_dry_run`: only count. It stops at MAX_CHANGED or after MAX_SECONDS.
    """

    def change(session: Session, receipt_ids: Sequence[UUID]) -> int:
        return receipts.replay(session, receipt_ids, selection, by, clock())

    find = partial(receipts.find_replayable, selection=selection)
    return _change_all(database, find, None if is_dry_run else change, size=_RECEIPTS, after=after)


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
