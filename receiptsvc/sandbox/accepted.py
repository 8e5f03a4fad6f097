"""A message that the simulated gateway took, as it is remembered and as /sandbox/messages shows it."""

from dataclasses import dataclass, field
from datetime import datetime

from receiptsvc.sandbox import wire


@dataclass(kw_only=True, slots=True)
class Accepted:
    """One message to one recipient. `calls`: the callbacks made for it so far."""

    message: wire.Message
    recipient: str
    transaction_id: int
    guid: str | None  # None: by REST, which has none
    callback_url: str | None  # from the spelling of the element that was understood
    at: datetime
    behaviours: tuple[str, ...]
    planned: tuple[str, ...]  # keys of `behaviour.STATUSES`, in their order of arrival
    calls: list[dict[str, object]] = field(default_factory=list)

    def described(self) -> dict[str, object]:
        """As JSON, with the gateway's own names where it has them."""
        return {
            "transport": self.message.transport,
            "transactionID": str(self.transaction_id),
            "recipient": self.recipient,
            "originator": self.message.originator,
            "text": self.message.text,
            "clientRef": self.message.client_ref,
            "messageGuid": self.guid,
            "callbackUrl": self.callback_url,
            "callbackElements": sorted(self.message.callback_urls),
            "forwardSubmissionDeliveryStatus": self.message.forward_sent,
            "includeMessageTextInDeliveryStatus": self.message.include_text,
            "fields": dict(self.message.fields),
            "acceptedAt": self.at.isoformat(timespec="milliseconds"),
            "behaviours": list(self.behaviours),
            "planned": list(self.planned),
            "callbacks": list(self.calls),
        }
