"""The send call by REST: parses a request, finds what the gateway would refuse, and writes the answers.

The state between calls is in `gateway`.
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
# property and failureCode by returnCode. Except for ToInvalid they are the sandbox's own invention.
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
    """The call can't be read, and nothing of it is taken. `faults`: property, details and failureKey of each."""

    def __init__(self, faults: Sequence[Mapping[str, str]]) -> None:
        self.faults = faults
        super().__init__(_BAD_JSON)


def logon(authorization: str | None) -> tuple[str, str] | None:
    """The name and password of an Authorization header; None if it has none."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(token.strip(), validate=True).decode().partition(":")
    except ValueError:
        return None
    return (name, password) if colon else None


def parse(body: bytes, validity: str) -> tuple[wire.Message, ...]:
    """Parse a request. `validity`: the spelling of validUntil. Raises BadJson with every fault."""
    try:
        items = json.loads(body)
    except (ValueError, RecursionError):
        raise BadJson([_fault("message", "Unexpected character encountered while parsing value.")]) from None
    if not isinstance(items, list):
        raise BadJson([_fault("message", "Cannot deserialize the current JSON into an array.")])
    faults = [fault for index, item in enumerate(items) for fault in _find_faults(index, item, validity)]
    if faults:
        raise BadJson(faults)
    return tuple(map(_parse_message, items))


def refusal(message: wire.Message) -> wire.Refusal | None:
    """Why a message breaks the documented limits; None if it keeps them."""
    country = message.fields.get("countryIsoCode")
    if country is not None and not re.fullmatch("[A-Z]{3}", country):
        return wire.Refusal(code=207, detail="countryIsoCode: three capital letters")
    if message.fields.get("rejectUnicode") == "true" and not _GSM.issuperset(message.text):
        return wire.Refusal(code=208, detail="body: characters outside the GSM set")
    return wire.refusal(message, wire.INTERNATIONAL if country is None else _LOCAL)


def answer(results: Iterable[wire.Result]) -> tuple[int, bytes]:
    """Status and body with one item a result: 200, or 202 if any is refused, which is the sandbox's invention."""
    items = [_write_item(result) for result in results]
    has_refused = any("failureDescription" in item or item.get("successful") is False for item in items)
    return 202 if has_refused else 200, json.dumps(items).encode()


def bad_json(bad: BadJson) -> bytes:
    """The body of the 400 for a call that can't be read."""
    return json.dumps(list(bad.faults)).encode()


def _find_faults(index: int, item: Any, validity: str) -> list[Mapping[str, str]]:
    if not isinstance(item, dict):
        return [_fault(f"message[{index}]", f"Error converting value to type 'Message'. Path '[{index}]'.")]
    faults = []
    for name, value in item.items():
        path = f"[{index}].{name}"
        if name not in _TEXTS | {"rejectUnicode", validity}:
            details = f"Could not find member '{name}' on object of type 'Message'. Path '{path}'."
            faults.append(_fault(f"message{path}", details))
        elif value is not None and not _has_right_type(name, value, validity):
            faults.append(_fault(f"message{path}", f"Could not convert the value. Path '{path}'."))
    return faults


def _has_right_type(name: str, value: object, validity: str) -> bool:
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


def _parse_message(item: Mapping[str, Any]) -> wire.Message:
    fields = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in item.items()
        if value is not None
    }
    recipient, url = fields.pop("to", ""), fields.pop("deliveryStatusUrl", "").strip()
    return wire.Message(
        transport=TRANSPORT,
        recipients=(recipient,) if recipient else (),
        text=fields.pop("body", ""),
        originator=fields.pop("from", None),
        client_ref=fields.pop("clientRef", None),
        message_guid=None,
        callback_urls={"deliveryStatusUrl": url} if url else {},
        forward_sent=False,
        include_text=False,
        fields=fields,
    )


def _write_item(result: wire.Result) -> dict[str, Any]:
    if result.recipients is None:
        return {}
    to = {"to": result.recipients[0]} if result.recipients else {}
    code = int(result.code or 0)
    if code == _LOGON:
        return {"failureDescription": wire.LOGON_REFUSED}
    if not code:
        return {**to, "successful": True, "validationFailures": []}
    name, failure_code = _FAILURES[code]
    failure = {"property": name, "failureCode": failure_code, "details": result.detail}
    return {**to, "successful": False, "validationFailures": [failure]}
