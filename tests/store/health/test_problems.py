"""What looks have seen is kept by its cause: what people say of it stays, what ends is closed, what comes back opens."""

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import select, update

from receiptsvc import ids
from receiptsvc.domain.errors import Refused
from receiptsvc.domain.messages import SendOutcome
from receiptsvc.domain.problems import Kind, Seen, State
from receiptsvc.store.core import audits
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Message, ProblemRow
from receiptsvc.store.health import problems
from receiptsvc.store.health.causes import Look
from tests.support.looks import note, rows_of
from tests.support.rows import T0, keep, message, seconds
from tests.support.work import said, send, wait_until_blocked, work_off

ANNA = Actor(actor="user anna", reason="I look")
BEN = Actor(actor="user ben")


def park(database: Database, at: float = 0) -> None:
    """A receipt on the static URL that fits nothing."""
    keep(database, said(ref="nobody"), now=seconds(at))
    work_off(database, at)


def parked(database: Database) -> ProblemRow:
    [row] = rows_of(database, Kind.UNMATCHED)
    return row


def change(database: Database, row: ProblemRow, to: State, by: Actor = ANNA, at: float = 60) -> ProblemRow:
    act = {State.ACKNOWLEDGED: problems.acknowledge, State.RESOLVED: problems.resolve, State.OPEN: problems.reopen}[to]
    with database.transaction() as session:
        changed = act(session, row.id, by, seconds(at))
    assert changed is not None
    return changed


def history(database: Database, row: ProblemRow) -> list[tuple[str, str, str | None]]:
    with database.reading() as session:
        found = audits.read(session, ids.public("prb", row.id))
    return [(each.actor, each.action, each.reason) for each in found]


def keep_seen(database: Database, *seen: Seen, at: float = 0, host: str | None = None, is_all: bool = False) -> None:
    complete = [Kind.DEAD, Kind.CONNECTIONS_EXCEED] if is_all else []
    with database.transaction() as session:
        problems.note(session, Look(at=seconds(at), seen=seen, complete=complete, host=host))


def one(kind: Kind = Kind.DEAD, cause: str = "A", at: float = 0, newest: int = 1, count: int = 1) -> Seen:
    return Seen(
        kind=kind,
        cause={"error": cause},
        first_at=seconds(at),
        last_at=seconds(at),
        count=count,
        newest_id=UUID(int=newest) if kind is Kind.DEAD else None,
    )


def end(database: Database, *at: float, state: str = "open") -> None:
    """Looks that see all is well; the last one closes what they miss."""
    for each in at:
        assert rows_of(database, Kind.WORKER_UNSEEN)[0].state == state
        note(database, seconds(each))


def test_rows_of_one_cause_are_one_problem_that_grows(database: Database) -> None:
    park(database)
    note(database, seconds(20))
    park(database, 21)
    note(database, seconds(40))
    row = parked(database)
    assert (row.state, row.count, row.first_at, row.last_at) == ("open", 2, T0, seconds(21))
    assert (row.cause, row.changed_by) == ({"channel": "account"}, None)


def test_what_is_acknowledged_stays_so_until_it_ends(database: Database) -> None:
    park(database)
    note(database, seconds(20))
    acknowledged = change(database, parked(database), State.ACKNOWLEDGED, at=60)
    assert (acknowledged.changed_by, acknowledged.changed_at, acknowledged.reason) == (
        *("user anna", seconds(60)),
        "I look",
    )
    park(database, 61)
    note(database, seconds(90))
    row = parked(database)
    assert (row.state, row.count, row.changed_by) == ("acknowledged", 2, "user anna")


def test_what_is_resolved_opens_by_itself_with_a_newer_row_and_not_before(database: Database) -> None:
    park(database)
    note(database, seconds(20))
    change(database, parked(database), State.RESOLVED, at=60)
    note(database, seconds(300))
    assert parked(database).state == "resolved", "its rows are still there, and none is new"
    park(database, 400)
    note(database, seconds(420))
    row = parked(database)
    assert (row.state, row.count, row.changed_by, row.reason) == ("open", 2, None, None)
    assert history(database, row) == [("user anna", "resolved", "I look"), ("service", "reopened", None)]


