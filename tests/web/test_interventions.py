"""Pause, cancel and resolve over the API: scopes, responses and refusals."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import update

from receiptsvc import ids
from receiptsvc.domain.messages import SendOutcome, SendResult
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Message
from receiptsvc.store.messages import transitions
from receiptsvc.store.outbound import call_results, claims
from receiptsvc.store.outbound.accounts import Call
from receiptsvc.store.outbound.call_results import AttemptResult
from receiptsvc.web.app import create_app
from tests.support.callers import SECRETS, client_of, make_settings
from tests.support.rows import accept, message, seconds
from tests.support.work import LEASE, REPEATS, send

pytestmark = pytest.mark.on_postgresql  # nothing here depends on the kind of database

WHY = {"reason": "wrong texts"}


def test_sending_is_paused_and_resumed(client: FlaskClient) -> None:
    idle: dict[str, object] = {
        "canSend": True,
        "paused": False,
        "pausedAt": None,
        "pausedBy": None,
        "reason": None,
        "accountRefusedAt": None,
        "nextProbeAt": None,
        "accounts": [],
        "overdue": 0,
        "workers": 0,
        "workerSeenAt": None,
        "waiting": 0,
        "waitingSince": None,
        "lastPause": None,
        "gatewayFaults": [],
        "messagesLateSeconds": 0.0,
        "receiptsLateSeconds": 0.0,
        "noReceipts": False,
        "callbacksRefused": 0,
        "unmapped": 0,
        "unmatched": 0,
        "quarantined": 0,
        "dead": 0,
        "findings": [{"name": "worker_unseen", "text": "no worker is at work"}],
        "degraded": ["no worker is at work"],
    }
    assert client.get("/v1/sending").json == idle
    paused = client.post("/v1/sending/pause", json=WHY)
    assert paused.status_code == 200
    assert paused.json is not None
    assert (paused.json["paused"], paused.json["pausedBy"], paused.json["reason"]) == (True, "desk", "wrong texts")
    assert client.get("/v1/sending").json == paused.json
    resumed: Any = client.post("/v1/sending/resume", json={}).json
    last = resumed["lastPause"]
    assert {**resumed, "lastPause": None} == idle
    assert (last["pausedBy"], last["reason"], last["resumedBy"], last["resumeReason"]) == (
        *("desk", "wrong texts", "desk"),
        None,
    )


def test_a_service_without_a_gateway_account_says_that_it_can_send_nothing(desk_database: Database) -> None:
    without = client_of(create_app(make_settings(DYNMARK_USERNAME="", DYNMARK_PASSWORD=""), desk_database))
    state: Any = without.get("/v1/sending").json
    assert state["canSend"] is False


def test_what_waits_is_counted_without_what_is_kept_for_later(client: FlaskClient, database: Database) -> None:
    accept(database, message(), message("447700900002"))
    [later] = accept(database, message("447700900003", deliver_after=seconds(86_400 * 36_500)))
    with database.transaction() as session:
        row = session.get_one(Message, later)
        row.due_at = row.deliver_after
    state: Any = client.get("/v1/sending").json
    assert (state["waiting"], state["waitingSince"]) == (2, "2026-01-05T12:00:00.000000Z")


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/v1/sending/pause", "ops"),
        ("/v1/sending/resume", "ops"),
        ("/v1/messages/cancel", "ops"),
        ("/v1/messages/msg_x/resolve", "ops"),
        ("/v1/messages/msg_x/cancel", "send"),
    ],
)
def test_each_route_needs_its_scope(desk_database: Database, path: str, scope: str) -> None:
    app = create_app(make_settings(), desk_database)
    for other in SECRETS.keys() - {scope}:
        assert client_of(app, SECRETS[other]).post(path, json=WHY).status_code == 403
    assert client_of(app, SECRETS[scope]).post(path, json=WHY).status_code != 403


def test_a_message_is_cancelled_once(client: FlaskClient, database: Database) -> None:
    (message_id,) = accept(database)
    path = f"/v1/messages/{ids.public('msg', message_id)}/cancel"
    cancelled = client.post(path, json=WHY)
    assert cancelled.status_code == 200
    assert cancelled.json is not None
    assert cancelled.json["status"] == "cancelled"
    assert cancelled.json["transitions"][-1]["reason"] == "desk: wrong texts"
    again = client.post(path, json=WHY)
    assert (again.status_code, again.json and again.json["detail"]) == (
        409,
        "It is cancelled, and can't be cancelled any more.",
    )
    assert client.post(f"/v1/messages/{ids.public('msg', ids.new())}/cancel", json={}).status_code == 404
    assert client.post("/v1/messages/nothing/cancel", json={}).status_code == 404


def test_each_refused_or_suspected_account_is_listed(client: FlaskClient, database: Database) -> None:
    for recipient, name, outcome in (
        ("447700900001", "a", SendOutcome.ACCOUNT_REFUSED),
        ("447700900002", "b", SendOutcome.SUSPECT_REFUSED),
        ("447700900003", None, SendOutcome.ACCOUNT_REFUSED),
    ):
        (message_id,) = accept(database, message(recipient, impersonate_user_name=name), now=database.clock.now())
        with database.transaction() as session:
            [claimed] = claims.claim(session, database.clock.now(), limit=1, lease=LEASE, repeats=REPEATS).messages
            assert claimed.id == message_id
        ended = {message_id: AttemptResult(number=1, result=SendResult(outcome=outcome))}
        with database.transaction() as session:
            call = Call(account=name or "", knows_up_to=0)
            call_results.record_results(session, ended, database.clock.now(), REPEATS, call=call)
        if outcome is SendOutcome.SUSPECT_REFUSED:
            because = client.get(f"/v1/messages/{ids.public('msg', message_id)}/explain").get_json()["because"]
            assert "waits until another message shows whether its account is refused" in because
        with database.transaction() as session:
            session.execute(update(Message).values(due_at=database.clock.now() + LEASE))  # out of the next claim's way
    state = client.get("/v1/sending").get_json()
    accounts = [
        (account["name"], bool(account["refusedAt"]), bool(account["suspectedAt"]), account["waiting"])
        for account in state["accounts"]
    ]
    assert accounts == [("a", True, False, 0), (None, True, False, 0), ("b", False, True, 1)]
    assert all(account["nextTryAt"] for account in state["accounts"])
    assert (state["accountRefusedAt"], state["nextProbeAt"]) == (
        state["accounts"][1]["refusedAt"],
        state["accounts"][1]["nextTryAt"],
    )
    degraded = client.get("/readyz").get_json()["degraded"]
    assert degraded[1:] == [
        "the gateway refuses the account a",
        "the gateway refuses our credentials: mend DYNMARK_PASSWORD, then restart the worker",
        "the gateway may refuse the account b: 1 message waits for another one to show it",
    ]
    metrics = client.get("/metrics").get_data(as_text=True)
    assert "receiptsvc_sending_account_refused 2.0" in metrics
    assert "receiptsvc_sending_account_suspected 1.0" in metrics


def test_many_are_cancelled_by_filter_and_never_without_one(client: FlaskClient, database: Database) -> None:
    accept(database, *(message(f"44770090000{n}", client_ref="spring") for n in range(3)))
    accept(database, message(client_ref="summer"))
    dry = client.post("/v1/messages/cancel", json={"clientRef": "spring", "dryRun": True})
    assert dry.json == {"cancelled": 3, "isComplete": True, "dryRun": True}
    real = client.post("/v1/messages/cancel", json={"clientRef": "spring", **WHY})
    assert real.json == {"cancelled": 3, "isComplete": True, "dryRun": False}
    for body in ({}, {"dryRun": False}, WHY):
        refused = client.post("/v1/messages/cancel", json=body)
        assert refused.status_code == 422
        assert "at least one of" in refused.get_data(as_text=True)
    assert client.post("/v1/messages/cancel", json={"client_ref": "summer"}).status_code == 422


def test_a_lost_answer_past_resending_is_overdue_until_it_is_resolved(client: FlaskClient, database: Database) -> None:
    long_ago = send(database, message(), SendOutcome.UNCLEAR)  # in January
    assert client.get("/v1/sending").json["overdue"] == 1  # type: ignore[index]
    assert "1 message stays send_unknown" in client.get("/readyz").json["degraded"]  # type: ignore[index]
    metrics = client.get("/metrics").get_data(as_text=True)
    assert "receiptsvc_send_unknown_overdue 1.0" in metrics
    assert "receiptsvc_sending_paused 0.0" in metrics
    path = f"/v1/messages/{ids.public('msg', long_ago)}/resolve"
    assert client.post(path, json={"status": "submitted", **WHY}).status_code == 200
    assert client.get("/v1/sending").json["overdue"] == 0  # type: ignore[index]


def test_only_a_send_unknown_message_can_be_resolved(client: FlaskClient, database: Database) -> None:
    unknown, submitted = send(database, message(), SendOutcome.UNCLEAR), send(database, message("447700900002"))
    path = f"/v1/messages/{ids.public('msg', unknown)}/resolve"
    for body in ({"status": "sent", **WHY}, {"status": "delivered"}, {"status": "delivered", "reason": ""}):
        assert client.post(path, json=body).status_code == 422
    resolved = client.post(path, json={"status": "delivered", **WHY})
    assert (resolved.status_code, resolved.json and resolved.json["status"]) == (200, "delivered")
    refused = client.post(f"/v1/messages/{ids.public('msg', submitted)}/resolve", json={"status": "delivered", **WHY})
    assert refused.status_code == 409


def test_what_waits_for_its_deliver_after_is_cancelled_by_itself(client: FlaskClient, database: Database) -> None:
    scheduled = message("447700900002", client_ref="spring", deliver_after=seconds(9000))
    with database.transaction() as session:
        transitions.accept(session, [message(client_ref="spring"), scheduled], seconds(0), schedules_messages=True)
    for body, count in (({"scheduled": True}, 1), ({"scheduled": False}, 2)):
        answer: Any = client.post("/v1/messages/cancel", json={"clientRef": "spring", "dryRun": True, **body})
        assert answer.json["cancelled"] == count
    assert client.post("/v1/messages/cancel", json={"scheduled": True}).status_code == 422, "it is no filter by itself"
