"""A batch's page: how far a request, a file or a campaign is, and its export."""

import csv
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from receiptsvc import ids
from receiptsvc.domain import references
from receiptsvc.domain.statuses import Status
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Audit
from receiptsvc.store.queries import batches
from receiptsvc.web.app import create_app
from tests.support import rows, stories
from tests.support.callers import client_of, make_settings
from tests.support.reader import Reader
from tests.support.rows import seconds

NUMBERS = [f"44770090000{number}" for number in range(4)]
JOB = "0123456789abcdef01234567"


@pytest.fixture
def reader(browser: FlaskClient) -> Reader:
    return Reader(browser)


@pytest.fixture
def caller(database: Database) -> FlaskClient:
    return client_of(create_app(make_settings(), database))


def send(caller: FlaskClient, recipients: list[str], key: str | None = None, **more: str) -> list[str]:
    headers = {"Idempotency-Key": key} if key is not None else {}
    body = {"messages": [{"recipients": recipients, "text": "=Hello", **more}]}
    answer: Any = caller.post("/v1/messages", json=body, headers=headers)
    assert answer.status_code == 202, answer.json
    return [item["id"] for item in answer.json["messages"]]


def deliver(database: Database, message_id: str) -> None:
    identifier = ids.parse("msg", message_id)
    assert identifier is not None
    stories.report(database, identifier, Status.DELIVERED, database.clock.now())


def test_the_search_box_leads_from_an_idempotency_key_to_its_request(
    reader: Reader, caller: FlaskClient, database: Database
) -> None:
    sent = send(caller, NUMBERS, "monday-news")
    send(caller, NUMBERS[:2], "tuesday-news")
    deliver(database, sent[0])
    reader.open("/ops").submit("Search", q="monday-news")
    assert reader.path.startswith("/ops/batches/srch_")
    assert "1 of 4 have their final status" in reader.spaced
    assert "Idempotency-Key monday-news Sent by key desk" in reader.spaced
    assert "✓ delivered : on the handset 1 25.0 % Show delivered" in reader.spaced
    assert reader.source.count("<progress") == 1
    reader.submit("Show accepted")
    assert len(reader.rows()) == 3
    assert not [address for address in reader.seen if "monday" in address or "7700900" in address]


def test_a_messages_page_leads_to_all_of_its_request(reader: Reader, caller: FlaskClient) -> None:
    sent = send(caller, NUMBERS)
    send(caller, NUMBERS)
    reader.open(f"/ops/messages/{sent[1]}").submit("All of its request")
    assert "0 of 4 have their final status" in reader.spaced
    assert reader.links()[sent[1]].endswith(f"/messages/{sent[1]}")


def test_a_files_requests_are_one_batch_and_each_is_one_by_itself(reader: Reader, caller: FlaskClient) -> None:
    keys = [references.file_key(JOB, request) for request in range(2)]
    first, second = send(caller, NUMBERS[:3], keys[0]), send(caller, NUMBERS[3:], keys[1])
    reader.open("/ops/sending").follow("Look at a batch").submit("Look at it", q=JOB)
    assert "A file’s messages" in reader.spaced
    assert "0 of 4 have their final status" in reader.spaced
    assert [reader.spaced.count(key) for key in keys] == [1, 1]
    reader.submit("Request 1")
    assert f"Request of {first[0]}" in reader.spaced
    assert "0 of 3 have" in reader.spaced
    reader.open("/ops/batches").submit("Look at it", q=keys[1])
    assert "0 of 1 have" in reader.spaced
    assert second[0] not in reader.source
    assert "0 of 4 have" in reader.submit("The whole file").text


