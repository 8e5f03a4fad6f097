"""Kept callbacks find their messages, each gets one outcome, and none makes another fail."""

from threading import Barrier, Thread
from uuid import UUID

import pytest
from sqlalchemy import select

from receiptsvc.domain import correlation
from receiptsvc.domain.errors import StorageUnavailable, Unreadable
from receiptsvc.domain.inbox import Channel, ReceiptOutcome
from receiptsvc.dynmark.inbound import parser
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import InboxRow, Reply
from receiptsvc.store.health.verification import verify
from receiptsvc.store.inbox import counters, pending
from receiptsvc.store.messages import transitions
from receiptsvc.worker.pending_queue import PendingQueue
from receiptsvc.worker.receipt_processor import process
from tests.support.rows import (
    accept,
    arrival,
    insert_arrivals,
    keep,
    message,
    read_inbox,
    read_message,
    read_transitions,
    seconds,
)
from tests.support.work import RULES

DELIVERED = "datetime=2026-01-05T12:00:03&recipient=447700900001&statusid=1&statusdescription=Delivered"
SENT = "datetime=2026-01-05T12:00:02&recipient=447700900001&statusid=2&statusdescription=Message+sent"


def run(database: Database, at: float = 10) -> int:
    return process(database, RULES, seconds(at), 100)


def outcome(database: Database, receipt_id: UUID) -> str:
    return read_inbox(database, receipt_id).outcome


def give_transaction(database: Database, message_id: UUID, transaction_id: str, source: str = "answer") -> None:
    with database.transaction() as session:
        locked = transitions.lock_messages(session, [message_id])
        transitions.link_transactions(session, [(locked[message_id], transaction_id)], source, seconds(1))
        transitions.record(session, locked, [], seconds(1))


def assert_balanced(database: Database) -> None:
    with database.reading() as session:
        counted = counters.read(session)
        rows = counters.count_rows(session)
    assert counted.is_balanced
    assert {word: count for word, count in counted.outcomes.items() if count} == rows


def test_a_receipt_on_a_message_s_own_url_is_applied(database: Database) -> None:
    (message_id,) = accept(database)
    receipt_id = keep(database, DELIVERED + "&transactionid=0815", message_id=message_id)
    assert run(database) == 1
    row = read_message(database, message_id)
    assert (row.status, row.status_at, row.transaction_id) == ("delivered", seconds(3), "815")
    transition = read_transitions(database, message_id)[-1]
    assert (transition.rule, transition.receipt_id, transition.map_version) == (
        "token",
        receipt_id,
        RULES.reader.version,
    )
    assert outcome(database, receipt_id) == "applied"
    assert run(database) == 0
    assert_balanced(database)


def test_each_receipt_has_the_outcome_of_its_effect(database: Database) -> None:
    (message_id,) = accept(database)
    queries = [DELIVERED, SENT, DELIVERED, "statusid=77", DELIVERED.replace("Delivered", "Expired")]
    kept = [keep(database, query, message_id=message_id) for query in queries]
    run(database)
    assert [outcome(database, one) for one in kept] == ["applied", "stale", "duplicate", "unmapped", "conflicting"]
    assert read_message(database, message_id).conflict
    assert_balanced(database)


def test_without_a_token_transaction_and_recipient_find_the_message(database: Database) -> None:
    first, second = accept(database, message("447700900001"), message("447700900002"))
    for message_id in (first, second):
        give_transaction(database, message_id, "815")  # one transaction over two recipients
    receipt_id = keep(
        database, "transactionid=00815&recipient=%2B44+7700+900002&statusid=1&statusdescription=Delivered"
    )
    run(database)
    assert outcome(database, receipt_id) == "applied"
    assert [read_message(database, one).status for one in (first, second)] == ["accepted", "delivered"]
    assert read_transitions(database, second)[-1].rule == correlation.BY_TRANSACTION


def test_a_transaction_of_one_recipient_matches_alone(database: Database) -> None:
    (message_id,) = accept(database)
    give_transaction(database, message_id, "815")
    keep(database, "transactionid=815&statusid=1&statusdescription=Delivered")
    run(database)
    assert read_transitions(database, message_id)[-1].rule == correlation.BY_LONE_TRANSACTION


UNMATCHED = [
    ("statusid=1&statusdescription=Delivered", "it has no transactionID"),
    ("transactionid=4711&statusid=1&statusdescription=Delivered", "no message has its transactionID"),
    ("transactionid=815&statusid=1&statusdescription=Delivered", "its transactionID fits 2 messages"),
    ("transactionid=815&recipient=447700900009&statusid=1", "its transactionID was given for other recipients"),
]


@pytest.mark.parametrize(("query", "reason"), UNMATCHED)
def test_a_receipt_without_exactly_one_fitting_message_is_unmatched_and_says_why(
    database: Database, query: str, reason: str
) -> None:
    for message_id in accept(database, message("447700900001"), message("447700900002")):
        give_transaction(database, message_id, "815")
    receipt_id = keep(database, query)
    run(database)
    row = read_inbox(database, receipt_id)
    assert (row.outcome, row.reason) == ("unmatched", reason)
    assert_balanced(database)


