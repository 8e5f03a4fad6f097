"""What becomes of a kept callback: its channel and its outcome."""

from enum import StrEnum


class Channel(StrEnum):
    """The address that a callback came to."""

    MESSAGE = "message"  # the signed URL of one message
    ACCOUNT = "account"  # the static URL, for messages that another system sent
    INBOUND = "inbound"  # replies


class InboxOutcome(StrEnum):
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
