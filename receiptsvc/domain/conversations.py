"""Which messages and replies are one conversation."""

from hashlib import blake2b
from uuid import UUID

from receiptsvc.domain import numbers, references


def ids_of_client_ref(client_ref: str) -> list[UUID]:
    """The ids that the conversation of a clientRef may have: an old one may be that of the clientRef untrimmed."""
    spellings = references.client_ref_spellings(client_ref)
    return [conversation_id(client_ref=each, recipient=None, originator=None) for each in spellings]


def conversation_id(*, client_ref: str | None, recipient: str | None, originator: str | None) -> UUID:
    """The id of the conversation that shares a clientRef, else recipient and originator: a digest of these.

    `recipient`: as `numbers.fold` gives it.
    """
    parts = ("ref", client_ref) if client_ref else ("pair", recipient or "", numbers.fold(originator or ""))
    return UUID(bytes=blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest())
