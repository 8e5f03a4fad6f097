"""Every behaviour of the sandbox, end to end: the outcome of each message and each receipt."""

import json
import time
from dataclasses import dataclass

import pytest
import requests
from sqlalchemy import select

from receiptsvc.demo.processes import Stack
from receiptsvc.sandbox.behaviour import TABLE
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.models import Attempt, Message
from receiptsvc.store.health import verification
from tests.support.processes import until
from tests.whole.conftest import MakeStack

_SECONDS = 120.0
_STATUS_MAP = {"1": "delivered", "2": "sent", "3": "undelivered", "4": "expired", "5": "rejected"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Ends:
    """The expected statuses by the last digits of the number; `receipts`: the effects of each message's receipts.

    Every other message is delivered, and each of its receipts is applied.
    """

    statuses: dict[str, str]
    receipts: dict[str, list[str]]
    usual: list[str]
    unreadable: int  # callbacks, for 939


NEVER_TAKEN = ("955", "956", "957", "960", "961", "968")
# What casts doubt on the account is called as often as it takes to know better.
SUSPICIOUS = frozenset({"955", "956", "957", "958", "968", "969"})
SOAP = Ends(
    statuses={
        "901": "undelivered",
        "902": "expired",
        "903": "rejected",
        "904": "sent",  # its final status is not mapped
        "906": "submitted",
        "938": "submitted",  # what came for it names no status that is known
        "939": "submitted",  # what came for it can't be read
        "941": "submitted",  # taken again by its guid, and silent
        "950": "send_unknown",
        "955": "send_unknown",
        "956": "send_unknown",
        "957": "send_unknown",
        "960": "failed",
        "961": "failed",
        "968": "failed",  # the account works for others: the words are about this message
    },
    receipts={
        "904": ["applied", "unmapped"],
        "905": ["applied", "applied", "conflicting"],
        "910": ["applied", "applied", "duplicate", "duplicate"],
        "911": ["applied", "stale"],
        "938": ["unmapped", "unmapped"],
        **{number: [] for number in ("906", "939", "941", "950", *NEVER_TAKEN)},
    },
    usual=["applied", "applied"],
    unreadable=2,
)
# By REST no "sent" is reported, and a lost answer stays lost: the gateway has 941, and never had the other four.
REST = Ends(
    statuses=SOAP.statuses | {"904": "submitted"} | dict.fromkeys(("941", "942", "950", "951", "953"), "send_unknown"),
    receipts={
        "904": ["unmapped"],
        "905": ["applied", "conflicting"],
        "910": ["applied", "duplicate"],
        "938": ["unmapped"],
        **{number: [] for number in ("906", "939", "941", "942", "950", "951", "953", *NEVER_TAKEN)},
    },
    usual=["applied"],
    unreadable=1,
)
# How a message's only call ended by REST, be it settled by a receipt or not; every other one was taken.
LOST = frozenset(
    {"940", "941", "942", "943", "944", "946", "947", "948", "949", "950", "951", "952", "953", "954", "963"}
)


def settled(stack: Stack, message_ids: dict[str, str]) -> dict[str, tuple[str, list[str]]]:
    """Each message's status and the effects of its receipts."""
    client = stack.client()
    told = {}
    for number, message_id in message_ids.items():
        message = client.message(message_id)
        effects = sorted(one["effect"] for one in message["transitions"] if one["receiptId"])
        told[number] = (message["status"], effects)
    return told


@pytest.mark.parametrize(
    ("transport", "ends", "database_url"),
    [("soap", SOAP, "sqlite"), ("soap", SOAP, "postgresql"), ("rest", REST, "postgresql")],
    indirect=["database_url"],
    ids=["soap-sqlite", "soap-postgresql", "rest"],
)
def test_under_any_gateway_behaviour_each_message_and_receipt_ends_as_expected(
    make_stack: MakeStack, database: Database, transport: str, ends: Ends
) -> None:
    settings = {"DYNMARK_TRANSPORT": transport, "BATCH_SIZE": "1", "STATUS_MAP": json.dumps(_STATUS_MAP)}
    stack = make_stack(settings=settings, sandbox_flags=["--drip-ms", "200"])  # a short answer, yet longer than a call
    stack.start_all()
    # What casts a suspicion on the account goes first: without a later call of another message it would wait for ever.
    numbers = sorted((row.tail for row in TABLE.values()), key=lambda number: (number not in SUSPICIOUS, number))
    expected = {
        number: (ends.statuses.get(number, "delivered"), ends.receipts.get(number, ends.usual)) for number in numbers
    }
    sent = stack.client().send(
        [{"recipients": [f"447700900{number}"], "text": "Hello", "clientRef": number} for number in numbers]
    )
    message_ids = {number: str(item["id"]) for number, item in zip(numbers, sent, strict=True)}
    deadline = time.monotonic() + _SECONDS
    while (found := settled(stack, message_ids)) != expected and time.monotonic() < deadline:
        time.sleep(1)
    assert found == expected

    counted = stack.client().ledger()
    effects = [effect for _, every in expected.values() for effect in every]
    assert {word: counted[word] for word in set(effects)} == {word: effects.count(word) for word in set(effects)}
    assert (counted["quarantined"], counted["pending"], counted["unmatched"]) == (ends.unreadable, 0, 0)
    assert counted["balanced"]
    assert counted["received"] == len(effects) + ends.unreadable
    assert list(verification.verify(database)) == []
    if transport == "rest":
        assert_none_was_sent_twice(stack, database, numbers)


def assert_none_was_sent_twice(stack: Stack, database: Database, numbers: list[str]) -> None:
    told = requests.get(f"{stack.sandbox_url}/sandbox/report", timeout=5).json()
    assert (told["doubles"], told["lookalikes"], told["messageGuids"]) == (0, 0, 0)
    assert told["restMessages"] == len(numbers) - len({"942", "950", "951", "953", *NEVER_TAKEN})

    def calls() -> list[tuple[str, str | None]]:
        with database.reading() as session:
            query = select(Message.recipient, Attempt.outcome).join(Attempt, Attempt.message_id == Message.id)
            return sorted((recipient[-3:], outcome) for recipient, outcome in session.execute(query))

    until("every call is over", lambda: None not in dict(calls()).values())  # a receipt may have come before its end
    kinds = dict.fromkeys(LOST, "unclear") | {"960": "refused", "961": "refused"}
    plain = [call for call in calls() if call[0] not in SUSPICIOUS]
    assert plain == [(number, kinds.get(number, "taken")) for number in numbers if number not in SUSPICIOUS]