def test_a_condition_that_ends_is_closed_and_opens_when_it_holds_again(database: Database) -> None:
    note(database, T0, with_worker=False)
    [row] = rows_of(database, Kind.WORKER_UNSEEN)
    assert (row.state, row.first_at, row.last_at) == ("open", T0, T0)
    end(database, 20, 45, 70)
    [row] = rows_of(database, Kind.WORKER_UNSEEN)
    assert (row.state, row.last_at, row.changed_at, row.changed_by) == ("resolved", T0, seconds(70), None)
    note(database, seconds(100), with_worker=False)
    [row] = rows_of(database, Kind.WORKER_UNSEEN)
    assert (row.state, row.first_at) == ("open", seconds(70)), "it is another time"
    assert history(database, row) == [], "nobody has said anything"


def test_what_is_away_for_a_moment_again_and_again_stays_as_it_is(database: Database) -> None:
    keep_seen(database, one())
    [row] = rows_of(database, Kind.DEAD)
    change(database, row, State.ACKNOWLEDGED, at=5)
    for at in range(20, 200, 60):
        keep_seen(database, at=at, is_all=True)
        keep_seen(database, at=at + 20, is_all=True)
        keep_seen(database, one(), at=at + 40, is_all=True)
    [row] = rows_of(database, Kind.DEAD)
    assert (row.state, row.changed_by) == ("acknowledged", "user anna")


def test_what_is_resolved_opens_when_an_older_row_is_one_more(database: Database) -> None:
    keep_seen(database, one(newest=5, count=2))
    [row] = rows_of(database, Kind.DEAD)
    change(database, row, State.RESOLVED)
    for at, count, state in ((80, 2, "resolved"), (100, 1, "resolved"), (120, 3, "open")):
        keep_seen(database, one(newest=5, count=count), at=at)
        assert rows_of(database, Kind.DEAD)[0].state == state


def test_what_is_resolved_and_then_gone_opens_with_any_row(database: Database) -> None:
    keep_seen(database, one(newest=5, count=2))
    [row] = rows_of(database, Kind.DEAD)
    change(database, row, State.RESOLVED)
    for at in (80, 100, 125):
        with database.glance() as connection:
            assert problems.may_any_end(connection)
        keep_seen(database, at=at, is_all=True)
    with database.glance() as connection:
        assert not problems.may_any_end(connection), "it is known, and need not be written again"
    [row] = rows_of(database, Kind.DEAD)
    assert (row.state, row.changed_by, row.changed_at) == ("resolved", "user anna", seconds(60))
    keep_seen(database, one(newest=4), at=140, is_all=True)
    [row] = rows_of(database, Kind.DEAD)
    assert (row.state, row.count) == ("open", 1)
    assert history(database, row) == [("user anna", "resolved", "I look"), ("service", "reopened", None)]


def test_a_message_accepted_before_others_whose_fate_is_unknown_later_opens_it(database: Database) -> None:
    older, newer = (send(database, message(f"44770090000{each}"), SendOutcome.UNCLEAR) for each in (1, 2))
    for message_id, lost_at, looked_at in ((newer, 0, 3700), (older, 600, 4300)):
        with database.transaction() as session:
            values = {"status": "send_unknown", "unclear_since": seconds(lost_at)}
            session.execute(update(Message).where(Message.id == message_id).values(values))
        note(database, seconds(looked_at))
        [row] = rows_of(database, Kind.SEND_UNKNOWN)
        assert row.state == "open"
        if message_id == newer:
            change(database, row, State.RESOLVED, at=3710)


def test_a_condition_that_was_resolved_and_still_holds_opens_by_itself(database: Database) -> None:
    note(database, T0, with_worker=False)
    [row] = rows_of(database, Kind.WORKER_UNSEEN)
    change(database, row, State.RESOLVED, at=5)
    for at, state in ((20, "resolved"), (40, "open")):
        note(database, seconds(at), with_worker=False)
        assert rows_of(database, Kind.WORKER_UNSEEN)[0].state == state


def test_the_end_of_what_was_acknowledged_is_on_record(database: Database) -> None:
    note(database, T0, with_worker=False)
    [row] = rows_of(database, Kind.WORKER_UNSEEN)
    change(database, row, State.ACKNOWLEDGED, at=5)
    end(database, 20, 45, 70, state="acknowledged")
    assert rows_of(database, Kind.WORKER_UNSEEN)[0].state == "resolved"
    assert history(database, row) == [("user anna", "acknowledged", "I look"), ("service", "resolved", None)]


