"""Messages: the list's filters, an item, its transitions, and what a submission is answered.

Submissions themselves are in `submissions`, explanations in `receipts`.
"""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import marshmallow as ma
from marshmallow import fields

from receiptsvc.domain import encoding as encodings
from receiptsvc.domain.encoding import Encoding
from receiptsvc.domain.messages import NewMessage
from receiptsvc.domain.numbers import INDEXED_DIGITS
from receiptsvc.domain.statuses import Effect, Status
from receiptsvc.dynmark.transports import TRANSPORTS
from receiptsvc.store.core import models as store
from receiptsvc.store.core.paging import MAX_ROWS
from receiptsvc.store.queries import listing
from receiptsvc.store.queries.histories import MOST
from receiptsvc.store.queries.listing import MessageFilter
from receiptsvc.web.http import cursors
from receiptsvc.web.http import fields as kinds
from receiptsvc.web.schemas.base import Request, Schema, about, example_of, message_url

STATUSES = [status.value for status in Status]

_NO_FILTERS = {"limit", "cursor", "estimate", "bom", "timezone"}
_CHUNK_SIZE = 100  # messages
_MAX_CHARACTERS = 10  # of one text that are listed: a text in another script has hundreds


class UnicodeCharacter(Schema):
    """A character outside GSM. It makes the text UTF-16, which needs more segments."""

    character = fields.String(metadata=about("The character.", "\u2019"))
    code_point = fields.String(
        metadata=about("Its Unicode code point; of a letter with an accent apart, both.", "U+2019")
    )
    suggestion = fields.String(
        allow_none=True,
        metadata=about("What could replace it; empty: it can be left out; null: nothing is known.", "'"),
    )


class UnicodeCharacters(fields.List[Any]):
    """A text's characters outside GSM, each once, in their order."""

    def __init__(self, **options: Any) -> None:
        super().__init__(fields.Nested(UnicodeCharacter), **options)

    def _serialize(self, value: Any, *_: Any, **__: Any) -> list[Any] | None:
        characters = encodings.non_gsm_characters(value) if value else ()
        suggestions = encodings.suggestions(characters, _MAX_CHARACTERS)
        return [
            {
                "character": character,
                "codePoint": encodings.code_point(character),
                "suggestion": suggestion,
            }
            for character, suggestion in zip(characters, suggestions, strict=False)
        ]


class Message(Schema):
    """One text to one recipient, and its status."""

    id = kinds.public_id("msg", metadata=about("The message's id.", "msg_01k8z3r5t6e8vbyq0h4n2m7c9d"))
    recipient = fields.String(metadata=about("The number it goes to: international, digits only.", "447700900000"))
    client_ref = fields.String(
        allow_none=True, metadata=about("Your own reference; it names the conversation.", "order/1234")
    )
    originator = fields.String(
        allow_none=True, metadata=about("The sender shown; null: the account's default number.", "ACME")
    )
    status = fields.String(metadata=about("Its status, as far as is known.", "delivered", enum=STATUSES))
    transaction_id = fields.String(
        data_key="transactionID",
        allow_none=True,
        metadata=about("The id that the gateway gave last; null: none yet.", "1234567"),
    )
    encoding = fields.String(
        metadata=about("The alphabet that the text needs.", "GSM", enum=[word.value for word in Encoding])
    )
    segments = fields.Integer(metadata=about("How many parts it is sent in; each is paid for.", 1))
    warnings = fields.List(
        fields.String(),
        metadata=about(
            "What makes it cost more, or its receipt too long; that its recipient was given several times.", []
        ),
    )
    unicode_characters = UnicodeCharacters(
        attribute="text",
        dump_only=True,
        metadata=about(f"Which characters make the text UTF-16; the first {_MAX_CHARACTERS}.", []),
    )
    created_at = kinds.moment(metadata=about("When it was accepted.", "2026-01-31T09:30:00.000000Z"))
    status_at = kinds.moment(metadata=about("Since when the status holds.", "2026-01-31T09:30:04.120000Z"))
    conflict = fields.Boolean(metadata=about("Whether the gateway's reports hold more than one final word.", False))
    changed_at = kinds.moment(
        metadata=about(
            "When status, statusAt, conflict or transactionID were last written; 1970: before such times were kept.",
            "2026-01-31T09:30:05.420000Z",
        )
    )
    url = kinds.Coded(
        attribute="id",
        dump_only=True,
        write=message_url,
        metadata=about(
            "Where it can be read.", "https://example.com/v1/messages/msg_01k8z3r5t6e8vbyq0h4n2m7c9d", type="string"
        ),
    )


