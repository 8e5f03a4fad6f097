"""Another gateway, as far as sending goes: a class and two lines that register it. Nothing else knows its name."""

import threading
from collections.abc import Mapping, Sequence
from uuid import UUID

import pytest

from receiptsvc.config import Settings
from receiptsvc.domain.messages import OutboundMessage, SendOutcome, SendResult
from receiptsvc.dynmark.outbound import gateways
from receiptsvc.dynmark.transports import TRANSPORTS, Transport
from receiptsvc.store.core.db import Database
from receiptsvc.store.health.verification import verify
from receiptsvc.web.app import create_app
from receiptsvc.worker.sender import submit
from tests.support.callers import client_of, make_settings

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


@pytest.mark.on_postgresql
def test_a_transport_is_a_class_and_two_lines(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRANSPORTS, "pigeon", PIGEON)
    monkeypatch.setitem(gateways.GATEWAYS, "pigeon", Pigeons)
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
    assert not list(verify(database))
