"""Receipts for operators: listing, reading, matching, retrying, dismissing, replaying, and the ledger after each."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import delete, select, update

from receiptsvc import bulk_actions, ids
from receiptsvc.domain.inbox import Channel, ReceiptOutcome
from receiptsvc.domain.messages import Origin
from receiptsvc.domain.statuses import Effect, Status
from receiptsvc.dynmark import status_map
from receiptsvc.store.core import audits
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Audit, InboxRow, Message, OutcomeRow, Parked, Transition
from receiptsvc.store.health.verification import verify
from receiptsvc.store.inbox import counters, receipts
from receiptsvc.store.inbox.receipts import ReceiptFilter
from receiptsvc.store.messages import hourly_counts, transitions
from receiptsvc.web.app import create_app
from receiptsvc.web.http import cursors
from receiptsvc.worker.receipt_batch import ReceiptRules
from receiptsvc.worker.receipt_processor import process
from receiptsvc.worker.reprocess import reprocess
from tests.support import rows
from tests.support.callers import SECRETS, client_of, make_settings
from tests.support.rows import T0, seconds
from tests.support.work import ALICE, BOB, READER, RULES, assert_sound, moves, rules, said, work_off

NOBODY = "rcp_00000000000000000000000000"
BY = Actor(actor="test", reason="why not")
RETRIABLE = ["unmatched", "quarantined", "dead"]
WAITING = ReceiptFilter(outcomes=receipts.RETRIABLE)


def rcp(receipt_id: UUID) -> str:
    return ids.public("rcp", receipt_id)


def msg(message_id: UUID) -> str:
    return ids.public("msg", message_id)


def get(client: FlaskClient, path: str, status: int = 200) -> Any:
    answer: Any = client.get(path)
    assert answer.status_code == status, answer.json
    return answer.json


def post(client: FlaskClient, path: str, body: dict[str, Any], status: int) -> Any:
    answer: Any = client.post(path, json=body)
    assert answer.status_code == status, answer.json
    return answer.json


def settled(
    database: Database,
    outcome: str,
    query: str | bytes = "statusid=4&statusdescription=delivered",
    *,
    channel: Channel = Channel.ACCOUNT,
    message_id: UUID | None = None,
    now: datetime = T0,
    candidates: Sequence[str] = (),
) -> UUID:
    """Keep a receipt with this outcome, with its counters; parked if it is unmatched."""
    receipt_id = rows.keep(database, query, channel=channel, message_id=message_id, now=now)
    with database.transaction() as session:
        if outcome != "pending":
            rows.set_outcome(session, receipt_id, ReceiptOutcome(outcome), now, reason="a reason")
        counters.move(session, {(ReceiptOutcome.PENDING, ReceiptOutcome(outcome)): 1})
        if outcome == "unmatched":
            parked = Parked(receipt_id=receipt_id, candidates=list(candidates), looks=0, look_at=seconds(60))
            session.add(parked)
    return receipt_id


def recorded(
    database: Database, receipt_id: UUID, message_id: UUID, effect: Effect, superseded_at: datetime | None = None
) -> None:
    """Record a receipt's transition that changes no status."""
    with database.transaction() as session:
        session.add(
            Transition(
                message_id=message_id,
                receipt_id=receipt_id,
                source="gateway",
                status=None,
                effect=effect,
                rule="token",
                provider_status_id="77",
                provider_description="Who knows",
                received_at=T0,
                recorded_at=seconds(1),
                superseded_at=superseded_at,
            )
        )
        if superseded_at is None:
            session.execute(delete(OutcomeRow).where(OutcomeRow.receipt_id == receipt_id))
            code = hourly_counts.CountKey(T0, hourly_counts.CODES, "", "unmapped//77")
            codes = [code] if effect is not Effect.DUPLICATE else []
            hourly_counts.add(session, Counter([hourly_counts.of_receipt(T0, effect), *codes]))
        session.flush()
        locked = transitions.lock_messages(session, [message_id])
        transitions.refold(session, locked)
        kept = {"standing": locked[message_id].standing, "transition_count": Message.transition_count + 1}
        session.execute(update(Message).where(Message.id == message_id).values(kept))


def unmapped(database: Database) -> tuple[UUID, UUID]:
    """Keep an unmapped receipt; return it and its message."""
    [message_id] = rows.accept(database)
    receipt_id = settled(database, "unmapped", channel=Channel.MESSAGE, message_id=message_id)
    recorded(database, receipt_id, message_id, Effect.UNMAPPED)
    return receipt_id, message_id


def parked(database: Database, receipt_id: UUID) -> Parked | None:
    with database.reading() as session:
        return session.get(Parked, receipt_id)


def work(database: Database) -> None:
    """Process the pending receipts."""
    process(database, RULES, datetime.now(UTC), 100)


def in_order(database: Database) -> bool:
    """Whether the ledger balances and `verify` finds no fault."""
    assert list(verify(database)) == []
    with database.reading() as session:
        return counters.read(session).is_balanced


def test_a_listed_receipt_has_its_outcome(client: FlaskClient, database: Database) -> None:
    [message_id] = rows.accept(database)
    receipt_id = settled(database, "unmatched", candidates=[msg(message_id)])
    assert get(client, "/v1/receipts") == {
        "items": [
            {
                "id": rcp(receipt_id),
                "outcome": "unmatched",
                "reason": "a reason",
                "channel": "account",
                "receivedAt": "2026-01-05T12:00:00.000000Z",
                "processedAt": "2026-01-05T12:00:00.000000Z",
                "tries": 0,
                "method": "GET",
                "messageId": None,
                "callbackId": None,
                "part": 0,
                "candidates": [msg(message_id)],
                "lookAt": "2026-01-05T12:01:00.000000Z",
                "adoptAt": None,
                "recipient": None,
                "transactionID": None,
                "clientRef": None,
                "providerStatusId": None,
                "providerDescription": None,
                "keyId": None,
            }
        ],
        "nextCursor": None,
    }


