"""Statistics by hour or day, and overdue messages."""

from marshmallow import fields, validate

from receiptsvc.domain.failures import FailureReason
from receiptsvc.domain.meanings import FAILURE_REASONS
from receiptsvc.domain.numbers import MAX_PREFIX
from receiptsvc.domain.statuses import PROGRESS, Effect
from receiptsvc.domain.waiting import OVERDUE_AFTER
from receiptsvc.store.inbox.receipts import MAX_UNMATCHED
from receiptsvc.store.messages.hourly_counts import MAX_STATUS_ID
from receiptsvc.store.queries.breakdowns import By as BreakBy
from receiptsvc.store.queries.failed_messages import FAILED
from receiptsvc.store.queries.failures import MAX_READ
from receiptsvc.store.queries.overdue import EXAMPLES, MAX_COUNTED
from receiptsvc.store.queries.statistics import DAYS_BY, By
from receiptsvc.web.http import cursors
from receiptsvc.web.http import fields as kinds
from receiptsvc.web.schemas.base import Request, Schema, about, example_of
from receiptsvc.web.schemas.messages import STATUSES, Message

_DAY_SECONDS = 86_400


class StatisticsQuery(Request):
    """The period, its unit, and which messages to count."""

    since = kinds.query_moment(
        metadata=about(
            "From the hour or UTC day that contains this time; without it one day by hour, or 30 days by day.",
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
            f"The length of each item's period: hour for up to {DAYS_BY[By.HOUR]} days, "
            f"day for up to {DAYS_BY[By.DAY]}. Without it {By.HOUR.value}.",
            "hour",
        ),
    )
    originator = kinds.text(
        min_length=0,
        max_length=16,
        metadata=about("Only this sender's messages, exactly as it was given; empty: those without one.", "ACME"),
    )
    statuses = kinds.Choices(
        STATUSES,
        data_key="status",
        metadata=about(
            "Count only messages of these statuses, repeated or separated by commas; rate and delays remain those of "
            "all.",
            ["delivered"],
        ),
    )


class DeliveryTimes(Schema):
    """How long messages took from their first offer to their delivery, in seconds.

    Counted in classes, each a tenth longer than the one before; a number is the end of a class. So it may be up to a
    tenth too long and is never too short, and everything under a second reads 1.
    """

    p50 = fields.Float(metadata=about("Half of them took no longer.", 4.177))
    p95 = fields.Float(metadata=about("19 of 20 took no longer.", 17.449))
    p99 = fields.Float(metadata=about("99 of 100 took no longer.", 89.302))


class Count(Schema):
    """The counts of a period."""

    messages = fields.Integer(metadata=about("Messages accepted in this period.", 120))
    statuses = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        metadata=about(
            "How many of them have which status now; only statuses that occur.", {"delivered": 118, "sent": 2}
        ),
    )
    delivery_rate = fields.Float(
        allow_none=True,
        metadata=about("The share of delivered among those with a final status, 0 to 1; null: none has one.", 0.983),
    )
    seconds_to_delivery = fields.Nested(
        DeliveryTimes,
        allow_none=True,
        metadata={"description": "Delivery times of the delivered messages; null: none is delivered."},
    )
    receipts = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        allow_none=True,
        metadata=about(
            "Receipts that came in this period: those that found their message, by "
            f"effect ({', '.join(effect.value for effect in Effect)}), and as unmatched those that fit none now. "
            "Null: an originator was asked for.",
            {"applied": 230, "duplicate": 4, "unmatched": 1},
        ),
    )
    receipts_per_hour = fields.Float(
        allow_none=True, metadata=about("The same per hour; null: an originator was asked for.", 234.0)
    )


class Period(Count):
    """The counts of one hour or UTC day."""

    start = kinds.moment(metadata=about("When it begins.", "2026-01-30T09:00:00.000000Z"))


class Statistics(Schema):
    """The counts by hour or day. Periods in which nothing happened are left out."""

    at = kinds.moment(metadata=about("When it was counted.", "2026-01-31T09:30:00.000000Z"))
    since = kinds.moment(metadata=about("The beginning of the first period.", "2026-01-30T00:00:00.000000Z"))
    until = kinds.moment(metadata=about("The end of the last period.", "2026-01-31T00:00:00.000000Z"))
    by = fields.String(metadata=about("The length of each period.", "hour", enum=[by.value for by in By]))
    total = fields.Nested(Count, metadata={"description": "The sum of all periods."})
    unmatched_is_bounded = fields.Boolean(
        metadata=about(f"Whether there are more unmatched receipts than the newest {MAX_UNMATCHED:,}.", False)
    )
    items = fields.List(fields.Nested(Period), metadata=about("The periods in which something happened, by time."))


