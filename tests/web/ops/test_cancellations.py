"""Cancelling many in two steps: what the preview shows is cancelled, and nothing else, whatever happens meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select

from receiptsvc import bulk_actions, ids
from receiptsvc.domain.errors import StatementTimeout
from receiptsvc.domain.messages import SendOutcome
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Audit, Message, OpsSearch
from receiptsvc.store.messages import operator_actions, transitions
from receiptsvc.store.outbound import claims
from receiptsvc.web.ops import cancellations, terms
from tests.support import rows, work
from tests.support.reader import Reader
from tests.support.rows import seconds

NUMBER, PREFIX = "447700900123", "spring/"


@pytest.fixture
def reader(browser: FlaskClient) -> Reader:
    return Reader(browser)


def accept(database: Database, count: int, first: int = 0) -> list[UUID]:
    made = [
        rows.message(f"4477009{number:05}", client_ref=f"{PREFIX}{number}") for number in range(first, first + count)
    ]
    return rows.accept(database, *made)


def find(reader: Reader, expected: int = 200, /, **form: str) -> Reader:
    return reader.open("/ops/cancel").submit("Find them", expected, **form)


def statuses(database: Database) -> dict[str, int]:
    query = select(Message.status, func.count()).group_by(Message.status)
    with database.reading() as session:
        return {row[0]: row[1] for row in session.execute(query)}


def audits(database: Database, action: str) -> list[Audit]:
    with database.reading() as session:
        return list(session.scalars(select(Audit).where(Audit.action == action).order_by(Audit.id)))


def test_what_the_preview_shows_is_cancelled_and_nothing_that_comes_later(reader: Reader, database: Database) -> None:
    wanted = accept(database, 3)
    (other,) = rows.accept(database, rows.message(NUMBER, client_ref="summer/1"))
    reader.open("/ops/sending").follow("Cancel many messages")
    reader.submit("Find them", clientRefPrefix=PREFIX)
    assert "3 messages would be cancelled" in reader.text
    assert "This can’t be undone." in reader.text
    assert "Pause it first" in reader.text
    assert len(reader.rows()) == 3
    assert statuses(database) == {"accepted": 4}, "a preview changes nothing"
    (later,) = accept(database, 1, first=10)
    assert "Say why" in reader.submit("Cancel 3 messages", 422).text
    reader.submit("Cancel 3 messages", reason="wrong price")
    assert "3 of 3 cancelled" in reader.text
    assert "by key opser: wrong price" in reader.text
    assert "Cancel 3 messages" not in reader.buttons()
    assert {rows.read_message(database, one).status for one in wanted} == {"cancelled"}
    assert {rows.read_message(database, one).status for one in (other, later)} == {"accepted"}
    assert [(each.actor, each.reason, each.subject) for each in audits(database, "cancel")] == [
        ("key opser", "wrong price", operator_actions.CANCELLED)
    ]
    assert [(each.actor, each.reason, each.details) for each in audits(database, "confirm")] == [
        ("key opser", "wrong price", {"count": 3})
    ]
    assert not [address for address in reader.seen if PREFIX in address or "7700900" in address]


def test_each_filter_of_the_api_narrows_what_is_found(reader: Reader, database: Database) -> None:
    wanted = rows.message(
        NUMBER, client_ref="order/1", originator="ACME", created_by="shop", deliver_after=seconds(9000)
    )
    with database.transaction() as session:
        transitions.accept(session, [wanted], seconds(60), schedules_messages=True)
    rows.accept(database, rows.message("447700900456", client_ref="order/2", originator="Other"))
    filters = {
        "clientRef": "order/1",
        "clientRefPrefix": "order/1",
        "recipient": "+44 7700 900123",
        "originator": "ACME",
        "createdBy": "shop",
        "since": "2026-01-05T12:01",
    }
    for form in (*({name: value} for name, value in filters.items()), filters):
        assert "1 message would be cancelled" in find(reader, **form).text, form
    assert "1 message would be cancelled" in find(reader, clientRefPrefix="order/", scheduled="yes").text
    assert "those that waited here until their deliverAfter" in reader.text
    assert "Nothing that fits can be cancelled" in find(reader, until="2026-01-05T12:00").text
    assert NUMBER not in find(reader, recipient=NUMBER).source
    assert NUMBER in reader.submit("Show numbers and texts").text


def test_a_filter_is_needed_and_what_cant_be_understood_is_said_beside_its_field(reader: Reader) -> None:
    for form in ({}, {"scheduled": "yes"}):
        [fault] = [line for line in find(reader, 422, **form).text.split(". ") if "Must name at least one of" in line]
        for label in ("clientRef", "clientRef begins with", "Number", "Sender", "API key", "Accepted since"):
            assert f"“{label}”" in fault
        for name in ("clientRefPrefix", "recipient", "originator", "createdBy"):
            assert name not in fault, "that is the API's"
    find(reader, 422, recipient="nobody", since="2026-99-01T00:00")
    assert "There is no such time" in reader.text
    assert 'value="nobody"' in reader.source


def test_a_filter_that_takes_too_long_is_to_be_narrowed(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(*_: object, **__: object) -> None:
        raise StatementTimeout("a statement took too long")

    monkeypatch.setattr(operator_actions, "find_cancellable", give_up)
    assert "Nothing was looked for: that takes too long now" in find(reader, 503, originator="ACME").text
    assert 'value="ACME"' in reader.source


def test_who_has_an_older_page_is_told_and_cancels_nothing(
    reader: Reader, browser: FlaskClient, database: Database
) -> None:
    accept(database, 3)
    find(reader, clientRefPrefix=PREFIX)
    second, third = Reader(browser).open(reader.path), find(Reader(browser), clientRefPrefix=PREFIX)
    reader.submit("Cancel 3 messages", reason="the first")
    second.submit("Cancel 3 messages", 409, reason="the second")
    assert "Nothing was done here: key opser confirmed this meanwhile." in second.text
    assert "3 of 3 cancelled" in second.text
    assert "the second" not in second.text
    third.submit("Cancel 3 messages", 409, reason="the third")
    assert "none of these can be cancelled any more" in third.text
    assert [each.reason for each in audits(database, "cancel")] == ["the first"]
    assert len(audits(database, "confirm")) == 1


def test_what_was_given_to_the_gateway_meanwhile_is_left_alone_and_told(reader: Reader, database: Database) -> None:
    chosen = accept(database, 3)
    find(reader, clientRefPrefix=PREFIX)
    with database.transaction() as session:
        claims.claim(session, seconds(1), limit=1, lease=work.LEASE, repeats=work.REPEATS)
    work.answer(database, chosen[0])
    reader.submit("Cancel 3 messages", reason="wrong price")
    assert "2 of 3 cancelled" in reader.text
    assert "1 was given to the gateway meanwhile, or ended otherwise, and is left alone." in reader.text
    assert [row.split(":")[0][2:] for row in reader.rows()] == ["submitted", "cancelled", "cancelled", "submitted"]


def test_work_that_ends_early_is_told_and_goes_on(
    reader: Reader, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_actions, "_MESSAGES", 2)
    monkeypatch.setattr(bulk_actions, "_SQLITE_MESSAGES", 2)
    monkeypatch.setattr(bulk_actions, "MAX_CHANGED", 2)
    accept(database, 3)
    find(reader, clientRefPrefix=PREFIX)
    reader.submit("Cancel 3 messages", reason="wrong price")
    assert "2 of 3 cancelled" in reader.text
    assert "1 is left: the work goes on, or has ended early." in reader.text
    monkeypatch.setattr(bulk_actions, "MAX_CHANGED", 100)
    reader.submit("Cancel 1 message", reason="the rest")
    assert "3 of 3 cancelled" in reader.text


def test_more_than_fit_into_one_request_are_cancelled_in_turns(
    reader: Reader, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellations, "MAX_CHOSEN", 2)
    accept(database, 3)
    assert "More fit: these are the first 2" in find(reader, clientRefPrefix=PREFIX).text
    reader.submit("Cancel 2 messages", reason="wrong price")
    assert statuses(database) == {"cancelled": 2, "accepted": 1}
    assert "1 message would be cancelled" in find(reader, clientRefPrefix=PREFIX).text


def test_a_preview_that_is_no_longer_kept_cancels_nothing(reader: Reader) -> None:
    for path in ("", "/confirm"):
        address = f"/ops/cancel/srch_{'0' * 26}{path}"
        assert (
            "no longer kept" in (reader.post(address, 404, reason="late") if path else reader.open(address, 404)).text
        )


@contextmanager
def traffic(database: Database) -> Iterator[None]:
    """Others that send and add messages that fit, while the block lasts."""
    stop = Event()

    def send() -> None:
        while not stop.is_set():
            with database.transaction() as session:
                claim = claims.claim(session, seconds(1), limit=2, lease=work.LEASE, repeats=work.REPEATS)
            for message in claim.messages:
                work.answer(database, message.id, SendOutcome.TAKEN)

    def add() -> None:
        first = 10_000
        while not stop.is_set():
            accept(database, 1, first)
            first += 1

    threads = [Thread(target=run) for run in (send, add)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_under_load_the_previews_count_is_what_then_happens(
    reader: Reader, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_actions, "_MESSAGES", 10)
    monkeypatch.setattr(bulk_actions, "_SQLITE_MESSAGES", 10)
    chosen = set(accept(database, 120))
    with traffic(database):
        find(reader, clientRefPrefix=PREFIX)
        found = reader.text.partition("Only these ")[2].split()[0]
        reader.submit(next(words for words in reader.buttons() if words.startswith("Cancel ")), reason="wrong price")
    reader.open(reader.path)
    confirmed = audits(database, "confirm")[0].details["count"]
    named = [one for audit in audits(database, "cancel") for one in audit.details["messages"]]
    with database.reading() as session:
        kept = session.scalars(select(OpsSearch)).one().terms["asked"]["packed_ids"]
    previewed = {ids.public("msg", each) for each in terms.PackedIds(kept)}
    assert len(previewed) == int(found)
    assert set(named) <= previewed
    now = statuses(database)
    assert len(named) == len(set(named)) == now["cancelled"]
    assert confirmed <= int(found)
    assert f"{now['cancelled']} of {found} cancelled" in reader.text
    gone = int(found) - now["cancelled"]
    if gone:
        assert f"{gone} {'was' if gone == 1 else 'were'} given to the gateway meanwhile" in reader.text
    assert now["cancelled"] + now.get("submitted", 0) + now.get("accepted", 0) > len(chosen), "others came meanwhile"


@pytest.mark.slow
def test_ten_thousand_are_cancelled_and_counted_exactly(reader: Reader, database: Database) -> None:
    for first in range(0, 10_001, 1000):
        accept(database, min(1000, 10_001 - first), first)
    find(reader, clientRefPrefix=PREFIX)
    assert "10000 messages would be cancelled" in reader.text
    assert "More fit" in reader.text
    reader.submit("Cancel 10000 messages", reason="wrong price")
    for _ in range(5):  # one request may not be enough for a slow machine
        if "10000 of 10000 cancelled" in reader.text:
            break
        reader.submit(next(words for words in reader.buttons() if words.startswith("Cancel ")), reason="the rest")
    assert statuses(database) == {"cancelled": 10_000, "accepted": 1}
    work.assert_sound(database)
