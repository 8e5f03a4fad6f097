"""Failed messages with something in common: each part has just those that breakdowns count for it."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event

from receiptsvc.domain.statuses import Report, Source, Status
from receiptsvc.store.core.db import Database
from receiptsvc.store.messages import transitions
from receiptsvc.store.queries import failed_messages
from receiptsvc.store.queries.contacts import TimeCursor
from receiptsvc.store.queries.failed_messages import FailedFilter
from tests.support import rows, stories
from tests.support.rows import T0, seconds

ALICE, BOB, CAROL = "447700900001", "447911123456", "12025550123"
DAY = {"since": T0, "until": T0 + timedelta(days=1)}


@pytest.fixture
def failed(database: Database) -> dict[str, UUID]:
    """Three that failed, one that was delivered after all, and one of the day before."""
    made = {
        "absent": (rows.message(ALICE, originator="ACME"), "6", "Absent subscriber"),
        "barred": (rows.message(BOB, originator="SHOP"), "9", "Call barred"),
        "silent": (rows.message(CAROL), None, None),
        "delivered": (rows.message(ALICE, originator="ACME"), "6", "Absent subscriber"),
    }
    for second, (message, status_id, words) in enumerate(made.values()):
        rows.accept(database, message, now=seconds(second))
        report(database, message.id, Status.UNDELIVERED, status_id, words)
    report(database, made["delivered"][0].id, Status.DELIVERED, "1", "Delivered")
    before = rows.message(ALICE, originator="ACME")
    rows.accept(database, before, now=T0 - timedelta(seconds=1))
    report(database, before.id, Status.UNDELIVERED, "6", "Absent subscriber")
    return {name: message.id for name, (message, _, _) in made.items()}


def report(database: Database, message_id: UUID, word: Status, status_id: str | None, words: str | None) -> None:
    told = Report(
        source=Source.GATEWAY,
        status=word,
        received_at=seconds(60),
        provider_status_id=status_id,
        provider_description=words,
    )
    entry = transitions.NewTransition(report=told, rule="its address")
    with database.transaction() as session:
        transitions.record(
            session, transitions.lock_messages(session, [message_id]), [(message_id, entry)], seconds(60)
        )


def listed(database: Database, **where: Any) -> list[UUID]:
    with database.reading() as session:
        page = failed_messages.list_failed(session, FailedFilter(**{**DAY, **where}), limit=50)
    assert page.next is None
    return [message.id for message in page.items]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, ["silent", "barred", "absent"]),
        ({"originator": "ACME"}, ["absent"]),
        ({"originator": ""}, ["silent"]),
        ({"calling_code": "44"}, ["barred", "absent"]),
        ({"calling_code": "44", "prefix": "7911"}, ["barred"]),
        ({"calling_code": "33"}, []),
        ({"prefix": "2025"}, ["silent"]),
        ({"status_id": "6"}, ["absent"]),
        ({"status_id": "1"}, []),
        ({"reason": "blocked"}, ["barred"]),
        ({"reason": "unsaid"}, ["silent"]),
        ({"status_id": "6", "reason": "blocked"}, []),
        ({"calling_code": "44", "reason": "blocked"}, ["barred"]),
        ({"until": seconds(1)}, ["absent"]),
    ],
    ids=str,
)
def test_each_part_has_its_messages_the_newest_first(
    database: Database, failed: dict[str, UUID], where: dict[str, Any], expected: list[str]
) -> None:
    assert listed(database, **where) == [failed[name] for name in expected]


@pytest.mark.parametrize("bound", ["LOOKED_THROUGH", "_MAX_TRANSITIONS"])
def test_a_page_ends_after_so_much_and_the_next_one_skips_and_repeats_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    wanted = []
    for second in range(12):
        message = rows.message(ALICE if second % 3 else CAROL)
        rows.accept(database, message, now=seconds(second))
        stories.report(database, message.id, Status.UNDELIVERED, seconds(60))
        wanted += [message.id] if second % 3 == 0 else []
    monkeypatch.setattr(failed_messages, bound, 4)
    found: list[UUID] = []
    after: TimeCursor | None = None
    pages = 0
    while pages == 0 or after is not None:
        with database.reading() as session:
            where = FailedFilter(since=DAY["since"], until=DAY["until"], calling_code="1", status_id="1")
            page = failed_messages.list_failed(session, where, limit=1, after=after)
        assert len(page.items) <= 1
        found += [message.id for message in page.items]
        after, pages = page.next, pages + 1
    assert found == wanted[::-1]
    assert pages >= len(wanted)


def test_why_each_failed_is_told_by_the_report_that_decides(database: Database, failed: dict[str, UUID]) -> None:
    told, refused = rows.message(ALICE), rows.message(BOB)
    rows.accept(database, told, refused)
    for word, seconds_later in ((Status.EXPIRED, 20), (Status.UNDELIVERED, 30), (Status.UNDELIVERED, 40)):
        receipt_id = rows.keep(database, "statusid=1", message_id=told.id, now=seconds(seconds_later))
        stories.report(
            database,
            told.id,
            word,
            seconds(seconds_later),
            seconds(10 + seconds_later if seconds_later < 40 else 11),
            description=f"Absent {seconds_later}",
            receipt_id=receipt_id,
        )
    step = transitions.NewTransition(
        report=transitions.own_report(Status.FAILED, seconds(5)), rule="the gateway refused it", reason="12: bad number"
    )
    with database.transaction() as session:
        transitions.record(session, transitions.lock_messages(session, [refused.id]), [(refused.id, step)], seconds(5))
    with database.reading() as session:
        found = failed_messages.find_failures(session, [*failed.values(), told.id, refused.id])
        assert failed_messages.find_failures(session, []) == {}
    assert found == {
        failed["absent"]: ("unreachable", "6", "Absent subscriber"),
        failed["barred"]: ("blocked", "9", "Call barred"),
        failed["silent"]: ("unsaid", None, None),
        told.id: ("unreachable", "1", "Absent 30"),
        refused.id: ("refused", None, "12: bad number"),
    }


def test_why_many_failed_takes_as_many_statements_as_why_one_did(database: Database, failed: dict[str, UUID]) -> None:
    def count(message_ids: list[UUID]) -> int:
        ran: list[str] = []
        with database.reading() as session:
            event.listen(session.connection(), "before_cursor_execute", lambda *given: ran.append(given[2]))
            assert len(failed_messages.find_failures(session, message_ids)) == len(message_ids)
        return len(ran)

    assert count([failed["absent"], failed["barred"], failed["silent"]]) == count([failed["absent"]]) == 2


def test_what_the_gateway_wrote_with_each_code_is_told(database: Database, failed: dict[str, UUID]) -> None:
    assert len(failed) == 4
    with database.reading() as session:
        assert failed_messages.find_words(session, **DAY) == {
            "6": {"Absent subscriber": 1},
            "9": {"Call barred": 1},
        }
        assert failed_messages.find_words(session, T0 + timedelta(days=3), T0 + timedelta(days=4)) == {}
