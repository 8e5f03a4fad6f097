"""An action on a group: exactly those that were chosen, each once, and what had moved on is said."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import select

from receiptsvc import bulk_actions, ids
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Audit
from receiptsvc.store.inbox import receipt_groups, receipts
from receiptsvc.store.inbox.receipt_groups import POSSIBLE, Group, GroupAction, Progress
from receiptsvc.store.inbox.receipts import DISMISSIBLE, RETRIABLE, ReceiptFilter
from tests.support import rows
from tests.support.parked import REASON, park
from tests.support.rows import seconds
from tests.support.work import ALICE, assert_sound, outcomes, said, send, work, work_off
from tests.worker.test_reprocess import UNKNOWN

BY, OTHER = Actor(actor="anna", reason="a test"), Actor(actor="ben", reason="mine")
WAITING = ReceiptFilter(outcomes=RETRIABLE)


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_actions, "_RECEIPTS", 3)


def group_of(receipt_ids: Sequence[UUID], action: GroupAction = GroupAction.DISMISS) -> Group:
    return Group(id=ids.public("srch", ids.new()), receipt_ids=receipt_ids, outcomes=POSSIBLE[action])


def act(
    database: Database, group: Group, action: GroupAction = GroupAction.DISMISS, by: Actor = BY, seconds_: float = 60
) -> Progress:
    return bulk_actions.act_on_group(database, group, action, by, lambda: seconds(200), seconds=seconds_)


def finish(database: Database, group: Group, action: GroupAction = GroupAction.DISMISS) -> Progress:
    progress = act(database, group, action)
    while not progress.is_over:
        progress = act(database, group, action)
    return progress


def actions(database: Database, receipt_id: UUID) -> list[str]:
    """What is on record about a receipt."""
    with database.reading() as session:
        found = select(Audit.action).where(Audit.subject == ids.public("rcp", receipt_id)).order_by(Audit.id)
        return list(session.scalars(found))


def test_what_is_chosen_is_fixed_whatever_comes_later(database: Database) -> None:
    made = park(database, 7)
    with database.reading() as session:
        chosen, is_all = receipt_groups.choose(session, WAITING, seconds=60)
    assert (list(chosen), is_all) == (list(made), True)
    later = park(database, 2)
    progress = finish(database, group_of(chosen))
    assert (progress.done, progress.moved_on) == (7, 0)
    assert outcomes(database, made) == ["dismissed"] * 7
    assert outcomes(database, later) == ["unmatched"] * 2
    assert_sound(database, dismissed=7, unmatched=2)


def test_more_than_may_be_chosen_are_the_oldest_and_it_says_so(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = park(database, 7)
    monkeypatch.setattr(receipt_groups, "MAX_CHOSEN", 5)
    monkeypatch.setattr(receipt_groups, "_CHOSEN_AT_ONCE", 2)
    with database.reading() as session:
        assert receipt_groups.choose(session, WAITING, seconds=60) == (list(made[:5]), False)
        assert receipt_groups.choose(session, WAITING, seconds=0) == (list(made[:2]), False)


def test_each_receipt_and_each_slice_has_its_audit(database: Database) -> None:
    made = park(database, 4)
    group = group_of(made)
    finish(database, group)
    assert [actions(database, each) for each in made] == [["dismissed"]] * 4
    with database.reading() as session:
        slices = session.scalars(select(Audit).where(Audit.subject == group.id).order_by(Audit.id)).all()
        [one] = session.scalars(select(Audit).where(Audit.subject == ids.public("rcp", made[0])))
    assert [(each.actor, each.action, each.reason, each.details["count"]) for each in slices] == [
        ("anna", "dismissed", "a test", 3),
        ("anna", "dismissed", "a test", 1),
    ]
    assert one.details == {"from": "unmatched", "to": "dismissed", "was": REASON, "group": group.id}


def test_what_had_moved_on_is_left_alone_and_counted_by_where_it_stands(database: Database) -> None:
    gone, dismissed, *stays = park(database, 4)
    [recorded] = park(database, 1, ReceiptOutcome.APPLIED)
    group = group_of([UUID(int=1), gone, dismissed, recorded, *stays])
    with database.transaction() as session:
        receipts.dismiss(session, dismissed, OTHER, seconds(150))
        rows.set_outcome(session, gone, ReceiptOutcome.STALE)
    progress = finish(database, group)
    assert progress.done == 2
    assert dict(progress.left) == {"gone": 1, "stale": 1, "dismissed": 1, "applied": 1}
    assert progress.moved_on == 4
    assert ids.public("rcp", dismissed) in progress.examples
    assert actions(database, dismissed) == ["dismissed"]
    assert outcomes(database, stays) == ["dismissed"] * 2


def test_one_that_is_worked_on_when_its_turn_comes_has_another(database: Database) -> None:
    made = park(database, 4)
    group = group_of(made)
    with database.transaction() as session:
        receipts.retry(session, made[1], OTHER, seconds(150))
    progress = act(database, group)
    assert (progress.done, progress.waiting, progress.is_over) == (3, 1, False)
    work_off(database, 300)
    assert outcomes(database, made[1:2]) == ["unmatched"]
    progress = finish(database, group)
    assert (progress.done, progress.moved_on) == (4, 0)
    assert_sound(database, dismissed=4)


def test_one_that_is_worked_on_for_long_is_left_after_some_rounds(database: Database) -> None:
    made = park(database, 2)
    group = group_of(made)
    with database.transaction() as session:
        receipts.retry(session, made[1], OTHER, seconds(150))
    progress = finish(database, group)
    assert (progress.done, progress.waiting, progress.moved_on) == (1, 1, 1)
    assert progress.round == receipt_groups.MAX_ROUNDS - 1
    assert act(database, group) == receipt_progress(database, group)
    assert outcomes(database, made) == ["dismissed", "pending"]


def receipt_progress(database: Database, group: Group) -> Progress:
    with database.reading() as session:
        return receipt_groups.read_progress(session, group, GroupAction.DISMISS)


def test_a_retry_gives_each_to_the_worker_once(database: Database) -> None:
    made = park(database, 5, ReceiptOutcome.DEAD)
    group = group_of(made, GroupAction.RETRY)
    assert finish(database, group, GroupAction.RETRY).done == 5
    assert outcomes(database, made) == ["pending"] * 5
    work_off(database, 300)
    assert outcomes(database, made) == ["unmatched"] * 5
    assert finish(database, group, GroupAction.RETRY).done == 5, "it is over"
    assert outcomes(database, made) == ["unmatched"] * 5
    assert_sound(database, unmatched=5)


def test_it_goes_on_where_it_stood(database: Database) -> None:
    made = park(database, 8)
    group = group_of(made)
    assert (act(database, group, seconds_=0).done, act(database, group, seconds_=0).done) == (3, 6)
    assert receipt_progress(database, group).passed == 6
    assert finish(database, group).done == 8
    assert [actions(database, each) for each in made] == [["dismissed"]] * 8


def test_two_who_go_on_at_once_do_nothing_twice(database: Database) -> None:
    made = park(database, 40)
    group = group_of(made)
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda by: act(database, group, by=by), [BY, OTHER, BY]))
    assert {each.done for each in done} == {40}
    assert [actions(database, each) for each in made] == [["dismissed"]] * 40
    assert_sound(database, dismissed=40)


def test_an_undo_restores_what_this_group_dismissed_and_nothing_else(database: Database) -> None:
    [mine] = rows.accept(database)
    unknown = rows.keep(database, UNKNOWN, message_id=mine)
    work(database)
    made = [unknown, *park(database, 5)]
    before, restored, again = made[1:4]
    with database.transaction() as session:
        receipts.dismiss(session, before, OTHER, seconds(110))
    group = group_of(made)
    assert finish(database, group).done == 5
    assert outcomes(database, [unknown]) == ["dismissed"]
    with database.transaction() as session:
        receipts.restore(session, restored, OTHER, seconds(210))
        receipts.restore(session, again, OTHER, seconds(210))
    work_off(database, 300)
    with database.transaction() as session:
        receipts.dismiss(session, again, OTHER, seconds(220))
    undone = finish(database, group, GroupAction.RESTORE)
    assert undone.done == 3
    assert outcomes(database, made) == ["unmapped", "dismissed", "unmatched", "dismissed", "pending", "pending"]
    assert actions(database, again) == ["dismissed", "restored", "dismissed"]
    work_off(database, 300)
    assert_sound(database, unmapped=1, dismissed=2, unmatched=3)


def test_one_that_finds_its_message_after_an_undo_is_recorded(database: Database) -> None:
    receipt_id = rows.keep(database, said(tx="815", to=ALICE, at=5), now=seconds(6))
    work_off(database)
    group = group_of([receipt_id])
    finish(database, group)
    send(database, rows.message(ALICE), tx="815")
    assert outcomes(database, [receipt_id]) == ["dismissed"]
    finish(database, group, GroupAction.RESTORE)
    work_off(database, 300)
    assert outcomes(database, [receipt_id]) == ["applied"]
    assert_sound(database, applied=1)


def test_a_walk_finds_what_the_list_finds_the_oldest_first(database: Database) -> None:
    [mine] = rows.accept(database)
    for number in range(9):
        rows.keep(database, UNKNOWN if number % 3 else said(tx=str(number)), message_id=mine if number % 3 else None)
    work(database)
    park(database, 3, ReceiptOutcome.DEAD)
    rows.keep(database, said(tx="999"))
    for outcomes_ in (RETRIABLE, DISMISSIBLE, [ReceiptOutcome.UNMAPPED], list(ReceiptOutcome), []):
        where = ReceiptFilter(outcomes=outcomes_)
        with database.reading() as session:
            entries = receipts.list_receipts(session, where, limit=50).items
            listed = [entry.row.id for entry in entries]
            assert receipts.find_outcomes(session, listed) == {
                entry.row.id: (entry.outcome, entry.reason) for entry in entries
            }
            walked: list[UUID] = []
            page = receipts.find_ids(session, where, limit=2)
            walked += page.items
            while page.next is not None:
                page = receipts.find_ids(session, where, limit=2, after=page.next)
                walked += page.items
        assert walked == listed[::-1]
        assert walked
