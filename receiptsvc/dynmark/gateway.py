"""What every transport to the gateway can do, and how all of them write a time."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from receiptsvc.domain.messages import OutboundMessage, SendResult


class Gateway(Protocol):
    """A way to give messages to the gateway."""

    def send(
        self, messages: Sequence[OutboundMessage], *, repeats: frozenset[UUID] = frozenset()
    ) -> Mapping[UUID, SendResult]:
        """Offer `messages` (no two to the same recipient) in one call; one result for each, by the message's id.

        `repeats`: which of them may have been taken before; on those a returnCode is no refusal unless a setting says
        so. Never raises for what a gateway or a network can do: each end of a call is a result.
        """
        ...


def wire_time(at: datetime) -> str:
    """An aware time as either transport carries it, in UTC: an XML date-time is an ISO 8601 one too."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