@pytest.mark.parametrize(
    ("query", "after", "adopt_at"),
    [
        ("transactionid=7&recipient=447700900077", "600", "2026-01-05T12:10:00.000000Z"),
        ("transactionid=7&recipient=447700900077", "1", "2026-01-05T12:01:00.000000Z"),  # at its next look
        ("transactionid=7&recipient=447700900077", "never", None),
        ("transactionid=7", "600", None),
    ],
)
def test_a_receipt_says_when_it_is_taken_for_another_system_s(
    database: Database, query: str, after: str, adopt_at: str | None
) -> None:
    settings = make_settings(ADOPT_AFTER_SECONDS=after)
    rows.keep(database, f"{query}&statusid=1", channel=Channel.ACCOUNT)
    assert process(database, ReceiptRules.of(settings, READER), T0, 10) == 1
    [item] = get(client_of(create_app(settings, database)), "/v1/receipts")["items"]
    assert (item["outcome"], item["adoptAt"]) == ("unmatched", adopt_at)


def test_the_list_pages_by_cursor_the_newest_first(client: FlaskClient, database: Database) -> None:
    made = [rcp(settled(database, "dead")) for _ in range(3)]
    first = get(client, "/v1/receipts?outcome=dead&limit=2")
    assert [item["id"] for item in first["items"]] == [made[2], made[1]]
    second = get(client, f"/v1/receipts?outcome=dead&limit=2&cursor={first['nextCursor']}")
    assert [item["id"] for item in second["items"]] == [made[0]]
    assert second["nextCursor"] is None


def test_each_filter_finds_its_receipts_and_all_must_fit(client: FlaskClient, database: Database) -> None:
    odd, message_id = unmapped(database)
    stray = settled(database, "unmatched")
    reply = settled(database, "quarantined", channel=Channel.INBOUND)
    new = rows.keep(database, "statusid=1", message_id=message_id)
    assert in_order(database)

    def listed(query: str) -> set[str]:
        return {item["id"] for item in get(client, f"/v1/receipts?{query}")["items"]}

    assert listed("") == {rcp(each) for each in (odd, stray, reply, new)}
    assert listed("outcome=unmatched") == {rcp(stray)}
    assert listed("outcome=pending") == {rcp(new)}
    assert listed("outcome=applied") == set()
    assert listed("channel=inbound") == {rcp(reply)}
    assert listed(f"message={msg(message_id)}") == {rcp(odd)}
    assert listed("outcome=unmapped&channel=account") == set()
    assert listed(f"message={msg(ids.new())}") == set()
    assert listed("outcome=unmatched&outcome=pending") == listed("outcome=pending,unmatched") == {rcp(stray), rcp(new)}
    assert listed("outcome=applied,unmapped,quarantined") == {rcp(odd), rcp(reply)}
    assert listed("outcome=unmapped,quarantined,dead") == {rcp(odd), rcp(reply)}
    assert listed(f"message={msg(message_id)}&outcome=unmapped,dead") == {rcp(odd)}
    assert listed(",".join(["outcome=applied", *(o.value for o in ReceiptOutcome)])) == listed("")


def test_a_receipt_that_was_not_simply_recorded_is_found_by_what_it_names(
    client: FlaskClient, database: Database
) -> None:
    """Every name, in every writing, by GET and by POST; and not by another's."""
    [message_id] = rows.accept(database)
    kept = rows.keep(
        database,
        urlencode({"recipient": "07700 900123", "transactionid": "0815", "clientref": " order/1 ", "statusid": "77"})
        + "&statusdescription=Message%20Sent",
    )
    odd = rows.keep(database, f"recipient={ALICE}&statusid=42", message_id=message_id)  # its code is not known
    contradicting = rows.keep(
        database, f"recipient={BOB}&statusid=1&statusdescription=Delivered", message_id=message_id
    )
    forged = rows.arrival(f"recipient={BOB}&statusid=1&statusdescription=Delivered")
    with database.transaction() as session:
        rows.insert_arrivals(session, [forged._replace(claimed_kid="old1")])
    fine = rows.keep(database, f"recipient={ALICE}&statusid=1&statusdescription=Delivered", message_id=message_id)
    work(database)

    def found(**names: Any) -> set[str]:
        by_get = get(client, f"/v1/receipts?{urlencode(names, doseq=True)}")
        assert post(client, "/v1/receipts/query", names, 200) == by_get
        return {item["id"] for item in by_get["items"]}

    assert found(recipient="+44 7700 900-123") == found(recipient="07700900123") == {rcp(kept)}
    assert found(recipientEnds="0123") == found(recipientEnds="900123") == {rcp(kept)}
    assert found(recipientEnds="800123") == set()
    assert found(transactionID="815") == found(clientRef="order/1") == {rcp(kept)}
    assert found(providerStatusId="77") == found(providerDescription="message SENT") == {rcp(kept)}
    assert found(recipient=ALICE) == {rcp(odd)}, "what was recorded with a word is found by its message"
    assert found(providerStatusId="42", outcome=["unmapped", "dead"]) == {rcp(odd)}
    assert found(providerStatusId="42", outcome=["dead"]) == set()
    assert found(recipient=BOB) == {rcp(contradicting), rcp(forged.id)}
    assert found(recipient=BOB, keyId="old1") == found(keyId="old1") == {rcp(forged.id)}
    assert found(recipient=BOB, channel="message") == {rcp(contradicting)}
    assert found(recipient=ALICE, message=msg(message_id)) == {rcp(odd)}
    assert found(recipient=BOB, message=msg(message_id)) == set()
    listed = {item["id"]: item for item in get(client, "/v1/receipts")["items"]}
    names = ("recipient", "transactionID", "clientRef", "providerStatusId", "providerDescription", "keyId")
    said = {receipt: tuple(listed[rcp(receipt)][name] for name in names) for receipt in (kept, odd, forged.id, fine)}
    assert said[kept] == ("07700900123", "815", "order/1", "77", "Message Sent", None)
    assert said[odd] == (ALICE, None, None, "42", None, None)
    assert said[forged.id] == (BOB, None, None, "1", "Delivered", "old1")
    assert said[fine] == (ALICE, None, None, "1", "Delivered", None), "its message's"
    assert in_order(database)


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("outcome=lost", "outcome"),
        ("outcome=dead,lost", "outcome"),
        ("outcome=dead&outcome=", "outcome"),
        ("outcome=dead,applied&recipient=447700900001", "outcome"),
        ("recipient=somebody", "recipient"),
        ("recipientEnds=001", "recipientEnds"),
        ("transactionID=x", "transactionID"),
        ("keyId=123456789", "keyId"),
        ("channel=sms", "channel"),
        ("message=rcp_00000000000000000000000000", "message"),
        ("message=", "message"),
        ("limit=501", "limit"),
        ("limit=0", "limit"),
        ("cursor=x", "cursor"),
        ("outcomes=dead", "outcomes"),
    ],
)
def test_a_wrong_parameter_is_refused_by_its_name(desk: FlaskClient, query: str, fault: str) -> None:
    assert list(get(desk, f"/v1/receipts?{query}", 422)["errors"]) == [fault]


