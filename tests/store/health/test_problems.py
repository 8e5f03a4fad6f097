"""What looks have seen is kept by its cause: what people say of it stays, what ends is closed, what comes back opens."""

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import select, update

from receiptsvc import ids
from receiptsvc.domain.errors import Refused
from receiptsvc.domain.problems import Kind, Seen, State
from receiptsvc.store.core import audits
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import ProblemRow
from receiptsvc.store.health import problems
from receiptsvc.store.health.causes import Look
from tests.support.looks import note, rows_of
from tests.support.rows import T0, keep, seconds
from tests.support.work import said, wait_until_blocked, work_off

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


def one(kind: Kind = Kind.DEAD, cause: str = "A", at: float = 0, newest: int = 1) -> Seen:
    return Seen(
        kind=kind,
        cause={"error": cause},
        first_at=seconds(at),
        last_at=seconds(at),
        count=1,
        newest_id=UUID(int=newest) if kind is Kind.DEAD else None,
    )


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
    note(database, seconds(20))
    [row] = rows_of(database, Kind.WORKER_UNSEEN)
    assert (row.state, row.last_at, row.changed_at, row.changed_by) == ("resolved", T0, seconds(20), None)
    note(database, seconds(40), with_worker=False)
    [row] = rows_of(database, Kind.WORKER_UNSEEN)
    assert (row.state, row.first_at) == ("open", seconds(20)), "it is another time"
    assert history(database, row) == [], "nobody has said anything"


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
    note(database, seconds(20))
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
    keep_seen(database, at=20)
    assert [row.state for row in rows_of(database, Kind.DEAD)] == ["open"]
    keep_seen(database, at=40, is_all=True)
    assert [row.state for row in rows_of(database, Kind.DEAD)] == ["resolved"]


def test_what_is_of_one_host_is_ended_by_that_host_or_after_minutes(database: Database) -> None:
    waiting = [
        Seen(kind=Kind.SPOOL_WAITING, cause={"host": host}, first_at=T0, last_at=T0, count=1) for host in ("a", "b")
    ]
    keep_seen(database, *waiting)
    note(database, seconds(20))
    assert [row.state for row in rows_of(database, Kind.SPOOL_WAITING)] == ["open", "open"]
    keep_seen(database, at=40, host="a")
    states = {row.cause["host"]: row.state for row in rows_of(database, Kind.SPOOL_WAITING)}
    assert states == {"a": "resolved", "b": "open"}
    note(database, seconds(301))
    assert {row.state for row in rows_of(database, Kind.SPOOL_WAITING)} == {"resolved"}, "its processes are gone"


def test_what_harms_now_is_listed_first_and_what_is_acknowledged_last(database: Database) -> None:
    keep_seen(database, one(), one(Kind.CONNECTIONS_EXCEED), one(Kind.WORKER_UNSEEN), one(cause="B", at=5))
    [dead] = [row for row in rows_of(database, Kind.DEAD) if row.cause == {"error": "A"}]
    change(database, dead, State.ACKNOWLEDGED)
    with database.reading() as session:
        listed = [(row.kind, row.cause["error"]) for row in problems.list_problems(session)]
    assert listed == [("worker_unseen", "A"), ("dead", "B"), ("connections_exceed", "A"), ("dead", "A")]


def test_what_was_resolved_long_ago_is_forgotten_unless_it_is_still_seen(database: Database) -> None:
    keep_seen(database, one(), one(cause="B"))
    for row in rows_of(database, Kind.DEAD):
        change(database, row, State.RESOLVED)
    keep_seen(database, one(), at=31 * 86_400)
    assert [(row.cause["error"], row.state) for row in rows_of(database, Kind.DEAD)] == [("A", "resolved")]


def test_of_very_many_the_newest_resolved_are_kept(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problems, "_MAX_RESOLVED", 2)
    keep_seen(database, *(one(cause=str(number)) for number in range(4)))
    for at, row in enumerate(sorted(rows_of(database, Kind.DEAD), key=lambda row: str(row.cause))):
        change(database, row, State.RESOLVED, at=at)
    keep_seen(database, at=60)
    assert sorted(row.cause["error"] for row in rows_of(database, Kind.DEAD)) == ["2", "3"]


def test_a_kind_that_only_a_newer_release_knows_is_left_alone(database: Database) -> None:
    keep_seen(database, one())
    with database.transaction() as session:
        session.execute(update(ProblemRow).values(kind="of_tomorrow"))
    keep_seen(database, at=20, is_all=True)
    with database.reading() as session:
        assert problems.list_problems(session) == []
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


def test_whether_anything_wants_a_person_is_one_short_question(database: Database) -> None:
    with database.reading() as session:
        assert not problems.is_any_wanting(session)
    keep_seen(database, one())
    with database.reading() as session:
        assert problems.is_any_wanting(session)