def test_a_receipt_for_another_recipient_is_quarantined(database: Database) -> None:
    (message_id,) = accept(database, message("447700900002"))
    receipt_id = keep(database, DELIVERED, message_id=message_id)
    run(database)
    assert outcome(database, receipt_id) == "quarantined"
    assert read_message(database, message_id).status == "accepted"


def test_a_token_with_a_transaction_that_an_answer_gave_to_another_message_is_quarantined(database: Database) -> None:
    first, second = accept(database, message("447700900001"), message("447700900001"))
    give_transaction(database, first, "815")
    receipt_id = keep(database, DELIVERED + "&transactionid=815", message_id=second)
    run(database)
    assert outcome(database, receipt_id) == "quarantined"


def test_a_transaction_known_only_from_a_receipt_never_quarantines(database: Database) -> None:
    first, second = accept(database, message("447700900001"), message("447700900001"))
    give_transaction(database, first, "815", source="receipt")
    receipt_id = keep(database, DELIVERED + "&transactionid=815", message_id=second)
    run(database)
    assert outcome(database, receipt_id) == "applied"


@pytest.mark.parametrize(
    ("body", "content_type", "ends"),
    [
        (b"[" * 100_000, None, ("quarantined", "its JSON body is nested more than 100 levels deep")),
        (b"statusid=1" + b"&" * 100_000, None, ("quarantined", "it has more than 100000 fields")),
        (b"statusid=1&datetime=2026-01-05T12:00:03", 'text/plain; charset="idna "', ("applied", None)),
        (b"statusid=1&datetime=2026-01-05T12:00:03", "text/plain; charset=unicode_escape", ("applied", None)),
    ],
    ids=["too deep", "too many fields", "no charset", "another"],
)
def test_a_body_that_is_made_to_harm_is_kept_as_it_came(
    database: Database, body: bytes, content_type: str | None, ends: tuple[str, str | None]
) -> None:
    (message_id,) = accept(database)
    given = arrival(b"statusdescription=Delivered", message_id=message_id)
    callback = given.callback._replace(method="POST", body=body, content_type=content_type)
    with database.transaction() as session:
        insert_arrivals(session, [given._replace(callback=callback)])
    run(database)
    row = read_inbox(database, given.id)
    assert (row.outcome, row.reason) == ends
    assert (row.body, row.content_type) == (body, content_type)


def test_garbage_is_quarantined_and_stays_as_it_came(database: Database) -> None:
    (message_id,) = accept(database)
    receipt_id = keep(database, b"%%%\xff\x00garbage", message_id=message_id)
    run(database)
    row = read_inbox(database, receipt_id)
    assert (row.outcome, row.query) == ("quarantined", b"%%%\xff\x00garbage")


def test_each_receipt_of_a_callback_has_its_own_row_and_outcome(database: Database) -> None:
    ids_ = accept(database, message("447700900001"), message("447700900002"))
    for message_id, transaction_id in zip(ids_, ("815", "816"), strict=True):
        give_transaction(database, message_id, transaction_id)
    receipt_id = keep(
        database,
        "transactionid=815&transactionid=816&transactionid=817&recipient=447700900001&recipient=447700900002"
        "&recipient=447700900003&statusid=1&statusdescription=Delivered",
    )
    assert [run(database), run(database, 20)] == [1, 2]  # the others are for the next batch
    with database.reading() as session:
        parts = session.scalars(select(InboxRow).order_by(InboxRow.part)).all()
        counted = counters.read(session)
    assert [(part.part, part.callback_id) for part in parts] == [(0, None), (1, receipt_id), (2, receipt_id)]
    assert [outcome(database, part.id) for part in parts] == ["applied", "applied", "unmatched"]
    assert [bool(part.query) for part in parts] == [True, False, False]
    assert (counted.callbacks, counted.received) == (1, 3)
    assert [read_message(database, one).status for one in ids_] == ["delivered", "delivered"]
    assert_balanced(database)
    assert list(verify(database)) == []


