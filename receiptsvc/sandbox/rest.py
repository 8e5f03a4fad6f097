"""The send call by REST as JSON: what a request says, what the gateway would refuse in it, and the answers.

What is remembered from one call to the next is `gateway`'s.
"""

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from receiptsvc.sandbox import wire

TRANSPORT = "rest"
VALIDITY_SPELLINGS = ("validiUntil", "validUntil")  # the first is the reference's

_TEXTS = frozenset(
    {"to", "from", "body", "countryIsoCode", "deliverAfter", "clientRef", "deliveryStatusUrl", "filterSetName"}
    | {"impersonateUserName"}
)
_BAD_JSON = "ErrBadJson"  # the only failureKey that is documented
# property and failureCode by returnCode. But for ToInvalid they are the sandbox's own invention.
_FAILURES: Mapping[int, tuple[str, str]] = {
    201: ("to", "ToInvalid"),
    202: ("from", "FromInvalid"),
    203: ("body", "BodyEmpty"),
    204: ("clientRef", "ClientRefTooLong"),
    206: ("message", "TooManyMessages"),
    207: ("countryIsoCode", "CountryIsoCodeInvalid"),
    208: ("body", "BodyNotGsm"),
    210: ("to", "ToRefused"),
    211: ("message", "SpeaksOfLogin"),
}
_LOGON = 101
_LOCAL = re.compile(r"0?[1-9][0-9]{4,14}")
_GSM = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmnopqrstuvwxyzäöñüà\f^{}\\[~]|€"
)


class BadJson(Exception):
    """Nothing of the call was read. `faults`: property, details and failureKey of each reason."""

    def __init__(self, faults: Sequence[Mapping[str, str]]) -> None:
        self.faults = faults
        super().__init__(_BAD_JSON)


def logon(authorization: str | None) -> tuple[str, str] | None:
    """The name and password of an Authorization header; None where it holds none."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(token.strip(), validate=True).decode().partition(":")
    except ValueError:
        return None
    return (name, password) if colon else None


def parse(body: bytes, validity: str) -> tuple[wire.Message, ...]:
    """Read a request. `validity`: how validUntil is spelled. Raises BadJson for what is no such request."""
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        raise BadJson([_fault("message", "Unexpected character encountered while parsing value.")]) from None
    if not isinstance(given, list):
        raise BadJson([_fault("message", "Cannot deserialize the current JSON into an array.")])
    faults = [fault for place, each in enumerate(given) for fault in _faults(place, each, validity)]
    if faults:
        raise BadJson(faults)
    return tuple(map(_message, given))


def refusal(message: wire.Message) -> wire.Refusal | None:
    """What the documented limits say against a message, or None."""
    country = message.fields.get("countryIsoCode")
    if country is not None and not re.fullmatch("[A-Z]{3}", country):
        return wire.Refusal(code=207, detail="countryIsoCode: three capital letters")
    if message.fields.get("rejectUnicode") == "true" and not _GSM.issuperset(message.text):
        return wire.Refusal(code=208, detail="body: characters outside the GSM set")
    return wire.refusal(message, wire.INTERNATIONAL if country is None else _LOCAL)


def answer(results: Iterable[wire.Result]) -> tuple[int, bytes]:
    """Status and body with one item a result: 200, or 202 where any is refused, which is the sandbox's invention."""
    items = [_item(result) for result in results]
    has_refused = any("failureDescription" in item or item.get("successful") is False for item in items)
    return 202 if has_refused else 200, json.dumps(items).encode()


def bad_json(bad: BadJson) -> bytes:
    """The body of the 400 for a call of which nothing was read."""
    return json.dumps(list(bad.faults)).encode()


def _faults(place: int, given: Any, validity: str) -> list[Mapping[str, str]]:
    if not isinstance(given, dict):
        return [_fault(f"message[{place}]", f"Error converting value to type 'Message'. Path '[{place}]'.")]
    faults = []
    for name, value in given.items():
        path = f"[{place}].{name}"
        if name not in _TEXTS | {"rejectUnicode", validity}:
            words = f"Could not find member '{name}' on object of type 'Message'. Path '{path}'."
            faults.append(_fault(f"message{path}", words))
        elif value is not None and not _fits(name, value, validity):
            faults.append(_fault(f"message{path}", f"Could not convert the value. Path '{path}'."))
    return faults


def _fits(name: str, value: object, validity: str) -> bool:
    if name == "rejectUnicode":
        return isinstance(value, bool)
    if not isinstance(value, str):
        return False
    if name in {"deliverAfter", validity}:
        try:
            datetime.fromisoformat(value)
        except ValueError:
            return False
    return True


def _fault(name: str, details: str) -> Mapping[str, str]:
    return {"property": name, "details": details, "failureKey": _BAD_JSON}


def _message(given: Mapping[str, Any]) -> wire.Message:
    said = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in given.items()
        if value is not None
    }
    recipient, url = said.pop("to", ""), said.pop("deliveryStatusUrl", "").strip()
    return wire.Message(
        transport=TRANSPORT,
        recipients=(recipient,) if recipient else (),
        text=said.pop("body", ""),
        originator=said.pop("from", None),
        client_ref=said.pop("clientRef", None),
        message_guid=None,
        callback_urls={"deliveryStatusUrl": url} if url else {},
        forward_sent=False,
        include_text=False,
        fields=said,
    )


def _item(result: wire.Result) -> dict[str, Any]:
    if result.recipients is None:
        return {}
    to = {"to": result.recipients[0]} if result.recipients else {}
    code = int(result.code or 0)
    if code == _LOGON:
        return {"failureDescription": wire.LOGON_REFUSED}
    if not code:
        return {**to, "successful": True, "validationFailures": []}
    name, key = _FAILURES[code]
    failure = {"property": name, "failureCode": key, "details": result.detail}
    return {**to, "successful": False, "validationFailures": [failure]}