def test_a_receipt_shows_its_bytes_and_what_it_led_to(client: FlaskClient, database: Database) -> None:
    [message_id] = rows.accept(database)
    receipt_id = settled(
        database, "unmapped", b"text=caf\xc3\xa9&raw=\xff\x00", channel=Channel.MESSAGE, message_id=message_id
    )
    recorded(database, receipt_id, message_id, Effect.STALE, superseded_at=seconds(2))
    recorded(database, receipt_id, message_id, Effect.UNMAPPED)
    with database.transaction() as session:
        values = {"body": b"\xe9{}", "content_type": "application/json"}
        session.execute(update(InboxRow).where(InboxRow.id == receipt_id).values(values))
        audits.write(
            session, at=T0, actor="desk", action="looked", subject=rcp(receipt_id), details={"with": "a glass"}
        )
        audits.write(session, at=T0, actor="desk", action="looked", subject=NOBODY)
    read = get(client, f"/v1/receipts/{rcp(receipt_id)}")
    assert (read["query"], read["body"], read["contentType"]) == (
        "text=caf\u00e9&raw=\\xff\x00",
        "\\xe9{}",
        "application/json",
    )
    assert (read["outcome"], read["messageId"], read["candidates"], read["lookAt"]) == (
        "unmapped",
        msg(message_id),
        [],
        None,
    )
    assert read["transition"] == {
        "status": None,
        "effect": "unmapped",
        "rule": "token",
        "providerStatusId": "77",
        "providerDescription": "Who knows",
        "occurredAt": None,
        "recordedAt": "2026-01-05T12:00:01.000000Z",
        "superseded": False,
    }
    assert read["audits"] == [
        {
            "at": "2026-01-05T12:00:00.000000Z",
            "actor": "desk",
            "action": "looked",
            "reason": None,
            "details": {"with": "a glass"},
        }
    ]


def test_a_superseded_transition_is_shown_if_there_is_no_other(client: FlaskClient, database: Database) -> None:
    [message_id] = rows.accept(database)
    receipt_id = settled(database, "dead")
    assert get(client, f"/v1/receipts/{rcp(receipt_id)}")["transition"] is None
    recorded(database, receipt_id, message_id, Effect.STALE, superseded_at=seconds(2))
    read = get(client, f"/v1/receipts/{rcp(receipt_id)}")
    assert (read["transition"]["superseded"], read["messageId"]) == (True, None)


def test_one_of_several_receipts_shows_the_bytes_of_its_callback(client: FlaskClient, database: Database) -> None:
    whole = settled(database, "dead", "statusid=4&statusid=1")
    part = settled(database, "dead", "")
    with database.transaction() as session:
        session.execute(update(InboxRow).where(InboxRow.id == whole).values(body=b"[]", content_type="text/plain"))
        session.execute(update(InboxRow).where(InboxRow.id == part).values(callback_id=whole, part=1))
    read = get(client, f"/v1/receipts/{rcp(part)}")
    assert (read["id"], read["callbackId"], read["part"]) == (rcp(part), rcp(whole), 1)
    assert (read["query"], read["body"], read["contentType"]) == ("statusid=4&statusid=1", "[]", "text/plain")


