"""The interface of every transport to the gateway, and the time format that they share."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from receiptsvc.domain.messages import OutboundMessage, SendResult


class Gateway(Protocol):
    """A transport that gives messages to the gateway."""

    def send(
        self, messages: Sequence[OutboundMessage], *, repeats: frozenset[UUID] = frozenset()
    ) -> Mapping[UUID, SendResult]:
        """Offer `messages` (no two to the same recipient) in one call; one result for each, by the message's id.

        `repeats`: those that may have been taken before; for them a returnCode is not a refusal unless RETURN_CODES
        says so. Never raises for what a gateway or network can do: every end of a call is a result.
        """
        ...


def wire_time(at: datetime) -> str:
    """An aware time in UTC as both transports write it: XML's dateTime is ISO 8601 too."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
