"""The receipt pipeline: takes what waits in turns, and works on it in batches, or alone what fails.

A batch is one commit. A batch that fails is redone row by row: a failing row is retried alone with growing gaps, holds
up no other row, and ends `dead` with its error. Before a row is processed alone, its try is counted in a commit of its
own, so that a row that kills the process is found out too.

A batch that waited in vain for a lock is redone in parts, and these in parts again, which hardly wait: so the rows that
want the lock are found, and left for a while. Whoever holds it, a frozen process perhaps, holds up nothing else.

What is done with a batch belongs in `receipt_batch`.
"""

from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from math import ceil
from typing import NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy.orm import Session

from receiptsvc import logs
from receiptsvc.domain.backoff import Backoff
from receiptsvc.domain.errors import LockTimeout, StatementTimeout, StorageUnavailable
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.store.core.db import Database
from receiptsvc.store.inbox import pending
from receiptsvc.store.inbox.pending import ClaimedReceipt
from receiptsvc.worker import receipt_batch
from receiptsvc.worker.pending_queue import PendingQueue, Turn
from receiptsvc.worker.receipt_batch import ReceiptRules

_MAX_TRIES = 8
_MAX_OUTAGES = 3  # in a row, before the batch itself is suspected
_MAX_WAITS = 8  # in a row for locks, before all are left for a while
_PARTS = 10  # of a batch that a lock holds up
_RETRIES = Backoff.doubling(timedelta(seconds=5), timedelta(seconds=640))
_PROCESS_ENDED = "the process that worked on it ended"


class _Waiting(NamedTuple):
    """A receipt that a failed batch has left. `message_id`: None too for what is not known of it."""

    id: UUID
    message_id: UUID | None = None


_Part: TypeAlias = Sequence[_Waiting]  # what is worked on at once


def process(
    database: Database, rules: ReceiptRules, now: datetime, limit: int, queue: PendingQueue | None = None
) -> int:
    """Process up to about `limit` pending receipts that are due; how many. Raises StorageUnavailable."""
    queue = queue or PendingQueue()
    if queue.rows_to_mark > 0:
        done, parts = _process_marked(database, rules, now, queue, limit)
    else:
        done, parts = _process_turn(database, rules, now, queue, partial(queue.take_usual, now=now, limit=limit))
        parts += [[_Waiting(receipt_id)] for receipt_id in queue.failed]
        for turn in queue.other_turns(now, limit):
            taken, failed = _process_turn(database, rules, now, queue, turn)
            done, parts = done + taken, parts + failed
    done += _process_parts(database, parts, rules, now, queue)
    queue.outages = 0
    return done


def _process_parts(
    database: Database, parts: Sequence[_Part], rules: ReceiptRules, now: datetime, queue: PendingQueue
) -> int:
    """Process what failed batches have left; how many. Raises LockTimeout if a lock holds up all of it.

    What is left at the end, because of locks again, waits in the queue as it did.
    """
    waiting = deque(parts)
    done = succeeded = waits = 0  # waits for locks, in a row
    locked: set[UUID] = set()  # messages
    while waiting and waits < _MAX_WAITS:
        whole = waiting.popleft()
        part = [row for row in whole if row.message_id is None or row.message_id not in locked]
        if len(part) < len(whole):
            done += _leave(database, [row.id for row in whole if row.message_id in locked], now)
        if len(part) > 1:
            taken, failed = _process_turn(database, rules, now, queue, partial(_take_these, part))
            done, succeeded = done + taken, succeeded + taken
            waiting.extendleft(reversed(failed))
            waits = waits + 1 if failed else 0
        elif part:
            [row] = part
            is_done = _process_unless_locked(database, row.id, rules, now, queue)
            done, succeeded, waits = done + 1, succeeded + is_done, 0 if is_done else waits + 1
            if not is_done and row.message_id is not None:
                locked.add(row.message_id)
    if waiting and not succeeded:
        raise LockTimeout("another transaction holds up receipt after receipt")
    return done


def _take_these(part: _Part, session: Session) -> list[ClaimedReceipt]:
    return pending.take(session, pending.select_these([row.id for row in part]))


def _process_marked(
    database: Database, rules: ReceiptRules, now: datetime, queue: PendingQueue, limit: int
) -> tuple[int, list[_Part]]:
    """The same for what a killed worker may have held: first each is postponed and its try counted.

    So one that kills this process as well is among those with a try, which are processed one by one.
    """
    with database.transaction() as session:
        unmarked = {row.id: row for row in pending.take(session, pending.select_untried(now, limit))}
        marked = [row._replace(tries=row.tries + 1) for row in unmarked.values()]
        pending.put_back(session, [(row, now + _RETRIES.gap(0), _PROCESS_ENDED) for row in marked])
        alone = pending.find_suspects(session, now, limit)
    handled = len(marked) + len(alone)
    queue.mark_next(-handled or -queue.rows_to_mark)

    def take_marked(session: Session) -> list[ClaimedReceipt]:
        taken = pending.take(session, pending.select_these(unmarked))
        return [unmarked[row.id] for row in taken]

    done, failed = _process_turn(database, rules, now, queue, take_marked) if unmarked else (0, [])
    return done, [*failed, *([_Waiting(receipt_id)] for receipt_id in alone)]


