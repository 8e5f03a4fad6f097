"""The sender against a gateway over HTTP: what goes out and in which order, what is held, and what a call holds up."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select, text

from receiptsvc import sandbox
from receiptsvc.config import Settings
from receiptsvc.domain.messages import SendOutcome, SendResult
from receiptsvc.domain.statuses import UNSETTLED
from receiptsvc.dynmark.gateway import Gateway
from receiptsvc.dynmark.outbound.rest import RestGateway
from receiptsvc.dynmark.outbound.soap import SoapGateway
from receiptsvc.sandbox.server import Box
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Attempt, Message
from receiptsvc.store.outbound import call_results, suppressions
from receiptsvc.store.outbound.call_results import AttemptResult
from receiptsvc.store.outbound.suppressions import Pair
from receiptsvc.web.app import create_app
from receiptsvc.worker.sender import repeats, submit
from tests.dynmark import wire
from tests.support import work
from tests.support.callers import client_of, make_settings
from tests.support.processes import until
from tests.support.rows import T0, accept, message, read_attempts, read_message

BOTH = pytest.mark.parametrize("transport", ["soap", "rest"])
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # for what is not the database's
ALICE = "447700900001"
OTHERS_IN_A_TRANSACTION = """SELECT count(*) FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND datname = current_database() AND xact_start IS NOT NULL"""

Offer = Callable[[], int]


@pytest.fixture
def box() -> Iterator[Box]:
    with sandbox.running(sandbox.Options(default=("no-receipts",), by_number=False)) as running:
        yield running


def settings_of(box: Box, transport: str = "soap", **more: str) -> Settings:
    own = {"DYNMARK_TRANSPORT": transport, "DYNMARK_SOAP_URL": box.soap_url, "DYNMARK_REST_URL": box.rest_url}
    return make_settings(**own, RESEND_AFTER_SECONDS="0.001", **more)


def sender(database: Database, settings: Settings) -> Offer:
    """Makes one call with what is due; how many messages were in it."""
    gateways: dict[str, Gateway] = {"soap": SoapGateway(settings), "rest": RestGateway(settings)}
    return lambda: submit(database, gateways, settings, threading.Event())


def post(client: FlaskClient, **fields: object) -> Any:
    answer = client.post("/v1/messages", json={"messages": [{"recipients": [ALICE], "text": "Hello"} | fields]})
    assert answer.status_code == 202, answer.get_data(as_text=True)
    return answer.json["messages"][0]  # type: ignore[index]  # it is there


@contextmanager
def at_work(count: int, database: Database, settings: Settings) -> Iterator[None]:
    """So many senders at once, until the end of the block."""
    over = threading.Event()

    def run() -> None:
        offer = sender(database, settings)
        while not over.is_set():
            if not offer():
                over.wait(0.01)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def unsettled(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).where(Message.status.in_(UNSETTLED))) or 0


SHARED = {
    "originator": "+447740101097",
    "clientRef": "order/7 ä",
    "deliverAfter": "2999-01-01T01:00:00+01:00",
    "validUntil": "2999-01-02T00:00:00Z",
    "filterSetName": "Night hours",
    "impersonateUserName": "client1",
}
ON_THE_WIRE = {
    "deliverAfter": "2999-01-01T00:00:00Z",
    "validUntil": "2999-01-02T00:00:00Z",
    "filterSetName": "Night hours",
    "impersonateUserName": "client1",
}


@ON_SQLITE
@BOTH
def test_every_field_of_a_request_is_on_the_wire_and_can_be_read(box: Box, database: Database, transport: str) -> None:
    own: dict[str, object] = {"countryIsoCode": "GBR", "recipients": ["07700 900001"], "rejectUnicode": True}
    fields: dict[str, str] = dict(ON_THE_WIRE)
    if transport == "soap":
        own |= {"messageGuid": "guid-1", "includeMessageText": True}
    else:
        fields["validiUntil"] = fields.pop("validUntil")
        fields |= {"rejectUnicode": "true", "countryIsoCode": "GBR"}
    settings = settings_of(box, transport)
    client = client_of(create_app(settings, database))
    item = post(client, **SHARED, **own)
    assert sender(database, settings)() == 1
    (taken,) = box.messages()
    assert taken["fields"] == fields
    assert (taken["transport"], taken["recipient"], taken["text"]) == (transport, ALICE, "Hello")
    assert (taken["originator"], taken["clientRef"]) == ("+447740101097", "order/7 ä")
    assert taken["messageGuid"] == ("guid-1" if transport == "soap" else None)
    assert taken["includeMessageTextInDeliveryStatus"] is (transport == "soap")
    assert taken["forwardSubmissionDeliveryStatus"] is (transport == "soap")
    assert taken["callbackUrl"].startswith("http://127.0.0.1:8000/callbacks/receipts/")
    told = client.get(urlsplit(item["url"]).path).json
    assert told is not None
    asked = SHARED | own | {"deliverAfter": "2999-01-01T00:00:00.000000Z", "validUntil": "2999-01-02T00:00:00.000000Z"}
    del asked["recipients"]
    assert {name: told[name] for name in asked} == asked
    assert (told["recipient"], told["text"], told["transport"]) == (ALICE, "Hello", transport)


@BOTH
def test_one_person_gets_the_messages_of_a_conversation_in_their_order(
    box: Box, postgresql_database: Database, transport: str
) -> None:
    people = [f"4477009001{place:02}" for place in range(5)]
    made = [
        message(person, f"{place}", client_ref="story", transport=transport) for place in range(8) for person in people
    ]
    accept(postgresql_database, *made)
    with at_work(4, postgresql_database, settings_of(box, transport, BATCH_SIZE="3")):
        until("all are sent", lambda: unsettled(postgresql_database) == 0)
    for person in people:
        assert [one["text"] for one in box.messages() if one["recipient"] == person] == list("01234567")
    assert len(box.messages()) == 40


def test_two_workers_keep_one_rate(box: Box, postgresql_database: Database) -> None:
    accept(postgresql_database, *(message(f"4477009002{place:02}") for place in range(100)))
    with at_work(4, postgresql_database, settings_of(box, BATCH_SIZE="5", SENDS_PER_SECOND="40")):
        until("all are sent", lambda: unsettled(postgresql_database) == 0)
    assert len(box.messages()) == 100
    with postgresql_database.reading() as session:  # by when calls were begun: each may take its time on its way
        times = sorted(session.scalars(select(Attempt.started_at)))
    # A second's worth at once, and the other 60 at 40 a second.
    assert timedelta(seconds=1.45) < times[-1] - times[0] < timedelta(seconds=20)


@BOTH
def test_while_a_call_runs_no_transaction_is_open(database: Database, transport: str) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def reply(conversation: wire.Conversation) -> None:
        begun.set()
        may_end.wait(30)
        wire.raw(b"")(conversation)

    (message_id,) = accept(database, message(transport=transport))
    with wire.Wire(reply) as server:
        settings = make_settings(DYNMARK_SOAP_URL=server.url, DYNMARK_REST_URL=server.url)
        call = threading.Thread(target=sender(database, settings))
        call.start()
        try:
            assert begun.wait(30)
            (attempt,) = read_attempts(database, message_id)
            assert attempt.outcome is None, "what is being done is on the disk before the first byte goes out"
            with database.transaction() as session:  # on SQLite there is only one at a time
                assert session.scalar(text("SELECT 0" if database.is_sqlite else OTHERS_IN_A_TRANSACTION)) == 0
        finally:
            may_end.set()
            call.join()
    assert read_message(database, message_id).status == "send_unknown"


def test_a_pause_lets_nothing_out_and_what_is_cancelled_meanwhile_never_goes(box: Box, database: Database) -> None:
    settings = settings_of(box)
    client, offer = client_of(create_app(settings, database)), sender(database, settings)
    assert client.post("/v1/sending/pause", json={"reason": "wrong texts"}).status_code == 200
    wrong = [post(client, recipients=[f"44770090030{place}"], clientRef="wrong") for place in range(5)]
    right = post(client, clientRef="right")
    assert offer() == 0
    cancelled = client.post("/v1/messages/cancel", json={"clientRef": "wrong"})
    assert cancelled.get_json()["cancelled"] == len(wrong)
    client.post("/v1/sending/resume", json={})
    assert offer() == 1
    assert offer() == 0
    assert [one["clientRef"] for one in box.messages()] == ["right"]
    assert client.get(right["url"]).get_json()["status"] == "submitted"


@ON_SQLITE
@pytest.mark.parametrize("keeper", ["gateway", "service"])
def test_what_waits_here_for_its_time_can_be_cancelled_until_then(box: Box, database: Database, keeper: str) -> None:
    settings = settings_of(box, SCHEDULED_BY=keeper)
    client, offer = client_of(create_app(settings, database)), sender(database, settings)
    item = post(client, deliverAfter="2999-01-01T00:00:00Z")
    assert offer() == (keeper == "gateway")
    answer = client.post(f"/v1/messages/{item['id']}/cancel", json={})
    if keeper == "gateway":
        assert (answer.status_code, box.messages()[0]["fields"]) == (409, {"deliverAfter": "2999-01-01T00:00:00Z"})
    else:
        assert (answer.status_code, box.messages()) == (200, [])
        assert answer.get_json()["status"] == "cancelled"


@ON_SQLITE
@pytest.mark.parametrize(
    ("answer", "return_codes", "status", "transaction_ids"),
    [
        ("first", "{}", "submitted", ["70000001"]),
        ("new", "{}", "submitted", ["70000002"]),
        ("none", "{}", "submitted", [None]),
        ("code", "{}", "send_unknown", [None]),
        ("code", '{"301": "duplicate"}', "submitted", [None]),
        ("code", '{"301": "failed"}', "failed", [None]),
    ],
)
def test_whatever_a_duplicate_is_answered_there_is_one_sms(
    box: Box, database: Database, answer: str, return_codes: str, status: str, transaction_ids: list[str | None]
) -> None:
    (message_id,) = accept(database, message(ALICE))
    box.change(duplicate_answer=answer, numbers={ALICE: ["lost-answer-silent"]})
    offer = sender(database, settings_of(box, RETURN_CODES=return_codes))
    assert offer() == 1
    assert read_message(database, message_id).status == "send_unknown"
    until("it is due again", lambda: offer() == 1)
    first, second = read_attempts(database, message_id)
    assert (first.message_guid, first.outcome) == (second.message_guid, "unclear")
    assert (read_message(database, message_id).status, [second.transaction_id]) == (status, transaction_ids)
    told = box.report()
    assert (told["messageGuids"], told["duplicates"], told["doubles"]) == (1, 1, 0)


def test_repeats_are_spread_and_never_come_too_soon(database: Database) -> None:
    made = accept(database, *(message(f"44770090040{place}") for place in range(8)))
    when = repeats(make_settings(RESEND_AFTER_SECONDS="60"))
    lost = SendResult(outcome=SendOutcome.UNCLEAR)
    work.offer(database)
    for message_id in made:  # each as a call of its own
        with database.transaction() as session:
            call_results.record_results(session, {message_id: AttemptResult(number=1, result=lost)}, T0, when)
    gaps = {(read_message(database, message_id).due_at or T0) - T0 for message_id in made}
    assert all(timedelta(seconds=60) <= gap <= timedelta(seconds=72) for gap in gaps)
    assert len(gaps) > 1


@BOTH
def test_what_is_due_to_suppressed_people_is_withdrawn_and_what_is_behind_it_goes_out(
    database: Database, box: Box, transport: str
) -> None:
    numbers = [str(447700901000 + number) for number in range(30)]
    settings = settings_of(box, transport, BATCH_SIZE="2")
    made = [message(number, transport=transport) for number in numbers]
    accept(database, *made)
    last = message(ALICE, transport=transport)
    accept(database, last)
    with database.transaction() as session:
        suppressions.add(session, [Pair(number, "") for number in numbers], Actor(actor="desk"), T0)
    offer = sender(database, settings)
    while offer():
        pass
    assert {read_message(database, one.id).status for one in made} == {"cancelled"}
    assert read_message(database, last.id).status == "submitted"
    assert len(read_attempts(database, last.id)) == 1
    assert not any(read_attempts(database, one.id) for one in made)
