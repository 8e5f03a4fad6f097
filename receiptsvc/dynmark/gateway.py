"""What every transport to the gateway can do, and which one a setting names."""

from collections.abc import Mapping, Sequence
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