class FailuresQuery(Request):
    """Which failed messages are counted, and how many numbers to give."""

    since = kinds.query_moment(
        metadata=about("Accepted at this time or later; without it a day before until.", "2026-01-30T00:00:00Z")
    )
    until = kinds.query_moment(metadata=about("Accepted before this time; without it now.", "2026-01-31T00:00:00Z"))
    statuses = kinds.Choices(
        STATUSES,
        data_key="status",
        load_default=FAILED,
        metadata=about(
            f"Their statuses now, repeated or separated by commas; without it {', '.join(FAILED)}.", ["undelivered"]
        ),
    )
    originator = kinds.text(
        max_length=16, metadata=about("Only this sender's messages, exactly as it was given.", "ACME")
    )
    limit = kinds.limit("How many numbers at most.")


class FailingNumber(Schema):
    """A number and its failed messages."""

    recipient = fields.String(metadata=about("The number.", "447700900000"))
    failures = fields.Integer(metadata=about("How many of its messages failed.", 3))
    statuses = fields.Dict(
        keys=fields.String(), values=fields.Integer(), metadata=about("How many have which status.", {"undelivered": 3})
    )
    last_at = kinds.moment(metadata=about("When the newest of them was accepted.", "2026-01-30T17:20:00.000000Z"))
    last_message_id = kinds.public_id("msg", metadata=about("Its id.", "msg_01k8z3r5t6e8vbyq0h4n2m7c9d"))


class Failures(Schema):
    """The numbers with the most failed messages."""

    at = kinds.moment(metadata=about("When they were counted.", "2026-01-31T09:30:00.000000Z"))
    since = kinds.moment(metadata=about("The beginning of the period.", "2026-01-30T00:00:00.000000Z"))
    until = kinds.moment(metadata=about("Its end.", "2026-01-31T00:00:00.000000Z"))
    messages = fields.Integer(metadata=about("How many failed messages were counted.", 240))
    is_bounded = fields.Boolean(
        metadata=about(f"Whether there are more than the newest {MAX_READ:,}, and only these were counted.", False)
    )
    counted_since = kinds.moment(
        allow_none=True,
        metadata=about("If it is bounded: those accepted at this time or later were counted. Else null.", None),
    )
    items = fields.List(fields.Nested(FailingNumber), metadata=about("The numbers, most failures first."))


class FailedQuery(Request):
    """Which failed messages to list: those that have all that is given in common, as the breakdowns have it."""

    since = kinds.query_moment(
        metadata=about("Accepted at this time or later; without it a day before until.", "2026-01-30T00:00:00Z")
    )
    until = kinds.query_moment(metadata=about("Accepted before this time; without it now.", "2026-01-31T00:00:00Z"))
    originator = kinds.text(
        min_length=0,
        max_length=16,
        metadata=about("From this sender, exactly as it was given; empty: from none.", "ACME"),
    )
    calling_code = kinds.text(min_length=0, max_length=3, metadata=about("To numbers with this calling code.", "44"))
    prefix = kinds.text(
        min_length=0,
        max_length=MAX_PREFIX,
        metadata=about("With these digits after it, as the breakdown by prefix has them.", "7700"),
    )
    provider_status_id = kinds.text(
        attribute="status_id",
        max_length=MAX_STATUS_ID,
        metadata=about("That were reported as failed with this code, as the breakdown by code has it.", "3"),
    )
    reason = kinds.choice(
        [reason.value for reason in FailureReason],
        metadata=about("That were reported as failed for a reason of this class.", FailureReason.UNREACHABLE.value),
    )
    limit = kinds.limit()
    cursor = kinds.cursor(cursors.FAILED)


class FailedPage(Schema):
    """Some failed messages. A page may have fewer than asked for, or none, and still not be the last."""

    items = fields.List(fields.Nested(Message), metadata=about("The messages, the newest first."))
    next_cursor = kinds.next_cursor(cursors.FAILED, attribute="next")


class BreakdownQuery(Request):
    """The period, and what to break it down by."""

    by = kinds.choice(
        [word.value for word in BreakBy],
        required=True,
        metadata=about(
            "originator: final messages by their sender. country: final messages by calling code. prefix: failed "
            f"messages by the first digits after it, up to {MAX_PREFIX}. providerStatusId: receipts by the gateway's "
            "code. reason: reports of failure by class of reason, so that a message that was delivered after all may "
            "be among them.",
            "country",
        ),
    )
    since = kinds.query_moment(
        metadata=about("From the hour that contains this time; without it a day.", "2026-01-30T00:00:00Z")
    )
    until = kinds.query_moment(
        metadata=about("Up to the end of the hour before this time; without it now.", "2026-01-31T00:00:00Z")
    )
    limit = kinds.limit("How many groups at most.")


