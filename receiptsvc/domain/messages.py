"""The values that modules pass on: an outbound message, the result of sending it, a callback, a receipt, a reply.

They are immutable, and their times are aware.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class OutboundMessage:
    """One text to one recipient: one Message object on the wire."""

    id: UUID
    recipient: str  # international, digits only
    text: str
    message_guid: str  # at most 36 characters
    callback_url: str
    originator: str | None = None
    client_ref: str | None = None  # at most 64 characters
    country_iso_code: str | None = None  # ISO 3166-1 alpha-3
    deliver_after: datetime | None = None
    valid_until: datetime | None = None
    reject_unicode: bool = False
    include_message_text: bool = False
    filter_set_name: str | None = None
    impersonate_user_name: str | None = None
    additional_options: Mapping[str, str] = field(default_factory=dict)


class Origin(StrEnum):
    """Who gave a message to the gateway."""

    OWN = "own"  # we did, or will
    EXTERNAL = "external"  # another system on the same account; only its receipts are known here


class SendOutcome(StrEnum):
    """How a call ended for one message. There are no other ends."""

    TAKEN = "taken"  # the gateway has it
    REFUSED = "refused"  # the gateway refused this message: final
    NOT_SENT = "not_sent"  # nothing reached the gateway, or it asked for a retry: send it again
    UNCLEAR = "unclear"  # the gateway may have it: never send it again without the same guid
    ACCOUNT_REFUSED = "account_refused"  # the account was refused: nothing was sent, hold all that goes out by it
    # The words of a refused logon, or a 403: the account may be refused, or this call alone. See `domain.accounts`.
    SUSPECT_REFUSED = "suspect_refused"  # this message was refused so: it was not sent
    SUSPECT_UNCLEAR = "suspect_unclear"  # the call ended so: this message may have been sent


@dataclass(frozen=True, kw_only=True, slots=True)
class SendResult:
    """How a call ended for one message, and what the gateway answered.

    `is_of_credentials`: a refusal of our own credentials, and so of every account that uses them.
    """

    outcome: SendOutcome
    is_of_credentials: bool = False
    transaction_id: str | None = None  # digits
    code: str | None = None
    description: str | None = None
    detail: str | None = None


class Receipt(NamedTuple):  # thousands are made every second: a tuple takes a third of a dataclass's time
    """The fields of a delivery receipt, as far as they could be read. None: absent."""

    transaction_id: str | None  # digits, no leading zeros
    recipient: str | None  # as it came
    client_ref: str | None  # as it came
    status_id: str | None
    description: str | None
    occurred_at: datetime | None
    notes: tuple[str, ...] = ()  # what could not be read, as sentences


class Reply(NamedTuple):
    """The fields of an inbound message, as far as they could be read. None: absent."""

    msgid: str | None
    sender: str | None
    recipient: str | None
    content: str | None
    client_ref: str | None
    occurred_at: datetime | None
    notes: tuple[str, ...] = ()


class Callback(NamedTuple):
    """The bytes of a callback as they were kept, without our secrets."""

    method: str
    query: bytes
    content_type: str | None
    body: bytes
