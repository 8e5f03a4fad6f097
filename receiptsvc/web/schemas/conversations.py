"""Conversations: parties, summary and timeline; and all messages and replies of one person."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import marshmallow as ma
from marshmallow import fields

from receiptsvc.store.core.models import Message as MessageRow
from receiptsvc.store.core.models import Transition as TransitionRow
from receiptsvc.store.core.paging import MAX_ROWS
from receiptsvc.store.queries.contacts import TimeCursor
from receiptsvc.store.queries.lookup import LARGE, LARGE_TRANSITIONS
from receiptsvc.store.queries.persons import MAX_PARKED
from receiptsvc.store.queries.timeline import TimelineCursor, TimelineRow
from receiptsvc.web.http import cursors
from receiptsvc.web.http import fields as kinds
from receiptsvc.web.schemas import waiting
from receiptsvc.web.schemas.base import Request, Schema, about, conversation_url, in_body, message_url
from receiptsvc.web.schemas.messages import STATUSES, Summary, Transition
from receiptsvc.web.schemas.receipts import Receipt
from receiptsvc.web.schemas.replies import Reply


class ConversationQuery(Request):
    """Which page of a timeline."""

    limit = kinds.limit("How many entries at most.")
    cursor = kinds.cursor(cursors.TIMELINE)


class ConversationsQuery(Request):
    """Which conversations to list. With a clientRef: which page of that conversation's timeline."""

    client_ref = kinds.client_ref(
        metadata=about(
            "Only the conversation of this clientRef, or with this id: the answer of reading it by its address.",
            "order/1234",
        ),
    )
    limit = kinds.limit("How many at most: conversations, or entries of the one.")
    cursor = kinds.Coded[str](
        read=str, metadata=about("The nextCursor of the page before.", type="string", pattern=cursors.PATTERN)
    )

    @ma.post_load
    def read_cursor(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Read the cursor as one of the list that is asked for."""
        if "cursor" in data:
            is_one = "client_ref" in data
            data["cursor"] = (cursors.TIMELINE if is_one else cursors.CONVERSATIONS).decode(data["cursor"])
        return data


class PersonQuery(Request):
    """Which page of a person's messages and replies."""

    limit = kinds.limit()
    cursor = kinds.cursor(cursors.RECIPIENT)


class PersonBody(in_body(PersonQuery)):  # type: ignore[misc] # made at run time
    """A person, and which page of their messages and replies."""

    number = kinds.phone_or_short_code(
        required=True, metadata=about("The person's number, in any usual writing.", "+44 7700 900000")
    )


class Party(Schema):
    """A person in a conversation."""

    number = fields.String(metadata=about("The person's number.", "447700900000"))
    messages = fields.Integer(metadata=about("How many messages were sent to it.", 2))
    replies = fields.Integer(metadata=about("How many replies came from it.", 1))


class ConversationSummary(Summary):
    """A conversation counted."""

    replies = fields.Integer(metadata=about("How many replies there are.", 1))
    is_bounded = fields.Boolean(
        metadata=about(
            f"Whether it has more than {LARGE} messages or replies: then statuses and conflicts count "
            "at most 50 messages of each status. The list of messages has them all.",
            False,
        )
    )
    first_activity_at = kinds.moment(
        allow_none=True,
        metadata=about(
            "When its first message was accepted, or reply received; null: before such times were kept.",
            "2026-01-31T09:30:00.000000Z",
        ),
    )
    last_activity_at = kinds.moment(
        allow_none=True,
        metadata=about("When its last message was accepted, or reply received.", "2026-01-31T09:41:12.310000Z"),
    )
    is_waiting_for_reply = fields.Boolean(
        allow_none=True, metadata=about("Whether a message of ours came last; false: a reply did.", False)
    )


class TimelineMessage(Schema):
    """A message, at the time it was accepted."""

    at = kinds.moment(metadata=about("When it was accepted.", "2026-01-31T09:30:00.000000Z"))
    type = fields.Constant("message", metadata=about("The kind of entry.", type="string", enum=["message"]))
    id = kinds.public_id("msg", metadata=about("The message's id.", "msg_01k8z3r5t6e8vbyq0h4n2m7c9d"))
    conversation_id = kinds.public_id(
        "cnv", metadata=about("The conversation that it belongs to.", "cnv_4fzzzz2n7q0c8w5kx1r9m3t6vb")
    )
    recipient = fields.String(metadata=about("The number it goes to.", "447700900000"))
    originator = fields.String(allow_none=True, metadata=about("The sender shown.", "ACME"))
    client_ref = fields.String(allow_none=True, metadata=about("Your reference.", "order/1234"))
    text = fields.String(metadata=about("Its text.", "Your parcel arrives today."))
    status = fields.String(metadata=about("Its status now.", "delivered", enum=STATUSES))
    waiting_seconds = waiting.waiting_seconds()
    overdue = waiting.overdue()
    transaction_id = fields.String(
        data_key="transactionID", allow_none=True, metadata=about("The gateway's id.", "1234567")
    )
    url = kinds.Coded(
        attribute="id",
        dump_only=True,
        write=message_url,
        metadata=about(
            "Where it can be read.", "https://example.com/v1/messages/msg_01k8z3r5t6e8vbyq0h4n2m7c9d", type="string"
        ),
    )


class TimelineTransition(Transition):
    """A report or step recorded for one of the messages."""

    at = kinds.moment(
        metadata=about(
            "When it happened: the gateway's time, or without one the time of receipt; never earlier than its message, "
            "because the gateway's clock may differ from ours.",
            "2026-01-31T09:30:04.120000Z",
        )
    )
    type = fields.Constant("transition", metadata=about("The kind of entry.", type="string", enum=["transition"]))
    message_id = kinds.public_id("msg", metadata=about("The message's id.", "msg_01k8z3r5t6e8vbyq0h4n2m7c9d"))
    recipient = fields.String(attribute="to", metadata=about("The number that message goes to.", "447700900000"))


class TimelineReply(Reply):
    """A reply, at its time."""

    at = kinds.moment(
        metadata=about("The gateway's time, or without one the time of receipt.", "2026-01-31T09:41:12.000000Z")
    )
    type = fields.Constant("reply", metadata=about("The kind of entry.", type="string", enum=["reply"]))


class TimelineEntry(fields.Field[TimelineRow]):
    """An entry, dumped with the schema of its kind."""

    def _serialize(self, value: TimelineRow | None, *_: Any, **__: Any) -> Any:
        if value is None:
            return None
        if isinstance(value.row, MessageRow):
            return _TIMELINE_MESSAGE.dump(value)
        return (_TIMELINE_TRANSITION if isinstance(value.row, TransitionRow) else _TIMELINE_REPLY).dump(value)


_TIMELINE_MESSAGE, _TIMELINE_TRANSITION, _TIMELINE_REPLY = TimelineMessage(), TimelineTransition(), TimelineReply()

TIMELINE = (TimelineMessage, TimelineTransition, TimelineReply)


def _one_of(name: str, description: str, schemas: Sequence[type[Schema]]) -> dict[str, Any]:
    """A field's `metadata`: a value of one of these schemas, which its `type` tells apart."""
    references = [{"$ref": f"#/components/schemas/{schema.__name__}"} for schema in schemas]
    return about(description, title=name, oneOf=references)


class Conversation(Schema):
    """A conversation and a page of its timeline."""

    id = kinds.public_id("cnv", metadata=about("The conversation's id.", "cnv_4fzzzz2n7q0c8w5kx1r9m3t6vb"))
    client_ref = fields.String(
        allow_none=True,
        metadata=about("What holds it together; null: recipient and originator do.", "order/1234"),
    )
    parties = fields.List(
        fields.Nested(Party),
        metadata=about(f"The people in it, by number, at most {MAX_ROWS}; of a bounded summary some of them."),
    )
    summary = fields.Nested(ConversationSummary, metadata=about("All of it, counted."))
    timeline_order = fields.String(
        metadata=about(
            f"time: all entries are ordered by time. message: the conversation has more than {LARGE} messages or "
            f"replies, or more than {LARGE_TRANSITIONS} transitions, and each message is followed by its transitions.",
            "time",
            title="TimelineOrder",
            enum=["time", "message"],
        )
    )
    timeline = fields.List(
        TimelineEntry(metadata=_one_of("TimelineEntry", "What happened, by its type.", TIMELINE)),
        metadata=about("What happened, the earliest first."),
    )
    next_cursor = kinds.next_cursor(cursors.TIMELINE)


class ConversationItem(Schema):
    """A conversation in a list."""

    id = kinds.public_id("cnv", metadata=about("The conversation's id.", "cnv_4fzzzz2n7q0c8w5kx1r9m3t6vb"))
    client_ref = fields.String(
        allow_none=True,
        metadata=about("What holds it together; null: recipient and originator do.", "order/1234"),
    )
    party = fields.String(allow_none=True, metadata=about("The number of a person in it.", "447700900000"))
    originator = fields.String(allow_none=True, metadata=about("The sender shown to them; null: not known.", "ACME"))
    messages = fields.Integer(metadata=about("How many messages it has.", 3))
    replies = fields.Integer(metadata=about("How many replies.", 1))
    statuses = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        allow_none=True,
        metadata=about("How many of its messages have which status; null: it has more than ten.", {"delivered": 3}),
    )
    first_activity_at = kinds.moment(
        metadata=about("When its first message was accepted, or reply received.", "2026-01-31T09:30:00.000000Z")
    )
    last_activity_at = kinds.moment(
        metadata=about("When its last message was accepted, or reply received.", "2026-01-31T09:41:12.310000Z")
    )
    is_waiting_for_reply = fields.Boolean(
        metadata=about("Whether a message of ours came last; false: a reply did.", False)
    )
    url = kinds.Coded(
        attribute="id",
        dump_only=True,
        write=conversation_url,
        metadata=about("Where it can be read.", "https://example.com/v1/conversations/cnv_4fzz", type="string"),
    )


