"""What the tests of both transports share, and answers as SOAP has them."""

from typing import Any
from uuid import UUID

from lxml import etree

from receiptsvc import ids
from receiptsvc.config import Settings
from receiptsvc.domain.messages import OutboundMessage
from receiptsvc.dynmark.outbound.soap import SoapGateway
from tests.dynmark import wire
from tests.dynmark.wire import Wire

NAMESPACE = "http://www.services.dynmark.com/"
PASSWORD = "p&ss <w0rd> x1"
ALICE, BOB, CAROL = "447700900001", "447700900002", "447700900003"


def settings(url: str, **more: str) -> Settings:
    return Settings.from_env(
        {
            "DYNMARK_SOAP_URL": url,
            "DYNMARK_USERNAME": "user@example.com",
            "DYNMARK_PASSWORD": PASSWORD,
            "DYNMARK_TIMEOUT_SECONDS": "20",
            "CALLBACK_KEYS": "a" * 32,
            "API_KEYS": "test:send:" + "b" * 32,
        }
        | more
    )


def message(recipient: str = ALICE, **more: Any) -> OutboundMessage:
    given: dict[str, Any] = {
        "id": ids.new(),
        "recipient": recipient,
        "text": "Hello",
        "message_guid": f"guid-{recipient}",
        "callback_url": "https://us.example.com/callbacks/receipts/abc",
    }
    return OutboundMessage(**(given | more))


def item(*recipients: str, transaction: str | None = "11", **more: str) -> str:
    """A MessageResult; `more`: the gateway's names and what stands in them."""
    parts = [] if transaction is None else [f"<transactionID>{transaction}</transactionID>"]
    parts += ["<recipients>", *(f"<string>{recipient}</string>" for recipient in recipients), "</recipients>"]
    parts += [f"<{name}>{text}</{name}>" for name, text in more.items()]
    return f"<MessageResult>{''.join(parts)}</MessageResult>"


def collection(*items: str) -> str:
    return (
        '<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Body>'
        f'<SendMessageCollectionResponse xmlns="{NAMESPACE}"><SendMessageCollectionResult>{"".join(items)}'
        "</SendMessageCollectionResult></SendMessageCollectionResponse></soap:Body></soap:Envelope>"
    )


def send(reply: wire.Reply, *messages: OutboundMessage, repeats: frozenset[UUID] = frozenset(), **more: str) -> Any:
    """The results of one call, in the order of `messages`, and the server that had it."""
    with Wire(reply) as server:
        results = SoapGateway(settings(server.url, **more)).send(messages, repeats=repeats)
    assert results.keys() == {each.id for each in messages}
    return [results[each.id] for each in messages], server


def fields(sent: etree._Element) -> dict[str, str | None]:
    """The elements of a Message that hold text, by name."""
    return {etree.QName(child).localname: child.text for child in sent if len(child) == 0}


def sent_messages(server: Wire) -> list[etree._Element]:
    return list(etree.fromstring(server.requests[-1].body).iter(f"{{{NAMESPACE}}}Message"))


WELL = collection(item(ALICE))
LAUGHS = (
    '<!DOCTYPE x [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {n} "{f"&{o};" * 10}">' for o, n in zip("abcdefghi", "bcdefghij", strict=True))
    + "]>"
)
