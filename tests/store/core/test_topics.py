"""Each commit that makes work for a worker says so, and one that makes none, or fails, says nothing."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.domain.messages import SendOutcome, SendResult
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.topics import Topic
from receiptsvc.store.inbox import bulk_receipts, parking, receipts
from receiptsvc.store.messages import transitions
from receiptsvc.store.outbound import call_results, send_gate
from receiptsvc.store.outbound.call_results import AttemptResult
from receiptsvc.store.outbound.claims import claim
from tests.support.rows import accept, keep, message, seconds
from tests.support.work import LEASE, REPEATS, said, work

BY = Actor(actor="test", reason="because")


@contextmanager
def notifications(database: Database) -> Iterator[list[set[Topic]]]:
    """What the commits in the block notify, each on its own."""
    notified: list[set[Topic]] = []
    database.notify = lambda topics: notified.append(set(topics))
    yield notified
    database.notify = lambda _: None


def test_accepted_messages_and_a_resume_are_messages_to_send(database: Database) -> None:
    with notifications(database) as notified:
        accept(database, message(), message())
    assert notified == [{Topic.MESSAGES}]
    with notifications(database) as notified, database.transaction() as session:
        send_gate.pause(session, "test", "because", seconds(0))
    assert notified == []
    with notifications(database) as notified, database.transaction() as session:
        send_gate.resume(session, "test", None, seconds(0))
    assert notified == [{Topic.MESSAGES}]


def test_credentials_that_work_again_are_messages_to_send(database: Database) -> None:
    for outcome, expected in ((SendOutcome.ACCOUNT_REFUSED, []), (SendOutcome.TAKEN, [{Topic.MESSAGES}])):
        with notifications(database) as notified, database.transaction() as session:
            send_gate.record_outcome(session, {outcome}, seconds(0), was_probe=False)
        assert notified == expected


def test_a_commit_that_fails_notifies_nobody(database: Database) -> None:
    def fail() -> None:
        with database.transaction() as session:
            transitions.accept(session, [message()], seconds(0))
            raise ZeroDivisionError

    with notifications(database) as notified, pytest.raises(ZeroDivisionError):
        fail()
    assert notified == []


@pytest.mark.parametrize("way", ["look", "match", "retry", "replay", "answer"])
def test_receipts_that_are_pending_again_are_receipts_to_process(database: Database, way: str) -> None:
    (message_id,) = accept(database)
    receipt_id = keep(database, said(tx="815"), now=seconds(1))
    work(database)
    claimed = []
    if way == "answer":
        with database.transaction() as session:
            claimed = [one.id for one in claim(session, seconds(2), limit=1, lease=LEASE, repeats=REPEATS).messages]
    with notifications(database) as notified, database.transaction() as session:
        match way:
            case "look":
                assert parking.release_due(session, seconds(10_000), 10) == 1
            case "match":
                receipts.match(session, receipt_id, message_id, BY, seconds(200))
            case "retry":
                receipts.retry(session, receipt_id, BY, seconds(200))
            case "replay":
                assert bulk_receipts.retry(session, [receipt_id], [ReceiptOutcome.UNMATCHED], seconds(200)).receipt_ids
            case "answer":
                taken = AttemptResult(number=1, result=SendResult(outcome=SendOutcome.TAKEN, transaction_id="815"))
                call_results.record_results(session, dict.fromkeys(claimed, taken), seconds(200), REPEATS)
    assert notified == [{Topic.RECEIPTS}]
