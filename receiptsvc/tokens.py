"""The signed tokens in our callback URLs, and the keys of the static ones; checked in constant time, without a store.

A token is only `0-9a-z`: 32 hexadecimal digits of the message's id (absent where there is no message), 32 of MAC
(128 bits), then the key's kid. Any key that is still listed verifies; the first one signs. So the tokens of messages
and the key of the static receipts address, which may stand in the same place, have different lengths.
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
_NOTHING = bytes(_MAC_BYTES)
_FORM = re.compile(r"([0-9a-f]{32})?[0-9a-f]{32}([0-9a-z]{1,8})")


@dataclass(frozen=True, slots=True)
class StaticUrls:
    """The addresses for the gateway's portal, the same for every message. They hold secrets."""

    receipts: str
    inbound: str


class Claim(NamedTuple):
    """What a token says of itself, whoever made it."""

    kid: str
    has_message: bool


def receipt_url(settings: Settings, message_id: UUID) -> str:
    """Where the receipts of one message are to go: at most 200 characters."""
    key = settings.callback_keys[0]
    token = message_id.hex + _signature(key, "receipts", message_id.bytes)
    return f"{settings.public_url}{RECEIPTS}/{token}"


def static_urls(settings: Settings) -> StaticUrls:
    """Where receipts of messages that others sent, and replies, are to go."""
    key = settings.callback_keys[0]
    return StaticUrls(
        receipts=f"{settings.public_url}{RECEIPTS}/{account_key(key)}",
        inbound=f"{settings.public_url}{INBOUND}/{_signature(key, 'inbound', b'')}",
    )


def message_of(keys: Sequence[CallbackKey], token: str) -> UUID | None:
    """The message whose receipts may come to this token; None if no listed key signed it."""
    token = token.lower()
    message_id = _bytes_of(token[:_DIGITS])
    # A malformed id is checked like any other, so that nothing can be learnt from the time that it takes.
    signed = _is_signed(keys, "receipts", message_id or _NOTHING, token[_DIGITS:])
    return UUID(bytes=message_id) if signed and message_id is not None else None


def opens_inbound(keys: Sequence[CallbackKey], token: str) -> bool:
    """Whether replies may come to this token."""
    return _is_signed(keys, "inbound", b"", token.lower())


def opens_account(keys: Sequence[CallbackKey], given: str) -> bool:
    """Whether this is the key of the static receipts address, in whichever way it was given."""
    return _is_signed(keys, "account", b"", given.lower())


def claim(token: str) -> Claim | None:
    """What a token claims; None if it has not the form of one of ours."""
    found = _FORM.fullmatch(token.lower())
    return Claim(kid=found[2], has_message=found[1] is not None) if found else None


def account_key(key: CallbackKey) -> str:
    """The key of the static receipts address: derived, so that the signing secret stays here."""
    return _signature(key, "account", b"")


def _signature(key: CallbackKey, purpose: str, data: bytes) -> str:
    return _mac(key, purpose, data).hex() + key.kid


def _is_signed(keys: Sequence[CallbackKey], purpose: str, data: bytes, given: str) -> bool:
    mac, kid = _bytes_of(given[:_DIGITS]) or b"", given[_DIGITS:].encode()
    is_signed = False
    for key in keys:  # all of them, always
        is_signed |= hmac.compare_digest(_mac(key, purpose, data), mac) & hmac.compare_digest(key.kid.encode(), kid)
    return is_signed


def _mac(key: CallbackKey, purpose: str, data: bytes) -> bytes:
    # Keyed BLAKE2 is a MAC by itself (RFC 7693), and one call of it costs a tenth of what HMAC does.
    return blake2b(data, digest_size=_MAC_BYTES, key=_subkey(key, purpose)).digest()


def _bytes_of(digits: str) -> bytes | None:
    """The 16 bytes that these hexadecimal digits stand for; None if they are none."""
    try:
        data = bytes.fromhex(digits)
    except ValueError:
        return None
    return data if len(digits) == _DIGITS and len(data) == _MAC_BYTES else None  # blanks are skipped, not counted


_subkey = lru_cache(maxsize=64)(subkey)