class Group(Schema):
    """A part of the messages or receipts. What it is not grouped by is null."""

    originator = fields.String(
        allow_none=True, metadata=about("The sender of the messages; empty: they have none of their own.", "ACME")
    )
    calling_code = fields.String(
        allow_none=True, metadata=about("The calling code of the numbers; empty: they have none.", "44")
    )
    countries = fields.List(
        fields.String(),
        allow_none=True,
        metadata=about("The countries that share this code (ISO 3166-1 alpha-2), the main one first.", ["GB", "JE"]),
    )
    prefix = fields.String(
        allow_none=True, metadata=about("The digits after the calling code; empty: the number is too short.", "7700")
    )
    provider_status_id = fields.String(
        attribute="status_id", allow_none=True, metadata=about("The gateway's code; a long one is cut.", "7")
    )
    reason = fields.String(
        allow_none=True,
        metadata=about(
            "The class of what the gateway's description, or our own step, gives as the reason. "
            + "; ".join(f"{reason.value}: {meaning.means}" for reason, meaning in FAILURE_REASONS.items())
            + ".",
            FailureReason.UNREACHABLE.value,
            enum=[*(reason.value for reason in FailureReason), None],
        ),
    )
    count = fields.Integer(
        metadata=about("How many there are: messages by sender, country and prefix, else receipts and own steps.", 120)
    )
    statuses = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        metadata=about(
            "By status: of messages their present one, of receipts the reported one, or unmapped.",
            {"delivered": 118, "undelivered": 2},
        ),
    )
    delivery_rate = fields.Float(
        allow_none=True,
        metadata=about(
            "By sender and by country: the share of delivered among these final messages, 0 to 1. Else null.", 0.983
        ),
    )
    first_hour = kinds.moment(
        metadata=about("The first hour of the period in which there were any.", "2026-01-30T09:00:00.000000Z")
    )
    last_hour = kinds.moment(metadata=about("The last one.", "2026-01-30T23:00:00.000000Z"))


class Breakdown(Schema):
    """What was counted, in groups. Messages by the time of their acceptance, receipts by that of their arrival."""

    at = kinds.moment(metadata=about("When it was counted.", "2026-01-31T09:30:00.000000Z"))
    since = kinds.moment(metadata=about("The beginning of the period.", "2026-01-30T00:00:00.000000Z"))
    until = kinds.moment(metadata=about("Its end.", "2026-01-31T00:00:00.000000Z"))
    by = fields.String(metadata=about("What it is broken down by.", "country", enum=[by.value for by in BreakBy]))
    counted_since = kinds.moment(
        allow_none=True,
        metadata=about("An earlier release did not count this: since when it is. Null: from the beginning on.", None),
    )
    statuses = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        metadata=about("All groups together, those too that are not given.", {"delivered": 118, "undelivered": 2}),
    )
    is_bounded = fields.Boolean(metadata=about("Whether there are more groups than are given.", False))
    items = fields.List(
        fields.Nested(Group),
        metadata=about(
            "The groups, the largest first.",
            [example_of(Group, originator=None, prefix=None, providerStatusId=None, reason=None)],
        ),
    )


class OverdueQuery(Request):
    """After how long a message's final report is overdue."""

    older_than = fields.Integer(
        load_default=int(OVERDUE_AFTER.total_seconds()),
        validate=validate.Range(0, 366 * _DAY_SECONDS),
        metadata=about("Seconds without a final report, counted from its acceptance or its deliverAfter.", 3600),
    )


class Age(Schema):
    """Messages of one status, by how long they have waited."""

    older_than_seconds = fields.Integer(metadata=about("They have waited for at least this long.", 3600))
    younger_than_seconds = fields.Integer(
        allow_none=True, metadata=about("And for less than this; null: no upper bound.", 21_600)
    )
    at_least = fields.Integer(metadata=about(f"How many there are, counted up to {MAX_COUNTED:,}.", 12))
    is_exact = fields.Boolean(metadata=about("Whether all of them were counted.", True))


class Waiting(Schema):
    """Overdue messages of one status."""

    status = fields.String(metadata=about("The status.", "submitted", enum=[status.value for status in PROGRESS]))
    ages = fields.List(fields.Nested(Age), metadata=about("How many there are by age, the youngest first."))
    oldest = fields.List(
        kinds.public_id("msg"),
        metadata=about(f"Ids of the {EXAMPLES} oldest.", ["msg_01k8z3r5t6e8vbyq0h4n2m7c9d"]),
    )


class Silent(Schema):
    """Overdue messages that the gateway took or may have taken, and that have no receipt at all."""

    at_least = fields.Integer(
        metadata=about(
            f"How many there are among the {MAX_COUNTED:,} oldest submitted and the {MAX_COUNTED:,} oldest "
            "send_unknown messages.",
            3,
        )
    )
    is_exact = fields.Boolean(metadata=about("Whether all of them were counted.", True))
    examples = fields.List(
        kinds.public_id("msg"),
        metadata=about(f"Ids of up to {EXAMPLES}, the oldest.", ["msg_01k8z3r5t6e8vbyq0h4n2m7c9d"]),
    )


class Overdue(Schema):
    """Messages that should have had a final report by now."""

    at = kinds.moment(metadata=about("When they were counted.", "2026-01-31T09:30:00.000000Z"))
    older_than = fields.Integer(metadata=about("After how many seconds a message is overdue here.", 3600))
    statuses = fields.List(fields.Nested(Waiting), metadata=about("The overdue messages by status."))
    without_receipt = fields.Nested(
        Silent,
        metadata={
            "description": "Those without any receipt: many of them mean that the gateway does not call us. See "
            "PUBLIC_URL and DYNMARK_CALLBACK_ELEMENT."
        },
    )
