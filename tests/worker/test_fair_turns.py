"""Many receipts of one message, or in one callback, hold up nobody else's, and are all worked on in the end."""

import gzip
import json
from datetime import datetime
from urllib.parse import urlencode
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import func, select, update

from receiptsvc import ids
from receiptsvc.domain.inbox import Arrival, Channel
from receiptsvc.domain.messages import Callback
from receiptsvc.dynmark.inbound import parser
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import InboxRow, PendingRow, Reply
from receiptsvc.store.inbox import pending
from receiptsvc.worker.pending_queue import PendingQueue
from receiptsvc.worker.receipt_processor import process
from tests.support import rows
from tests.support.rows import accept, insert_arrivals, keep, read_transitions, seconds
from tests.support.stories import give_transaction
from tests.support.work import RULES, assert_sound, outcome, said, work

LIMIT = 20
CROWD = 200


def keep_crowd(database: Database, query: str, count: int = CROWD, *, message_id: UUID | None = None) -> None:
    """Receipts of one message that differ, all in a row."""
    queries = [f"{query}&datetime=2026-01-05T12:{n // 60:02}:{n % 60:02}" for n in range(count)]
    with database.transaction() as session:
        insert_arrivals(session, [rows.arrival(each, message_id=message_id) for each in queries])


def body(database: Database, message_id: UUID | None, count: int, *, padding: int = 0) -> UUID:
    """A callback with many receipts of one message, as JSON."""
    receipts = [
        {"statusid": "4", "statusdescription": "Delivered", "recipient": "447700900001", "transactionid": "815",
         "datetime": f"2026-01-05T12:{n // 60:02}:{n % 60:02}", "more": "x" * padding}
        for n in range(count)
    ]  # fmt: skip
    arrival = Arrival(
        id=rows.arrival("").id,
        channel=Channel.MESSAGE if message_id else Channel.ACCOUNT,
        message_id=message_id,
        received_at=rows.T0,
        callback=Callback("POST", b"", "application/json", json.dumps(receipts).encode()),
    )
    with database.transaction() as session:
        insert_arrivals(session, [arrival])
    return arrival.id


def step(database: Database, queue: PendingQueue) -> int:
    return process(database, RULES, seconds(1000), LIMIT, queue)


def finish(database: Database, queue: PendingQueue) -> None:
    for _ in range(200):
        if not step(database, queue):
            return
    raise AssertionError("the queue does not become empty")


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[Callback]:
    """Each callback that is read from now on, each time."""
    read: list[Callback] = []
    real = parser.read_receipts

    def count(callback: Callback, zone: ZoneInfo, received_at: datetime) -> object:
        read.append(callback)
        return real(callback, zone, received_at)

    monkeypatch.setattr(parser, "read_receipts", count)
    return read


def count_recorded(database: Database, message_id: UUID) -> int:
    return sum(row.receipt_id is not None for row in read_transitions(database, message_id))


