"""The signed tokens in our callback URLs, and the keys of the static ones; checked in constant time, without a store.

A token is only `0-9a-z`: 32 hexadecimal digits of the message's id (absent where there is no message), 32 of MAC
(128 bits), then the key's kid. Any key that is still listed verifies; the first one signs. The tokens of messages and
the key of the static receipts address may stand at the same place of a URL; they differ in length.
"""

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple
from uuid import UUID

from receiptsvc.config import Settings
from receiptsvc.keys import CallbackKey, subkey

RECEIPTS = "/callbacks/receipts"
INBOUND = "/callbacks/inbound"

_MAC_BYTES = 16
_DIGITS = 2 * _MAC_BYTES  # of a MAC, and of an id
_NO_MESSAGE = bytes(_MAC_BYTES)
_FORM = re.compile(r"([0-9a-f]{32})?[0-9a-f]{32}([0-9a-z]{1,8})")


@dataclass(frozen=True, slots=True)
class StaticUrls:
    """The URLs to set in the gateway's portal, the same for every message. They hold secrets."""

    receipts: str
    inbound: str


class Claim(NamedTuple):
    """What a token says about itself, verified or not."""

    kid: str
    has_message: bool


def receipt_url(settings: Settings, message_id: UUID) -> str:
    """The callback URL for the receipts of one message: at most 200 characters."""
    key = settings.callback_keys[0]
    token = message_id.hex + _signature(key, "receipts", message_id.bytes)
    return f"{settings.public_url}{RECEIPTS}/{token}"


def static_urls(settings: Settings) -> StaticUrls:
    """The callback URLs for replies, and for receipts of messages that other systems sent."""
    key = settings.callback_keys[0]
    return StaticUrls(
        receipts=f"{settings.public_url}{RECEIPTS}/{account_key(key)}",
        inbound=f"{settings.public_url}{INBOUND}/{_signature(key, 'inbound', b'')}",
    )


def message_of(keys: Sequence[CallbackKey], token: str) -> UUID | None:
    """The message that this token was signed for; None if no listed key signed it."""
    token = token.lower()
    message_id = _parse_hex(token[:_DIGITS])
    # A malformed id is checked like any other, so that the time of a check reveals nothing.
    signed = _is_signed(keys, "receipts", message_id or _NO_MESSAGE, token[_DIGITS:])
    return UUID(bytes=message_id) if signed and message_id is not None else None


def opens_inbound(keys: Sequence[CallbackKey], token: str) -> bool:
    """Whether this is the token of the inbound address."""
    return _is_signed(keys, "inbound", b"", token.lower())


def opens_account(keys: Sequence[CallbackKey], candidate: str) -> bool:
    """Whether this is the key of the static receipts address. Upper and lower case are the same."""
    return _is_signed(keys, "account", b"", candidate.lower())


def claim(token: str) -> Claim | None:
    """What a token claims; None if it does not have the form of our tokens."""
    match = _FORM.fullmatch(token.lower())
    return Claim(kid=match[2], has_message=match[1] is not None) if match else None


def kid_of(token: str, *, has_message: bool = False) -> str:
    """The kid of the key that signed a token, or a static key, that was verified."""
    return token[_DIGITS * (1 + has_message) :].lower()


def account_key(key: CallbackKey) -> str:
    """The key of the static receipts address. It is derived, so that the signing secret never leaves the service."""
    return _signature(key, "account", b"")


def _signature(key: CallbackKey, purpose: str, data: bytes) -> str:
    return _mac(key, purpose, data).hex() + key.kid


def _is_signed(keys: Sequence[CallbackKey], purpose: str, data: bytes, signature: str) -> bool:
    mac, kid = _parse_hex(signature[:_DIGITS]) or b"", signature[_DIGITS:].encode()
    is_signed = False
    for key in keys:  # always all of them: constant time
        is_signed |= hmac.compare_digest(_mac(key, purpose, data), mac) & hmac.compare_digest(key.kid.encode(), kid)
    return is_signed


def _mac(key: CallbackKey, purpose: str, data: bytes) -> bytes:
    # Keyed BLAKE2 is itself a MAC (RFC 7693), and costs a tenth of an HMAC.
    return blake2b(data, digest_size=_MAC_BYTES, key=_subkey(key, purpose)).digest()


def _parse_hex(digits: str) -> bytes | None:
    """The 16 bytes of these hexadecimal digits; None for any other text."""
    try:
        data = bytes.fromhex(digits)
    except ValueError:
        return None
    return data if len(digits) == _DIGITS and len(data) == _MAC_BYTES else None  # fromhex() skips blanks


_subkey = lru_cache(maxsize=64)(subkey)