def test_a_campaign_is_found_by_how_its_client_refs_begin_and_counted_to_a_bound(
    reader: Reader, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows.accept(database, *(rows.message(number, client_ref=f"spring/{number[-1]}") for number in NUMBERS))
    reader.open("/ops/batches").submit("Look at it", q="spring/")
    assert "0 of 4 have their final status" in reader.spaced
    assert "Accepted 05 Jan 2026 12:00:00 UTC" in reader.spaced
    reader.submit("Show accepted")
    assert len(reader.rows()) == 4
    reader.submit("How far they are")
    assert "clientRef begins with spring/" in reader.spaced
    monkeypatch.setattr(batches, "MAX_COUNTED", 3)
    reader.open(reader.path)
    assert "0 of 3 or more have" in reader.spaced
    assert "up to the clientRef spring/2" in reader.spaced
    assert not [address for address in reader.seen if "spring" in address]


def test_more_messages_than_are_counted_are_told(
    reader: Reader, caller: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MAX_COUNTED", 3)
    send(caller, NUMBERS, "monday-news")
    reader.open("/ops/batches").submit("Look at it", q="monday-news")
    assert "It has 4 messages. Counted are the first 3." in reader.spaced


@pytest.mark.parametrize("q", ["nothing-like-it", "msg_x", ids.public("msg", UUID(int=1)), "", "x" * 300])
def test_what_names_no_batch_is_said_so(reader: Reader, q: str) -> None:
    expected = 422 if not q or len(q) > 200 else 404
    reader.open("/ops/batches").submit("Look at it", expected, q=q)
    assert ("There is no such request" if expected == 404 else "Type an Idempotency-Key") in reader.spaced


@pytest.mark.parametrize("by", ["monday-news", "spring/"])
def test_the_export_has_all_its_messages_and_is_on_record(
    browser: FlaskClient, reader: Reader, caller: FlaskClient, database: Database, by: str
) -> None:
    sent = send(caller, NUMBERS, "monday-news", clientRef="spring/1")
    send(caller, NUMBERS[:1], "tuesday-news")
    reader.open("/ops/batches").submit("Look at it", q=by)
    answer = browser.post(f"{reader.path}/export")
    assert answer.status_code == 200
    assert answer.mimetype == "text/csv"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="messages.csv"'
    assert answer.headers["Cache-Control"] == "no-store"
    lines = list(csv.DictReader(StringIO(answer.get_data(as_text=True).removeprefix("\ufeff"))))
    assert sorted(line["id"] for line in lines) == sorted(sent)
    assert {(line["recipient"], line["text"]) for line in lines} == {(number, "'=Hello") for number in NUMBERS}
    with database.reading() as session:
        [audit] = session.scalars(select(Audit).where(Audit.action == "export"))
    assert (audit.actor, audit.subject) == ("key opser", reader.path.rpartition("/")[2])
    assert "key opser export" in reader.open(reader.path).text


def test_a_list_by_how_clientrefs_begin_is_exported_at_once(
    browser: FlaskClient, reader: Reader, caller: FlaskClient, database: Database
) -> None:
    sent = send(caller, NUMBERS, "monday-news", clientRef="spring/1")
    send(caller, NUMBERS, "tuesday-news", clientRef="autumn/1")
    assert "As CSV, with numbers and texts" not in reader.open("/ops/messages").text
    reader.post("/ops/messages", clientRef="spring/", status="accepted")
    other = reader.path
    reader.open("/ops").submit("Search", q="spring/")
    assert "As CSV, with numbers and texts" in reader.text
    answer = browser.post(f"{reader.path}/export")
    lines = list(csv.DictReader(StringIO(answer.get_data(as_text=True).removeprefix("\ufeff"))))
    assert sorted(line["id"] for line in lines) == sorted(sent)
    with database.reading() as session:
        [audit] = session.scalars(select(Audit).where(Audit.action == "export"))
    assert (audit.actor, audit.subject) == ("key opser", reader.path.rpartition("/")[2])
    assert browser.post(f"{other}/export").status_code == 404


def test_it_says_when_it_was_accepted_and_last_changed(reader: Reader, database: Database) -> None:
    first, last = rows.message(client_ref="spring/1"), rows.message(client_ref="spring/2")
    rows.accept(database, first, now=seconds(1))
    rows.accept(database, last, now=seconds(61))
    stories.report(database, first.id, Status.DELIVERED, seconds(99))
    reader.open("/ops/batches").submit("Look at it", q="spring/")
    assert "Accepted 05 Jan 2026 12:00:01 UTC to 05 Jan 2026 12:01:01 UTC" in reader.spaced
    assert "Last change 05 Jan 2026 12:01:39 UTC" in reader.spaced
