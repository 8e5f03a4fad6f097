"""Messages as the API gives them, and how to ask for them."""

import json
from collections.abc import Sequence
from typing import Any

from marshmallow import fields, validate

from receiptsvc.domain.encoding import Encoding
from receiptsvc.domain.statuses import Effect, Status
from receiptsvc.store import models as store
from receiptsvc.store.queries import MOST_ROWS
from receiptsvc.web import context
from receiptsvc.web import fields as kinds
from receiptsvc.web.schemas.base import Request, Schema, about

STATUSES = [status.value for status in Status]

_A_PIECE = 100  # messages


class Message(Schema):
    """One text to one recipient, and where it stands."""

    id = kinds.public_id("msg", metadata=about("The message's id.", "msg_01k8z3r5t6e8vbyq0h4n2m7c9d"))
    recipient = fields.String(metadata=about("Whom it goes to: international, digits only.", "447700900000"))
    client_ref = fields.String(
        allow_none=True, metadata=about("Your own reference; it names the conversation.", "order/1234")
    )
    originator = fields.String(
        allow_none=True, metadata=about("The sender shown; null: the account's default number.", "ACME")
    )
    status = fields.String(metadata=about("Where it stands, as far as is known.", "delivered", enum=STATUSES))
    transaction_id = fields.String(
        data_key="transactionID",
        allow_none=True,
        metadata=about("The id that the gateway gave last; null: none yet.", "1234567"),
    )
    encoding = fields.String(
        metadata=about("The alphabet that the text needs.", "GSM", enum=[word.value for word in Encoding])
    )
    segments = fields.Integer(metadata=about("In how many parts it travels; each is paid for.", 1))
    warnings = fields.List(fields.String(), metadata=about("What you should know before this gets dear.", []))
    created_at = kinds.moment(metadata=about("When it was accepted.", "2026-01-31T09:30:00.000000Z"))
    status_at = kinds.moment(metadata=about("Since when the status holds.", "2026-01-31T09:30:04.120000Z"))
    conflict = fields.Boolean(metadata=about("Whether the gateway's reports hold more than one final word.", False))
    url = kinds.Coded(
        attribute="id",
        dump_only=True,
        write=context.message_url,
        metadata=about("Where it can be read.", "https://example.com/v1/messages/msg_01k8", type="string"),
    )


class Transition(Schema):
    """Something recorded of a message: a report of the gateway, or a step of our own."""

    status = fields.String(
        allow_none=True, metadata=about("The word; null: none is known for the code.", "sent", enum=[*STATUSES, None])
    )
    effect = fields.String(
        metadata=about("What it did when it was recorded.", "applied", enum=[word.value for word in Effect])
    )
    rule = fields.String(metadata=about("How it found its message, or which step of ours it is.", "accepted"))
    reason = fields.String(allow_none=True, metadata=about("Why, where somebody gave a reason.", None))
    source = fields.String(metadata=about("Who said it.", "gateway", enum=["gateway", "ourselves"]))
    provider_status_id = fields.String(allow_none=True, metadata=about("The gateway's code, as it came.", "4"))
    provider_description = fields.String(allow_none=True, metadata=about("The gateway's words.", "Delivered"))
    occurred_at = kinds.moment(
        allow_none=True, metadata=about("The gateway's time; null: it gave none.", "2026-01-31T09:30:04.120000Z")
    )
    received_at = kinds.moment(metadata=about("When it reached us.", "2026-01-31T09:30:05.310000Z"))
    recorded_at = kinds.moment(metadata=about("When it was recorded.", "2026-01-31T09:30:05.420000Z"))
    receipt_id = kinds.public_id(
        "rcp", allow_none=True, metadata=about("The receipt that said it; null: a step of our own.", None)
    )


class MessageStory(Message):
    """A message with its text and everything that was recorded of it."""

    conversation_id = kinds.public_id(
        "cnv", metadata=about("The conversation that it belongs to.", "cnv_4fzzzz2n7q0c8w5kx1r9m3t6vb")
    )
    text = fields.String(metadata=about("What it says.", "Your parcel arrives today."))
    transitions = fields.List(
        fields.Nested(Transition), metadata=about("What was recorded, in the order in which it was.")
    )


class MessageQuery(Request):
    """Which messages to list: those that fit every filter."""

    client_ref = kinds.words(most=64, metadata=about("Your reference.", "order/1234"))
    transaction_id = kinds.transaction_id(
        data_key="transactionID", metadata=about("Any transactionID that a message was ever given.", "1234567")
    )
    recipient = kinds.phone_number(metadata=about("Whom it went to, in any usual writing.", "+44 7700 900000"))
    status = fields.String(
        validate=validate.OneOf(STATUSES), metadata=about("Where it stands now.", "undelivered", enum=STATUSES)
    )
    originator = kinds.words(most=16, metadata=about("The sender, exactly as it was given.", "ACME"))
    since = kinds.query_moment(metadata=about("Created at this time or later.", "2026-01-31T00:00:00Z"))
    until = kinds.query_moment(metadata=about("Created before this time.", "2026-02-01T00:00:00Z"))
    limit = fields.Integer(
        load_default=100, validate=validate.Range(1, MOST_ROWS), metadata=about("How many at most.", 100)
    )
    cursor = kinds.message_cursor(metadata=about("The nextCursor of the page before."))


class MessagePage(Schema):
    """Some messages, the newest first."""

    items = fields.List(fields.Nested(Message), metadata=about("The messages."))
    next_cursor = kinds.message_cursor(
        attribute="next", allow_none=True, metadata=about("Ask with it for the next page; null: this is the last.")
    )


class Accepted(Schema):
    """The messages that were accepted, one a recipient, in the order of the request."""

    messages = fields.List(fields.Nested(Message), metadata=about("The messages."))


def write_accepted(messages: Sequence[store.Message]) -> str:
    """What `Accepted` gives of new messages (at least one), as JSON, and faster: most values are the same in all.

    It is written piece by piece, because while one is written no other thread gets its turn.
    """
    named = [(str(field.data_key), name, field) for name, field in Message().dump_fields.items()]
    shared: dict[str, Any] = {}
    for key, name, field in named:
        value = getattr(messages[0], field.attribute or name)
        if all(getattr(message, field.attribute or name) == value for message in messages):
            shared[key] = field.serialize(name, messages[0], getattr)
    pieces = []
    for start in range(0, len(messages), _A_PIECE):
        piece = [
            {
                key: shared[key] if key in shared else field.serialize(name, message, getattr)
                for key, name, field in named
            }
            for message in messages[start : start + _A_PIECE]
        ]
        pieces.append(json.dumps(piece, separators=(",", ":"))[1:-1])
    return f'{{"messages":[{",".join(pieces)}]}}\n'


class Summary(Schema):
    """Messages counted."""

    messages = fields.Integer(metadata=about("How many there are.", 3))
    statuses = fields.Dict(
        keys=fields.String(), values=fields.Integer(), metadata=about("How many by status.", {"delivered": 3})
    )
    conflicts = fields.Integer(metadata=about("How many have contradicting final reports.", 0))


class Transaction(Schema):
    """What the gateway calls a transaction: usually one message."""

    transaction_id = fields.String(data_key="transactionID", metadata=about("The gateway's id.", "1234567"))
    summary = fields.Nested(Summary, metadata=about("All of its messages, counted."))
    messages = fields.List(
        fields.Nested(MessageStory),
        metadata=about(f"Its first {MOST_ROWS} messages; the list of messages can filter by transactionID."),
    )
