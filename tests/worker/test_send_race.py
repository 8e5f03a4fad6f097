"""A receipt may come before the answer of its send, between the answer and its commit, or after: it is applied once."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest

from receiptsvc.domain.correlation import BY_CLIENT_REF, BY_TOKEN, BY_TRANSACTION
from receiptsvc.domain.messages import SendOutcome, SendResult
from receiptsvc.domain.statuses import Source
from receiptsvc.store.core.db import Database
from receiptsvc.store.outbound import call_results
from receiptsvc.store.outbound.call_results import AttemptResult
from tests.support.rows import accept, keep, message, read_message, read_transitions, seconds
from tests.support.work import (
    REPEATS,
    assert_sound,
    moves,
    offer,
    outcomes,
    parked,
    rules,
    said,
    wait_until_blocked,
    work,
    work_off,
)

MOMENTS = ("before", "between", "after")
ENDS = {SendOutcome.TAKEN: "submitted", SendOutcome.UNCLEAR: "send_unknown"}


def end(index: int, outcome: SendOutcome) -> AttemptResult:
    transaction_id = str(index + 1) if outcome is SendOutcome.TAKEN else None
    return AttemptResult(number=1, result=SendResult(outcome=outcome, transaction_id=transaction_id))


@pytest.mark.parametrize("outcome", ENDS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_receipt_is_applied_once_whenever_it_comes(database: Database, moment: str, outcome: SendOutcome) -> None:
    # One call with six messages, and a receipt for each: with our token, or found by what it says.
    sent = accept(database, *(message(f"4477009000{number:02}", client_ref=f"x{number}") for number in range(6)))
    assert sorted(offer(database)) == sorted(sent)
    ended = {message_id: end(index, outcome) for index, message_id in enumerate(sent)}
    ways: list[tuple[dict[str, Any], UUID | None]] = [
        ({}, sent[0]),
        ({"tx": "2"}, sent[1]),
        ({"tx": "3", "ref": "x2"}, sent[2]),
        ({"tx": "4"}, None) if outcome is SendOutcome.TAKEN else ({"tx": "4", "ref": "x3"}, None),
        ({"tx": "5", "ref": "x4"}, None),
        ({"ref": "x5"}, None),
    ]

    def deliver() -> list[UUID]:
        return [
            keep(database, said(to=f"4477009000{index:02}", **words), message_id=message_id)
            for index, (words, message_id) in enumerate(ways)
        ]

    kept = [] if moment == "after" else deliver()
    if moment == "before":
        assert work(database) == 6
        assert outcomes(database, kept) == ["applied"] * 3 + ["unmatched"] * 2 + ["applied"]
    with ThreadPoolExecutor(1) as threads, database.transaction() as session:
        call_results.record_results(session, ended, seconds(1), REPEATS)
        worker = threads.submit(work, database) if moment == "between" else None
        if worker and not database.is_sqlite:  # there everybody waits at the door, and nobody can look at it
            wait_until_blocked(database, "transactionid")
    assert worker is None or worker.result() == 6
    kept = kept or deliver()
    work_off(database)

    assert outcomes(database, kept) == ["applied"] * 6
    for index, message_id in enumerate(sent):
        row = read_message(database, message_id)
        assert (row.status, row.conflict, row.due_at) == ("delivered", False, None)
        steps = [one.status for one in read_transitions(database, message_id) if one.source == Source.OURSELVES]
        assert steps == ["accepted", ENDS[outcome]], index
    by_words = [BY_TRANSACTION] * 2 if outcome is SendOutcome.TAKEN else [BY_CLIENT_REF] * 2
    assert [rules(database, one) for one in sent] == [[rule] for rule in [BY_TOKEN] * 3 + by_words + [BY_CLIENT_REF]]
    waited = [("worker", "unmatched", "applied")] if moment == "before" else []
    assert [moves(database, one) for one in kept] == [[], [], [], waited, waited, []]
    assert parked(database) == {}
    assert_sound(database, applied=6)
