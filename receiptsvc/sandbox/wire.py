"""The send call by SOAP: parses a request, finds what the gateway would refuse, and writes the answers.

The types and limits that both transports share are here too. The state between calls is in `gateway`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from lxml import etree

NAMESPACE = "http://www.services.dynmark.com/"
ACTION = NAMESPACE + "SendMessageCollection"
SOAP_11 = "http://schemas.xmlsoap.org/soap/envelope/"
SOAP_12 = "http://www.w3.org/2003/05/soap-envelope"
CALLBACK_ELEMENTS = ("deliveryStatusUrl", "deliveryStatusURL")  # both spellings are documented
MAX_RECIPIENTS = 250

LOGON_REFUSED = "Unable to logon with credentials given"
# The gateway documents none of its returnCodes: these are the sandbox's own invention.
RETURN_CODES: Mapping[int, str] = {
    101: LOGON_REFUSED,
    201: "Invalid recipient",
    202: "Invalid originator",
    203: "Text is empty",
    204: "clientRef is too long",
    205: "messageGuid is too long",
    206: "Too many recipients in one call",
    207: "Invalid countryIsoCode",  # this and the next by REST only
    208: "Characters outside the GSM set",
    210: "Message refused",
    211: "Message speaks of a login or password",
    301: "Duplicate messageGuid",
}

INTERNATIONAL = re.compile(r"[1-9][0-9]{6,14}")
_ORIGINATOR = re.compile(r"\+?[0-9]{2,15}|[0-9A-Za-z._ -]{2,11}")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class Fault(Exception):
    """The whole call is answered with a SOAP fault. `code`: Client or Server, as SOAP 1.1 names them."""

    def __init__(self, code: str, text: str) -> None:
        self.code = code
        super().__init__(text)


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """Why one message is not taken: a key of RETURN_CODES, and details."""

    code: int
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One Message object as it came. `fields`: its other simple elements by name, known or not."""

    transport: str = "soap"
    recipients: tuple[str, ...]
    text: str
    originator: str | None
    client_ref: str | None
    message_guid: str | None
    callback_urls: Mapping[str, str]  # by the spelling that arrived
    forward_sent: bool
    include_text: bool
    fields: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One send call."""

    envelope: str | None  # SOAP_11 or SOAP_12; None: by REST
    name: str
    password: str
    messages: tuple[Message, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One MessageResult of the answer. None leaves an element out."""

    transaction_id: int | None
    recipients: tuple[str, ...] | None
    code: str | None = None
    description: str | None = None
    detail: str | None = None


def parse(body: bytes) -> Call:
    """Parse a request. Elements outside the service's namespace are ignored, as an ASP.NET service does.

    Raises Fault if it is not a SendMessageCollection request.
    """
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise Fault("Client", "The request is not well-formed XML") from error
    if root.getroottree().docinfo.doctype:
        raise Fault("Client", "For security reasons DTD is prohibited in this XML document")
    envelope = etree.QName(root).namespace
    if etree.QName(root).localname != "Envelope" or envelope not in {SOAP_11, SOAP_12}:
        raise Fault("Client", "The root must be a SOAP 1.1 or 1.2 Envelope")
    call = root.find(f"{{{envelope}}}Body/{_tag('SendMessageCollection')}")
    if call is None:
        raise Fault("Client", f"The Body must hold SendMessageCollection of {NAMESPACE}")
    return Call(
        envelope=envelope or SOAP_11,
        name=_child_text(call, "name") or "",
        password=_child_text(call, "password") or "",
        messages=tuple(map(_parse_message, call.iterfind(f"{_tag('message')}/{_tag('Message')}"))),
    )


def refusal(message: Message, number: re.Pattern[str] = INTERNATIONAL) -> Refusal | None:
    """Why a message breaks the documented limits; None if it keeps them. `number`: the form of its recipients."""
    if not message.recipients or not all(map(number.fullmatch, message.recipients)):
        return Refusal(code=201, detail="recipients: international numbers, digits only, without + or 00")
    if message.originator is not None and not _ORIGINATOR.fullmatch(message.originator):
        return Refusal(code=202, detail="originator: 2 to 15 digits, or 2 to 11 of 0-9 a-z A-Z - _ . and space")
    if not message.text.strip():
        return Refusal(code=203, detail="text: must not be empty")
    if len((message.client_ref or "").encode("utf-16-le", "surrogatepass")) > 2 * 64:
        return Refusal(code=204, detail="clientRef: at most 64 characters")
    if len(message.message_guid or "") > 36:
        return Refusal(code=205, detail="messageGuid: at most 36 characters")
    return None


