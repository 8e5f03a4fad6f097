"""Every way in which the sandbox's gateway can misbehave, end to end: what becomes of each message and each receipt."""

import json
import time

from receiptsvc.cli.stack import Stack
from receiptsvc.sandbox.behaviour import TABLE
from receiptsvc.store import verification
from receiptsvc.store.db import Database
from tests.whole.conftest import MakeStack

_SECONDS = 120.0
_STATUS_MAP = {"1": "delivered", "2": "sent", "3": "undelivered", "4": "expired", "5": "rejected"}

# By the last digits of the recipient's number; every other message is delivered by two receipts that are applied.
STATUSES = {
    "901": "undelivered",
    "902": "expired",
    "903": "rejected",
    "904": "sent",  # its last word is known to nobody
    "906": "submitted",
    "938": "submitted",  # what came for it names no status that is known
    "939": "submitted",  # what came for it can't be read
    "941": "submitted",  # taken again by its guid, and silent
    "950": "send_unknown",
    "960": "failed",
    "961": "failed",
}
EFFECTS = {
    "904": ["applied", "unmapped"],
    "905": ["applied", "applied", "conflicting"],
    "906": [],
    "910": ["applied", "applied", "duplicate", "duplicate"],
    "911": ["applied", "stale"],
    "938": ["unmapped", "unmapped"],
    "939": [],
    "941": [],
    "950": [],
    "960": [],
    "961": [],
}
UNREADABLE = 2  # callbacks, for 939


def settled(stack: Stack, message_ids: dict[str, str]) -> dict[str, tuple[str, list[str]]]:
    """Each message's status and the effects of its receipts."""
    client = stack.client()
    told = {}
    for number, message_id in message_ids.items():
        message = client.message(message_id)
        effects = sorted(one["effect"] for one in message["transitions"] if one["receiptId"])
        told[number] = (message["status"], effects)
    return told


def test_whatever_the_gateway_does_each_message_and_each_receipt_ends_as_it_must(
    make_stack: MakeStack, database_url: str
) -> None:
    stack = make_stack(settings={"BATCH_SIZE": "1", "STATUS_MAP": json.dumps(_STATUS_MAP)})
    stack.start_all()
    numbers = sorted(row.tail for row in TABLE.values())
    expected = {
        number: (STATUSES.get(number, "delivered"), EFFECTS.get(number, ["applied", "applied"])) for number in numbers
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
    assert (counted["quarantined"], counted["pending"], counted["unmatched"]) == (UNREADABLE, 0, 0)
    assert counted["balanced"]
    assert counted["received"] == len(effects) + UNREADABLE
    database = Database(database_url)
    assert list(verification.verify(database)) == []
    database.close()
