"""Statistics as the API asks for them and gives them."""

from marshmallow import fields, validate

from receiptsvc.domain.statuses import PROGRESS, Effect
from receiptsvc.store.queries.overdue import EXAMPLES, MAX_COUNTED
from receiptsvc.store.queries.statistics import By
from receiptsvc.web.http import fields as kinds
from receiptsvc.web.schemas.base import Request, Schema, about
from receiptsvc.web.schemas.messages import STATUSES

DAYS_BY = {By.HOUR: 31, By.DAY: 366}  # at most, in one answer

_DAY_SECONDS = 86_400


class StatisticsQuery(Request):
    """Which time, and what of it."""

    since = kinds.query_moment(
        metadata=about(
            "From the hour or UTC day in which this time lies; without it a day by hour, or 30 days by day.",
            "2026-01-30T00:00:00Z",
        )
    )
    until = kinds.query_moment(
        metadata=about("Up to the end of the hour or UTC day before this time; without it now.", "2026-01-31T00:00:00Z")
    )
    by = kinds.choice(
        [word.value for word in By],
        load_default=By.HOUR.value,
        metadata=about(
            f"How long a time each item is about: hour for up to {DAYS_BY[By.HOUR]} days, "
            f"day for up to {DAYS_BY[By.DAY]}.",
            "hour",
        ),
    )
    originator = kinds.words(
        least=0,
        most=16,
        metadata=about("Only this sender's messages, exactly as it was given; empty: those without one.", "ACME"),
    )
    status = kinds.choice(
        STATUSES,
        metadata=about("Count only messages of this status; rate and delays remain those of all.", "delivered"),
    )


class DeliveryTimes(Schema):
    """How long messages took from their first offer to their delivery, in seconds.

    They are counted in classes, each a tenth longer than the one before; given is the end of a class. So a number may
    be up to a tenth too long, is never too short, and all that took less than a second reads 1.
    """

    p50 = fields.Float(metadata=about("Half of them took no longer.", 4.177))
    p95 = fields.Float(metadata=about("19 of 20 took no longer.", 17.449))
    p99 = fields.Float(metadata=about("99 of 100 took no longer.", 89.302))


class Count(Schema):
    """What was counted in a time."""

    messages = fields.Integer(metadata=about("Messages accepted in this time.", 120))
    statuses = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        metadata=about("How many of them have which status now; only those that occur.", {"delivered": 118, "sent": 2}),
    )
    delivery_rate = fields.Float(
        allow_none=True,
        metadata=about("Delivered ones among those that have a final status, 0 to 1; null: none has.", 0.983),
    )
    seconds_to_delivery = fields.Nested(
        DeliveryTimes, allow_none=True, metadata={"description": "Of the delivered ones; null: none is."}
    )
    receipts = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        allow_none=True,
        metadata=about(
            "Receipts that came in this time and found their message, by "
            f"effect ({', '.join(effect.value for effect in Effect)}); null: an originator was asked for.",
            {"applied": 230, "duplicate": 4},
        ),
    )
    receipts_per_hour = fields.Float(allow_none=True, metadata=about("The same by the hour; null likewise.", 234.0))


class Period(Count):
    """What was counted in one hour or UTC day."""

    start = kinds.moment(metadata=about("Its beginning.", "2026-01-30T09:00:00.000000Z"))


class Statistics(Schema):
    """What was counted, by hour or day. Times in which nothing happened are left out."""

    at = kinds.moment(metadata=about("When it was counted.", "2026-01-31T09:30:00.000000Z"))
    since = kinds.moment(metadata=about("The beginning of the first one asked for.", "2026-01-30T00:00:00.000000Z"))
    until = kinds.moment(metadata=about("The end of the last one asked for.", "2026-01-31T00:00:00.000000Z"))
    by = fields.String(metadata=about("How long each is.", "hour", enum=[word.value for word in By]))
    total = fields.Nested(Count, metadata={"description": "All of it together."})
    items = fields.List(fields.Nested(Period), metadata=about("Each in which something happened, by time."))


class OverdueQuery(Request):
    """When a message's final report is overdue."""

    older_than = fields.Integer(
        load_default=3600,
        validate=validate.Range(0, 366 * _DAY_SECONDS),
        metadata=about("After how many seconds, counted from its acceptance or its deliverAfter.", 3600),
    )


class Age(Schema):
    """Messages of one status that have waited for so long."""

    older_than_seconds = fields.Integer(metadata=about("They have waited for at least so long.", 3600))
    younger_than_seconds = fields.Integer(
        allow_none=True, metadata=about("And for less than this; null: however long.", 21_600)
    )
    at_least = fields.Integer(metadata=about(f"How many, counted up to {MAX_COUNTED:,}.", 12))
    is_exact = fields.Boolean(metadata=about("Whether that is all of them.", True))


class Waiting(Schema):
    """Overdue messages of one status."""

    status = fields.String(metadata=about("The status.", "submitted", enum=[word.value for word in PROGRESS]))
    ages = fields.List(fields.Nested(Age), metadata=about("How many, the youngest first."))
    oldest = fields.List(
        kinds.public_id("msg"),
        metadata=about(f"Ids of the {EXAMPLES} oldest.", ["msg_01k8z3r5t6e8vbyq0h4n2m7c9d"]),
    )


class Silent(Schema):
    """Overdue messages that the gateway took, or may have taken, and of which no receipt came at all."""

    at_least = fields.Integer(
        metadata=about(
            f"How many, among the {MAX_COUNTED:,} oldest each of those submitted and of those send_unknown.", 3
        )
    )
    is_exact = fields.Boolean(metadata=about("Whether that is all of them.", True))
    examples = fields.List(
        kinds.public_id("msg"),
        metadata=about(f"Ids of up to {EXAMPLES}, the oldest.", ["msg_01k8z3r5t6e8vbyq0h4n2m7c9d"]),
    )


class Overdue(Schema):
    """Messages that should have had a final report by now."""

    at = kinds.moment(metadata=about("When it was looked at.", "2026-01-31T09:30:00.000000Z"))
    older_than = fields.Integer(metadata=about("After how many seconds a message is overdue here.", 3600))
    statuses = fields.List(fields.Nested(Waiting), metadata=about("By status, those that occur."))
    without_receipt = fields.Nested(
        Silent,
        metadata={
            "description": "No receipt at all: many of these mean that the gateway does not call us. See PUBLIC_URL "
            "and DYNMARK_CALLBACK_ELEMENT."
        },
    )
