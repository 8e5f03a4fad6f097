"""Suppressions (opt-outs): the list's filters, an item, and the body that adds or removes one."""

from marshmallow import fields

from receiptsvc.web.http import cursors
from receiptsvc.web.http import fields as kinds
from receiptsvc.web.schemas.base import Request, Schema, about
from receiptsvc.web.schemas.submissions import new_originator

_A_TIME = "2026-01-31T09:41:12.310000Z"
_A_REPLY = "rpl_01k8z4a0b1c2d3e4f5g6h7j8k9"


class Suppression(Schema):
    """An opt-out: this originator's messages to this recipient are not sent."""

    recipient = fields.String(metadata=about("The number: international, digits only.", "447700900000"))
    originator = fields.Function(
        lambda row: row.originator or None,
        metadata=about(
            "The sender, in lower case and without +; null: the account's default number.",
            "acme",
            type=["string", "null"],
        ),
    )
    created_at = kinds.moment(metadata=about("Since when it holds.", _A_TIME))
    created_by = fields.String(
        metadata=about("The API key's name; worker or rebuild: the person replied so.", "worker")
    )
    reason = fields.String(allow_none=True, metadata=about("The reason, where one was given.", "opted out"))
    reply_id = kinds.public_id(
        "rpl", allow_none=True, metadata=about("The reply that asked for it; null: none did.", _A_REPLY)
    )
    scheduled_messages = fields.Function(
        lambda row: row.scheduled_ids or [],
        metadata=about(
            "Messages that the gateway had, or may have had, when the person opted out, and is to send later: it can't "
            "be told to forget them.",
            [],
            type="array",
            items={"type": "string"},
        ),
    )


class SuppressionPage(Schema):
    """Some suppressions, by recipient and originator."""

    items = fields.List(fields.Nested(Suppression), metadata=about("The suppressions."))
    next_cursor = kinds.next_cursor(cursors.SUPPRESSIONS, attribute="next")


class SuppressionQuery(Request):
    """Which suppressions to list: those that fit every filter."""

    recipient = kinds.phone_number(metadata=about("Of this number, in any usual writing.", "+44 7700 900000"))
    originator = new_originator("Of this sender, in any case, with or without +.")
    limit = kinds.limit()
    cursor = kinds.cursor(cursors.SUPPRESSIONS)


class Stop(Request):
    """Which recipient to suppress for which originator, or to release, and why."""

    recipient = kinds.phone_number(
        required=True, metadata=about("The number, in any usual writing.", "+44 7700 900000")
    )
    originator = new_originator(
        "The sender, in any case, with or without +; without it the account's default number.", allow_none=True
    )
    reason = kinds.reason(allow_none=True, metadata=about("Why; it is kept.", "the customer wrote to us"))
