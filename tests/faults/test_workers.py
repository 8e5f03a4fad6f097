"""Workers killed in the middle of their work: every receipt is processed once, by any of them."""

import json
import random
import signal
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import func, select

from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.domain.messages import Callback
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Message, OutcomeRow, Transition
from receiptsvc.store.health.verification import verify
from receiptsvc.store.inbox import counters
from receiptsvc.store.inbox.writer import open_writer
from tests.faults import doom, doomed_worker
from tests.faults.conftest import Form
from tests.support import forked, rows
from tests.support.forked import Stack
from tests.support.postgres import Server
from tests.support.processes import until
from tests.support.rows import arrival

MESSAGES = 200
WORKERS = 4


def keep_receipts(url: str, message_ids: list[UUID], at: int) -> int:
    """Keep a `sent` and a `delivered` for each message, some of them twice, and some without a message. Returns how many."""
    writer = open_writer(url, 0, patience_seconds=5)
    queries = [
        (
            message_id,
            f"datetime=2026-01-05T12:00:{at:02}&statusid={word}&statusdescription={word}&transactionid={place}",
        )
        for place, message_id in enumerate(message_ids)
        for word in ("sent", "delivered", "delivered")
    ]
    strays = [(None, f"transactionid={at}0000{place}&statusid=1") for place in range(20)]
    told = [*queries, *strays]
    random.Random(at).shuffle(told)
    kept = [arrival(query, message_id=message_id) for message_id, query in told]
    for start in range(0, len(kept), 50):
        writer.keep(kept[start : start + 50])
    writer.close()
    return len(kept)


def assert_each_was_worked_on_once(database: Database, received: int) -> None:
    with database.reading() as session:
        counted = counters.read(session)
        statuses = set(session.scalars(select(Message.status)))
        found = session.scalar(select(func.count()).where(Transition.receipt_id.is_not(None)))
        strays = session.scalar(select(func.count()).where(OutcomeRow.outcome == "unmatched"))
    assert (counted.received, counted.is_balanced, counted.outcomes[ReceiptOutcome.PENDING]) == (received, True, 0)
    assert statuses == {"delivered"}
    assert (found or 0) + (strays or 0) == received
    assert list(verify(database)) == []


@pytest.fixture
def message_ids(database: Database) -> list[UUID]:
    made = [rows.message(recipient=f"4477009{place:05}") for place in range(MESSAGES)]
    return rows.accept(database, *made)


@pytest.mark.parametrize("point", [*doomed_worker.POINTS, doomed_worker.AFTERWARDS])
def test_killed_at_a_point_between_claim_and_commit(
    database_url: str, database: Database, message_ids: list[UUID], point: str, form: Form
) -> None:
    received = 0
    for turn in range(1 + form.times // 7):
        received += keep_receipts(database_url, message_ids, at=turn)
        assert forked.run(doomed_worker.work, database_url, point, turn % 3 + 1, 40) == -signal.SIGKILL
        assert forked.run(doomed_worker.work, database_url, doom.NEVER, 0, 40) == 0
    assert_each_was_worked_on_once(database, received)


def test_four_workers_killed_at_any_moment(server: Server, tmp_path: Path, form: Form) -> None:
    url = server.new_database()
    database = Database(url)
    message_ids = rows.accept(database, *(rows.message(recipient=f"4477009{place:05}") for place in range(MESSAGES)))
    dice = random.Random(1)
    received = 0
    with ExitStack() as running:
        stacks = [running.enter_context(Stack(tmp_path / str(number), url)) for number in range(WORKERS)]
        for stack in stacks:
            stack.start("worker")
        for turn in range(max(4, form.times * 5 // 2)):
            received += keep_receipts(url, message_ids, at=turn % 60)
            victim = dice.choice(stacks)
            left = received - dice.randrange(1, 500)
            until("they are at work", partial(_has_come_to, database, left))
            victim.kill("worker")
            victim.start("worker")
        until("all is worked on", lambda: _pending(database) == 0, seconds=120)
    assert_each_was_worked_on_once(database, received)
    database.close()


def _has_come_to(database: Database, left: int) -> bool:
    return _pending(database) <= left


def _pending(database: Database) -> int:
    with database.reading() as session:
        return counters.read(session).outcomes[ReceiptOutcome.PENDING]


def test_one_senders_flood_is_worked_off_beside_the_receipts_of_others(
    database_url: str, database: Database, tmp_path: Path
) -> None:
    """Singles and one body with thousands, while receipts of another message come behind them."""
    loud, quiet = rows.accept(database, rows.message(), rows.message("447700900002"))
    count = 4000 if database.is_sqlite else 9_000
    singles = [
        arrival(
            f"statusid=1&statusdescription=sent&datetime=2026-01-05T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}",
            message_id=loud,
        )
        for n in range(count)
    ]
    body = json.dumps([{"statusid": "2", "statusdescription": "delivered", "n": n} for n in range(count)]).encode()
    whole = arrival("", message_id=loud)._replace(callback=Callback("POST", b"", "application/json", body))
    behind = arrival("statusid=2&statusdescription=delivered", message_id=quiet, now=rows.seconds(1))
    writer = open_writer(database_url, 0, patience_seconds=5)
    for group in ([whole], singles, [behind]):
        writer.keep(group)
    writer.close()
    with Stack(tmp_path / "stack", database_url) as stack:
        stack.start("worker")
        until("the other message is delivered", lambda: rows.read_message(database, quiet).status == "delivered")
        assert _pending(database) > 0, "it did not wait for the flood"
        until("all is worked on", lambda: _pending(database) == 0, seconds=120)
    with database.reading() as session:
        found = session.scalar(
            select(func.count()).where(Transition.message_id == loud, Transition.receipt_id.is_not(None))
        )
    assert found == 2 * count
    assert list(verify(database)) == []