@pytest.mark.parametrize("outcome", [*RETRIABLE, "dismissed"])
def test_a_matched_receipt_is_recorded_about_its_message(client: FlaskClient, database: Database, outcome: str) -> None:
    [message_id] = rows.accept(database)
    receipt_id = settled(database, outcome)
    body = {"message": msg(message_id), "reason": "the customer called"}
    before = datetime.now(UTC)
    item = post(client, f"/v1/receipts/{rcp(receipt_id)}/match", body, 202)
    assert (item["id"], item["outcome"], item["tries"], item["messageId"], item["lookAt"]) == (
        rcp(receipt_id),
        "pending",
        0,
        msg(message_id),
        None,
    )
    row = rows.read_pending(database, receipt_id)
    assert (row.assigned_to, row.tries) == (message_id, 0)
    assert row.next_at is not None
    assert before <= row.next_at <= datetime.now(UTC)
    assert in_order(database)
    [audit] = get(client, f"/v1/receipts/{rcp(receipt_id)}")["audits"]
    assert audit | {"at": None} == {
        "at": None,
        "actor": "desk",
        "action": "matched",
        "reason": "the customer called",
        "details": {"from": outcome, "to": "pending", "was": "a reason", "message": msg(message_id)},
    }
    work(database)
    story = get(client, f"/v1/receipts/{rcp(receipt_id)}")
    assert (story["outcome"], story["transition"]["rule"]) == ("applied", "matched by hand")
    assert rows.read_message(database, message_id).status == Status.DELIVERED
    assert parked(database, receipt_id) is None
    assert in_order(database)


@pytest.mark.on_postgresql
@pytest.mark.parametrize("outcome", ["pending", "applied", "duplicate", "stale", "conflicting", "unmapped"])
def test_a_receipt_that_found_its_message_or_is_pending_cannot_be_matched(
    client: FlaskClient, database: Database, outcome: str
) -> None:
    [message_id] = rows.accept(database)
    receipt_id = settled(database, outcome)
    problem = post(client, f"/v1/receipts/{rcp(receipt_id)}/match", {"message": msg(message_id)}, 409)
    assert problem["detail"] == (
        f"It is {outcome}; only what is unmatched, quarantined, dead or dismissed can be matched."
    )
    row = rows.read_inbox(database, receipt_id)
    assert (row.outcome, row.message_id) == (outcome, None)


def adopt(database: Database) -> tuple[UUID, UUID]:
    """A receipt that was taken for another system's, and the message that was made for it."""
    receipt_id = rows.keep(database, said(tx="815", ref="x", at=5))
    work_off(database, 1000, adopt_after=600)
    with database.reading() as session:
        [made] = session.scalars(select(Message.id).where(Message.origin == Origin.EXTERNAL))
    return receipt_id, made


def test_a_receipt_that_was_adopted_can_be_matched(client: FlaskClient, database: Database) -> None:
    receipt_id, made = adopt(database)
    (mine,) = rows.accept(database)
    body = {"message": msg(mine), "reason": "it is ours"}
    assert post(client, f"/v1/receipts/{rcp(receipt_id)}/match", body, 202)["outcome"] == "pending"
    assert_sound(database, pending=1)
    work(database)
    assert rules(database, mine) == ["matched by hand"]
    assert rows.read_message(database, mine).status == "delivered"
    left = rows.read_message(database, made)
    assert (left.status, left.transaction_id) == ("cancelled", None)
    assert moves(database, receipt_id)[-3:] == [
        ("desk", "applied", "unmatched"),
        ("desk", "unmatched", "pending"),
        ("worker", "unmatched", "applied"),
    ]
    assert_sound(database, applied=1)


def test_an_adopted_receipt_of_another_number_is_matched_only_if_the_body_says_so(
    client: FlaskClient, database: Database
) -> None:
    receipt_id, made = adopt(database)
    (other,) = rows.accept(database, rows.message(BOB))
    path = f"/v1/receipts/{rcp(receipt_id)}/match"
    assert "anyRecipient" in post(client, path, {"message": msg(other)}, 422)["errors"]
    assert rows.read_message(database, made).status == "delivered", "nothing was done"
    post(client, path, {"message": msg(other), "anyRecipient": True}, 202)
    work(database)
    assert rules(database, other) == ["matched by hand"]
    assert_sound(database, applied=1)


def test_a_dismissed_receipt_that_was_recorded_cannot_be_matched(client: FlaskClient, database: Database) -> None:
    receipt_id, message_id = unmapped(database)
    post(client, f"/v1/receipts/{rcp(receipt_id)}/dismiss", {"reason": "noise"}, 200)
    [other] = rows.accept(database)
    problem = post(client, f"/v1/receipts/{rcp(receipt_id)}/match", {"message": msg(other)}, 409)
    assert msg(message_id) in problem["detail"]
    assert in_order(database)


def test_a_reply_cannot_be_matched(client: FlaskClient, database: Database) -> None:
    [message_id] = rows.accept(database)
    receipt_id = settled(database, "dead", channel=Channel.INBOUND)
    problem = post(client, f"/v1/receipts/{rcp(receipt_id)}/match", {"message": msg(message_id)}, 409)
    assert "reply" in problem["detail"]


def test_a_receipt_that_names_another_number_is_matched_only_if_the_body_says_so(
    client: FlaskClient, database: Database
) -> None:
    [message_id] = rows.accept(database)  # to 447700900001
    for number, is_other in (
        ("447700900906", True),
        ("07700900906", True),
        ("a name", True),
        ("07700 900001", False),
        ("4477009***01", False),
        ("", False),
    ):
        fields = urlencode({"statusid": "4", "statusdescription": "Delivered", "recipient": number})
        receipt_id = rows.keep(database, fields, channel=Channel.ACCOUNT)
        work(database)
        match = f"/v1/receipts/{rcp(receipt_id)}/match"
        if is_other:
            problem = post(client, match, {"message": msg(message_id)}, 422)
            assert problem["detail"] == (
                "The receipt names another number than the one that the message went to; nothing was done."
            )
            assert list(problem["errors"]) == ["anyRecipient"]
            assert "7700" not in str(problem)
            post(client, match, {"message": msg(message_id), "anyRecipient": False}, 422)
            assert rows.read_inbox(database, receipt_id).outcome == "unmatched"
            assert get(client, f"/v1/receipts/{rcp(receipt_id)}")["audits"] == []
        post(client, match, {"message": msg(message_id), **({"anyRecipient": True} if is_other else {})}, 202)
        work(database)
        assert get(client, f"/v1/receipts/{rcp(receipt_id)}")["messageId"] == msg(message_id)