def test_the_second_of_two_people_is_told_that_the_first_was_faster(database: Database) -> None:
    note(database, T0, with_worker=False)
    [row] = rows_of(database, Kind.WORKER_UNSEEN)
    change(database, row, State.RESOLVED)
    with pytest.raises(Refused, match="It is resolved already, by user anna"):
        change(database, row, State.RESOLVED, BEN)
    with pytest.raises(Refused, match="reopen it first"):
        change(database, row, State.ACKNOWLEDGED, BEN)
    change(database, row, State.OPEN, BEN)
    change(database, row, State.ACKNOWLEDGED, BEN)
    change(database, row, State.OPEN)
    assert [action for _, action, _ in history(database, row)] == ["resolved", "reopened", "acknowledged", "reopened"]


def test_a_problem_that_is_not_there_is_not_changed(database: Database) -> None:
    with database.transaction() as session:
        assert problems.resolve(session, ids.new(), ANNA, T0) is None
        assert problems.find(session, ids.new()) is None


def test_a_look_that_has_not_seen_all_ends_nothing(database: Database) -> None:
    keep_seen(database, one())
    for at in (20, 40, 70):
        keep_seen(database, at=at)
    assert [row.state for row in rows_of(database, Kind.DEAD)] == ["open"]
    for at in (80, 100, 125):
        keep_seen(database, at=at, is_all=True)
    assert [row.state for row in rows_of(database, Kind.DEAD)] == ["resolved"]


def test_ever_new_causes_leave_a_bounded_number_open(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problems, "_MAX_UNSEEN", 3)
    keep_seen(database, one(cause="seen to"))
    [row] = rows_of(database, Kind.DEAD)
    change(database, row, State.ACKNOWLEDGED)
    for at in range(20):
        keep_seen(database, one(cause="largest", at=at, newest=at), one(cause=str(at), at=at), at=at)
    keep_seen(database, Seen(kind=Kind.SPOOL_WAITING, cause={"host": "a"}, first_at=T0, last_at=T0), at=20, host="a")
    wanting = [row for row in rows_of(database, Kind.DEAD) if row.state != "resolved"]
    assert {row.cause["error"] for row in wanting} == {"seen to", "largest", "16", "17", "18", "19"}
    keep_seen(database, one(cause="3", at=30, newest=30), at=30)
    assert "3" in {row.cause["error"] for row in rows_of(database, Kind.DEAD) if row.state == "open"}, "it is large now"


def test_what_is_of_one_host_is_ended_by_that_host_or_after_minutes(database: Database) -> None:
    waiting = [
        Seen(kind=Kind.SPOOL_WAITING, cause={"host": host}, first_at=T0, last_at=T0, count=1) for host in ("a", "b")
    ]
    keep_seen(database, *waiting)
    note(database, seconds(20))
    assert [row.state for row in rows_of(database, Kind.SPOOL_WAITING)] == ["open", "open"]
    for at in (40, 60, 85):
        keep_seen(database, at=at, host="a")
    states = {row.cause["host"]: row.state for row in rows_of(database, Kind.SPOOL_WAITING)}
    assert states == {"a": "resolved", "b": "open"}
    for at in (301, 346):
        note(database, seconds(at))
    assert {row.state for row in rows_of(database, Kind.SPOOL_WAITING)} == {"resolved"}, "its processes are gone"


def test_what_harms_now_is_listed_first_and_what_is_acknowledged_last(database: Database) -> None:
    keep_seen(database, one(), one(Kind.CONNECTIONS_EXCEED), one(Kind.WORKER_UNSEEN), one(cause="B", at=5))
    [dead] = [row for row in rows_of(database, Kind.DEAD) if row.cause == {"error": "A"}]
    change(database, dead, State.ACKNOWLEDGED)
    with database.reading() as session:
        listed = [(row.kind, row.cause["error"]) for row in problems.list_problems(session, seconds(5))]
    assert listed == [("worker_unseen", "A"), ("dead", "B"), ("connections_exceed", "A"), ("dead", "A")]


def test_what_has_harmed_and_does_no_more_is_listed_with_what_waits(database: Database) -> None:
    keep_seen(database, one(Kind.CALLBACKS_REFUSED), one(Kind.NO_RECEIPTS), one(Kind.SEND_UNKNOWN))
    with database.reading() as session:
        listed = [[row.kind for row in problems.list_problems(session, seconds(at))] for at in (89, 90)]
    assert listed == [
        ["callbacks_refused", "no_receipts", "send_unknown"],
        ["no_receipts", "callbacks_refused", "send_unknown"],
    ]


