"""The way from a problem to its rows: whether the list has others too, and that none of those is shown as its own."""

import pytest
from sqlalchemy import update

from receiptsvc.domain.problems import OTHERS, Kind, Seen
from receiptsvc.domain.waiting import OVERDUE_AFTER
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Message, ProblemRow
from receiptsvc.store.health import problem_rows, problems
from tests.support.rows import T0, accept, message, seconds


def problem(kind: Kind, cause: dict[str, str]) -> ProblemRow:
    return ProblemRow(**problems.values_of(Seen(kind=kind, cause=cause, first_at=T0, last_at=T0, count=1), T0))


@pytest.mark.parametrize(
    ("kind", "cause", "is_exact"),
    [
        (Kind.UNMATCHED, {"channel": "account"}, True),
        (Kind.UNMAPPED, {"code": "17"}, True),
        (Kind.UNMAPPED, {"description": "in review"}, False),
        (Kind.UNMAPPED, {}, False),
        (Kind.UNMAPPED, OTHERS, False),
        (Kind.QUARANTINED, {"kid": "k1"}, True),
        (Kind.QUARANTINED, {"unclaimed": "yes"}, False),
        (Kind.QUARANTINED, {"channel": "inbound"}, False),
        (Kind.QUARANTINED, OTHERS, False),
        (Kind.DEAD, {"error": "ValueError"}, False),
        (Kind.DEAD, OTHERS, False),
        (Kind.OVERDUE, {"originator": "ACME"}, False),
        (Kind.OVERDUE, {}, False),
        (Kind.SEND_UNKNOWN, {}, True),
    ],
)
def test_whether_the_list_has_none_of_other_causes(kind: Kind, cause: dict[str, str], is_exact: bool) -> None:
    rows = problem_rows.filter_of(problem(kind, cause), T0)
    assert rows is not None
    assert rows.is_exact is is_exact


@pytest.mark.parametrize(("cause", "expected"), [({"originator": "ACME"}, [0]), ({}, [2]), (OTHERS, [])])
def test_overdue_messages_are_shown_if_they_are_of_the_sender_and_not_to_be_delivered_later(
    database: Database, cause: dict[str, str], expected: list[int]
) -> None:
    later = message(originator="ACME", deliver_after=T0 + 3 * OVERDUE_AFTER)
    made = [message(originator="ACME"), later, message(originator=None), message(originator="OTHER")]
    message_ids = accept(database, *made)
    with database.transaction() as session:
        session.execute(update(Message).values(status="submitted", due_at=None))
    row = problem(Kind.OVERDUE, cause)
    with database.reading() as session:
        rows = problem_rows.filter_of(row, seconds(2 * OVERDUE_AFTER.total_seconds()))
        found = problem_rows.find_examples(session, row, rows)
    assert [each.id for each in found.messages] == [message_ids[index] for index in expected]
