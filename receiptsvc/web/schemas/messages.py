"""Messages as the API gives them, and how to ask for them."""

import json
from collections.abc import Sequence
from typing import Any

import marshmallow as ma
from marshmallow import fields

from receiptsvc.domain import encoding as encodings
from receiptsvc.domain.encoding import Encoding
from receiptsvc.domain.statuses import Effect, Status
from receiptsvc.store.core import models as store
from receiptsvc.store.core.paging import MAX_ROWS
from receiptsvc.store.queries import listing
from receiptsvc.store.queries.listing import MessageFilter
from receiptsvc.web.http import context
from receiptsvc.web.http import fields as kinds
from receiptsvc.web.schemas.base import Request, Schema, about

STATUSES = [status.value for status in Status]

_NO_FILTERS = {"limit", "cursor", "estimate"}
_A_PIECE = 100  # messages
_MAX_CHARACTERS = 10  # of one text that are told apart: one in another script has hundreds


class UnicodeCharacter(Schema):
    """A character that GSM does not have, so that its text is UTF-16 and needs more segments."""

    character = fields.String(metadata=about("The character.", "\u2019"))
    code_point = fields.String(metadata=about("Its number in Unicode.", "U+2019"))
    suggestion = fields.String(
        allow_none=True,
        metadata=about("What could stand there instead; empty: it can be left out; null: nothing is known.", "'"),
    )


class UnicodeCharacters(fields.List[Any]):
    """Those of a text, each once and in their order."""

    def __init__(self, **options: Any) -> None:
        super().__init__(fields.Nested(UnicodeCharacter), **options)

    def _serialize(self, value: Any, *_: Any, **__: Any) -> list[Any] | None:
        found = encodings.non_gsm_characters(value)[:_MAX_CHARACTERS] if value else ()
        return [
            {"character": each, "codePoint": encodings.code_point(each), "suggestion": encodings.suggestion(each)}
            for each in found
        ]


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
            "When status, statusAt, conflict or transactionID were last written; 1970: before that was kept.",
            "2026-01-31T09:30:05.420000Z",
        )
    )
    url = kinds.Coded(
        attribute="id",
        dump_only=True,
        write=context.message_url,
        metadata=about("Where it can be read.", "https://example.com/v1/messages/msg_01k8", type="string"),
    )


class Transition(Schema):
    """Something recorded of a message: a report of the gateway, or a step of our own."""

    status = fields.String(
        allow_none=True,
        metadata=about("The word; null: none is known for the code.", "delivered", enum=[*STATUSES, None]),
    )
    effect = fields.String(
        metadata=about("What it did when it was recorded.", "applied", enum=[word.value for word in Effect])
    )
    rule = fields.String(metadata=about("How it found its message, or which step of ours it is.", "token"))
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
        "rcp",
        allow_none=True,
        metadata=about("The receipt that said it; null: a step of our own.", "rcp_01k8z4a0b1c2d3e4f5g6h7j8k8"),
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


class WholeMessage(MessageStory):
    """A message with everything that was recorded of it, and all that its sender asked for."""

    message_guid = fields.String(
        metadata=about("The messageGuid it goes out with.", "3f2c1a52-7a0e-4a54-9a0b-3f9ad5d0c1de")
    )
    transport = fields.String(metadata=about("How it is given to the gateway; none: another system did that.", "soap"))
    deliver_after = kinds.moment(allow_none=True, metadata=about("Not to be delivered before.", None))
    valid_until = kinds.moment(allow_none=True, metadata=about("Not to be delivered after.", None))
    country_iso_code = fields.String(allow_none=True, metadata=about("Where its sender said the number is.", "GBR"))
    reject_unicode = fields.Boolean(metadata=about("Whether only GSM characters were wanted.", False))
    include_message_text = fields.Boolean(metadata=about("Whether its text comes back with each receipt.", False))
    filter_set_name = fields.String(allow_none=True, metadata=about("The filter set that the gateway applies.", None))
    impersonate_user_name = fields.String(allow_none=True, metadata=about("The client's account it goes out as.", None))
    additional_options = fields.Dict(
        keys=fields.String(), values=fields.String(), metadata=about("Options for the carrier.", {})
    )


