"""Conversations as the API gives them: who takes part, how it stands, and what happened."""

from typing import Any

from marshmallow import fields, validate

from receiptsvc.store.models import Message as MessageRow
from receiptsvc.store.models import Transition as TransitionRow
from receiptsvc.store.queries import MOST_ROWS
from receiptsvc.store.timeline import Entry
from receiptsvc.web import context
from receiptsvc.web import fields as kinds
from receiptsvc.web.schemas.base import Request, Schema, about
from receiptsvc.web.schemas.messages import STATUSES, Summary, Transition


class ConversationQuery(Request):
    """How much of a timeline to give."""

    limit = fields.Integer(
        load_default=100, validate=validate.Range(1, MOST_ROWS), metadata=about("How many entries at most.", 100)
    )
    cursor = kinds.timeline_cursor(metadata=about("The nextCursor of the page before."))


class ConversationByRef(ConversationQuery):
    """A conversation by its clientRef, and how much of its timeline."""

    client_ref = kinds.words(
        most=64, required=True, metadata=about("The clientRef, or a conversation's id.", "order/1234")
    )


class Party(Schema):
    """A person in a conversation."""

    number = fields.String(metadata=about("Their number.", "447700900000"))
    messages = fields.Integer(metadata=about("How many messages went to them.", 2))
    replies = fields.Integer(metadata=about("How many replies came from them.", 1))


class ConversationSummary(Summary):
    """A conversation counted."""

    replies = fields.Integer(metadata=about("How many replies there are.", 1))


class TimelineMessage(Schema):
    """A message, where it was accepted."""

    at = kinds.moment(metadata=about("When it was accepted.", "2026-01-31T09:30:00.000000Z"))
    type = fields.Constant("message", metadata=about("The kind of entry.", type="string", enum=["message"]))
    id = kinds.public_id("msg", metadata=about("The message's id.", "msg_01k8z3r5t6e8vbyq0h4n2m7c9d"))
    recipient = fields.String(metadata=about("Whom it goes to.", "447700900000"))
    originator = fields.String(allow_none=True, metadata=about("The sender shown.", "ACME"))
    text = fields.String(metadata=about("What it says.", "Your parcel arrives today."))
    status = fields.String(metadata=about("Where it stands now.", "delivered", enum=STATUSES))
    transaction_id = fields.String(
        data_key="transactionID", allow_none=True, metadata=about("The gateway's id.", "1234567")
    )
    url = kinds.Coded(
        attribute="id",
        dump_only=True,
        write=context.message_url,
        metadata=about("Where it can be read.", "https://example.com/v1/messages/msg_01k8", type="string"),
    )


class TimelineTransition(Transition):
    """Something recorded of one of the messages."""

    at = kinds.moment(
        metadata=about(
            "When it happened: the gateway's time, or without one the time of receipt; never before its message, "
            "because the gateway's clock may stand elsewhere.",
            "2026-01-31T09:30:04.120000Z",
        )
    )
    type = fields.Constant("transition", metadata=about("The kind of entry.", type="string", enum=["transition"]))
    message_id = kinds.public_id("msg", metadata=about("Whose it is.", "msg_01k8z3r5t6e8vbyq0h4n2m7c9d"))
    recipient = fields.String(attribute="to", metadata=about("Whom that message goes to.", "447700900000"))


class TimelineReply(Schema):
    """A message that came back."""

    at = kinds.moment(
        metadata=about("The gateway's time, or without one the time of receipt.", "2026-01-31T09:41:12.000000Z")
    )
    type = fields.Constant("reply", metadata=about("The kind of entry.", type="string", enum=["reply"]))
    id = kinds.public_id("rpl", metadata=about("The reply's id.", "rpl_01k8z4a0b1c2d3e4f5g6h7j8k9"))
    message_id = kinds.public_id("msg", allow_none=True, metadata=about("What it seems to answer.", None))
    link = fields.String(metadata=about("Why it belongs to this conversation.", "clientRef"))
    sender = fields.String(metadata=about("Who wrote it.", "447700900000"))
    recipient = fields.String(allow_none=True, metadata=about("The number it was sent to.", "447700900999"))
    content = fields.String(metadata=about("What it says.", "Thanks!"))
    occurred_at = kinds.moment(allow_none=True, metadata=about("The gateway's time.", None))
    received_at = kinds.moment(metadata=about("When it reached us.", "2026-01-31T09:41:12.300000Z"))
    receipt_id = kinds.public_id(
        "rcp", metadata=about("The callback that brought it.", "rcp_01k8z4a0b1c2d3e4f5g6h7j8k8")
    )
    is_conflicting = fields.Boolean(
        data_key="conflict", metadata=about("Whether its msgid came before with other content.", False)
    )


class TimelineEntry(fields.Field[Entry]):
    """An entry, in the shape of its kind."""

    def _serialize(self, value: Entry | None, *_: Any, **__: Any) -> Any:
        if value is None:
            return None
        if isinstance(value.row, MessageRow):
            return _TIMELINE_MESSAGE.dump(value)
        return (_TIMELINE_TRANSITION if isinstance(value.row, TransitionRow) else _TIMELINE_REPLY).dump(value)


_TIMELINE_MESSAGE, _TIMELINE_TRANSITION, _TIMELINE_REPLY = TimelineMessage(), TimelineTransition(), TimelineReply()

TIMELINE = (TimelineMessage, TimelineTransition, TimelineReply)


class Conversation(Schema):
    """A conversation and a page of its timeline."""

    id = kinds.public_id("cnv", metadata=about("The conversation's id.", "cnv_4fzzzz2n7q0c8w5kx1r9m3t6vb"))
    client_ref = fields.String(
        allow_none=True,
        metadata=about("What holds it together; null: recipient and originator do.", "order/1234"),
    )
    parties = fields.List(fields.Nested(Party), metadata=about(f"The people in it, by number, at most {MOST_ROWS}."))
    summary = fields.Nested(ConversationSummary, metadata=about("All of it, counted."))
    timeline = fields.List(
        TimelineEntry(metadata={"oneOf": [{"$ref": f"#/components/schemas/{schema.__name__}"} for schema in TIMELINE]}),
        metadata=about("What happened, the earliest first."),
    )
    next_cursor = kinds.timeline_cursor(
        allow_none=True, metadata=about("Ask with it for the next page; null: this is the last.")
    )