class Transition(Schema):
    """What was recorded for a message at one time: a report of the gateway, or a step of our own."""

    status = fields.String(
        allow_none=True,
        metadata=about("The reported status; null: its code is not mapped.", "delivered", enum=[*STATUSES, None]),
    )
    effect = fields.String(
        metadata=about("What it did when it was recorded.", "applied", enum=[effect.value for effect in Effect])
    )
    rule = fields.String(metadata=about("How it found its message, or which step of ours it is.", "token"))
    reason = fields.String(allow_none=True, metadata=about("The reason, where one was given.", None))
    source = fields.String(
        metadata=about("Who reported it.", "gateway", title="TransitionSource", enum=["gateway", "ourselves"])
    )
    provider_status_id = fields.String(allow_none=True, metadata=about("The gateway's code, as it came.", "4"))
    provider_description = fields.String(allow_none=True, metadata=about("The gateway's description.", "Delivered"))
    occurred_at = kinds.moment(
        allow_none=True, metadata=about("The gateway's time; null: it gave none.", "2026-01-31T09:30:04.120000Z")
    )
    received_at = kinds.moment(metadata=about("When it reached us.", "2026-01-31T09:30:05.310000Z"))
    recorded_at = kinds.moment(metadata=about("When it was recorded.", "2026-01-31T09:30:05.420000Z"))
    receipt_id = kinds.public_id(
        "rcp",
        allow_none=True,
        metadata=about("The receipt that reported it; null: a step of our own.", "rcp_01k8z4a0b1c2d3e4f5g6h7j8k8"),
    )


class TransitionQuery(Request):
    """Which part of a message's transitions."""

    limit = kinds.limit()
    cursor = kinds.cursor(cursors.TRANSITIONS)


class TransitionPage(Schema):
    """Some of a message's transitions, in the order recorded."""

    items = fields.List(fields.Nested(Transition), metadata=about("The transitions."))
    next_cursor = kinds.next_cursor(cursors.TRANSITIONS, attribute="next")


class MessageStory(Message):
    """A message with its text and its transitions."""

    conversation_id = kinds.public_id(
        "cnv", metadata=about("The conversation that it belongs to.", "cnv_4fzzzz2n7q0c8w5kx1r9m3t6vb")
    )
    text = fields.String(metadata=about("Its text.", "Your parcel arrives today."))
    transitions = fields.List(
        fields.Nested(Transition),
        metadata=about(
            f"Its transitions, in the order recorded. Of more than {MOST}: the first and the newest {MOST // 2}, the "
            "one that decides its status, and one of each final word; fewer where an answer has many messages."
        ),
    )
    transition_count = fields.Integer(metadata=about("How many transitions it has.", 2))
    transitions_cursor = kinds.next_cursor(
        cursors.TRANSITIONS,
        attribute="rest_after",
        metadata=about(
            "Where those begin that are left out here: ask /v1/messages/<id>/transitions with it; null: none is.", None
        ),
    )


