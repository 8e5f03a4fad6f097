"""The search box (one term of any kind), and the lookup of many messages by ids, clientRefs or transactionIDs."""

from collections.abc import Mapping
from typing import Any, ClassVar

import marshmallow as ma
from marshmallow import fields, validate

from receiptsvc.store.core.paging import MAX_ROWS
from receiptsvc.store.queries.hits import MAX_COUNTED, Kind
from receiptsvc.store.queries.listing import MAX_PER_TERM
from receiptsvc.web.http import fields as kinds
from receiptsvc.web.schemas.base import Request, Schema, about
from receiptsvc.web.schemas.messages import Message
from receiptsvc.web.schemas.receipts import Receipt
from receiptsvc.web.schemas.replies import Reply

_A_MESSAGE = "msg_01k8z3r5t6e8vbyq0h4n2m7c9d"


class Lookup(Request):
    """Up to 500 ids, clientRefs or transactionIDs: exactly one of the three."""

    RULES: ClassVar[Mapping[str, object]] = {
        "minProperties": 1,
        "maxProperties": 1,
        "examples": [{"clientRefs": ["order/1234"]}],
    }

    ids = fields.List(
        kinds.message_id(),
        validate=validate.Length(1, MAX_ROWS),
        metadata=about("Ids of messages.", [_A_MESSAGE]),
    )
    client_refs = fields.List(
        kinds.client_ref(), validate=validate.Length(1, MAX_ROWS), metadata=about("clientRefs.", ["order/1234"])
    )
    transaction_ids = fields.List(
        kinds.transaction_id(),
        data_key="transactionIDs",
        validate=validate.Length(1, MAX_ROWS),
        metadata=about("transactionIDs.", ["1234567"]),
    )

    @ma.validates_schema
    def check_one(self, data: dict[str, Any], **_: Any) -> None:
        """Refuse a body with none or several of the three."""
        if len(data) != 1:
            raise ma.ValidationError("Must have exactly one of ids, clientRefs and transactionIDs.")


class Found(Schema):
    """The messages that were looked up."""

    items = fields.List(fields.Nested(Message), metadata=about("The messages, in the order of the terms."))
    missing = fields.List(fields.String(), metadata=about("The terms that no message has.", ["order/1235"]))
    cut = fields.List(
        fields.String(),
        metadata=about(
            f"clientRefs and transactionIDs with more than {MAX_PER_TERM} messages, of which only some are "
            "given, of a clientRef the newest: the list of messages has all.",
            [],
        ),
    )


class SearchQuery(Request):
    """The term to search for."""

    q = kinds.text(
        max_length=64,
        required=True,
        metadata=about(
            "An id of ours, a phone number in any usual writing, its last digits, a transactionID, a messageGuid, a "
            "clientRef or the beginning of one, the Idempotency-Key of a request, the gateway's msgid of a reply.",
            "order/12",
        ),
    )


class HitQuery(Schema):
    """What to ask by POST in place of a hit's `url`."""

    url = fields.String(metadata=about("Where to.", "https://example.com/v1/messages/query"))
    body = fields.Dict(
        keys=fields.String(), values=fields.String(), metadata=about("The body.", {"clientRefPrefix": "order/12"})
    )


class Hit(Schema):
    """One thing that the term may mean, its address, and a few of its messages, replies and receipts."""

    found_as = fields.String(
        data_key="as",
        metadata=about(
            "What the term is taken for. nationalNumber: it is written as inside a country, which is not guessed; "
            "these recipients end in its digits. batch: the messages of one request, by its Idempotency-Key; "
            "parkedReceipts: receipts that name the term and fit no message, whose list needs the scope ops.",
            "clientRef",
            enum=[kind.value for kind in Kind],
        ),
    )
    url = fields.String(
        metadata=about("The address of all of it.", "https://example.com/v1/conversations/order%2F1234")
    )
    query = fields.Nested(
        HitQuery,
        allow_none=True,
        metadata={"description": "The same without the term in a URL, by POST; null: `url` has none in it."},
    )
    messages = fields.List(fields.Nested(Message), metadata=about("Some of its messages; of most kinds the newest."))
    message_count = fields.Integer(
        metadata=about(f"How many messages it has in all; at most {MAX_COUNTED} are counted.", 1)
    )
    replies = fields.List(fields.Nested(Reply), metadata=about("Its newest replies."))
    receipts = fields.List(
        fields.Nested(Receipt), metadata={"description": "The receipt, or the newest of those that fit no message."}
    )


class Hits(Schema):
    """Everything that the term may mean and that exists."""

    items = fields.List(fields.Nested(Hit), metadata=about("The hits, the surest first."))