class MessageQuery(Request):
    """Which messages to list: those that fit every filter."""

    client_ref = kinds.words(most=64, metadata=about("Your reference.", "order/1234"))
    client_ref_prefix = kinds.words(most=64, metadata=about("How your reference begins.", "order/"))
    transaction_id = kinds.transaction_id(
        data_key="transactionID", metadata=about("Any transactionID that a message was ever given.", "1234567")
    )
    message_guid = kinds.words(
        most=36, metadata=about("The messageGuid it went out with.", "3f2c1a52-7a0e-4a54-9a0b-3f9ad5d0c1de")
    )
    recipient = kinds.phone_number(metadata=about("Whom it went to, in any usual writing.", "+44 7700 900000"))
    recipient_ends = kinds.number_end(
        metadata=about(f"The last digits of that number, at least {listing.MIN_DIGITS}.", "0000")
    )
    status = kinds.choice(STATUSES, metadata=about("Where it stands now.", "undelivered"))
    originator = kinds.words(most=16, metadata=about("The sender, exactly as it was given.", "ACME"))
    since = kinds.query_moment(metadata=about("Created at this time or later.", "2026-01-31T00:00:00Z"))
    until = kinds.query_moment(metadata=about("Created before this time.", "2026-02-01T00:00:00Z"))
    changed_since = kinds.query_moment(
        metadata=about("Changed at this time or later, as changedAt tells.", "2026-01-31T00:00:00Z")
    )
    order = fields.Enum(
        listing.Order,
        by_value=True,
        metadata=about(
            "created: the newest first. changed: what changed longest ago first, which is the order with changedSince. "
            "clientRef: by code points, then the oldest first, which is the order with clientRefPrefix unless "
            "clientRef, recipient, recipientEnds, transactionID or messageGuid is given too.",
            "created",
            type="string",
        ),
    )
    limit = kinds.limit()
    cursor = kinds.place_cursor(metadata=about("The nextCursor of the page before."))

    @ma.validates_schema
    def check_order(self, data: dict[str, Any], **_: Any) -> None:
        """Refuse an order that the filters can't be had in, and a cursor of another order."""
        where = MessageFilter(**{name: value for name, value in data.items() if name not in _NO_FILTERS})
        if where.fault:
            raise ma.ValidationError(where.fault, "order")
        if "cursor" in data and data["cursor"].order is not where.sorting:
            raise ma.ValidationError("Must be a nextCursor of this list.", "cursor")


class MessageListQuery(MessageQuery):
    """Which messages to list, and whether to guess how many there are."""

    estimate = kinds.query_flag(load_default=False, metadata=about("Whether to give estimatedCount.", False))


class MessagePage(Schema):
    """Some messages. A page may have fewer than asked for, or none, and still not be the last."""

    items = fields.List(fields.Nested(Message), metadata=about("The messages."))
    next_cursor = kinds.place_cursor(
        attribute="next", allow_none=True, metadata=about("Ask with it for the next page; null: this is the last.")
    )
    estimated_count = fields.Integer(
        allow_none=True,
        metadata=about(
            "About how many fit in all, as the database guesses: nobody has counted them. null: not asked for, or "
            "there is no guess, as on SQLite.",
            12000,
        ),
    )


class Draft(Message):
    """What would become a message: one text to one recipient, and what it costs."""

    class Meta(Schema.Meta):
        exclude = ("id", "status", "transaction_id", "created_at", "status_at", "conflict", "changed_at", "url")


class Accepted(Schema):
    """The messages that were accepted, one a recipient, in the order of the request."""

    messages = fields.List(fields.Nested(Message), metadata=about("The messages."))
    warnings = fields.List(
        fields.String(), metadata=about("Who was left out, and why; a repeat of the request does not say it again.", [])
    )


class Drafts(Schema):
    """What would be accepted, one item a recipient, in the order of the request."""

    messages = fields.List(fields.Nested(Draft), metadata=about("What would become messages."))
    warnings = fields.List(fields.String(), metadata=about("Who would be left out, and why.", []))


def write_messages(
    messages: Sequence[store.Message], warnings: Sequence[str] = (), *, schema: type[Message] = Message
) -> str:
    """What `Accepted` gives of messages, or `Drafts` by its `schema`; as JSON, and faster: most values are the same.

    It is written piece by piece, because while one is written no other thread gets its turn.
    """
    named = [(str(field.data_key), name, field) for name, field in schema().dump_fields.items()]
    shared: dict[str, Any] = {}
    for key, name, field in named if messages else ():
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
    told = json.dumps(list(warnings), separators=(",", ":"))
    return f'{{"messages":[{",".join(pieces)}],"warnings":{told}}}\n'


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
        metadata=about(f"Its first {MAX_ROWS} messages; the list of messages can filter by transactionID."),
    )
