"""Replies: the list's filters and its items."""

from marshmallow import fields

from receiptsvc.web.http import cursors
from receiptsvc.web.http import fields as kinds
from receiptsvc.web.schemas.base import Request, Schema, about


class Reply(Schema):
    """A reply: a message that a person wrote back."""

    id = kinds.public_id("rpl", metadata=about("The reply's id.", "rpl_01k8z4a0b1c2d3e4f5g6h7j8k9"))
    conversation_id = kinds.public_id(
        "cnv", metadata=about("The conversation that it belongs to.", "cnv_4fzzzz2n7q0c8w5kx1r9m3t6vb")
    )
    message_id = kinds.public_id(
        "msg", allow_none=True, metadata=about("The message that it probably answers; null: none is known.", None)
    )
    link = fields.String(metadata=about("Why it belongs to this conversation.", "clientRef"))
    sender = fields.String(metadata=about("The number that wrote it.", "447700900000"))
    recipient = fields.String(allow_none=True, metadata=about("The number it was sent to.", "447700900999"))
    content = fields.String(metadata=about("Its text.", "Thanks!"))
    client_ref = fields.String(allow_none=True, metadata=about("The clientRef that came with it.", "order/1234"))
    occurred_at = kinds.moment(allow_none=True, metadata=about("The gateway's time; null: it gave none.", None))
    received_at = kinds.moment(metadata=about("When it reached us.", "2026-01-31T09:41:12.300000Z"))
    receipt_id = kinds.public_id(
        "rcp", metadata=about("The callback that brought it.", "rcp_01k8z4a0b1c2d3e4f5g6h7j8k8")
    )
    is_conflicting = fields.Boolean(
        data_key="conflict", metadata=about("Whether its msgid came before with other content.", False)
    )
    is_opt_out = fields.Boolean(
        metadata=about(
            "Whether it is nothing but an opt-out word such as STOP. It is only marked, and messages go on, unless the "
            "service runs with OPT_OUT_ACTION=suppress: ask its operator.",
            False,
        )
    )
    is_opt_in = fields.Boolean(metadata=about("Whether it is nothing but an opt-in word such as START.", False))


class ReplyQuery(Request):
    """Which replies to list: those that fit every filter."""

    sender = kinds.phone_or_short_code(
        metadata=about("The number that wrote it, in any usual writing.", "+44 7700 900000")
    )
    recipient = kinds.phone_or_short_code(metadata=about("The number it was sent to, in any usual writing.", "60030"))
    client_ref = kinds.client_ref(
        metadata=about("In this clientRef's conversation, whether or not it came with the reply.", "order/1234"),
    )
    since = kinds.query_moment(metadata=about("Received at this time or later.", "2026-01-31T00:00:00Z"))
    until = kinds.query_moment(metadata=about("Received before this time.", "2026-02-01T00:00:00Z"))
    is_opt_out = kinds.query_flag(metadata=about("Whether it is nothing but an opt-out word such as STOP.", True))
    is_opt_in = kinds.query_flag(metadata=about("Whether it is nothing but an opt-in word such as START.", False))
    limit = kinds.limit()
    cursor = kinds.cursor(cursors.REPLIES)


class ReplyPage(Schema):
    """Some replies, the newest first. A page may have fewer than asked for, or none, and still not be the last."""

    items = fields.List(fields.Nested(Reply), metadata=about("The replies."))
    next_cursor = kinds.next_cursor(cursors.REPLIES, attribute="next")
