"""Server-sent events: the filters of a stream, and each event's name and data."""

import json
from collections.abc import Callable

import marshmallow as ma
from marshmallow import fields

from receiptsvc.store.messages import change_feed as store
from receiptsvc.store.messages.change_feed import Event, FeedPosition
from receiptsvc.web.http import fields as kinds
from receiptsvc.web.schemas.base import Request, Schema, about
from receiptsvc.web.schemas.messages import STATUSES
from receiptsvc.web.schemas.replies import Reply

_EVENT_ID = "000000001234.017"
SAMPLE = (
    f'id: {_EVENT_ID}\nevent: status\ndata: {{"id":"msg_01k8z3r5t6e8vbyq0h4n2m7c9d","recipient":"447700900000",'
    '"clientRef":"order/1234","originator":"ACME","status":"delivered","previousStatus":"sent",'
    '"statusAt":"2026-01-31T09:30:04.120000Z","transactionID":"1234567",'
    '"conversationId":"cnv_4fzzzz2n7q0c8w5kx1r9m3t6vb"}'
)
_EVENT_ID_PATTERN = r"^[0-9]{12}\.[0-9]{3}$"


def _read_event_id(text: str) -> FeedPosition:
    position = store.parse_position(text)
    if position is None:
        raise ma.ValidationError(f"Must be the id of an event, as it was given: such as {_EVENT_ID}.")
    return position


def _read_header(text: str) -> FeedPosition | None:
    return _read_event_id(text) if text else None  # the standard sends an empty id before the first event


def _last_event_id(
    name: str, read: Callable[[str], FeedPosition | None], pattern: str
) -> kinds.Coded[FeedPosition | None]:
    description = (
        "The id of the last event that you have; the stream continues after it. 410: not every event after it is "
        "kept, or it is not from here; start without it, and then read the present state from the lists."
    )
    return kinds.Coded(data_key=name, read=read, metadata=about(description, _EVENT_ID, pattern=pattern, type="string"))


class EventHeaders(Request):
    """Where a stream continues.

    Not a parameter for OpenAPI: generators of clients would make one name of this and of lastEventId.
    """

    IS_PARAMETER = False

    last_event_id = _last_event_id("Last-Event-ID", _read_header, f"^$|{_EVENT_ID_PATTERN}")


class EventQuery(Request):
    """Which events to give: those that fit every filter. A reply has the attributes of the message it answers."""

    client_ref = kinds.client_ref(metadata=about("The message's or the reply's clientRef.", "order/1234"))
    transaction_id = kinds.transaction_id(
        data_key="transactionID", metadata=about("Any transactionID that the message was ever given.", "1234567")
    )
    recipient = kinds.phone_number(
        metadata=about("The message's recipient or the reply's sender, in any usual writing.", "+44 7700 900000")
    )
    statuses = kinds.Choices(
        STATUSES,
        data_key="status",
        metadata=about(
            "The message's new status, one of these, repeated or separated by commas; then no replies are given.",
            ["undelivered"],
        ),
    )
    originator = kinds.text(max_length=16, metadata=about("The sender, exactly as it was given.", "ACME"))
    last_event_id = _last_event_id("lastEventId", _read_event_id, _EVENT_ID_PATTERN)
    positions = kinds.query_flag(
        load_default=False,
        metadata=about(
            "Whether to tell where the stream stands by events, `event: position`, and not by comments.", True
        ),
    )


class StatusEvent(Schema):
    """`event: status`: a message is new, or its status has changed."""

    id = kinds.public_id("msg", metadata=about("The message's id.", "msg_01k8z3r5t6e8vbyq0h4n2m7c9d"))
    recipient = fields.String(metadata=about("The number it goes to.", "447700900000"))
    client_ref = fields.String(allow_none=True, metadata=about("Your own reference.", "order/1234"))
    originator = fields.String(allow_none=True, metadata=about("The sender shown.", "ACME"))
    status = fields.String(metadata=about("Its new status.", "delivered", enum=STATUSES))
    previous_status = fields.String(
        allow_none=True, metadata=about("Its status before; null: it is new.", "sent", enum=[*STATUSES, None])
    )
    status_at = kinds.moment(metadata=about("Since when it has this status.", "2026-01-31T09:30:04.120000Z"))
    transaction_id = fields.String(
        data_key="transactionID", allow_none=True, metadata=about("The id that the gateway gave last.", "1234567")
    )
    conversation_id = kinds.public_id(
        "cnv", metadata=about("The conversation that it belongs to.", "cnv_4fzzzz2n7q0c8w5kx1r9m3t6vb")
    )


class ReplyEvent(Reply):
    """`event: reply`: a reply was received."""


EVENTS = (StatusEvent, ReplyEvent)

_STATUS, _REPLY = StatusEvent(), ReplyEvent()


def write(event: Event) -> tuple[str, str]:
    """The event's name, and its data as JSON on one line."""
    if isinstance(event, store.StatusChange):
        return "status", json.dumps(_STATUS.dump(event), separators=(",", ":"))
    return "reply", json.dumps(_REPLY.dump(event), separators=(",", ":"))
