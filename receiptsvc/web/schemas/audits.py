"""Audits: who did what by hand, and which of our processes moved what had an outcome."""

from marshmallow import fields

from receiptsvc.web.http import cursors
from receiptsvc.web.http import fields as kinds
from receiptsvc.web.schemas.base import Request, Schema, about

_MAX_WORD = 200  # characters of a name or an action
_MAX_SUBJECT = 500

_A_TIME = "2026-01-31T09:30:05.310000Z"
_A_SUBJECT = "rcp_01k8z4a0b1c2d3e4f5g6h7j8k8"


class Audit(Schema):
    """One change: by whom, when and why."""

    at = kinds.moment(metadata=about("When it was done.", _A_TIME))
    actor = fields.String(
        metadata=about(
            "The API key's name, a person at the ops page, the command line, or one of our processes.", "desk"
        )
    )
    action = fields.String(metadata=about("What was done.", "matched"))
    reason = fields.String(allow_none=True, metadata=about("The reason, where one was given.", "the customer called"))
    details = fields.Dict(
        keys=fields.String(),
        metadata=about("The outcomes before and after, and further details.", {"from": "unmatched"}),
    )


class SubjectAudit(Audit):
    """One change of any object."""

    subject = fields.String(
        metadata=about(
            "What was changed: a public id, or sending, cancelled, receipts (many at once, counted in the details), "
            "suppression: with the number and the sender, or person: with the number whose page was shown.",
            _A_SUBJECT,
        )
    )


class AuditPage(Schema):
    """Some audits, the newest first."""

    items = fields.List(fields.Nested(SubjectAudit), metadata=about("The audits."))
    next_cursor = kinds.next_cursor(cursors.AUDITS, attribute="next")


class AuditQuery(Request):
    """Which audits to list: those that fit every filter."""

    subject = kinds.text(max_length=_MAX_SUBJECT, metadata=about("Of what was changed, whole.", _A_SUBJECT))
    actor = kinds.text(max_length=_MAX_WORD, metadata=about("By whom, whole.", "user anna"))
    action = kinds.text(max_length=_MAX_WORD, metadata=about("What was done, whole.", "reveal"))
    since = kinds.query_moment(metadata=about("Done at or after this time.", "2026-01-31T00:00:00Z"))
    until = kinds.query_moment(metadata=about("Done before this time.", "2026-02-01T00:00:00Z"))
    limit = kinds.limit()
    cursor = kinds.cursor(cursors.AUDITS)