@pytest.mark.on_postgresql
def test_a_match_by_hand_is_told_as_one_wherever_its_report_is_shown(client: FlaskClient, database: Database) -> None:
    [message_id] = rows.accept(database, rows.message(client_ref="order-1"))
    named = "recipient=447700900906&transactionid=4711&clientref=other"
    receipt_id = rows.keep(database, f"statusid=1&statusdescription=Delivered&{named}", channel=Channel.ACCOUNT)
    work(database)
    body = {"message": msg(message_id), "anyRecipient": True, "reason": "the portal says so"}
    post(client, f"/v1/receipts/{rcp(receipt_id)}/match", body, 202)
    work(database)
    by_hand = "matched by hand by desk: the portal says so"
    noted = f"it has no provider time; {by_hand}"
    assert f"({by_hand}); that is a final word" in get(client, f"/v1/messages/{msg(message_id)}/explain")["because"]
    assert get(client, f"/v1/messages/{msg(message_id)}")["transitions"][-1]["reason"] == noted
    timeline = post(client, "/v1/conversations/query", {"clientRef": "order-1"}, 200)["timeline"]
    assert [entry["reason"] for entry in timeline if entry["type"] == "transition"] == [None, noted]
    story = get(client, f"/v1/receipts/{rcp(receipt_id)}")
    assert (story["outcome"], story["reason"]) == ("applied", noted)
    assert (story["recipient"], story["transactionID"], story["clientRef"]) == ("447700900906", "4711", "other")
    assert story["message"] == {"recipient": "447700900001", "transactionID": "4711", "clientRef": "order-1"}
    found = post(client, "/v1/receipts/query", {"recipient": "447700900906"}, 200)["items"]
    assert [item["id"] for item in found] == [rcp(receipt_id)]
    today = replace(RULES, reader=replace(READER, status_map=status_map.load({"1": Status.EXPIRED})))
    assert len(list(reprocess(database, today, T0, is_applied=True))) == 1
    again = get(client, f"/v1/messages/{msg(message_id)}")["transitions"][-1]
    assert (again["status"], again["reason"]) == ("expired", f"read again; {by_hand}")
    assert in_order(database)


def test_matching_to_an_unknown_message_changes_nothing(client: FlaskClient, database: Database) -> None:
    receipt_id = settled(database, "unmatched")
    problem = post(client, f"/v1/receipts/{rcp(receipt_id)}/match", {"message": msg(ids.new())}, 422)
    assert list(problem["errors"]) == ["message"]
    row = rows.read_inbox(database, receipt_id)
    assert (row.outcome, row.message_id) == ("unmatched", None)
    left = parked(database, receipt_id)
    assert left is not None
    assert left.look_at == seconds(60)
    assert get(client, f"/v1/receipts/{rcp(receipt_id)}")["audits"] == []


@pytest.mark.parametrize("outcome", RETRIABLE)
def test_a_retried_receipt_is_processed_again(client: FlaskClient, database: Database, outcome: str) -> None:
    receipt_id = settled(database, outcome, "garbage=1")
    item = post(client, f"/v1/receipts/{rcp(receipt_id)}/retry", {}, 202)
    assert (item["outcome"], item["tries"], item["lookAt"]) == ("pending", 0, None)
    assert rows.read_pending(database, receipt_id).assigned_to is None
    assert in_order(database)
    [audit] = get(client, f"/v1/receipts/{rcp(receipt_id)}")["audits"]
    assert (audit["action"], audit["reason"], audit["details"]["from"]) == ("retried", None, outcome)
    work(database)
    assert rows.read_inbox(database, receipt_id).outcome in {"unmatched", "quarantined"}
    assert in_order(database)


@pytest.mark.on_postgresql
@pytest.mark.parametrize(
    "outcome", ["pending", "applied", "duplicate", "stale", "conflicting", "unmapped", "dismissed"]
)
def test_a_receipt_with_any_other_outcome_cannot_be_retried(
    client: FlaskClient, database: Database, outcome: str
) -> None:
    receipt_id = settled(database, outcome)
    problem = post(client, f"/v1/receipts/{rcp(receipt_id)}/retry", {"reason": "again"}, 409)
    assert problem["detail"] == f"It is {outcome}; only what is unmatched, quarantined or dead can be retried."


@pytest.mark.parametrize("outcome", RETRIABLE)
def test_a_dismissed_receipt_is_kept_and_not_processed(client: FlaskClient, database: Database, outcome: str) -> None:
    receipt_id = settled(database, outcome)
    item = post(client, f"/v1/receipts/{rcp(receipt_id)}/dismiss", {"reason": "a test"}, 200)
    assert (item["outcome"], item["reason"], item["candidates"], item["lookAt"]) == ("dismissed", "a test", [], None)
    assert parked(database, receipt_id) is None
    [audit] = get(client, f"/v1/receipts/{rcp(receipt_id)}")["audits"]
    assert (audit["action"], audit["reason"]) == ("dismissed", "a test")
    assert audit["details"] == {"from": outcome, "to": "dismissed", "was": "a reason"}
    assert in_order(database)
    work(database)
    assert rows.read_inbox(database, receipt_id).outcome == "dismissed"