class WholeMessage(MessageStory):
    """A message with its transitions and everything that its sender asked for."""

    message_guid = fields.String(
        metadata=about("The messageGuid it goes out with.", "3f2c1a52-7a0e-4a54-9a0b-3f9ad5d0c1de")
    )
    transport = fields.String(
        metadata=about("How it is given to the gateway; none: another system did that.", next(iter(TRANSPORTS)))
    )
    deliver_after = kinds.moment(allow_none=True, metadata=about("It is not delivered before this time.", None))
    valid_until = kinds.moment(allow_none=True, metadata=about("It is not delivered after this time.", None))
    country_iso_code = fields.String(
        allow_none=True, metadata=about("The country that its sender gave for local numbers.", "GBR")
    )
    reject_unicode = fields.Boolean(metadata=about("Whether characters outside GSM were to be refused.", False))
    include_message_text = fields.Boolean(metadata=about("Whether its text comes back with each receipt.", False))
    filter_set_name = fields.String(allow_none=True, metadata=about("The filter set that the gateway applies.", None))
    impersonate_user_name = fields.String(allow_none=True, metadata=about("The client's account it goes out as.", None))
    additional_options = fields.Dict(
        keys=fields.String(), values=fields.String(), metadata=about("Options for the carrier.", {})
    )


class MessageQuery(Request):
    """Which messages to list: those that fit every filter."""

    client_ref = kinds.client_ref(metadata=about("Your reference.", "order/1234"))
    client_ref_prefix = kinds.text(max_length=64, metadata=about("How your reference begins.", "order/"))
    transaction_id = kinds.transaction_id(
        data_key="transactionID", metadata=about("Any transactionID that a message was ever given.", "1234567")
    )
    message_guid = kinds.text(
        max_length=40,
        metadata=about("The messageGuid it went out with, in any writing.", "3f2c1a52-7a0e-4a54-9a0b-3f9ad5d0c1de"),
    )
    recipient = kinds.phone_number(metadata=about("The number it went to, in any usual writing.", "+44 7700 900000"))
    recipient_ends = kinds.number_suffix(
        metadata=about(f"The last digits of that number, at least {INDEXED_DIGITS}.", "0000")
    )
    statuses = kinds.Choices(
        STATUSES,
        data_key="status",
        metadata=about(
            "Where it stands now: one of these, repeated or separated by commas.", ["undelivered", "expired"]
        ),
    )
    originator = kinds.text(max_length=16, metadata=about("The sender, exactly as it was given.", "ACME"))
    since = kinds.query_moment(metadata=about("Created at this time or later.", "2026-01-31T00:00:00Z"))
    until = kinds.query_moment(metadata=about("Created before this time.", "2026-02-01T00:00:00Z"))
    changed_since = kinds.query_moment(
        metadata=about("Changed at this time or later, by changedAt.", "2026-01-31T00:00:00Z")
    )
    order = fields.Enum(
        listing.Order,
        by_value=True,
        metadata=about(
            "created: the newest first. changed: the longest unchanged first; the default with changedSince. "
            "clientRef: by code points, then the oldest first; the default with clientRefPrefix unless "
            "clientRef, recipient, recipientEnds, transactionID or messageGuid is given too.",
            "created",
            type="string",
        ),
    )
    limit = kinds.limit()
    cursor = kinds.cursor(cursors.MESSAGES)

    @ma.validates_schema
    def check_order(self, data: dict[str, Any], **_: Any) -> None:
        """Refuse an order that these filters do not allow, and a cursor of another order."""
        where = MessageFilter(**{name: value for name, value in data.items() if name not in _NO_FILTERS})
        if where.fault:
            raise ma.ValidationError(where.fault, "order")
        if "cursor" in data and data["cursor"].order is not where.sorting:
            raise ma.ValidationError("Must be a nextCursor of this list; this one is of another order.", "cursor")


class MessageListQuery(MessageQuery):
    """Which messages to list, and whether to estimate how many there are."""

    estimate = kinds.query_flag(load_default=False, metadata=about("Whether to give estimatedCount.", False))


