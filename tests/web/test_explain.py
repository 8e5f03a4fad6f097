"""The explanation of a message's status over the API."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import delete, update

from receiptsvc import ids
from receiptsvc.domain.accounts import OWN
from receiptsvc.domain.messages import SendOutcome
from receiptsvc.domain.statuses import Status
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Attempt, Message, MessageTransaction, SendingAccount, Transition
from receiptsvc.store.health import heartbeats
from receiptsvc.store.outbound import send_gate
from tests.support import rows, stories, work
from tests.support.callers import SECRETS, client_of
from tests.support.rows import T0, seconds

pytestmark = pytest.mark.on_postgresql  # nothing here is the database's


def explain(client: FlaskClient, message: str, status: int = 200) -> Any:
    answer: Any = client.get(f"/v1/messages/{message}/explain")
    assert answer.status_code == status, answer.json
    return answer.json


def test_it_explains_a_status_with_every_report_and_attempt(client: FlaskClient, database: Database) -> None:
    [message_id] = rows.accept(database)
    receipt_id = rows.keep(database, "statusid=9", message_id=message_id)
    with database.transaction() as session:
        session.get_one(Message, message_id).offered_at = seconds(1)
        session.add(
            Attempt(
                message_id=message_id,
                number=1,
                transport="soap",
                message_guid="guid",
                started_at=seconds(1),
                ended_at=seconds(2),
                outcome="taken",
                transaction_id="42",
                return_code="0",
                return_description="OK",
            )
        )
        session.add(
            MessageTransaction(
                message_id=message_id,
                transaction_id="42",
                recipient="447700900001",
                source="answer",
                noted_at=seconds(2),
            )
        )
        step: dict[str, Any] = {"message_id": message_id, "effect": "applied"}
        session.add(
            Transition(
                **step,
                source="ourselves",
                status="submitted",
                rule="the gateway took it",
                received_at=seconds(2),
                recorded_at=seconds(2),
            )
        )
        session.add(
            Transition(
                **step,
                source="gateway",
                receipt_id=receipt_id,
                status="expired",
                rule="token",
                received_at=seconds(3),
                recorded_at=seconds(3),
                superseded_at=seconds(4),
            )
        )
    stories.report(database, message_id, Status.DELIVERED, seconds(8), occurred_at=seconds(5))
    stories.report(database, message_id, Status.SENT, seconds(9), occurred_at=seconds(4))
    told = explain(client, ids.public("msg", message_id))
    reports = told.pop("reports")
    assert told == {
        "id": ids.public("msg", message_id),
        "createdAt": "2026-01-05T12:00:00.000000Z",
        "waitingSeconds": None,
        "overdue": False,
        "status": "delivered",
        "statusAt": "2026-01-05T12:00:05.000000Z",
        "conflict": False,
        "because": "The gateway said: 1 · delivered, at 2026-01-05T12:00:05Z by its own clock, which means delivered; "
        "that is a final word, and it has given no other.",
        "transitionCount": 3,  # one of the four is written behind the store
        "transitionsCursor": None,
        "attempts": [
            {
                "number": 1,
                "transport": "soap",
                "startedAt": "2026-01-05T12:00:01.000000Z",
                "endedAt": "2026-01-05T12:00:02.000000Z",
                "outcome": "taken",
                "transactionID": "42",
                "returnCode": "0",
                "returnDescription": "OK",
                "returnDetail": None,
            }
        ],
        "transactions": [{"transactionID": "42", "source": "answer", "notedAt": "2026-01-05T12:00:02.000000Z"}],
        "delays": {
            "acceptedToOffered": 1.0,
            "offeredToSubmitted": 1.0,
            "submittedToFinal": 3.0,
            "providerToReceived": 3.0,
        },
    }
    assert [(each["status"], each["isWinner"], each["supersededAt"]) for each in reports] == [
        ("accepted", False, None),
        ("submitted", False, None),
        ("expired", False, "2026-01-05T12:00:04.000000Z"),
        ("delivered", True, None),
        ("sent", False, None),
    ]
    assert [each["why"] for each in reports] == [
        "The message began as accepted.",
        "It changed the status from accepted to submitted.",
        "Another reading of its receipt took its place at 2026-01-05T12:00:04Z; it counts no more.",
        "It changed the status from submitted to delivered.",
        "It left the status as it was: delivered had been recorded before, and a final word is not taken back by sent.",
    ]
    assert reports[2]["receiptId"] == ids.public("rcp", receipt_id)
    assert set(reports[3]) == {
        *("status", "effect", "rule", "reason", "source", "providerStatusId", "providerDescription", "occurredAt"),
        *("receivedAt", "recordedAt", "receiptId", "isWinner", "why", "supersededAt"),
    }


def test_a_message_without_reports_is_explained_too(client: FlaskClient, database: Database) -> None:
    [message_id] = rows.accept(database, now=T0)
    told = explain(client, ids.public("msg", message_id))
    begin = "It was accepted here at 2026-01-05T12:00:00Z; nothing further has been reported. It waits: "
    assert told["because"] == f"{begin}no worker is at work."
    assert (told["attempts"], told["transactions"]) == ([], [])
    assert set(told["delays"].values()) == {None}


def test_it_says_all_that_holds_a_message_that_was_not_given_to_the_gateway(
    client: FlaskClient, database: Database
) -> None:
    now = database.clock.now()
    later = now + timedelta(hours=1)
    [message_id] = rows.accept(database, now=now)
    [scheduled] = rows.accept(database, rows.message("447700900002", deliver_after=later), now=now)

    def waits(message_id: UUID = message_id) -> str:
        because: str = explain(client, ids.public("msg", message_id))["because"]
        return because.partition("has been reported. ")[2]

    def written(at: datetime) -> str:
        return f"{at:%Y-%m-%dT%H:%M:%SZ}"

    with database.transaction() as session:
        heartbeats.beat(session, "worker:1", now - timedelta(minutes=3))
    assert waits() == f"It waits: no worker is at work since {written(now - timedelta(minutes=3))}."
    with database.transaction() as session:
        heartbeats.beat(session, "worker:1", now, gateway_fault="no connection", gateway_fault_at=now)
    assert waits() == f"It waits: calls to the gateway fail since {written(now)}: no connection."
    with database.transaction() as session:
        heartbeats.beat(session, "worker:1", now)
    assert waits() == "It waits: others go out before it; at most 100000 a second go out."
    with database.transaction() as session:
        session.add(SendingAccount(name=OWN, since_number=1, suspected_at=now, try_at=later))
        session.execute(update(Message).where(Message.id == message_id).values(suspicion=1))
    told = waits()
    assert "others go out before it" not in told
    assert told.endswith(f"It waits: without another one, one that waits is offered by itself at {written(later)}.")
    with database.transaction() as session:
        session.execute(delete(SendingAccount))
        session.execute(update(Message).where(Message.id == message_id).values(suspicion=None))
        session.execute(update(Message).where(Message.id == scheduled).values(due_at=later))
    assert waits(scheduled) == f"It waits: it is kept here until its deliverAfter, {written(later)}."
    with database.transaction() as session:
        send_gate.record_outcome(session, {SendOutcome.ACCOUNT_REFUSED}, now, was_probe=False)
    client.post("/v1/sending/pause", json={"reason": "wrong price"})
    told = waits()
    assert told.startswith("It waits: sending is paused since ")
    assert told.endswith(f" by desk: wrong price; the gateway refuses our credentials since {written(now)}.")
    with database.transaction() as session:
        step = {"transport": "soap", "message_guid": "guid", "started_at": now}
        session.add(Attempt(message_id=message_id, number=1, **step))
    assert waits() == "It is being given to the gateway now."
    stories.report(database, message_id, Status.SUBMITTED, now)
    assert "It waits" not in explain(client, ids.public("msg", message_id))["because"]


def test_contradicting_final_words_are_explained(client: FlaskClient, database: Database) -> None:
    [message_id] = rows.accept(database)
    stories.report(database, message_id, Status.DELIVERED, seconds(2), occurred_at=seconds(1))
    stories.report(database, message_id, Status.EXPIRED, seconds(9), occurred_at=seconds(8))
    told = explain(client, ids.public("msg", message_id))
    assert told["conflict"] is True
    assert told["because"].endswith("; it also said expired, but delivered counts more than any other final word.")
    assert [each["isWinner"] for each in told["reports"]] == [False, True, False]


def test_an_unknown_message_is_404(desk: FlaskClient) -> None:
    for message in ("msg_00000000000000000000000000", "rcp_00000000000000000000000000", "nonsense"):
        assert explain(desk, message, 404)["detail"] == "There is no message with this id."


def test_it_needs_the_scope_read(desk: FlaskClient) -> None:
    for scope in ("send", "ops"):
        explain(client_of(desk.application, SECRETS[scope]), "nonsense", 403)
    explain(client_of(desk.application, SECRETS["read"]), "nonsense", 404)


def test_it_and_the_timeline_say_how_long_a_message_waits_and_whether_that_is_overdue(
    client: FlaskClient, database: Database
) -> None:
    now = database.clock.now()
    waits: list[tuple[int, dict[str, Any]]] = [
        (0, {}),
        (1, {}),
        (2, {"deliver_after": now + timedelta(hours=1)}),
        (3, {}),
    ]
    accepted = [
        rows.accept(database, rows.message(client_ref="r", **fields), now=now - timedelta(hours=hours))[0]
        for hours, fields in waits
    ]
    stories.report(database, accepted[3], Status.DELIVERED, now)
    young, old, scheduled, ended = (ids.public("msg", message_id) for message_id in accepted)
    timeline: Any = client.post("/v1/conversations/query", json={"clientRef": "r"}).json
    in_timeline = {entry["id"]: entry for entry in timeline["timeline"] if entry["type"] == "message"}
    for message, seconds_waited, is_overdue in (
        (young, 0, False),
        (old, 3600, True),
        (scheduled, 0, False),
        (ended, None, False),
    ):
        for told in (explain(client, message), in_timeline[message]):
            assert told["overdue"] is is_overdue
            if seconds_waited is None:
                assert told["waitingSeconds"] is None
            else:
                assert seconds_waited <= told["waitingSeconds"] < seconds_waited + 60


def test_of_what_is_kept_until_later_it_says_where_and_until_when(client: FlaskClient, database: Database) -> None:
    later = database.clock.now() + timedelta(days=1)
    at = f"{later:%Y-%m-%dT%H:%M:%SZ}"
    there = work.send(database, rows.message(deliver_after=later))
    unknown = work.send(database, rows.message("447700900002", deliver_after=later), SendOutcome.UNCLEAR, at=1)
    told = {each: explain(client, ids.public("msg", each))["because"] for each in (there, unknown)}
    assert told[there].endswith(f"The gateway keeps it until its deliverAfter, {at}, and can't give it back.")
    assert told[unknown].endswith(f"If the gateway has it, it goes out at its deliverAfter, {at}.")
    refused = client.post(f"/v1/messages/{ids.public('msg', there)}/cancel", json={})
    assert (refused.status_code, f"keeps it until {at}" in refused.text) == (409, True)
