"""A callback on its way into the inbox: its channel, and later its outcome."""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from receiptsvc.domain.messages import Callback


class Channel(StrEnum):
    """The address that a callback came to."""

    MESSAGE = "message"  # the signed URL of one message
    ACCOUNT = "account"  # the static URL, for messages that another system sent
    INBOUND = "inbound"  # replies


class ReceiptOutcome(StrEnum):
    """Where a kept callback stands. Each has exactly one."""

    PENDING = "pending"  # not yet worked on
    APPLIED = "applied"
    DUPLICATE = "duplicate"
    STALE = "stale"
    CONFLICTING = "conflicting"
    UNMAPPED = "unmapped"
    UNMATCHED = "unmatched"  # it belongs to no message that we know
    QUARANTINED = "quarantined"  # it can't be read, or contradicts itself
    DEAD = "dead"  # working on it failed again and again
    DISMISSED = "dismissed"  # an operator's word


class Arrival(NamedTuple):
    """A callback on its way into the inbox. `id` is made when it arrives, so that keeping it twice keeps it once."""

    id: UUID
    channel: Channel
    message_id: UUID | None  # whose signed URL it came to
    received_at: datetime
    callback: Callback
    is_unauthenticated: bool = False  # its key was wrong
