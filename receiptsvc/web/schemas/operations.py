"""How the service itself is doing, as the API tells it."""

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
        "refused": fields.Integer(metadata=about("Callbacks that were refused for a wrong key.", 0)),
        "oldest_pending_seconds": fields.Float(
            allow_none=True, metadata=about("How long the oldest pending receipt has waited; null: none is.", 0.4)
        ),
        "slowest_answer_seconds": fields.Float(metadata=about("The slowest answer to a callback.", 0.021)),
        "answers_over_1s": fields.Integer(
            data_key="answersOver1s", metadata=about("Callbacks that were answered after more than a second.", 0)
        ),
        "balanced": fields.Boolean(metadata=about("Whether every receipt has exactly one outcome.", True)),
    },
    name="Ledger",
)
Ledger.__doc__ = "What was received and what became of it, as the counters have it."


class Liveness(Schema):
    """This process runs."""

    status = fields.Constant("ok", metadata=about("Always ok.", type="string"))


class Readiness(Schema):
    """Whether a callback can be kept, and what else is not as it should be."""

    status = fields.String(
        validate=validate.OneOf(["ok", "degraded", "unavailable"]),
        metadata=about("unavailable: no callback can be kept now.", "ok", enum=["ok", "degraded", "unavailable"]),
    )
    degraded = fields.List(fields.String(), metadata=about("What is not as it should be.", ["worker unseen"]))
