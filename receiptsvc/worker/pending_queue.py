"""A worker's way through the queue: whose turn it is.

The usual turn takes what waits in the order of arrival. A group (the receipts of one message, or of one callback) that
fills more than a tenth of a full batch is held back: from then on it has a turn of its own, which is short, since
others may come, and ends when nothing of the group is left. A large callback has its own turn too, since it can hold
thousands of receipts; so has one that is found to hold many; and so have replies, if many come. So one sender holds up
nobody else, and nobody waits for ever.

All of this is kept in memory: a worker that starts anew finds it out from its first full batch.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from hashlib import blake2b
from threading import Lock
from time import monotonic
from typing import TypeAlias
from uuid import UUID

from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain.errors import Unreadable
from receiptsvc.domain.messages import Receipt
from receiptsvc.store.core import locks
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.time_limits import TimeLimits
from receiptsvc.store.inbox import pending
from receiptsvc.store.inbox.pending import ClaimedReceipt, Postponed

_COMMIT_LAG = timedelta(seconds=2)  # how much later than its place in the queue a row may be committed
_FULL_SCAN_SECONDS = 8.0
_HELP_AFTER = timedelta(seconds=0.5)
_HELD_BACK_SHARE = 10  # of a batch: the part above which a group is held back
_BUSY_SHARE = 4  # of a batch: the part that those held back have, as others may come meanwhile
_LATELY_SECONDS = 60.0
_HURRY_SECONDS = 15.0  # after a lock that was waited for in vain: as long as who holds it may stand still
_HURRIED_LOCK = 0.02
_LARGE = 10  # callbacks in a turn, most of which are put back if one of them holds thousands of receipts
_MANY_PARTS = 100  # of a callback, from which it is held back before any of them is taken
_MAX_READ_RECEIPTS = 20_000  # as many as two of the largest callbacks hold
_MAX_REPLIES = 25  # in a turn


Turn: TypeAlias = Callable[[Session], list[ClaimedReceipt]]


class ReadCallbacks:
    """The receipts of callbacks with several, read once for many batches; those of the callbacks used last.

    How many callbacks that are depends on how long they are: of those that came at once a batch takes from each.
    """

    def __init__(self) -> None:
        self._receipts: OrderedDict[UUID, Sequence[Receipt | Unreadable]] = OrderedDict()
        self._count = 0

    def get(self, callback_id: UUID) -> Sequence[Receipt | Unreadable] | None:
        """The receipts of a callback, if they are kept."""
        return self._receipts.get(callback_id)

    def keep(self, callback_id: UUID, receipts: Sequence[Receipt | Unreadable]) -> None:
        """Keep the receipts of a callback."""
        if callback_id not in self._receipts:
            self._receipts[callback_id] = receipts
            self._count += len(receipts)
        self._receipts.move_to_end(callback_id)
        while self._count > _MAX_READ_RECEIPTS and len(self._receipts) > 1:
            _, dropped = self._receipts.popitem(last=False)
            self._count -= len(dropped)


class _Place:
    """A place in the queue, so that what is worked off is not walked over again.

    It is only a hint: a slow commit or a drained spool can add rows before it. So the first look, and one every few
    seconds after it, is at the whole queue.
    """

    def __init__(self) -> None:
        self._after: UUID | None = None
        self._full_scan_at = 0.0

    def start(self) -> UUID | None:
        """After which receipt to look; None: at all."""
        if monotonic() >= self._full_scan_at:
            self._after, self._full_scan_at = None, monotonic() + _FULL_SCAN_SECONDS
        return self._after

    def advance(self, last: UUID, now: datetime) -> None:
        """Go on after this receipt, unless one before it may still be committed."""
        self._after = last if last < ids.first_at(now - _COMMIT_LAG) else None

    def rewind(self) -> None:
        """Start again at the head: what was taken was not worked off."""
        self._after = None


class PendingQueue:
    """One worker's way through the queue, for one thread; others may call `mark_next` and `rewind`."""

    def __init__(self, *, rows_to_mark: int = 0) -> None:
        """`rows_to_mark`: how many rows to mark before they are processed, as a worker died while it held as many."""
        self.rows_to_mark = rows_to_mark
        self.outages = 0  # in a row, each after receipts could be taken
        self.read_callbacks = ReadCallbacks()
        self.held_back: set[UUID] = set()
        self.failed: Sequence[UUID] = ()  # what failed before and is due again
        self.has_company = False  # whether other workers run as well
        self._lock = Lock()
        self._usual, self._groups = _Place(), _Place()
        self._succeeded_at = self._locked_at = float("-inf")
        self._crowd_size = 0  # above which a group is held back; 0: the last usual turn left nothing
        self._has_large = False

    def mark_next(self, rows: int) -> None:
        """Mark this many more rows before they are processed; fewer, if negative. Thread-safe."""
        with self._lock:
            self.rows_to_mark = max(0, self.rows_to_mark + rows)

    def note_success(self) -> None:
        """Note that receipts were processed."""
        self._succeeded_at = monotonic()

    def has_succeeded_lately(self) -> bool:
        """Whether receipts were processed in the last minute."""
        return monotonic() - self._succeeded_at < _LATELY_SECONDS

    def note_lock(self) -> None:
        """Note that a lock was waited for in vain."""
        if not self._hurries():
            self._locked_at = monotonic()

    def limits(self, database: Database) -> TimeLimits | None:
        """Those of a transaction that works on receipts; None: the database's own.

        Whoever holds a lock for so long may hold it for longer, and others want to be worked on meanwhile.
        """
        usual = database.limits
        return replace(usual, lock=min(usual.lock, _HURRIED_LOCK)) if usual is not None and self._hurries() else None

    def _hurries(self) -> bool:
        return monotonic() - self._locked_at < _HURRY_SECONDS

    def rewind(self) -> None:
        """Start again at the head of the queue: there is something that was passed before. Thread-safe.

        One that comes while a turn is taken may be lost; then the next look at the whole queue finds it.
        """
        self._usual.rewind()
        self._groups.rewind()

    def take_usual(self, session: Session, now: datetime, limit: int) -> list[ClaimedReceipt]:
        """The next receipts that nothing holds back. It also notices what is due otherwise."""
        self.failed, self._has_large = pending.find_others(session, now, limit)
        self._crowd_size = 0
        if self.has_company and not self._has_usual_turn(session, now, limit):
            return []
        waiting = pending.select_next(limit, after=self._usual.start(), without=self.held_back)
        taken = pending.take(session, pending.select_due(now, limit), waiting)
        self._crowd_size = max(1, limit // _HELD_BACK_SHARE) if len(taken) >= limit else 0
        if self._crowd_size:
            sizes = Counter(row.group_id for row in taken if row.group_id is not None)
            self.held_back |= {group for group, size in sizes.items() if size > self._crowd_size}
        if in_order := [row.id for row in taken if row.next_at is None]:
            self._usual.advance(in_order[-1], now)
        return self._leave_crowds(session, taken)

    def _has_usual_turn(self, session: Session, now: datetime, limit: int) -> bool:
        """Whether this worker should take what waits, beside others: small batches cost nearly as much as full ones.

        One takes them all, until its commit. Another helps if there is a full batch beside the one that may be taken by
        now, or if the first receipt has waited for long: who has the turn may hang, and what was taken may come back.
        """
        if locks.try_to_take(session, locks.Lock.USUAL_TURN):
            return True
        waiting, first = pending.measure(session, now, 2 * limit)
        return waiting >= 2 * limit or (first is not None and first < ids.first_at(now - _HELP_AFTER))

    def _leave_crowds(self, session: Session, taken: Sequence[ClaimedReceipt]) -> list[ClaimedReceipt]:
        """What is taken without most of the groups that are held back by now, which are put back: others wait."""
        kept: list[ClaimedReceipt] = []
        sizes: Counter[UUID] = Counter()
        for row in taken:
            if row.group_id is not None and row.group_id in self.held_back:
                sizes[row.group_id] += 1
            if row.group_id is None or sizes[row.group_id] <= self._crowd_size or row.next_at is not None:
                kept.append(row)
        left = {row.id for row in taken} - {row.id for row in kept}
        pending.put_back(session, [(row, None, None) for row in taken if row.id in left])
        return kept

    def note_new(self, count: int) -> None:
        """Note that so many receipts were added, beside the callbacks that brought them: that place was passed."""
        if count:
            self.rewind()

    def note_parts(self, row: ClaimedReceipt, count: int) -> None:
        """Note that so many receipts of a callback wait now, before others that came later."""
        if count > _MANY_PARTS:
            self.held_back.add(pending.group_of_parts(row))

    def other_turns(self, now: datetime, limit: int) -> list[Turn]:
        """Those that are due after the usual one."""
        turns: list[Turn] = []
        if self.held_back:
            turns.append(partial(self._take_held_back, now=now, limit=limit))
        if self._has_large:
            turns.append(partial(self._take_large, now=now, limit=limit))
        return turns

    def part_crowds(
        self, receipts: Sequence[tuple[ClaimedReceipt, Receipt]]
    ) -> tuple[list[tuple[ClaimedReceipt, Receipt]], list[Postponed]]:
        """What to work on now; and what to put back, as receipts of a group that was not known before they were read.

        A receipt at the account's URL says only inside which message it is about.
        """
        if not self._crowd_size:
            return list(receipts), []
        kept: list[tuple[ClaimedReceipt, Receipt]] = []
        later: list[Postponed] = []
        sizes: Counter[UUID] = Counter()
        for row, receipt in receipts:
            if row.group_id is None and (receipt.transaction_id or receipt.client_ref):
                group_id = _group_of(receipt)
                sizes[group_id] += 1
                if sizes[group_id] > self._crowd_size:
                    self.held_back.add(group_id)
                    later.append((row._replace(group_id=group_id), row.next_at, None))
                    continue
            kept.append((row, receipt))
        return kept, later

    def part_replies(self, replies: Sequence[ClaimedReceipt]) -> tuple[Sequence[ClaimedReceipt], list[Postponed]]:
        """The replies to work on now; and those to put back, for turns of their own: each takes many queries."""
        if len(replies) <= _MAX_REPLIES:
            return replies, []
        self.held_back.add(pending.REPLIES)
        later: list[Postponed] = [
            (row._replace(group_id=pending.REPLIES), row.next_at, None) for row in replies[_MAX_REPLIES:]
        ]
        return replies[:_MAX_REPLIES], later

    def _take_held_back(self, session: Session, now: datetime, limit: int) -> list[ClaimedReceipt]:
        """The next receipts of the groups that are held back. One worker at a time: they have the same message."""
        if not locks.try_to_take(session, locks.Lock.HELD_BACK):
            return []
        limit = max(1, limit // _BUSY_SHARE)
        start = self._groups.start()
        taken = pending.take(session, pending.select_of_groups(self.held_back, limit, after=start))
        if not taken and start is not None:
            taken = pending.take(session, pending.select_of_groups(self.held_back, limit))
        if taken:
            self._groups.advance(taken[-1].id, now)
        else:
            self.held_back.clear()
        return taken

    def _take_large(self, session: Session, now: datetime, limit: int) -> list[ClaimedReceipt]:
        """The next large callbacks."""
        return pending.take(session, pending.select_large(now, min(limit, _LARGE)))


def _group_of(receipt: Receipt) -> UUID:
    """The group of receipts that name the same message, as far as they do."""
    name = "\0".join([receipt.transaction_id or "", receipt.client_ref or "", receipt.recipient or ""])
    return UUID(bytes=blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest())