def _process_turn(
    database: Database,
    rules: ReceiptRules,
    now: datetime,
    queue: PendingQueue,
    take: Turn,
) -> tuple[int, list[_Part]]:
    """Process what a turn takes, in one commit: how many; and, if the batch failed, the parts to process it in."""
    taken: list[ClaimedReceipt] = []
    try:
        with database.transaction(queue.limits(database)) as session:
            taken = take(session)
            if taken:
                receipt_batch.work_on(session, taken, rules, now, queue)
    except Exception as error:
        queue.rewind()
        is_outage = isinstance(error, StorageUnavailable) and not isinstance(error, LockTimeout | StatementTimeout)
        # A database that grants the claim and then fails again and again is not away: the batch is at fault.
        queue.outages += is_outage and bool(taken)
        if not taken or (is_outage and queue.outages < _MAX_OUTAGES):
            raise
        logs.warning("process.batch_failed", rows=len(taken), error=logs.describe(error))
        size = 1
        if isinstance(error, LockTimeout):
            queue.note_lock()
            size = ceil(len(taken) / _PARTS)
        rows = [_Waiting(row.id, row.message_id) for row in taken]
        return 0, [rows[start : start + size] for start in range(0, len(rows), size)]
    if taken:
        queue.note_success()
    return len(taken), []


def _process_unless_locked(
    database: Database, receipt_id: UUID, rules: ReceiptRules, now: datetime, queue: PendingQueue
) -> bool:
    """Process one receipt; False if another transaction holds what it needs."""
    try:
        _process_alone(database, receipt_id, rules, now, queue)
    except LockTimeout:
        queue.note_lock()
        _leave(database, [receipt_id], now, counted=1)
        return False
    except StatementTimeout:
        _leave(database, [receipt_id], now, counted=1)
        raise
    return True


def _leave(database: Database, receipt_ids: Sequence[UUID], now: datetime, *, counted: int = 0) -> int:
    """Leave receipts for a while; how many. `counted`: tries to take back: what ran out of time is not their fault."""
    with database.transaction() as session:
        taken = pending.take(session, pending.select_these(receipt_ids))
        again_at = now + _RETRIES.gap(0)
        pending.put_back(session, [(row._replace(tries=max(0, row.tries - counted)), again_at, None) for row in taken])
    return len(taken)


def _process_alone(
    database: Database, receipt_id: UUID, rules: ReceiptRules, now: datetime, queue: PendingQueue
) -> None:
    """Process one receipt. First it is postponed and its try counted, in case it kills this process.

    Raises StorageUnavailable. An outage is the receipt's own failure after others, and so is a statement that takes too
    long while other receipts succeed; a lock that another transaction holds never is.
    """
    with database.transaction() as session:
        taken = pending.take_one(session, receipt_id)
        if not taken:
            return
        [row] = taken
        if row.tries >= _MAX_TRIES:
            receipt_batch.settle(session, taken, [(row, ReceiptOutcome.DEAD, _PROCESS_ENDED)], now)
            return
        tried, next_at = row._replace(tries=row.tries + 1), now + _RETRIES.gap(row.tries)
        pending.put_back(session, [(tried, next_at, _PROCESS_ENDED)])
    try:
        with database.transaction(queue.limits(database)) as session:
            receipt_batch.work_on(session, pending.take_one(session, receipt_id), rules, now)
        queue.note_success()
    except Exception as error:
        if isinstance(error, StorageUnavailable) and not _is_to_blame(error, queue):
            raise
        logs.error("process.row_failed", error, receipt=str(receipt_id))
        with database.transaction() as session:
            for row in pending.take_one(session, receipt_id):
                if row.tries >= _MAX_TRIES:
                    receipt_batch.settle(session, [row], [(row, ReceiptOutcome.DEAD, logs.describe(error))], now)
                    receipt_batch.write_references(session, [row], {}, rules.reader)
                else:
                    pending.put_back(session, [(row, next_at, logs.describe(error))])


def _is_to_blame(error: StorageUnavailable, queue: PendingQueue) -> bool:
    """Whether an outage is the fault of the receipt that was being processed."""
    if isinstance(error, LockTimeout):
        return False
    return queue.has_succeeded_lately() if isinstance(error, StatementTimeout) else queue.outages >= _MAX_OUTAGES