def test_an_unmapped_receipt_can_be_dismissed_and_its_transition_stays(client: FlaskClient, database: Database) -> None:
    receipt_id, message_id = unmapped(database)
    post(client, f"/v1/receipts/{rcp(receipt_id)}/dismiss", {"reason": "a test"}, 200)
    read = get(client, f"/v1/receipts/{rcp(receipt_id)}")
    assert (read["outcome"], read["transition"]["effect"], read["messageId"]) == (
        "dismissed",
        "unmapped",
        msg(message_id),
    )
    assert in_order(database)


@pytest.mark.on_postgresql
@pytest.mark.parametrize("outcome", ["pending", "applied", "duplicate", "stale", "conflicting", "dismissed"])
def test_a_receipt_that_counts_cannot_be_dismissed(client: FlaskClient, database: Database, outcome: str) -> None:
    receipt_id = settled(database, outcome)
    problem = post(client, f"/v1/receipts/{rcp(receipt_id)}/dismiss", {"reason": "a test"}, 409)
    assert problem["detail"].startswith(f"It is {outcome}; only what is unmapped, unmatched,")


@pytest.mark.parametrize("receipt", [NOBODY, "msg_00000000000000000000000000", "nonsense", "rcp_%FF"])
def test_an_unknown_receipt_is_404(desk: FlaskClient, receipt: str) -> None:
    get(desk, f"/v1/receipts/{receipt}", 404)
    post(desk, f"/v1/receipts/{receipt}/match", {"message": "msg_00000000000000000000000000"}, 404)
    post(desk, f"/v1/receipts/{receipt}/retry", {}, 404)
    post(desk, f"/v1/receipts/{receipt}/dismiss", {"reason": "x"}, 404)
    post(desk, f"/v1/receipts/{receipt}/restore", {}, 404)


@pytest.mark.parametrize(
    ("path", "body", "faults"),
    [
        (f"{NOBODY}/match", {}, ["message"]),
        (f"{NOBODY}/match", {"message": NOBODY}, ["message"]),
        (f"{NOBODY}/match", {"message": 7}, ["message"]),
        (f"{NOBODY}/match", {"message": "msg_00000000000000000000000000", "reason": ""}, ["reason"]),
        (f"{NOBODY}/retry", {"reason": "x" * 1001}, ["reason"]),
        (f"{NOBODY}/retry", {"message": "msg_00000000000000000000000000"}, ["message"]),
        (f"{NOBODY}/dismiss", {}, ["reason"]),
        (f"{NOBODY}/dismiss", {"reason": None}, ["reason"]),
        (f"{NOBODY}/dismiss", {"reason": "\0"}, ["reason"]),
        ("replay", {"outcomes": []}, ["outcomes"]),
        ("replay", {"outcomes": ["applied"]}, ["outcomes[0]"]),
        ("replay", {"outcomes": "dead"}, ["outcomes"]),
        ("replay", {"dryRun": 1}, ["dryRun"]),
        ("replay", {"since": "yesterday", "until": "2026-01-05"}, ["since", "until"]),
        ("replay", {"cursor": "x"}, ["cursor"]),
        ("replay", {}, ["all"]),
        ("replay", {"reason": "mended", "since": None, "until": None, "cursor": None}, ["all"]),
        ("replay", {"all": False}, ["all"]),
        ("replay", {"all": 1}, ["all"]),
        ("replay", {"channel": "post", "providerStatusId": ""}, ["channel", "providerStatusId"]),
        ("replay", {"outcomes": ["unmapped"]}, ["outcomes[0]"]),
        ("dismiss", {"all": True}, ["reason"]),
        ("dismiss", {"reason": "a test"}, ["all"]),
        ("dismiss", {"reason": "a test", "outcomes": ["dismissed"]}, ["outcomes[0]"]),
        ("dismiss", {"reason": "a test", "all": True, "cursor": cursors.REPLAY.encode(UUID(int=1))}, ["cursor"]),
        (f"{NOBODY}/restore", {"reason": 7}, ["reason"]),
    ],
)
def test_a_wrong_body_is_refused_by_its_field(
    desk: FlaskClient, path: str, body: dict[str, Any], faults: list[str]
) -> None:
    assert sorted(post(desk, f"/v1/receipts/{path}", body, 422)["errors"]) == faults


@pytest.mark.parametrize("scope", ["read", "send"])
def test_every_receipt_endpoint_needs_the_scope_ops(desk: FlaskClient, scope: str) -> None:
    caller = client_of(desk.application, SECRETS[scope])
    get(caller, "/v1/receipts", 403)
    get(caller, f"/v1/receipts/{NOBODY}", 403)
    for path in (*(f"{NOBODY}/{action}" for action in ("match", "retry", "dismiss", "restore")), "replay", "dismiss"):
        post(caller, f"/v1/receipts/{path}", {}, 403)


def test_an_audit_names_the_key_that_did_it(database: Database) -> None:
    receipt_id = settled(database, "dead")
    ops = client_of(create_app(make_settings(), database), SECRETS["ops"])
    post(ops, f"/v1/receipts/{rcp(receipt_id)}/retry", {"reason": "mended"}, 202)
    [audit] = get(ops, f"/v1/receipts/{rcp(receipt_id)}")["audits"]
    assert (audit["actor"], audit["reason"]) == ("opser", "mended")


