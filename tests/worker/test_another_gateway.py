"""Another gateway, for sending and for its receipts: its classes and three lines that register them.

Nothing else knows its name.
"""

import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from receiptsvc.config import Settings
from receiptsvc.domain.errors import Unreadable
from receiptsvc.domain.inbox import Channel
from receiptsvc.domain.messages import Callback, OutboundMessage, Receipt, Reply, SendOutcome, SendResult
from receiptsvc.domain.statuses import Status
from receiptsvc.dynmark import gateways, readers
from receiptsvc.dynmark.transports import TRANSPORTS, Transport
from receiptsvc.store.core.db import Database
from receiptsvc.store.health.verification import verify
from receiptsvc.web.app import create_app
from receiptsvc.worker.receipt_batch import ReceiptRules
from receiptsvc.worker.receipt_processor import process
from receiptsvc.worker.reprocess import Difference, reprocess
from receiptsvc.worker.sender import submit
from tests.support.callers import client_of, make_settings
from tests.support.rows import keep

PIGEON = Transport(
    url_setting="PIGEON_LOFT",
    default_url="http://127.0.0.1:1/",
    ignores_repeats=False,
    lacks={"deliverAfter": "A pigeon does not wait."},
)


class Pigeons:
    """Takes everything."""

    def __init__(self, settings: Settings) -> None:
        self.address = settings.gateway_urls["pigeon"]

    def send(
        self, messages: Sequence[OutboundMessage], *, repeats: frozenset[UUID] = frozenset()
    ) -> Mapping[UUID, SendResult]:
        assert not repeats
        return {message.id: SendResult(outcome=SendOutcome.TAKEN, transaction_id="7") for message in messages}


class PigeonPost:
    """Reads what a pigeon brings back: `7 landed`, or `447700900001: thank you` of a person."""

    version = "coo"

    def __init__(self, _: Settings) -> None:
        self.landed = Status.DELIVERED

    def read_receipts(self, callback: Callback, _received_at: datetime) -> Sequence[Receipt | Unreadable]:
        transaction_id, _, word = callback.query.decode().partition(" ")
        return [Receipt(transaction_id, None, None, None, word, None)]

    def read_reply(self, callback: Callback, _received_at: datetime) -> Reply:
        sender, _, content = callback.query.decode().partition(": ")
        return Reply(None, sender, None, content, None, None)

    def status_for(self, _: str | None, description: str | None) -> Status | None:
        return self.landed if description == "landed" else None


@pytest.mark.on_postgresql
def test_a_gateway_is_its_classes_and_three_lines(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRANSPORTS, "pigeon", PIGEON)
    monkeypatch.setitem(gateways.GATEWAYS, "pigeon", Pigeons)
    monkeypatch.setitem(readers.READERS, "pigeon", PigeonPost)
    settings = make_settings(DYNMARK_TRANSPORT="pigeon", PIGEON_LOFT="http://127.0.0.1:2/")
    client = client_of(create_app(settings, database))
    post = {"recipients": ["447700900001"], "text": "Hello"}
    refused = client.post("/v1/messages", json={"messages": [post | {"deliverAfter": "2999-01-01T00:00:00Z"}]})
    assert refused.json is not None
    assert refused.json["errors"] == {"messages[0].deliverAfter": ["A pigeon does not wait."]}
    accepted = client.post("/v1/messages", json={"messages": [post]})
    assert accepted.status_code == 202

    opened = gateways.open_gateways(settings)
    assert submit(database, opened, settings, threading.Event()) == 1
    (item,) = accepted.json["messages"]  # type: ignore[index]  # it is there
    read = client.get(f"/v1/messages/{item['id']}").json
    assert read is not None
    assert (read["status"], read["transport"], read["transactionID"]) == ("submitted", "pigeon", "7")

    reader = readers.open_reader(settings)
    assert isinstance(reader, PigeonPost)
    rules = ReceiptRules(reader=reader)
    now = datetime.now(UTC)
    keep(database, b"7 landed", now=now)
    keep(database, b"447700900001: thank you", channel=Channel.INBOUND, now=now)
    assert process(database, rules, now + timedelta(seconds=1), 10) == 2
    read = client.get(f"/v1/messages/{item['id']}").json
    assert read is not None
    assert (read["status"], read["transitions"][-1]["providerDescription"]) == ("delivered", "landed")
    (reply,) = client.get("/v1/inbound").json["items"]  # type: ignore[index]  # it is there
    assert (reply["sender"], reply["content"], reply["messageId"]) == ("447700900001", "thank you", item["id"])

    reader.landed = Status.EXPIRED
    changes = reprocess(database, rules, now)
    assert [change.now for change in changes if isinstance(change, Difference)] == ["expired"]
    assert not list(verify(database))
