"""What would change if a code meant something else: what is told is what `rebuild` then does."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import product
from typing import ClassVar
from urllib.parse import urlencode
from uuid import UUID

import pytest

from receiptsvc import ids
from receiptsvc.domain.callback_reader import CallbackReader
from receiptsvc.domain.errors import Unreadable
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.domain.messages import Callback, Receipt
from receiptsvc.domain.statuses import GATEWAY_STATUSES, Status
from receiptsvc.dynmark import status_map
from receiptsvc.dynmark.inbound.reader import DynmarkReader
from receiptsvc.store.core.db import Database
from receiptsvc.store.health.verification import verify
from receiptsvc.store.queries import rereading
from receiptsvc.store.queries.rereading import Change, Preview
from receiptsvc.worker.receipt_processor import process
from receiptsvc.worker.reprocess import Difference, reprocess
from tests.support import rows
from tests.support.rows import seconds
from tests.support.work import READER, RULES


def reader_of(meanings: Mapping[str, Status]) -> DynmarkReader:
    """The reader that there would be with this STATUS_MAP."""
    return replace(READER, status_map=status_map.load(meanings))


def receive(database: Database, message_id: UUID, code: str, words: str = "Foo", at: float = 3) -> UUID:
    said = {"recipient": "447700900001", "statusid": code, "statusdescription": words}
    moment = {"datetime": seconds(at).strftime("%Y-%m-%dT%H:%M:%S")}
    return rows.keep(database, urlencode(said | moment), message_id=message_id, now=seconds(at))


def preview(database: Database, code: str, reader: CallbackReader) -> Preview:
    with database.reading() as session:
        return rereading.preview(session, code, reader)


def test_a_code_that_nobody_knew_would_settle_its_message(database: Database) -> None:
    (message_id,) = rows.accept(database)
    receive(database, message_id, "1", "Message sent")
    receive(database, message_id, "77", at=5)
    process(database, RULES, seconds(10), 100)
    told = preview(database, "77", reader_of({"77": Status.UNDELIVERED}))
    assert (told.receipts, told.unread, told.looked_to, told.messages, told.unfolded) == (1, 0, None, 1, 0)
    assert told.readings == {(None, Status.UNDELIVERED): 1}
    assert told.changes == [Change(message_id=message_id, was=Status.SENT, now=Status.UNDELIVERED)]
    assert told.moves == {(Status.SENT, Status.UNDELIVERED): 1}
    assert rows.read_message(database, message_id).status == "sent", "nothing is written"
    assert preview(database, "77", READER).readings == {}
    assert preview(database, "78", reader_of({"78": Status.EXPIRED})).receipts == 0


def test_a_message_that_others_decide_about_keeps_its_status(database: Database) -> None:
    (message_id,) = rows.accept(database)
    receive(database, message_id, "1", "Delivered")
    receive(database, message_id, "77", at=5)
    process(database, RULES, seconds(10), 100)
    told = preview(database, "77", reader_of({"77": Status.EXPIRED}))
    assert (told.readings, told.messages, told.changes) == ({(None, Status.EXPIRED): 1}, 1, [])


def test_what_is_told_is_what_rebuild_then_does(database: Database) -> None:
    chosen = random.Random(7)
    message_ids = rows.accept(database, *(rows.message() for _ in range(20)))
    for second in range(60):
        words = chosen.choice(["Foo", "Delivered", "Message sent", "Expired"])
        receive(database, chosen.choice(message_ids), chosen.choice(["77", "78", "1"]), words, at=1 + second // 2)
    process(database, RULES, seconds(50), 100)
    meanings: dict[str, Status] = {}
    changes = 0
    for number, (code, word) in enumerate(product(("77", "1"), sorted(GATEWAY_STATUSES))):
        meanings[code] = word
        rules = replace(RULES, reader=reader_of(meanings))
        told = preview(database, code, rules.reader)
        before = statuses(database, message_ids)
        done = list(reprocess(database, rules, seconds(60 + number), is_applied=True))
        after = statuses(database, message_ids)
        assert told.readings == Counter((each.was, each.now) for each in done if isinstance(each, Difference))
        assert {change.message_id: (change.was, change.now) for change in told.changes} == {
            message_id: (before[message_id], after[message_id])
            for message_id in message_ids
            if before[message_id] != after[message_id]
        }
        changes += len(told.changes)
    assert changes > 20
    assert list(verify(database)) == []


def statuses(database: Database, message_ids: Sequence[UUID]) -> dict[UUID, str]:
    return {message_id: rows.read_message(database, message_id).status for message_id in message_ids}


def test_it_says_how_far_it_has_looked(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    message_ids = rows.accept(database, *(rows.message() for _ in range(4)))
    kept = [receive(database, message_id, "77", at=at) for at, message_id in enumerate(message_ids)]
    known = [receive(database, message_id, "1", "Delivered", 10 + at) for at, message_id in enumerate(message_ids)]
    process(database, RULES, seconds(50), 100)
    monkeypatch.setattr(rereading, "LOOKED_THROUGH", 2)
    told = preview(database, "1", reader_of({"1": Status.EXPIRED}))
    assert (told.receipts, told.looked_to) == (2, ids.made_at(known[1]))
    monkeypatch.setattr(rereading, "LOOKED_THROUGH", 5)
    told = preview(database, "77", reader_of({"77": Status.EXPIRED}))
    assert (told.receipts, told.looked_to) == (4, ids.made_at(kept[2])), "those without a meaning are all found"
    monkeypatch.setattr(rereading, "MAX_RECEIPTS", 3)
    told = preview(database, "77", reader_of({"77": Status.EXPIRED}))
    assert (told.receipts, told.looked_to) == (3, ids.made_at(kept[1]))


def test_what_is_not_read_is_counted(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    message_ids = rows.accept(database, *(rows.message() for _ in range(2)))
    aside, _ = (receive(database, message_id, "77") for message_id in message_ids)
    process(database, RULES, seconds(50), 100)
    reader = reader_of({"77": Status.EXPIRED})
    with database.transaction() as session:
        rows.set_outcome(session, aside, ReceiptOutcome.DISMISSED)
    assert (preview(database, "77", reader).receipts, preview(database, "77", reader).unread) == (1, 1)
    monkeypatch.setattr(rereading, "_MAX_REPORTS", 1)
    told = preview(database, "77", reader)
    assert (told.messages, told.unfolded, told.changes) == (1, 1, [])
    monkeypatch.setattr(rereading, "_MAX_BYTES", 10)
    assert (preview(database, "77", reader).receipts, preview(database, "77", reader).unread) == (0, 2)


class CountingReader(DynmarkReader):
    """A reader that notes what it reads."""

    reads: ClassVar[list[Callback]] = []

    def read_receipts(self, callback: Callback, received_at: datetime) -> Sequence[Receipt | Unreadable]:
        self.reads.append(callback)
        return super().read_receipts(callback, received_at)


def test_a_callback_with_many_receipts_is_read_once_and_then_no_further_one(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    (message_id,) = rows.accept(database)
    part = "recipient=447700900001&transactionid=5&statusid=77&statusdescription=Foo"
    several = "&".join(f"{part}&datetime=2026-01-05T12:00:0{second}" for second in range(3))
    receive(database, message_id, "77", at=1)
    rows.keep(database, several, message_id=message_id, now=seconds(9))
    while process(database, RULES, seconds(50), 100):
        pass
    reader = CountingReader(status_map=status_map.load({"77": Status.EXPIRED}), zone=READER.zone)
    monkeypatch.setattr(CountingReader, "reads", [])
    assert (preview(database, "77", reader).receipts, len(CountingReader.reads)) == (4, 2)
    monkeypatch.setattr(rereading, "_MAX_READ", 2)
    told = preview(database, "77", reader)
    assert (told.receipts, told.unread) == (3, 1)