def test_a_replay_moves_every_receipt_that_fits_and_leaves_one_audit(client: FlaskClient, database: Database) -> None:
    moved = [settled(database, outcome) for outcome in RETRIABLE]
    kept = settled(database, "dismissed")
    assert post(client, "/v1/receipts/replay", {"dryRun": True}, 200) == {
        "count": 3,
        "dryRun": True,
        "isComplete": True,
        "nextCursor": None,
    }
    assert rows.read_inbox(database, moved[0]).outcome == "unmatched"
    body = {"reason": "the parser was mended", "since": "2026-01-05T12:00:00Z"}
    done = post(client, "/v1/receipts/replay", body, 200)
    assert done == {"count": 3, "dryRun": False, "isComplete": True, "nextCursor": None}
    for receipt_id in moved:
        row = rows.read_pending(database, receipt_id)
        assert (row.tries, row.assigned_to) == (0, None)
    left = parked(database, moved[0])
    assert left is not None
    assert left.look_at is None
    assert rows.read_inbox(database, kept).outcome == "dismissed"
    assert in_order(database)
    with database.reading() as session:
        [audit] = session.scalars(select(Audit)).all()
    assert (audit.actor, audit.action, audit.subject, audit.reason) == (
        "desk",
        "replayed",
        "receipts",
        "the parser was mended",
    )
    assert audit.details == {
        "count": 3,
        "from": {"dead": 1, "quarantined": 1, "unmatched": 1},
        "first": rcp(moved[0]),
        "last": rcp(moved[2]),
        "outcomes": sorted(RETRIABLE),
        "since": "2026-01-05T12:00:00+00:00",
        "until": None,
    }
    work(database)
    assert in_order(database)


def test_a_replay_takes_only_what_its_filter_names(client: FlaskClient, database: Database) -> None:
    early = settled(database, "dead", now=seconds(0))
    inside = settled(database, "dead", now=seconds(10))
    other = settled(database, "unmatched", now=seconds(10))
    late = settled(database, "dead", now=seconds(20))
    body = {"outcomes": ["dead", "dead"], "since": "2026-01-05T12:00:10Z", "until": "2026-01-05T13:00:20+01:00"}
    assert post(client, "/v1/receipts/replay", body, 200)["count"] == 1
    assert rows.read_inbox(database, inside).outcome == "pending"
    assert {rows.read_inbox(database, each).outcome for each in (early, late)} == {"dead"}
    assert rows.read_inbox(database, other).outcome == "unmatched"


def test_a_replay_of_everything_has_to_be_meant(client: FlaskClient, database: Database) -> None:
    dead = settled(database, "dead")
    problem = post(client, "/v1/receipts/replay", {}, 422)
    assert problem["errors"] == {"all": ["Must be true, unless another field says which are meant."]}
    assert rows.read_inbox(database, dead).outcome == "dead"
    assert post(client, "/v1/receipts/replay", {"all": True}, 200)["count"] == 1
    assert rows.read_inbox(database, dead).outcome == "pending"


@pytest.mark.parametrize("is_dry_run", [True, False])
def test_a_replay_goes_by_slices_and_stops_at_its_bound(
    database: Database, monkeypatch: pytest.MonkeyPatch, is_dry_run: bool
) -> None:
    monkeypatch.setattr(bulk_actions, "_RECEIPTS", 2)
    made = [settled(database, RETRIABLE[number % 3]) for number in range(7)]

    monkeypatch.setattr(bulk_actions, "MAX_CHANGED", 5)

    def step(after: UUID | None) -> tuple[int, UUID | None]:
        return bulk_actions.replay(database, WAITING, BY, lambda: T0, after=after, is_dry_run=is_dry_run)

    assert step(None) == (5, made[4])
    assert step(made[4]) == (2, None)
    with database.reading() as session:
        counts = [audit.details["count"] for audit in session.scalars(select(Audit).order_by(Audit.id))]
    assert counts == ([] if is_dry_run else [2, 2, 1, 2])
    assert in_order(database)


