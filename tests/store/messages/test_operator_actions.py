"""Actions by hand: nothing that the gateway may have is cancelled, and a later receipt still wins."""

import pytest
from sqlalchemy import select

from receiptsvc import bulk_actions, ids
from receiptsvc.domain.errors import Refused
from receiptsvc.domain.messages import SendOutcome
from receiptsvc.domain.operator_actions import refuse_cancelling
from receiptsvc.domain.statuses import RESOLUTIONS, Report, Source, Status
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Audit
from receiptsvc.store.messages import operator_actions, transitions
from receiptsvc.store.messages.operator_actions import CancelSelection
from tests.support.rows import accept, message, read_message, read_transitions, seconds
from tests.support.work import ALICE, answer, assert_sound, offer, send

ANNA = Actor(actor="anna", reason="wrong text")


def test_a_message_that_was_not_sent_can_be_cancelled(database: Database) -> None:
    (message_id,) = accept(database)
    with database.transaction() as session:
        assert operator_actions.cancel(session, message_id, ANNA, seconds(1))
        assert not operator_actions.cancel(session, ids.new(), ANNA, seconds(1))
    row = read_message(database, message_id)
    assert (row.status, row.status_at, row.due_at) == ("cancelled", seconds(1), None)
    assert offer(database, 100) == []
    assert read_transitions(database, message_id)[-1].reason == "anna: wrong text"
    with database.reading() as session:
        (audit,) = session.scalars(select(Audit)).all()
    assert (audit.actor, audit.action, audit.subject) == ("anna", "cancel", ids.public("msg", message_id))
    assert_sound(database)


def test_a_message_that_did_not_reach_the_gateway_can_be_cancelled(database: Database) -> None:
    message_id = send(database, message(), SendOutcome.NOT_SENT)
    with database.transaction() as session:
        assert operator_actions.cancel(session, message_id, ANNA, seconds(1))
    assert read_message(database, message_id).status == "cancelled"


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (None, "just being given"),
        (SendOutcome.UNCLEAR, "may have it"),
        (SendOutcome.TAKEN, "submitted"),
        (SendOutcome.REFUSED, "failed"),
    ],
)
def test_a_message_that_the_gateway_may_have_is_not_cancelled(
    database: Database, outcome: SendOutcome | None, why: str
) -> None:
    (message_id,) = accept(database)
    offer(database)
    if outcome is not None:
        answer(database, message_id, outcome)
    before = read_message(database, message_id).status
    with database.transaction() as session, pytest.raises(Refused, match=why):
        operator_actions.cancel(session, message_id, ANNA, seconds(2))
    assert read_message(database, message_id).status == before
    assert bulk_actions.cancel(database, CancelSelection(recipient=ALICE), ANNA, seconds(2)) == (0, True)


@pytest.mark.parametrize("status", RESOLUTIONS)
def test_an_operator_resolves_a_send_unknown_message_and_a_receipt_still_wins(
    database: Database, status: Status
) -> None:
    message_id = send(database, message(), SendOutcome.UNCLEAR)
    with database.transaction() as session:
        assert operator_actions.resolve(session, message_id, status, ANNA, seconds(5))
        assert not operator_actions.resolve(session, ids.new(), status, ANNA, seconds(5))
    row = read_message(database, message_id)
    assert (row.status, row.due_at) == (status, None)
    assert offer(database, 100) == [], "it is not offered again"
    report = Report(source=Source.GATEWAY, status=Status.EXPIRED, received_at=seconds(9))
    with database.transaction() as session:
        locked = transitions.lock_messages(session, [message_id])
        transitions.record(
            session, locked, [(message_id, transitions.NewTransition(report=report, rule="test"))], seconds(9)
        )
    assert read_message(database, message_id).status == "expired"
    with database.reading() as session:
        assert [one.details for one in session.scalars(select(Audit))] == [{"status": status.value}]


def test_only_send_unknown_messages_can_be_resolved(database: Database) -> None:
    (message_id,) = accept(database)
    with database.transaction() as session, pytest.raises(Refused, match="accepted"):
        operator_actions.resolve(session, message_id, Status.DELIVERED, ANNA, seconds(1))
    assert read_message(database, message_id).status == "accepted"


@pytest.mark.parametrize("outcome", [None, *SendOutcome])
def test_what_is_found_to_cancel_is_what_may_be_cancelled(database: Database, outcome: SendOutcome | None) -> None:
    (waiting,) = accept(database)
    offer(database)
    if outcome is not None:
        answer(database, waiting, outcome)
    (untouched,) = accept(database)
    with database.transaction() as session:
        found = operator_actions.find_cancellable(session, CancelSelection(), limit=9).items
        locked = transitions.lock_messages(session, [waiting, untouched]).values()
        allowed = [
            each.id
            for each in locked
            if refuse_cancelling(each.status, calling_since=each.calling_since, unclear_since=each.unclear_since)
            is None
        ]
    assert sorted(found) == allowed
    assert untouched in found


def test_it_is_said_how_chosen_messages_stand(database: Database) -> None:
    cancelled, taken, failed, in_call, left = (message(f"44770090000{n}") for n in range(5))
    accept(database, cancelled, taken, in_call)
    with database.transaction() as session:
        operator_actions.cancel(session, cancelled.id, ANNA, seconds(1))
    assert set(offer(database, 2)) == {taken.id, in_call.id}
    answer(database, taken.id)
    send(database, failed, SendOutcome.REFUSED, at=3)
    accept(database, left)
    chosen = [one.id for one in (cancelled, taken, failed, in_call, left)]
    with database.reading() as session:
        found = operator_actions.describe_chosen(session, chosen)
        none = operator_actions.describe_chosen(session, [])
    assert (found.cancelled, found.left, found.gone_count) == (1, 1, 3)
    assert list(found.gone) == sorted(one.id for one in (taken, failed, in_call))
    assert (none.cancelled, none.left, none.gone_count, none.gone) == (0, 0, 0, ())


def test_a_refusal_says_what_the_gateway_keeps_until_later(database: Database) -> None:
    message_id = send(database, message(deliver_after=seconds(900)))
    with database.transaction() as session, pytest.raises(Refused, match="keeps it until 2026-01-05T12:15:00Z"):
        operator_actions.cancel(session, message_id, ANNA, seconds(2))
    with database.transaction() as session, pytest.raises(Refused, match="It is submitted"):
        operator_actions.cancel(session, message_id, ANNA, seconds(900))
