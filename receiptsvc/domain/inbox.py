"""A kept callback: its channel and its outcome."""

from datetime import datetime
from enum import Enum, StrEnum
from typing import NamedTuple
from uuid import UUID

from receiptsvc.domain.messages import Callback
from receiptsvc.domain.statuses import Effect


class Channel(StrEnum):
    """The address that a callback came to."""

    MESSAGE = "message"  # the signed URL of one message
    ACCOUNT = "account"  # the static URL, for messages that another system sent
    INBOUND = "inbound"  # replies


class ReceiptOutcome(StrEnum):
    """Where a kept receipt stands; each has exactly one. What each means: see `meanings`."""

    PENDING = "pending"
    APPLIED = "applied"
    DUPLICATE = "duplicate"
    STALE = "stale"
    CONFLICTING = "conflicting"
    UNMAPPED = "unmapped"
    UNMATCHED = "unmatched"
    QUARANTINED = "quarantined"
    DEAD = "dead"
    DISMISSED = "dismissed"


# Of a receipt that was recorded: its transition tells them.
RECORDED = frozenset(ReceiptOutcome(effect.value) for effect in Effect)


class Arrival(NamedTuple):
    """A callback that is not stored yet. `id` is made on arrival, so that storing it twice stores it once."""

    id: UUID
    channel: Channel
    message_id: UUID | None  # of the signed URL that it came to
    received_at: datetime
    callback: Callback
    claimed_kid: str | None = None  # of a wrong key, empty if it has not the form of ours; None: the key was right

    @property
    def is_unauthenticated(self) -> bool:
        """Whether its key was wrong."""
        return self.claimed_kid is not None


class Kept(Enum):
    """Where a callback is safe."""

    IN_DATABASE = "database"
    IN_SPOOL = "spool"