def refused(message: Message, why: Refusal) -> Result:
    """The result of a message that is not taken."""
    return Result(
        transaction_id=None,
        recipients=message.recipients,
        code=str(why.code),
        description=RETURN_CODES[why.code],
        detail=why.detail,
    )


def answer(results: Iterable[Result], envelope: str) -> bytes:
    """The response with one MessageResult a result."""
    root, body = _envelope(envelope)
    response = etree.SubElement(body, _tag("SendMessageCollectionResponse"), nsmap={None: NAMESPACE})
    collection = etree.SubElement(response, _tag("SendMessageCollectionResult"))
    for result in results:
        item = etree.SubElement(collection, _tag("MessageResult"))
        if result.transaction_id is not None:
            etree.SubElement(item, _tag("transactionID")).text = str(result.transaction_id)
        if result.recipients is not None:
            recipients = etree.SubElement(item, _tag("recipients"))
            for recipient in result.recipients:
                etree.SubElement(recipients, _tag("string")).text = recipient
        for name, text in (
            ("returnCode", result.code),
            ("returnDescription", result.description),
            ("returnDetail", result.detail),
        ):
            if text is not None:
                etree.SubElement(item, _tag(name)).text = text
    return _to_bytes(root)


def fault(fault: Fault, envelope: str) -> bytes:
    """A SOAP fault in the caller's version."""
    root, body = _envelope(envelope)
    outer = etree.SubElement(body, f"{{{envelope}}}Fault")
    if envelope == SOAP_12:
        code = etree.SubElement(outer, f"{{{envelope}}}Code")
        value = {"Client": "Sender", "Server": "Receiver"}[fault.code]
        etree.SubElement(code, f"{{{envelope}}}Value").text = f"soap:{value}"
        reason = etree.SubElement(outer, f"{{{envelope}}}Reason")
        text = etree.SubElement(reason, f"{{{envelope}}}Text")
        text.set("{http://www.w3.org/XML/1998/namespace}lang", "en")
        text.text = str(fault)
    else:
        etree.SubElement(outer, "faultcode").text = f"soap:{fault.code}"
        etree.SubElement(outer, "faultstring").text = str(fault)
    return _to_bytes(root)


def _parse_message(element: etree._Element) -> Message:
    fields = {
        etree.QName(child).localname: child.text or ""
        for child in element
        if child.tag != _tag("recipients") and etree.QName(child).namespace == NAMESPACE and len(child) == 0
    }
    for name in ("validUntil", "deliverAfter"):
        _check_time(name, fields.get(name))
    return Message(
        recipients=tuple(
            (string.text or "").strip() for string in element.iterfind(f"{_tag('recipients')}/{_tag('string')}")
        ),
        text=fields.pop("text", ""),
        originator=fields.pop("originator", None),
        client_ref=fields.pop("clientRef", None),
        message_guid=fields.pop("messageGuid", None) or None,
        callback_urls={name: url for name in CALLBACK_ELEMENTS if (url := fields.pop(name, "").strip())},
        forward_sent=_pop_boolean(fields, "forwardSubmissionDeliveryStatus"),
        include_text=_pop_boolean(fields, "includeMessageTextInDeliveryStatus"),
        fields=fields | _parse_options(element),
    )


def _parse_options(element: etree._Element) -> dict[str, str]:
    """additionalOptions in the shape of the sandbox's own WSDL, each as `additionalOptions.<key>`."""
    pairs = element.iterfind(f"{_tag('additionalOptions')}/{_tag('KeyValuePair')}")
    return {f"additionalOptions.{_child_text(pair, 'key')}": _child_text(pair, "value") or "" for pair in pairs}


def _pop_boolean(fields: dict[str, str], name: str) -> bool:
    text = fields.pop(name, "false").strip()
    if text not in _BOOLEANS:
        raise Fault("Client", f"There is an error in XML document: {name} must be true or false")
    return _BOOLEANS[text]


def _check_time(name: str, text: str | None) -> None:
    if text is None:
        return
    try:
        datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise Fault("Client", f"There is an error in XML document: {name} must be an XML date-time") from error


def _child_text(element: etree._Element, name: str) -> str | None:
    child = element.find(_tag(name))
    return None if child is None else child.text


def _tag(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"


def _envelope(namespace: str) -> tuple[etree._Element, etree._Element]:
    root = etree.Element(f"{{{namespace}}}Envelope", nsmap={"soap": namespace})
    return root, etree.SubElement(root, f"{{{namespace}}}Body")


def _to_bytes(root: etree._Element) -> bytes:
    return etree.tostring(root, xml_declaration=True, encoding="utf-8")
