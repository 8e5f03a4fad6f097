"""The state of the service: its ledger, liveness and readiness."""

from marshmallow import fields, validate

from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.web.schemas.base import Schema, about

Ledger = Schema.from_dict(
    {
        "callbacks": fields.Integer(metadata=about("Callbacks that were kept.", 12)),
        "received": fields.Integer(metadata=about("Receipts that were kept; a callback may carry several.", 12)),
        **{
            outcome.value: fields.Integer(metadata=about(f"How many of them are {outcome.value} now.", 0))
            for outcome in ReceiptOutcome
        },
        "spooled": fields.Integer(metadata=about("Callbacks that wait in the spool for the database.", 0)),
        "refused": fields.Integer(
            metadata=about("Callbacks that were refused: for a wrong key, or because they are not HTTP or too long.", 0)
        ),
        "oldest_pending_seconds": fields.Float(
            allow_none=True,
            metadata=about("How long the oldest pending receipt has waited; null: none is pending.", 0.4),
        ),
        "slowest_answer_seconds": fields.Float(metadata=about("The slowest answer to a callback.", 0.021)),
        "answers_over_1s": fields.Integer(
            data_key="answersOver1s", metadata=about("Callbacks that were answered after more than a second.", 0)
        ),
        "balanced": fields.Boolean(metadata=about("Whether every receipt has exactly one outcome.", True)),
    },
    name="Ledger",
)
Ledger.__doc__ = "How many receipts were kept, and how many have which outcome, by the counters."


class Liveness(Schema):
    """This process runs."""

    status = fields.Constant("ok", metadata=about("Always ok.", type="string"))


class Readiness(Schema):
    """Whether a callback can be kept, and what else is wrong."""

    status = fields.String(
        validate=validate.OneOf(["ok", "degraded", "unavailable"]),
        metadata=about("unavailable: no callback can be kept now.", "ok", enum=["ok", "degraded", "unavailable"]),
    )
    degraded = fields.List(fields.String(), metadata=about("What is wrong.", ["worker unseen"]))
