"""Answers made to cost time or memory: each is read within a moment, fails no message and proves nothing."""

import os
import time

import pytest

from receiptsvc.domain.messages import OutboundMessage, SendOutcome
from receiptsvc.dynmark.outbound.rest import RestGateway
from receiptsvc.dynmark.outbound.soap import SoapGateway
from tests.dynmark import monsters, wire
from tests.dynmark.calls import message, settings
from tests.dynmark.wire import Wire
from tests.support.processes import resident_megabytes

PROVES_NOTHING = {SendOutcome.UNCLEAR, SendOutcome.SUSPECT_UNCLEAR}
MAX_SECONDS = 6.0  # most take a tenth of a second; unbounded, some took minutes
MAX_MEGABYTES = 150.0


def codes() -> list[OutboundMessage]:
    """As many messages as a call can have, each in words of a logon, as one-time passwords are."""
    return [
        message(f"4477009{n:05}", text=f"Your login password is {n * 7919}, user name {n}", client_ref=f"login-{n}")
        for n in range(250)
    ]


@pytest.mark.parametrize(
    ("transport", "name"),
    [("soap", name) for name in monsters.SOAP] + [("rest", name) for name in monsters.REST],
)
def test_a_monstrous_answer_costs_a_moment_and_proves_nothing(transport: str, name: str) -> None:
    body = (monsters.SOAP if transport == "soap" else monsters.REST)[name]
    status = "400 Bad Request" if "unread" in name else "200 OK"
    sent, before = codes(), resident_megabytes(os.getpid())
    with Wire(wire.answer(body, status)) as server:
        set_up = settings(server.url, DYNMARK_REST_URL=server.url, DYNMARK_TRANSPORT=transport)
        gateway = SoapGateway(set_up) if transport == "soap" else RestGateway(set_up)
        began = time.monotonic()
        results = gateway.send(sent)
        took = time.monotonic() - began
    assert {result.outcome for result in results.values()} <= PROVES_NOTHING
    assert all(len(str(result)) < 2_000 for result in results.values())
    assert took < MAX_SECONDS
    assert resident_megabytes(os.getpid()) - before < MAX_MEGABYTES


def test_codes_refused_in_their_own_words_are_told_apart_quickly() -> None:
    """Each of 250 one-time passwords is quoted by its refusal: nothing of the words is the gateway's."""
    sent = codes()
    items = "".join(
        f"<MessageResult><recipients><string>{each.recipient}</string></recipients><returnCode>210</returnCode>"
        f"<returnDescription>refused: '{each.text}'</returnDescription></MessageResult>"
        for each in sent
    )
    body = f'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>{items}</s:Body></s:Envelope>'
    with Wire(wire.answer(body)) as server:
        began = time.monotonic()
        results = SoapGateway(settings(server.url)).send(sent)
        took = time.monotonic() - began
    assert {result.outcome for result in results.values()} == {SendOutcome.REFUSED}
    assert took < MAX_SECONDS
