"""The receipt pipeline: takes what waits in turns, and works on it in batches, or alone what fails.

A batch is one commit. A batch that fails is redone row by row: a failing row is retried alone with growing gaps, holds
up no other row, and ends `dead` with its error. Before a row is processed alone, its try is counted in a commit of its
own, so that a row that kills the process is found out too.

What is done with a batch belongs in `receipt_batch`.
"""

from datetime import datetime, timedelta
from functools import partial
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
_MAX_WAITS = 2  # of receipts in a row for locks, before all are left for a while
_RETRIES = Backoff.doubling(timedelta(seconds=5), timedelta(seconds=640))
_PROCESS_ENDED = "the process that worked on it ended"


def process(
    database: Database, rules: ReceiptRules, now: datetime, limit: int, queue: PendingQueue | None = None
) -> int:
    """Process up to about `limit` pending receipts that are due; how many. Raises StorageUnavailable."""
    queue = queue or PendingQueue()
    if queue.rows_to_mark > 0:
        done, alone = _process_marked(database, rules, now, queue, limit)
    else:
        done, alone = _process_turn(database, rules, now, queue, partial(queue.take_usual, now=now, limit=limit))
        alone += queue.failed
        for turn in queue.other_turns(now, limit):
            taken, failed = _process_turn(database, rules, now, queue, turn)
            done, alone = done + taken, alone + failed
    waits = 0  # for locks, in a row
    for receipt_id in alone:
        waits = 0 if _process_unless_locked(database, receipt_id, rules, now, queue) else waits + 1
        if waits >= _MAX_WAITS:
            raise LockTimeout("another transaction holds up receipt after receipt")
    queue.outages = 0
    return done + len(alone)


def _process_marked(
    database: Database, rules: ReceiptRules, now: datetime, queue: PendingQueue, limit: int
) -> tuple[int, list[UUID]]:
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
    return done, [*failed, *alone]


def _process_turn(
    database: Database,
    rules: ReceiptRules,
    now: datetime,
    queue: PendingQueue,
    take: Turn,
) -> tuple[int, list[UUID]]:
    """Process what a turn takes, in one commit: how many; and, if the batch failed, the ids to process one by one."""
    taken: list[ClaimedReceipt] = []
    try:
        with database.transaction() as session:
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
        return 0, [row.id for row in taken]
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
        _uncount(database, receipt_id, now)
        return False
    except StatementTimeout:
        _uncount(database, receipt_id, now)
        raise
    return True


def _uncount(database: Database, receipt_id: UUID, now: datetime) -> None:
    """Take back that a try was counted: what ran out of time was the database's fault."""
    with database.transaction() as session:
        taken = pending.take_one(session, receipt_id)
        again_at = now + _RETRIES.gap(0)
        pending.put_back(session, [(row._replace(tries=max(0, row.tries - 1)), again_at, None) for row in taken])


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
        with database.transaction() as session:
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
