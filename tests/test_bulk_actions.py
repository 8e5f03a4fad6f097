"""Operators' actions on many rows: a bounded number in a call, a commit a slice."""

import pytest
from sqlalchemy import select

from receiptsvc import bulk_actions, ids
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Audit
from receiptsvc.store.messages import operator_actions, transitions
from receiptsvc.store.messages.operator_actions import CancelSelection
from tests.support.rows import accept, message, read_message, seconds
from tests.support.work import ALICE, BOB, assert_sound

ANNA = Actor(actor="anna", reason="wrong texts")


def test_messages_are_cancelled_by_a_selection(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_actions, "_MESSAGES", 3)
    monkeypatch.setattr(bulk_actions, "_SQLITE_MESSAGES", 3)
    wrong = [message(f"4477009000{n:02}", client_ref="spring", created_by="shop") for n in range(10)]
    right = [message(ALICE, client_ref="summer"), message(BOB, client_ref="spring", created_by="desk")]
    accept(database, *wrong, *right)
    (later,) = accept(database, message(client_ref="spring", created_by="shop"), now=seconds(60))
    which = CancelSelection(client_ref="spring", created_by="shop", until=seconds(60))
    assert bulk_actions.cancel(database, which, ANNA, seconds(1), is_dry_run=True) == (10, True)
    assert read_message(database, wrong[0].id).status == "accepted"
    monkeypatch.setattr(bulk_actions, "MAX_CHANGED", 5)
    assert bulk_actions.cancel(database, which, ANNA, seconds(1)) == (5, False)
    assert bulk_actions.cancel(database, which, ANNA, seconds(1)) == (5, True)
    assert {read_message(database, one.id).status for one in wrong} == {"cancelled"}
    assert {read_message(database, one).status for one in (*(m.id for m in right), later)} == {"accepted"}
    with database.reading() as session:
        named = [one for audit in session.scalars(select(Audit)) for one in audit.details["messages"]]
    assert sorted(named) == sorted(ids.public("msg", one.id) for one in wrong)
    assert_sound(database)


def test_chosen_messages_are_cancelled_and_no_others(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_actions, "_MESSAGES", 3)
    monkeypatch.setattr(bulk_actions, "_SQLITE_MESSAGES", 3)
    chosen = accept(database, *(message(f"4477009000{n:02}", client_ref="spring") for n in range(8)))
    (alike,) = accept(database, message(BOB, client_ref="spring"))
    gone = chosen[4]
    with database.transaction() as session:
        held = operator_actions.cancel(session, gone, ANNA, seconds(1))
    assert held
    assert bulk_actions.cancel_chosen(database, chosen, ANNA, lambda: seconds(2)) == (7, True)
    assert bulk_actions.cancel_chosen(database, chosen, ANNA, lambda: seconds(3)) == (0, True)
    assert bulk_actions.cancel_chosen(database, [], ANNA, lambda: seconds(3)) == (0, True)
    assert {read_message(database, one).status for one in chosen} == {"cancelled"}
    assert read_message(database, gone).status_at == seconds(1)
    assert read_message(database, alike).status == "accepted"
    assert_sound(database)


def test_what_waits_for_its_deliver_after_is_selected_by_itself(database: Database) -> None:
    now, scheduled = message(ALICE, client_ref="spring"), message(BOB, client_ref="spring", deliver_after=seconds(900))
    with database.transaction() as session:
        transitions.accept(session, [now, scheduled], seconds(0), schedules_messages=True)
    which = CancelSelection(client_ref="spring", scheduled=True)
    assert bulk_actions.cancel(database, which, ANNA, seconds(1)) == (1, True)
    assert [read_message(database, one.id).status for one in (now, scheduled)] == ["accepted", "cancelled"]