class MessagePage(Schema):
    """Some messages. A page may have fewer than asked for, or none, and still not be the last."""

    items = fields.List(fields.Nested(Message), metadata=about("The messages."))
    next_cursor = kinds.next_cursor(cursors.MESSAGES, attribute="next")
    estimated_count = fields.Integer(
        allow_none=True,
        metadata=about(
            "About how many messages fit the filters: the database's estimate, not a count. null: not asked for, or "
            "there is none, as on SQLite.",
            12000,
        ),
    )


class Draft(Message):
    """What would become a message: one text to one recipient, and what it costs."""

    class Meta(Schema.Meta):
        exclude = ("id", "status", "transaction_id", "created_at", "status_at", "conflict", "changed_at", "url")


class Accepted(Schema):
    """The messages that were accepted, one a recipient, in the order of the request."""

    messages = fields.List(
        fields.Nested(Message),
        metadata=about(
            "The messages.",
            [
                example_of(
                    Message,
                    status=Status.ACCEPTED.value,
                    transactionID=None,
                    statusAt="2026-01-31T09:30:00.000000Z",
                    changedAt="2026-01-31T09:30:00.000000Z",
                )
            ],
        ),
    )
    warnings = fields.List(
        fields.String(),
        metadata=about("Which recipients were left out, and why; not repeated when the request is.", []),
    )


class Drafts(Schema):
    """What would be accepted, one item a recipient, in the order of the request."""

    messages = fields.List(fields.Nested(Draft), metadata=about("What would become messages."))
    warnings = fields.List(fields.String(), metadata=about("Which recipients would be left out, and why.", []))


def write_messages(
    messages: Sequence[store.Message] | Sequence[NewMessage],
    warnings: Sequence[str] = (),
    *,
    schema: type[Message] = Message,
    state: Mapping[str, object] = MappingProxyType({}),
) -> str:
    """Write what `Accepted` gives (with `schema=Draft`: what `Drafts` gives) as JSON.

    `state`: attributes that all of these messages have beside their own.

    Faster than dumping the schema, because a value that all messages share is serialised once. Written in chunks,
    because `json.dumps` holds the GIL while it writes one.
    """

    def read(message: object, name: str, *_: object) -> Any:
        return state[name] if name in state else getattr(message, name)

    columns = [(str(field.data_key), name, field) for name, field in schema().dump_fields.items()]
    shared: dict[str, Any] = {}
    for key, name, field in columns if messages else ():
        attribute = field.attribute or name
        value = read(messages[0], attribute)
        if attribute in state or all(getattr(message, attribute) == value for message in messages):
            shared[key] = field.serialize(name, messages[0], read)
    chunks = []
    for start in range(0, len(messages), _CHUNK_SIZE):
        items = [
            {
                key: shared[key] if key in shared else field.serialize(name, message, getattr)
                for key, name, field in columns
            }
            for message in messages[start : start + _CHUNK_SIZE]
        ]
        chunks.append(json.dumps(items, separators=(",", ":"))[1:-1])
    warnings_json = json.dumps(list(warnings), separators=(",", ":"))
    return f'{{"messages":[{",".join(chunks)}],"warnings":{warnings_json}}}\n'


class Summary(Schema):
    """Messages counted."""

    messages = fields.Integer(metadata=about("How many messages there are.", 3))
    statuses = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        metadata=about("How many of them have which status.", {"delivered": 3}),
    )
    conflicts = fields.Integer(metadata=about("How many of them have contradicting final reports.", 0))


class Transaction(Schema):
    """What the gateway calls a transaction: usually one message."""

    transaction_id = fields.String(data_key="transactionID", metadata=about("The gateway's id.", "1234567"))
    summary = fields.Nested(Summary, metadata=about("All of its messages, counted."))
    messages = fields.List(
        fields.Nested(MessageStory),
        metadata=about(f"Its first {MAX_ROWS} messages; the list of messages can filter by transactionID."),
    )
