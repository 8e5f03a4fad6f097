"""Which messages and replies are one conversation."""

from hashlib import blake2b
from uuid import UUID

from receiptsvc.domain import numbers


def conversation_id(*, client_ref: str | None, recipient: str | None, originator: str | None) -> UUID:
    """The id of the conversation that shares a clientRef, else recipient and originator: a digest of these.

    `recipient`: as `numbers.fold` gives it.
    """
    parts = ("ref", client_ref) if client_ref else ("pair", recipient or "", numbers.fold(originator or ""))
    return UUID(bytes=blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest())
