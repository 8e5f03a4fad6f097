"""Which transitions a rebuild may replace, while others work on the same receipts."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database
from receiptsvc.store.inbox import bulk_receipts
from receiptsvc.store.messages import superseding
from receiptsvc.store.messages.superseding import RecordedReceipt
from tests.support.processes import until
from tests.support.rows import accept, keep, seconds
from tests.support.work import assert_sound, outcome, work_off
from tests.worker.test_reprocess import UNKNOWN

WAITS = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")


@pytest.mark.slow
def test_a_receipt_that_is_dismissed_while_its_lock_is_waited_for_is_left_alone(postgresql_database: Database) -> None:
    database = postgresql_database
    [message_id] = accept(database)
    receipt_id = keep(database, UNKNOWN, message_id=message_id)
    work_off(database)
    with database.reading() as session:
        recorded = superseding.find_of(session, receipt_id)
    assert recorded is not None

    def lock(receipt: RecordedReceipt) -> set[int]:
        with database.transaction() as session:
            return superseding.lock_current(session, [receipt])

    def is_waited_for() -> bool:
        with database.reading() as session:
            return bool(session.scalar(WAITS))

    by = Actor(actor="ops", reason="old")
    with ThreadPoolExecutor(1) as threads:
        with database.transaction() as session:
            bulk_receipts.dismiss(session, [receipt_id], [ReceiptOutcome.UNMAPPED], by, seconds(60))
            locked = threads.submit(lock, recorded)
            until("the lock is waited for", is_waited_for)
        assert locked.result(timeout=30) == set()
    assert outcome(database, receipt_id) == "dismissed"
    assert lock(recorded) == set()
    assert_sound(database)
