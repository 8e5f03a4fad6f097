"""The values that modules pass on: an outbound message, the result of sending it, a callback, a receipt, a reply.

They are immutable, and their times are aware.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageContent:
    """What its sender asked for of a message. This is the one list of these fields between the API and the gateway.

    The API's schemas, the table's columns and the transports each have names of their own for them; everything between
    passes on what derives from this class.
    """

    text: str
    originator: str | None = None
    client_ref: str | None = None  # without blanks at its ends; at most 64 UTF-16 code units
    country_iso_code: str | None = None  # ISO 3166-1 alpha-3
    deliver_after: datetime | None = None
    valid_until: datetime | None = None
    reject_unicode: bool = False
    include_message_text: bool = False
    filter_set_name: str | None = None
    impersonate_user_name: str | None = None
    additional_options: Mapping[str, str] = field(default_factory=dict)


CONTENT = tuple(each.name for each in fields(MessageContent))


def content_of(message: MessageContent) -> dict[str, Any]:
    """The content of a message by field."""
    return {name: getattr(message, name) for name in CONTENT}


@dataclass(frozen=True, kw_only=True, slots=True)
class NewMessage(MessageContent):
    """A message that is not stored yet: one text to one recipient."""

    id: UUID
    conversation_id: UUID
    created_by: str  # the name of the API key
    recipient: str  # international, digits only
    message_guid: str
    transport: str
    encoding: str
    segments: int
    warnings: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class OutboundMessage(MessageContent):
    """A message on its way to the gateway: one Message object on the wire."""

    id: UUID
    recipient: str  # international, digits only
    message_guid: str  # at most 36 characters
    callback_url: str


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


class Contact(StrEnum):
    """What is wrong with the gateway itself, as one call has found it."""

    UNREACHABLE = "unreachable"  # there was no connection
    UNCLEAR = "unclear"  # no whole answer came, or one that proves nothing
    WEB_PAGE = "web_page"  # a page for people came: its address may be wrong


@dataclass(frozen=True, slots=True)
class Amiss:
    """A call that found something wrong with the gateway itself. `text`: our own words, for logs and operators."""

    contact: Contact
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SendResult:
    """How a call ended for one message, and what the gateway answered.

    `is_of_credentials`: a refusal of our own credentials, and so of every account that uses them. `amiss`: what is
    wrong with the gateway itself, as far as this call shows; the same for all its messages.
    """

    outcome: SendOutcome
    is_of_credentials: bool = False
    transaction_id: str | None = None  # digits
    code: str | None = None
    description: str | None = None
    detail: str | None = None
    amiss: Amiss | None = None


class Receipt(NamedTuple):  # thousands are made every second: a tuple takes a third of a dataclass's time
    """The fields of a delivery receipt, as far as they could be read. None: absent."""

    transaction_id: str | None  # digits, no leading zeros
    recipient: str | None  # as it came
    client_ref: str | None  # without blanks at its ends
    status_id: str | None
    description: str | None
    occurred_at: datetime | None
    notes: tuple[str, ...] = ()  # what could not be read, as sentences
    is_local_time: bool = False  # its time named no zone, and was read in that of the setting


class Reply(NamedTuple):
    """The fields of an inbound message, as far as they could be read. None: absent."""

    msgid: str | None
    sender: str | None
    recipient: str | None
    content: str | None
    client_ref: str | None  # without blanks at its ends
    occurred_at: datetime | None
    notes: tuple[str, ...] = ()


class Callback(NamedTuple):
    """The bytes of a callback as they were kept, without our secrets."""

    method: str
    query: bytes
    content_type: str | None
    body: bytes
    content_encoding: str | None = None  # as it was declared; callbacks of earlier releases have none
