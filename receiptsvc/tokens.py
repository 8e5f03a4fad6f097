"""The signed tokens in our callback URLs, and the keys of the static ones; checked in constant time, without a store.

A token is only `0-9a-z`: 26 characters of the message's id (absent where there is no message), 26 of MAC (128 bits),
then the key's kid. Any key that is still listed verifies; the first one signs.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from receiptsvc import ids
from receiptsvc.config import Settings
from receiptsvc.keys import CallbackKey, subkey

RECEIPTS = "/callbacks/receipts"
INBOUND = "/callbacks/inbound"

_MAC_BYTES = 16


@dataclass(frozen=True, slots=True)
class StaticUrls:
    """The addresses for the gateway's portal, the same for every message. They hold secrets."""

    receipts: str
    inbound: str


def receipt_url(settings: Settings, message_id: UUID) -> str:
    """Where the receipts of one message are to go: at most 200 characters."""
    key = settings.callback_keys[0]
    token = ids.to_text(message_id) + _mac(key, "receipts", message_id.bytes) + key.kid
    return f"{settings.public_url}{RECEIPTS}/{token}"


def static_urls(settings: Settings) -> StaticUrls:
    """Where receipts of messages that others sent, and replies, are to go."""
    key = settings.callback_keys[0]
    return StaticUrls(
        receipts=f"{settings.public_url}{RECEIPTS}?key={account_key(key)}",
        inbound=f"{settings.public_url}{INBOUND}/{_mac(key, 'inbound', b'')}{key.kid}",
    )


def message_of(keys: Sequence[CallbackKey], token: str) -> UUID | None:
    """The message whose receipts may come to this token; None if no listed key signed it."""
    token = token.lower()
    message_id = ids.from_text(token[: ids.LENGTH])
    # A malformed id is checked like any other, so that nothing can be learnt from the time that it takes.
    signed = _is_signed(keys, "receipts", (message_id or UUID(int=0)).bytes, token[ids.LENGTH :])
    return message_id if signed else None


def opens_inbound(keys: Sequence[CallbackKey], token: str) -> bool:
    """Whether replies may come to this token."""
    return _is_signed(keys, "inbound", b"", token.lower())


def opens_account(keys: Sequence[CallbackKey], given: str) -> bool:
    """Whether this is the key of the static receipts address."""
    return _equals_one([account_key(key) for key in keys], given)


def account_key(key: CallbackKey) -> str:
    """The key of the static receipts address: derived, so that the signing secret stays here."""
    return _mac(key, "account", b"") + key.kid


def _is_signed(keys: Sequence[CallbackKey], purpose: str, data: bytes, given: str) -> bool:
    return _equals_one([_mac(key, purpose, data) + key.kid for key in keys], given)


def _equals_one(expected: Sequence[str], given: str) -> bool:
    matches = [hmac.compare_digest(one.encode(), given.encode()) for one in expected]  # all of them, always
    return any(matches)


def _mac(key: CallbackKey, purpose: str, data: bytes) -> str:
    digest = hmac.new(subkey(key, purpose), data, hashlib.sha256).digest()
    return ids.base32(digest[:_MAC_BYTES])