def test_a_quarantined_callback_is_split_when_it_is_retried(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt_id = keep(database, "recipient=447700900001&recipient=447700900002&statusid=1")
    with monkeypatch.context() as broken:
        broken.setattr(parser, "read_receipts", lambda *_: [Unreadable("not yet")])
        run(database)
    with database.transaction() as session:
        pending.reopen(session, [receipt_id], seconds(20))
    run(database, 30)
    run(database, 31)
    with database.transaction() as session:
        receipt_ids = session.scalars(select(InboxRow.id)).all()
    outcomes = [outcome(database, one) for one in receipt_ids]
    assert outcomes == ["unmatched", "unmatched"]
    with database.transaction() as session:
        pending.reopen(session, [receipt_id], seconds(40))
    run(database, 50)
    assert_balanced(database)
    assert list(verify(database)) == []
    with database.reading() as session:
        assert counters.read(session).received == 2


def test_repeated_outages_after_a_claim_count_as_the_rows_failure(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    (message_id,) = accept(database)
    bad = keep(database, SENT + "&clientref=bad", message_id=message_id)
    good = keep(database, DELIVERED, message_id=message_id)
    real = correlation.correlate

    def fail(row, receipt, context):  # type: ignore[no-untyped-def]  # only its failing matters
        if receipt.client_ref == "bad":
            raise StorageUnavailable("of a kind that never passes")
        return real(row, receipt, context)

    monkeypatch.setattr(correlation, "correlate", fail)
    queue = PendingQueue()
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            process(database, RULES, seconds(10), 100, queue)
    assert process(database, RULES, seconds(10), 100, queue) == 2
    assert (outcome(database, good), outcome(database, bad)) == ("applied", "pending")
    assert read_inbox(database, bad).tries == 1
    assert_balanced(database)


def test_a_failing_row_is_isolated_and_ends_dead(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    (message_id,) = accept(database)
    poison, good = (
        keep(database, SENT + "&clientref=poison", message_id=message_id),
        keep(database, DELIVERED, message_id=message_id),
    )
    real = correlation.correlate

    def fail(row, receipt, context):  # type: ignore[no-untyped-def]  # only its failing matters
        if receipt.client_ref == "poison":
            raise ZeroDivisionError
        return real(row, receipt, context)

    monkeypatch.setattr(correlation, "correlate", fail)
    at = 10.0
    for _ in range(8):
        run(database, at)
        assert outcome(database, good) == "applied"
        at += 10_000
    row = read_inbox(database, poison)
    assert (row.outcome, row.reason) == (ReceiptOutcome.DEAD, "ZeroDivisionError")
    assert read_message(database, message_id).status == "delivered"
    assert_balanced(database)


def replies(database: Database) -> list[Reply]:
    with database.reading() as session:
        return list(session.scalars(select(Reply).order_by(Reply.id)))


def reply(msgid: int, content: str = "Yes", sender: str = "447700900001", recipient: str = "60030", **more: str) -> str:
    extra = "".join(f"&{name}={value}" for name, value in more.items())
    return f"msgid={msgid}&sender={sender}&recipient={recipient}&content={content}{extra}"


def test_a_reply_with_a_client_ref_joins_its_conversation(database: Database) -> None:
    (message_id,) = accept(database, message(client_ref="order-1"))
    receipt_id = keep(database, reply(1, clientref="order-1"), channel=Channel.INBOUND)
    run(database)
    (row,) = replies(database)
    assert (row.message_id, row.link) == (message_id, "clientRef")
    assert row.conversation_id == read_message(database, message_id).conversation_id
    assert outcome(database, receipt_id) == "applied"
    assert_balanced(database)


def test_a_reply_without_a_client_ref_joins_the_conversation_of_the_last_message(database: Database) -> None:
    accept(database, message(originator="60030", client_ref="old"))
    (last,) = accept(database, message(originator="60030", client_ref="new"))
    accept(database, message(originator="Other", client_ref="else"), message("447700900002", originator="60030"))
    keep(database, reply(1, sender="%2B447700900001"), channel=Channel.INBOUND)
    run(database)
    (row,) = replies(database)
    assert row.message_id == last
    assert row.conversation_id == read_message(database, last).conversation_id


def test_a_reply_to_no_message_starts_a_conversation(database: Database) -> None:
    keep(database, reply(1), channel=Channel.INBOUND)
    run(database)
    (row,) = replies(database)
    assert (row.message_id, row.sender) == (None, "447700900001")


def test_a_reply_forwarded_twice_is_kept_once_and_another_content_conflicts(database: Database) -> None:
    queries = [reply(1), reply(1), reply(1, content="No"), reply(2)]
    kept = [keep(database, query, channel=Channel.INBOUND) for query in queries]
    run(database)
    assert [outcome(database, one) for one in kept] == ["applied", "duplicate", "conflicting", "applied"]
    assert [(row.content, row.is_conflicting) for row in replies(database)] == [
        ("Yes", False),
        ("No", True),
        ("Yes", False),
    ]
    assert_balanced(database)


def test_two_workers_see_one_msgid_with_two_contents_as_conflicting(postgresql_database: Database) -> None:
    database = postgresql_database
    for number in range(20):
        kept = [keep(database, reply(number, content=text), channel=Channel.INBOUND) for text in ("Yes", "No")]
        barrier = Barrier(2)

        def work(barrier: Barrier = barrier) -> None:
            barrier.wait()
            process(database, RULES, seconds(10), 1)

        threads = [Thread(target=work) for _ in kept]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        run(database)
        assert sorted(outcome(database, one) for one in kept) == ["applied", "conflicting"]
