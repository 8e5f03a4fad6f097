"""A newer status map corrects what an older one read, and only that."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import func, select

from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.domain.messages import Callback
from receiptsvc.domain.statuses import Status
from receiptsvc.dynmark import status_map
from receiptsvc.dynmark.inbound import parser
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Audit
from receiptsvc.store.health.verification import verify
from receiptsvc.store.inbox import callbacks, counters
from receiptsvc.store.messages import superseding
from receiptsvc.worker.receipt_processor import process
from receiptsvc.worker.reprocess import Difference, reprocess
from tests.support.rows import accept, keep, read_inbox, read_message, read_transitions, seconds, set_outcome
from tests.support.work import READER, RULES

OLD = RULES
NEW = replace(RULES, reader=replace(READER, status_map=status_map.load({"77": Status.DELIVERED})))
UNKNOWN = "datetime=2026-01-05T12:00:03&recipient=447700900001&statusid=77&statusdescription=Foo"
EXPIRED = "datetime=2026-01-05T12:00:09&recipient=447700900001&statusid=5&statusdescription=Expired"


def test_a_difference_is_only_applied_on_request(database: Database) -> None:
    (message_id,) = accept(database)
    unknown, expired = (keep(database, query, message_id=message_id) for query in (UNKNOWN, EXPIRED))
    process(database, OLD, seconds(10), 100)
    assert read_message(database, message_id).status == "expired"

    (told,) = reprocess(database, NEW, seconds(20))
    assert isinstance(told, Difference)
    assert (told.was, told.now, told.provider_status_id) == (None, "delivered", "77")
    assert read_message(database, message_id).status == "expired"
    assert read_inbox(database, unknown).outcome == "unmapped"

    assert list(reprocess(database, NEW, seconds(20), is_applied=True)) == [told]
    row = read_message(database, message_id)
    assert (row.status, row.status_at, row.conflict) == ("delivered", seconds(3), True)
    assert [read_inbox(database, one).outcome for one in (unknown, expired)] == ["conflicting", "applied"]
    of_unknown = [one for one in read_transitions(database, message_id) if one.receipt_id == unknown]
    assert [(one.effect, one.superseded_at is not None) for one in of_unknown] == [
        ("unmapped", True),
        ("conflicting", False),
    ]
    assert of_unknown[1].map_version == NEW.reader.version
    assert list(verify(database)) == []
    with database.reading() as session:
        (audit,) = session.scalars(select(Audit)).all()
        assert audit.details == {"from": "unmapped", "to": "conflicting"}
        assert counters.read(session).is_balanced
    assert list(reprocess(database, NEW, seconds(30), is_applied=True)) == []


def test_a_callback_is_read_once_however_many_receipts_it_holds(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    (message_id,) = accept(database)
    keep(database, UNKNOWN + "&" + "&".join(f"{UNKNOWN[:-3]}{number:03}" for number in range(9)), message_id=message_id)
    for _ in range(3):
        process(database, OLD, seconds(10), 100)
    read: list[Callback] = []
    real = parser.read_receipts

    def count(callback: Callback, *rest: Any) -> Any:
        read.append(callback)
        return real(callback, *rest)

    monkeypatch.setattr(parser, "read_receipts", count)
    assert len(list(reprocess(database, NEW, seconds(20)))) == 10
    assert len(read) == 1


def test_the_bytes_of_a_callback_are_loaded_once_and_not_too_many_at_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    [message_id] = accept(database)
    for second in range(3):
        keep(
            database,
            UNKNOWN.replace(":03", f":0{second}") + "".join(f"&{UNKNOWN[:-3]}{second}{part:02}" for part in range(4)),
            message_id=message_id,
        )
    for _ in range(3):
        process(database, OLD, seconds(10), 100)
    with database.reading() as session:
        found = superseding.find_current(session, limit=100).items
    assert len(found) == 15
    assert len({id(each.callback) for each in found}) == 3
    monkeypatch.setattr(callbacks, "_MAX_BYTES", len(found[0].callback.query) + 10)
    with database.reading() as session:
        page = superseding.find_current(session, limit=100)
    assert 1 <= len({id(each.callback) for each in page.items}) < 3
    assert len(list(reprocess(database, NEW, seconds(20), is_applied=True))) == 15
    assert list(verify(database)) == []


def test_it_can_be_stopped_and_started_again_anywhere(database: Database) -> None:
    (message_id,) = accept(database)
    for second in range(5):
        keep(database, UNKNOWN.replace(":03", f":0{second}"), message_id=message_id)
    process(database, OLD, seconds(10), 100)
    next(reprocess(database, NEW, seconds(20), is_applied=True, slice_size=2))  # and no further
    assert list(verify(database)) == []
    assert len(list(reprocess(database, NEW, seconds(20), is_applied=True, slice_size=2))) == 3
    assert list(verify(database)) == []


def test_a_dismissed_receipt_is_left_alone(database: Database) -> None:
    (message_id,) = accept(database)
    unknown = keep(database, UNKNOWN, message_id=message_id)
    process(database, OLD, seconds(10), 100)
    with database.transaction() as session:
        set_outcome(session, unknown, ReceiptOutcome.DISMISSED)
        counters.add(session, {"unmapped": -1, "dismissed": 1})
    assert list(reprocess(database, NEW, seconds(20), is_applied=True)) == []
    assert read_inbox(database, unknown).outcome == "dismissed"
    assert read_message(database, message_id).status == "accepted"
    assert list(verify(database)) == []


def test_a_receipt_whose_time_alone_is_read_differently_keeps_its_effect(database: Database) -> None:
    (message_id,) = accept(database)
    receipt_id = keep(database, EXPIRED.replace("Expired", "Delivered"), message_id=message_id)
    process(database, OLD, seconds(10), 100)
    elsewhere = replace(RULES, reader=replace(READER, zone=ZoneInfo("Asia/Tokyo")))
    assert len(list(reprocess(database, elsewhere, seconds(20), is_applied=True))) == 1
    row = read_message(database, message_id)
    assert (row.status, row.status_at) == ("delivered", seconds(9 - 9 * 3600))
    assert read_inbox(database, receipt_id).outcome == "applied"
    assert list(verify(database)) == []


def test_two_concurrent_runs_change_each_receipt_once(postgresql_database: Database) -> None:
    database = postgresql_database
    every = [accept(database)[0] for _ in range(20)]
    for message_id in every:
        for query in (UNKNOWN, EXPIRED, UNKNOWN.replace(":03", ":04")):
            keep(database, query, message_id=message_id)
    process(database, OLD, seconds(10), 100)
    together = Barrier(2)

    def apply(slice_size: int) -> int:
        together.wait()
        return len(list(reprocess(database, NEW, seconds(20), is_applied=True, slice_size=slice_size)))

    with ThreadPoolExecutor(2) as threads:
        told = list(threads.map(apply, (7, 11)))
    assert max(told) <= 40 <= sum(told)
    for message_id in every:
        standing = [row.receipt_id for row in read_transitions(database, message_id) if row.superseded_at is None]
        assert len(standing) == len(set(standing)) == 4, "its acceptance, and each receipt once"
        assert read_message(database, message_id).status == "delivered"
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Audit)) == 40, "each word learnt, once"
        assert counters.read(session).is_balanced
    assert list(verify(database)) == []