def test_a_replay_that_takes_long_says_where_to_continue(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [settled(database, "dead") for _ in range(3)]
    monkeypatch.setattr(bulk_actions, "MAX_SECONDS", 0)
    monkeypatch.setattr(bulk_actions, "_RECEIPTS", 2)
    assert bulk_actions.replay(database, WAITING, BY, lambda: T0) == (2, made[1])


def test_a_replay_that_ends_exactly_at_its_bound_is_complete(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_actions, "_RECEIPTS", 2)
    monkeypatch.setattr(bulk_actions, "MAX_CHANGED", 4)
    for _ in range(4):
        settled(database, "dead")
    assert bulk_actions.replay(database, WAITING, BY, lambda: T0) == (4, None)


def test_a_replay_that_moves_nothing_leaves_no_audit(database: Database) -> None:
    assert bulk_actions.replay(database, WAITING, BY, lambda: T0) == (0, None)
    with database.reading() as session:
        assert session.scalars(select(Audit)).all() == []


def test_a_replay_skips_rows_that_are_locked(postgresql_database: Database) -> None:
    held, free = settled(postgresql_database, "dead"), settled(postgresql_database, "dead")
    with postgresql_database.transaction() as session:
        session.execute(select(OutcomeRow).where(OutcomeRow.receipt_id == held).with_for_update())
        done = bulk_actions.replay(postgresql_database, WAITING, BY, lambda: T0)
    assert done == (1, None)
    assert rows.read_inbox(postgresql_database, held).outcome == "dead"
    assert rows.read_inbox(postgresql_database, free).outcome == "pending"


def test_the_list_can_filter_by_every_outcome(database: Database) -> None:
    made = {outcome: settled(database, outcome) for outcome in ReceiptOutcome}
    with database.reading() as session:
        for outcome, receipt_id in made.items():
            page = receipts.list_receipts(session, ReceiptFilter(outcomes=[outcome]), limit=10)
            assert [entry.row.id for entry in page.items] == [receipt_id]


def test_many_are_meant_by_what_the_gateway_said_or_by_their_address(client: FlaskClient, database: Database) -> None:
    [mine] = rows.accept(database)
    unknown = rows.keep(database, "statusid=77&statusdescription=Who+knows&transactionid=1")
    own = rows.keep(database, said(tx="2", to=BOB), message_id=mine)  # whose recipient is another
    other = rows.keep(database, said(tx="3"))
    work(database)
    for question, expected in (
        ({"providerStatusId": "77"}, unknown),
        ({"providerDescription": " who  KNOWS"}, unknown),
        ({"channel": "message"}, own),
        ({"channel": "account", "providerStatusId": "1"}, other),
    ):
        for path, moved in (("replay", "pending"), ("dismiss", "dismissed")):
            body = {**question, "reason": "a test"}
            assert post(client, f"/v1/receipts/{path}", body | {"dryRun": True}, 200)["count"] == 1
            assert post(client, f"/v1/receipts/{path}", body, 200)["count"] == 1
            assert rows.read_inbox(database, expected).outcome == moved
            work(database)
        post(client, f"/v1/receipts/{rcp(expected)}/restore", {}, 200)
        work(database)
    assert in_order(database)
    slices = get(client, "/v1/audit?subject=receipts&action=dismissed")["items"]
    assert [audit["details"].get("providerStatusId") for audit in slices] == ["1", None, None, "77"]


def test_many_are_dismissed_by_a_filter_each_with_an_audit(client: FlaskClient, database: Database) -> None:
    made = [settled(database, outcome) for outcome in RETRIABLE]
    unknown, _ = unmapped(database)
    waits = settled(database, "pending")
    body = {"all": True, "reason": "a test"}
    assert post(client, "/v1/receipts/dismiss", body | {"dryRun": True}, 200)["count"] == 4
    assert rows.read_inbox(database, made[0]).outcome == "unmatched"
    done = post(client, "/v1/receipts/dismiss", body, 200)
    assert done == {"count": 4, "dryRun": False, "isComplete": True, "nextCursor": None}
    for receipt_id, before in zip((*made, unknown), (*RETRIABLE, "unmapped"), strict=True):
        story = get(client, f"/v1/receipts/{rcp(receipt_id)}")
        assert (story["outcome"], story["reason"]) == ("dismissed", "a test")
        [audit] = story["audits"]
        assert (audit["actor"], audit["action"], audit["reason"]) == ("desk", "dismissed", "a test")
        assert (audit["details"]["from"], audit["details"]["to"]) == (before, "dismissed")
    assert parked(database, made[0]) is None
    assert rows.read_inbox(database, waits).outcome == "pending"
    [of_slice] = get(client, "/v1/audit?subject=receipts")["items"]
    assert of_slice["details"]["from"] == {"dead": 1, "quarantined": 1, "unmapped": 1, "unmatched": 1}
    assert post(client, "/v1/receipts/dismiss", body, 200)["count"] == 0
    assert in_order(database)


def test_a_dismissal_of_many_stops_at_its_bound_and_goes_on(
    client: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_actions, "_RECEIPTS", 2)
    monkeypatch.setattr(bulk_actions, "MAX_CHANGED", 3)
    for _ in range(5):
        settled(database, "dead")
    body = {"outcomes": ["dead"], "reason": "a test"}
    first = post(client, "/v1/receipts/dismiss", body, 200)
    assert (first["count"], first["isComplete"]) == (3, False)
    rest = post(client, "/v1/receipts/dismiss", body | {"cursor": first["nextCursor"]}, 200)
    assert (rest["count"], rest["isComplete"]) == (2, True)


@pytest.mark.parametrize("outcome", RETRIABLE)
def test_a_dismissal_is_taken_back(client: FlaskClient, database: Database, outcome: str) -> None:
    receipt_id = settled(database, outcome, "garbage=1")
    post(client, f"/v1/receipts/{rcp(receipt_id)}/dismiss", {"reason": "a test"}, 200)
    item = post(client, f"/v1/receipts/{rcp(receipt_id)}/restore", {"reason": "it was none"}, 200)
    assert item["outcome"] == "pending"
    assert in_order(database)
    audit = get(client, f"/v1/receipts/{rcp(receipt_id)}")["audits"][-1]
    assert (audit["action"], audit["reason"]) == ("restored", "it was none")
    assert (audit["details"]["from"], audit["details"]["to"]) == ("dismissed", "pending")
    work(database)
    assert rows.read_inbox(database, receipt_id).outcome in {"unmatched", "quarantined"}
    assert in_order(database)


def test_an_unmapped_receipt_is_unmapped_again_once_its_dismissal_is_taken_back(
    client: FlaskClient, database: Database
) -> None:
    receipt_id, message_id = unmapped(database)
    post(client, f"/v1/receipts/{rcp(receipt_id)}/dismiss", {"reason": "a test"}, 200)
    item = post(client, f"/v1/receipts/{rcp(receipt_id)}/restore", {}, 200)
    assert (item["outcome"], item["messageId"]) == ("unmapped", msg(message_id))
    assert in_order(database)


@pytest.mark.on_postgresql
@pytest.mark.parametrize("outcome", ["pending", "unmatched", "dead", "applied"])
def test_only_a_dismissal_can_be_taken_back(client: FlaskClient, database: Database, outcome: str) -> None:
    receipt_id = settled(database, outcome)
    problem = post(client, f"/v1/receipts/{rcp(receipt_id)}/restore", {}, 409)
    assert problem["detail"] == f"It is {outcome}; only what is dismissed can be restored."