@pytest.mark.parametrize("names_it_in", ["its URL", "the receipt"])
def test_receipts_behind_those_of_one_message_are_worked_on_soon(database: Database, names_it_in: str) -> None:
    loud, quiet = accept(database, rows.message("447700900001"), rows.message("447700900002"))
    give_transaction(database, loud, "815")
    message_id = loud if names_it_in == "its URL" else None
    keep_crowd(
        database,
        "transactionid=815&recipient=447700900001&statusid=1&statusdescription=Message+sent",
        message_id=message_id,
    )
    behind = keep(database, said(to=None), message_id=quiet, now=seconds(1))
    queue = PendingQueue()
    turns = 0
    while outcome(database, behind) == "pending":
        step(database, queue)
        turns += 1
    assert turns <= (3 if message_id else CROWD // LIMIT + 2)  # what names its message only inside must be read first
    assert count_recorded(database, loud) < CROWD // 2
    finish(database, queue)
    assert count_recorded(database, loud) == CROWD
    assert queue.held_back == set()
    assert_sound(database)


def test_those_held_back_are_worked_on_while_others_keep_coming(database: Database) -> None:
    loud, *quiet = accept(database, *(rows.message(f"4477009000{n:02}") for n in range(30)))
    keep_crowd(database, "statusid=1&statusdescription=Message+sent", 100, message_id=loud)
    queue = PendingQueue()
    for turn in range(40):
        come = [rows.arrival(said(to=None), message_id=each, now=seconds(10 + turn)) for each in quiet]
        with database.transaction() as session:
            insert_arrivals(session, come)
        step(database, queue)
    assert count_recorded(database, loud) == 100, "each turn takes some of them"


@pytest.mark.parametrize("padding", [0, 300], ids=["small", "large"])
@pytest.mark.parametrize("names_it_in", ["its URL", "the receipt"])
def test_receipts_behind_a_callback_with_many_are_worked_on_soon(
    database: Database, names_it_in: str, padding: int
) -> None:
    loud, quiet = accept(database, rows.message("447700900001"), rows.message("447700900002"))
    give_transaction(database, loud, "815")
    message_id = loud if names_it_in == "its URL" else None
    callbacks = [body(database, message_id, CROWD, padding=padding) for _ in range(3)]
    behind = keep(database, said(to=None), message_id=quiet, now=seconds(1))
    queue = PendingQueue()
    step(database, queue)
    assert outcome(database, behind) == "applied", "its own turn came beside the callback's"
    for _ in range(5):
        step(database, queue)
    behind = keep(database, said("Message+sent", to=None), message_id=quiet, now=seconds(2))
    step(database, queue)
    step(database, queue)
    assert outcome(database, behind) != "pending"
    assert count_recorded(database, loud) < CROWD * len(callbacks)
    finish(database, queue)
    assert count_recorded(database, loud) == CROWD * len(callbacks)
    assert_sound(database)


def test_a_callback_with_many_receipts_is_read_once_for_many_batches(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    (message_id,) = accept(database)
    body(database, message_id, CROWD)
    read = count_reads(monkeypatch)
    finish(database, PendingQueue())
    assert count_recorded(database, message_id) == CROWD
    assert len(read) == 1
    assert_sound(database)


def test_a_short_queue_holds_nothing_back(database: Database) -> None:
    loud, quiet = accept(database, rows.message("447700900001"), rows.message("447700900002"))
    keep_crowd(database, "statusid=1&statusdescription=Message+sent", LIMIT - 2, message_id=loud)
    keep(database, said(to=None), message_id=quiet)
    queue = PendingQueue()
    assert step(database, queue) == LIMIT - 1
    assert queue.held_back == set()
    assert work(database, 1000, queue=queue) == 0


@pytest.mark.parametrize("callbacks", [1, 5])
def test_the_receipts_of_a_split_callback_are_never_in_the_turn_of_others(database: Database, callbacks: int) -> None:
    (quiet,) = accept(database)
    for _ in range(callbacks):
        body(database, None, CROWD, padding=300)
    behind = keep(database, said(to=None), message_id=quiet, now=seconds(1))
    queue = PendingQueue()
    step(database, queue)
    assert outcome(database, behind) == "applied"
    for turn in range(callbacks):
        behind = keep(database, said("Message+sent", to=None), message_id=quiet, now=seconds(2 + turn))
        step(database, queue)
        assert outcome(database, behind) != "pending", "the parts of the next callback have an earlier place"
    finish(database, queue)
    assert_sound(database)


@pytest.mark.parametrize("is_packed", [False, True], ids=["short", "packed"])
def test_some_bytes_that_hold_thousands_of_receipts_get_a_turn_of_their_own(
    database: Database, monkeypatch: pytest.MonkeyPatch, is_packed: bool
) -> None:
    read = count_reads(monkeypatch)
    loud, quiet = accept(database, rows.message("447700900001"), rows.message("447700900002"))
    content = f"[{','.join(3_000 * '1')}]".encode()
    packed = gzip.compress(content) if is_packed else content
    arrivals = [
        rows.arrival("", message_id=loud)._replace(callback=Callback("POST", b"", None, packed))
        for _ in range(LIMIT - 2)
    ]
    with database.transaction() as session:
        insert_arrivals(session, arrivals)
    behind = keep(database, said(to=None), message_id=quiet, now=seconds(1))
    queue = PendingQueue()
    step(database, queue)
    assert outcome(database, behind) == "applied"
    step(database, queue)
    with database.reading() as session:
        kept = session.scalar(select(func.count()).select_from(InboxRow))
    assert kept == LIMIT - 1 + 2_999, "one was split, in the turn for large ones"
    assert len(read) <= 8, "others wait while they are read"


def test_callbacks_whose_receipts_lie_among_each_other_are_read_once_in_a_batch(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = count_reads(monkeypatch)
    (message_id,) = accept(database)
    with database.transaction() as session:  # of one millisecond
        first = rows.arrival("").id
        content = json.dumps([{"statusid": "1", "datetime": f"2026-01-05T12:00:{n:02}"} for n in range(20)]).encode()
        arrivals = [
            rows.arrival("", message_id=message_id)._replace(
                id=ids.part_of(first, part), callback=Callback("POST", b"", None, content)
            )
            for part in range(1, 6)
        ]
        insert_arrivals(session, arrivals)
    queue = PendingQueue()
    while process(database, RULES, seconds(1000), 400, queue):
        pass
    assert count_recorded(database, message_id) == 100
    assert len(read) == 5, "once each, in two batches"
    assert_sound(database)


def test_many_replies_hold_up_no_receipt(database: Database) -> None:
    made = accept(database, rows.message("447700900001"))[0]
    for number in range(130):
        reply = {"msgid": str(number), "sender": "447700900009", "recipient": "60030", "content": "Hi"}
        keep(database, urlencode(reply), channel=Channel.INBOUND)
    receipt = keep(database, said(), message_id=made)
    queue = PendingQueue()
    process(database, RULES, seconds(1000), 100, queue)
    process(database, RULES, seconds(1000), 100, queue)
    assert outcome(database, receipt) == "applied"
    with database.reading() as session:
        crowd = session.scalar(select(func.count()).where(PendingRow.group_id == pending.REPLIES))
    assert crowd, "else nothing was held back"
    finish(database, queue)
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Reply)) == 130
    assert_sound(database)


def test_replies_that_crowd_are_named(database: Database) -> None:
    with database.transaction() as session:
        insert_arrivals(session, [rows.arrival("content=Hi", channel=Channel.INBOUND) for _ in range(1000)])
        session.execute(update(PendingRow).values(group_id=pending.REPLIES))
    with database.reading() as session:
        crowd = pending.find_crowd(session)
    assert crowd is not None
    assert crowd.describe() == "replies crowd the queue: 1000 or more of them wait"