def test_kinds_are_seen_until_they_have_ended_whatever_people_say(database: Database) -> None:
    keep_seen(database, one())
    [row] = rows_of(database, Kind.DEAD)
    change(database, row, State.RESOLVED)
    with database.reading() as session:
        assert problems.find_seen(session) == {Kind.DEAD}
    for at in (60, 105):
        keep_seen(database, at=at, is_all=True)
    with database.reading() as session:
        assert problems.find_seen(session) == set()


def prune(database: Database, at: float, limit: int = 10) -> int:
    with database.transaction() as session:
        return problems.prune(session, seconds(at), limit)


def test_what_was_resolved_long_ago_is_forgotten_unless_it_is_still_seen(database: Database) -> None:
    keep_seen(database, one(), one(cause="B"))
    for row in rows_of(database, Kind.DEAD):
        change(database, row, State.RESOLVED)
    for at in (80, 125):
        keep_seen(database, one(), at=at, is_all=True)
    assert prune(database, 29 * 86_400) == 0
    assert prune(database, 31 * 86_400) == 1
    assert [(row.cause["error"], row.state) for row in rows_of(database, Kind.DEAD)] == [("A", "resolved")]


def test_of_very_many_the_newest_resolved_are_kept(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problems, "_MAX_ENDED", 2)
    keep_seen(database, *(one(cause=str(number)) for number in range(4)))
    for at, row in enumerate(sorted(rows_of(database, Kind.DEAD), key=lambda row: str(row.cause))):
        change(database, row, State.RESOLVED, at=at)
    for at in (60, 105):
        keep_seen(database, at=at, is_all=True)
    assert [prune(database, 120, limit=1) for _ in range(3)] == [1, 1, 0], "in steps"
    assert sorted(row.cause["error"] for row in rows_of(database, Kind.DEAD)) == ["2", "3"]


def test_a_kind_that_only_a_newer_release_knows_is_left_alone(database: Database) -> None:
    keep_seen(database, one())
    with database.transaction() as session:
        session.execute(update(ProblemRow).values(kind="of_tomorrow"))
    keep_seen(database, at=20, is_all=True)
    with database.reading() as session:
        assert problems.list_problems(session, T0) == []
        assert session.scalars(select(ProblemRow.state)).all() == ["open"]


def test_two_processes_that_see_the_same_at_once_keep_it_once(postgresql_database: Database) -> None:
    with ThreadPoolExecutor(1) as pool:
        with postgresql_database.transaction() as session:
            problems.note(session, Look(at=T0, seen=[one()]))
            second = pool.submit(keep_seen, postgresql_database, one())
            wait_until_blocked(postgresql_database, "transactionid")
        second.result(30)
    assert [row.state for row in rows_of(postgresql_database, Kind.DEAD)] == ["open"]


def test_of_two_people_who_resolve_at_once_one_is_told_so(postgresql_database: Database) -> None:
    keep_seen(postgresql_database, one())
    [row] = rows_of(postgresql_database, Kind.DEAD)
    with ThreadPoolExecutor(1) as pool:
        with postgresql_database.transaction() as session:
            problems.resolve(session, row.id, ANNA, seconds(60))
            session.flush()
            second = pool.submit(change, postgresql_database, row, State.RESOLVED, BEN)
            wait_until_blocked(postgresql_database, "transactionid")
        with pytest.raises(Refused, match="It is resolved already, by user anna"):
            second.result(30)


def test_two_processes_that_see_the_same_new_ones_in_another_order_do_not_block_each_other(
    postgresql_database: Database,
) -> None:
    low, high = sorted((one(cause="A"), one(cause="B")), key=lambda seen: seen.id)
    with ThreadPoolExecutor(1) as pool:
        with postgresql_database.transaction() as session:
            problems.note(session, Look(at=T0, seen=[low]))
            second = pool.submit(keep_seen, postgresql_database, high, low)
            wait_until_blocked(postgresql_database, "transactionid")
            problems.note(session, Look(at=T0, seen=[high]))
        second.result(30)
    assert len(rows_of(postgresql_database, Kind.DEAD)) == 2


def test_whether_a_look_that_sees_nothing_has_anything_to_note_is_one_short_question(database: Database) -> None:
    with database.glance() as connection:
        assert not problems.may_any_end(connection)
    keep_seen(database, one())
    with database.glance() as connection:
        assert problems.may_any_end(connection)