def _encode_cursor(position: TimelineCursor | TimeCursor) -> str:
    if isinstance(position, TimelineCursor):
        return cursors.TIMELINE.encode(position)
    return cursors.CONVERSATIONS.encode(position)


class Conversations(Conversation):
    """A page of conversations (only `items` and `nextCursor`), or one conversation (everything but `items`)."""

    RULES: ClassVar[Mapping[str, object]] = {
        "required": ["nextCursor"],
        "anyOf": [
            {"required": ["items", "nextCursor"]},
            {"required": ["id", "clientRef", "parties", "summary", "timelineOrder", "timeline", "nextCursor"]},
        ],
    }

    items = fields.List(
        fields.Nested(ConversationItem),
        attribute="conversations",
        metadata=about("The conversations, the most recently active first."),
    )
    next_cursor = kinds.Coded[Any](
        allow_none=True,
        write=_encode_cursor,
        metadata=about("Ask with it for the next page; null: this is the last.", type="string"),
    )


class Person(Schema):
    """All messages to a person and all replies of theirs."""

    number = fields.String(metadata=about("Their number: international, digits only.", "447700900000"))
    items = fields.List(
        TimelineEntry(metadata=_one_of("PersonEntry", "A message or a reply.", (TimelineMessage, TimelineReply))),
        metadata=about("Messages by acceptance and replies by receipt, the newest first."),
    )
    parked_receipts = fields.List(
        fields.Nested(Receipt),
        metadata={
            "description": f"Receipts that name this number and fit no message: the newest {MAX_PARKED}, on the first "
            "page only. The list of receipts has all of them by `recipient`."
        },
    )
    ends_alike = fields.List(
        fields.String(),
        metadata=about(
            "If the number is written as inside a country, such as 07700 900000: the recipients of the newest "
            "messages to numbers that end so, on the first page only. No country is guessed: ask again with the one "
            "that is meant.",
            [],
        ),
    )
    next_cursor = kinds.next_cursor(cursors.RECIPIENT)
