"""Receipts as operators see them, what can be done with them, and the explanation of a message's status."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from uuid import UUID

from marshmallow import ValidationError, fields, validate, validates_schema

from receiptsvc.bulk_actions import MAX_CHANGED
from receiptsvc.domain.inbox import Channel, ReceiptOutcome
from receiptsvc.domain.messages import SendOutcome
from receiptsvc.domain.numbers import INDEXED_DIGITS
from receiptsvc.domain.statuses import Effect
from receiptsvc.dynmark.transports import TRANSPORTS
from receiptsvc.store.core.paging import MAX_ROWS
from receiptsvc.store.inbox.receipt_references import ReferenceFilter
from receiptsvc.store.inbox.receipts import DISMISSIBLE, RETRIABLE, ReceiptEntry, ReceiptFilter
from receiptsvc.web.http import cursors
from receiptsvc.web.http import fields as kinds
from receiptsvc.web.http.cursors import Cursor
from receiptsvc.web.schemas import waiting
from receiptsvc.web.schemas.audits import Audit
from receiptsvc.web.schemas.base import Request, Schema, SchemaContext, about
from receiptsvc.web.schemas.messages import STATUSES, Transition

_OUTCOMES = [outcome.value for outcome in ReceiptOutcome]
_CHANNELS = [channel.value for channel in Channel]
_NAMES = tuple(field.name for field in dataclasses.fields(ReferenceFilter))
_CODES = ("channel", "providerStatusId", "providerDescription")

_A_MESSAGE = "msg_01k8z3r5t6e8vbyq0h4n2m7c9d"
_A_RECEIPT = "rcp_01k8z4a0b1c2d3e4f5g6h7j8k8"
_A_TIME = "2026-01-31T09:30:05.310000Z"


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _write_adoption(entry: ReceiptEntry) -> str | None:
    at = entry.adopt_at(SchemaContext.get().adopt_after)
    return kinds.write_moment(at) if at is not None else None


class Receipt(Schema):
    """A kept receipt and its outcome."""

    id = kinds.public_id("rcp", metadata=about("The receipt's id.", _A_RECEIPT))
    outcome = fields.String(metadata=about("What became of it.", "unmatched", enum=_OUTCOMES))
    reason = fields.String(
        allow_none=True,
        metadata=about(
            "Why it has this outcome, or what could not be read; while it is pending again, the last such reason.",
            "no message has its transactionID",
        ),
    )
    channel = fields.String(
        metadata=about(
            "The address it came to: a message's own, the account's, or that of replies.", "account", enum=_CHANNELS
        )
    )
    received_at = kinds.moment(metadata=about("When it reached us.", _A_TIME))
    processed_at = kinds.moment(
        allow_none=True, metadata=about("When it was last given an outcome; null: never yet.", _A_TIME)
    )
    tries = fields.Integer(metadata=about("How often processing it has failed; 0: never, or it is not pending.", 0))
    method = fields.String(metadata=about("The HTTP method it came by.", "GET"))
    message_id = kinds.public_id(
        "msg",
        allow_none=True,
        metadata=about(
            "The message it was recorded for; else the one that an operator matched it to, or that its address names.",
            None,
        ),
    )
    callback_id = kinds.public_id(
        "rcp",
        allow_none=True,
        metadata=about("The first receipt of its callback, which holds the bytes of all; null: it is the first.", None),
    )
    part = fields.Integer(metadata=about("Which of its callback's receipts it is; 0 for the first.", 0))
    candidates = fields.List(
        fields.String(), metadata=about("Ids of the messages that it fits equally well.", [_A_MESSAGE])
    )
    look_at = kinds.moment(
        allow_none=True,
        metadata=about("When the worker tries to match it again; null: never.", _A_TIME),
    )
    adopt_at = fields.Function(
        _write_adoption,
        metadata=about(
            "When it is taken for the receipt of another system's message, unless one fits before "
            "(`ADOPT_AFTER_SECONDS`); null: never.",
            _A_TIME,
            type=["string", "null"],
            format="date-time",
        ),
    )
    recipient = fields.String(
        allow_none=True,
        metadata=about(
            "The number it names, international digits where it could be read so; of a reply with a wrong key its "
            "sender. Of a receipt that was recorded with a word: its message's, and so the next two, unless it was "
            "matched by hand.",
            "447700900000",
        ),
    )
    transaction_id = fields.String(
        data_key="transactionID", allow_none=True, metadata=about("The transactionID it names.", "1234567")
    )
    client_ref = fields.String(allow_none=True, metadata=about("The clientRef it names.", "order/1234"))
    provider_status_id = fields.String(allow_none=True, metadata=about("The gateway's code, as it came.", "4"))
    provider_description = fields.String(allow_none=True, metadata=about("The gateway's description.", "Delivered"))
    key_id = fields.String(
        attribute="kid",
        allow_none=True,
        metadata=about("The short name of the callback key that it came with, if that key was wrong.", "k1"),
    )


class ReceiptTransition(Schema):
    """What a receipt led to."""

    status = fields.String(
        allow_none=True,
        metadata=about("The reported status; null: its code is not mapped.", "delivered", enum=[*STATUSES, None]),
    )
    effect = fields.String(
        metadata=about("What it did when it was recorded.", "applied", enum=[effect.value for effect in Effect])
    )
    rule = fields.String(metadata=about("How it found its message.", "token"))
    provider_status_id = fields.String(allow_none=True, metadata=about("The gateway's code, as it came.", "4"))
    provider_description = fields.String(allow_none=True, metadata=about("The gateway's description.", "Delivered"))
    occurred_at = kinds.moment(allow_none=True, metadata=about("The gateway's time; null: it gave none.", _A_TIME))
    recorded_at = kinds.moment(metadata=about("When it was recorded.", _A_TIME))
    superseded = fields.Function(
        lambda transition: transition.superseded_at is not None,
        metadata=about("Whether a later reading replaced it, so that it no longer counts.", False, type="boolean"),
    )


class ReceiptMessage(Schema):
    """The message of a receipt, by what receipts name."""

    recipient = fields.String(metadata=about("The number it went to.", "447700900000"))
    transaction_id = fields.String(
        data_key="transactionID", allow_none=True, metadata=about("The gateway's id.", "1234567")
    )
    client_ref = fields.String(allow_none=True, metadata=about("Your reference.", "order/1234"))


class ReceiptStory(Receipt):
    """A receipt as it came, what it led to, and what was done to it."""

    query = kinds.Coded(
        write=_decode,
        metadata=about(
            "The query of its callback as it came, our own secrets cut out; bytes that are not UTF-8 as \\xNN.",
            "statusid=4&transactionid=1234567",
            type="string",
        ),
    )
    body = kinds.Coded(write=_decode, metadata=about("The body of its callback, in the same form.", "", type="string"))
    content_type = fields.String(
        allow_none=True, metadata=about("The Content-Type of its callback.", "application/json")
    )
    content_encoding = fields.String(
        allow_none=True,
        metadata=about(
            "The Content-Encoding of its callback, whose body is shown as it came. Null, and the body unpacked, also "
            "where a secret of ours was in it.",
            "gzip",
        ),
    )
    transition = fields.Nested(
        ReceiptTransition, allow_none=True, metadata=about("What it led to; null: nothing was recorded.")
    )
    message = fields.Nested(
        ReceiptMessage, allow_none=True, metadata=about("The message that messageId names; null: there is none.")
    )
    audits = fields.List(
        fields.Nested(Audit), metadata=about(f"What was done to it, the earliest first; the newest {MAX_ROWS}.")
    )


class ReceiptQuery(Request):
    """Which receipts to list: those that fit every filter."""

    outcomes = kinds.Choices(
        _OUTCOMES,
        data_key="outcome",
        metadata=about("What became of it: one of these, repeated or separated by commas.", ["unmatched", "dead"]),
    )
    channel = kinds.choice(_CHANNELS, metadata=about("The address it came to.", "account"))
    message = kinds.message_id(
        attribute="message_id", metadata=about("The message that it was recorded for.", _A_MESSAGE)
    )
    recipient = kinds.phone_or_short_code(
        metadata=about(
            "The number it names, in any usual writing. With this, or one of the next six, only receipts are found "
            "that were not simply recorded: unmatched, quarantined, dead, unmapped, or dismissed after that.",
            "+44 7700 900000",
        )
    )
    recipient_ends = kinds.number_suffix(
        metadata=about(f"The last digits of that number, at least {INDEXED_DIGITS}.", "0000")
    )
    transaction_id = kinds.transaction_id(
        data_key="transactionID", metadata=about("The transactionID it names.", "1234567")
    )
    client_ref = kinds.client_ref(metadata=about("The clientRef it names.", "order/1234"))
    provider_status_id = kinds.text(max_length=500, metadata=about("The gateway's code, as it came.", "4"))
    provider_description = kinds.text(
        max_length=500, metadata=about("The gateway's whole description, in any case.", "Delivered")
    )
    key_id = kinds.text(
        attribute="kid",
        max_length=8,
        metadata=about("The short name of the wrong callback key that it came with.", "k1"),
    )
    since = kinds.query_moment(
        metadata=about("Arrived at this time or later, to the millisecond, by its id.", "2026-01-31T00:00:00Z")
    )
    until = kinds.query_moment(
        metadata=about("Arrived before this time, to the millisecond, by its id.", "2026-02-01T00:00:00Z")
    )
    limit = kinds.limit()
    cursor = kinds.cursor(cursors.RECEIPTS)

    @validates_schema
    def _check_outcomes(self, data: Mapping[str, Any], **_: object) -> None:
        """Refuse what would find nothing and look as if there were nothing."""
        fault = filter_of(data).fault
        if fault is not None:
            raise ValidationError(fault, "outcome")


def filter_of(query: Mapping[str, Any]) -> ReceiptFilter:
    """The filter of a `ReceiptQuery`."""
    return ReceiptFilter(
        outcomes=[ReceiptOutcome(outcome) for outcome in query.get("outcomes", ())],
        channel=Channel(query["channel"]) if "channel" in query else None,
        message_id=query.get("message_id"),
        names=ReferenceFilter(**{name: query[name] for name in _NAMES if name in query}),
        since=query.get("since"),
        until=query.get("until"),
    )


class ReceiptPage(Schema):
    """Some receipts, the newest first. A page may have fewer than asked for, or none, and still not be the last."""

    items = fields.List(fields.Nested(Receipt), metadata=about("The receipts."))
    next_cursor = kinds.next_cursor(cursors.RECEIPTS, attribute="next")


class _Reason(Request):
    """Why something is done to a receipt."""

    reason = kinds.reason(allow_none=True, metadata=about("Why; it is kept.", "the parser was mended"))


def _outcomes(possible: Sequence[ReceiptOutcome]) -> fields.List[str]:
    """One or several of these outcomes."""
    return fields.List(
        kinds.choice([outcome.value for outcome in possible]),
        validate=validate.Length(min=1),
        metadata=about("Receipts with one of these outcomes; without it, with any of them.", ["unmatched"]),
    )


def _rest(cursor: Cursor[UUID]) -> Any:
    return kinds.cursor(
        cursor,
        allow_none=True,
        metadata=about("The nextCursor of a call that was not complete, to continue from there."),
    )


class Retry(_Reason):
    """Why to process a receipt again. The whole body may be left out."""

    IS_OPTIONAL = True


class Restoration(_Reason):
    """Why to take a dismissal back. The whole body may be left out."""

    IS_OPTIONAL = True


class Match(_Reason):
    """Which message a receipt is about, and why."""

    message = kinds.message_id(attribute="message_id", required=True, metadata=about("The message's id.", _A_MESSAGE))
    any_recipient = kinds.Flag(
        load_default=False,
        metadata=about("Match it also if the receipt names another number than the message went to.", False),
    )


class Dismissal(Request):
    """Why to dismiss a receipt."""

    reason = kinds.reason(required=True, metadata=about("Why; it is kept.", "it is another system's test"))


class _Many(Request):
    """Which receipts are meant: those that fit every field sent."""

    RULES: ClassVar[Mapping[str, object]] = {
        "anyOf": [
            *({"required": [name]} for name in ("outcomes", *_CODES)),
            *({"required": [name], "properties": {name: {"type": "string"}}} for name in ("since", "until")),
            *({"required": [name], "properties": {name: {"const": True}}} for name in ("all", "dryRun")),
        ],
    }

    channel = kinds.choice(_CHANNELS, metadata=about("The address they came to.", "account"))
    provider_status_id = kinds.text(max_length=500, metadata=about("The gateway's code, as it came.", "77"))
    provider_description = kinds.text(
        max_length=500, metadata=about("The gateway's whole description, in any case.", "Who knows")
    )
    since = kinds.moment(
        allow_none=True,
        metadata=about("Received at this time or later, to the millisecond.", "2026-01-31T00:00:00Z"),
    )
    until = kinds.moment(
        allow_none=True, metadata=about("Received before this time, to the millisecond.", "2026-02-01T00:00:00Z")
    )
    is_all = kinds.Flag(data_key="all", metadata=about("Must be true without any of these: every one is meant.", False))
    dry_run = kinds.Flag(load_default=False, metadata=about("Only count them.", False))

    @validates_schema
    def _require_filter(self, data: Mapping[str, Any], **_: object) -> None:
        """An empty body would move every receipt: whoever means that has to say so."""
        given = filter_of(data)
        is_filtered = data.get("outcomes") or given != ReceiptFilter(outcomes=given.outcomes)
        if not (is_filtered or data["dry_run"] or data.get("is_all")):
            raise ValidationError("Must be true, unless another field says which are meant.", "all")


class Replay(_Many):
    """Which receipts to process again, and why."""

    RULES: ClassVar[Mapping[str, object]] = {
        **_Many.RULES,
        "examples": [{"outcomes": ["unmatched"], "dryRun": True}],
    }

    outcomes = _outcomes(RETRIABLE)
    reason = kinds.reason(allow_none=True, metadata=about("Why; it is kept.", "the parser was mended"))
    cursor = _rest(cursors.REPLAY)


class Dismissals(_Many):
    """Which receipts to dismiss, and why."""

    RULES: ClassVar[Mapping[str, object]] = {
        **_Many.RULES,
        "examples": [{"outcomes": ["unmatched"], "channel": "account", "reason": "a test", "dryRun": True}],
    }

    outcomes = _outcomes(DISMISSIBLE)
    reason = kinds.reason(required=True, metadata=about("Why; it is kept.", "it is another system's test"))
    cursor = _rest(cursors.DISMISS)


class Replayed(Schema):
    """What a replay did."""

    count = fields.Integer(
        metadata=about(f"How many receipts are pending again, or would be; at most {MAX_CHANGED:,} a call.", 12)
    )
    dry_run = fields.Boolean(metadata=about("Whether they were only counted.", False))
    is_complete = fields.Boolean(
        metadata=about("Whether those were all that fit; a call also stops when it has taken long.", True)
    )
    next_cursor = kinds.next_cursor(
        cursors.REPLAY, attribute="next", metadata=about("Ask with it for the rest; null: there is none.")
    )


class Dismissed(Replayed):
    """How many receipts were dismissed."""

    count = fields.Integer(
        metadata=about(f"How many receipts were dismissed, or would be; at most {MAX_CHANGED:,} a call.", 12)
    )
    next_cursor = kinds.next_cursor(
        cursors.DISMISS, attribute="next", metadata=about("Ask with it for the rest; null: there is none.")
    )


class ExplainedReport(Transition):
    """A report, and what it means for the status."""

    superseded_at = kinds.moment(
        allow_none=True,
        metadata=about("When a later reading of its receipt replaced it; null: it counts.", None),
    )
    is_winner = fields.Boolean(metadata=about("Whether the status comes from it.", True))
    why = fields.String(
        metadata=about("What it did when it was recorded.", "It changed the status from sent to delivered.")
    )


class Attempt(Schema):
    """One try to give the message to the gateway."""

    number = fields.Integer(metadata=about("1 for the first.", 1))
    transport = fields.String(metadata=about("The transport it used.", next(iter(TRANSPORTS))))
    started_at = kinds.moment(metadata=about("When it began.", _A_TIME))
    ended_at = kinds.moment(allow_none=True, metadata=about("When it ended; null: it has not.", _A_TIME))
    outcome = fields.String(
        allow_none=True,
        metadata=about(
            "How it ended; null: it has not.", "taken", enum=[*(outcome.value for outcome in SendOutcome), None]
        ),
    )
    transaction_id = fields.String(
        data_key="transactionID", allow_none=True, metadata=about("The id that the gateway answered.", "1234567")
    )
    return_code = fields.String(allow_none=True, metadata=about("The gateway's code.", "0"))
    return_description = fields.String(allow_none=True, metadata=about("The gateway's description, or ours.", None))
    return_detail = fields.String(allow_none=True, metadata=about("The gateway's longer description.", None))


class GivenTransaction(Schema):
    """A transactionID of the message."""

    transaction_id = fields.String(data_key="transactionID", metadata=about("The gateway's id.", "1234567"))
    source = fields.String(
        metadata=about("Where it came from: the answer to a call, or a receipt.", "answer", enum=["answer", "receipt"])
    )
    noted_at = kinds.moment(metadata=about("When it was first recorded.", _A_TIME))


class Delays(Schema):
    """How long each part of the way took, in seconds; null where its start or end is not known."""

    accepted_to_offered = fields.Float(
        allow_none=True, metadata=about("From its acceptance to the start of the first call to the gateway.", 0.2)
    )
    offered_to_submitted = fields.Float(
        allow_none=True, metadata=about("From there until we knew that the gateway took it.", 0.3)
    )
    submitted_to_final = fields.Float(
        allow_none=True,
        metadata=about(
            "From there to the final report, by the gateway's time where it gave one. Its clock may differ from ours, "
            "so this may be below 0.",
            3.6,
        ),
    )
    provider_to_received = fields.Float(
        allow_none=True,
        metadata=about("From the gateway's time in the deciding report until that reached us.", 1.2),
    )


class Explanation(Schema):
    """Why a message has its status."""

    id = kinds.public_id("msg", metadata=about("The message's id.", _A_MESSAGE))
    created_at = kinds.moment(metadata=about("When it was accepted.", "2026-01-31T09:30:00.000000Z"))
    status = fields.String(metadata=about("Its status.", "delivered", enum=STATUSES))
    status_at = kinds.moment(metadata=about("Since when the status holds.", _A_TIME))
    waiting_seconds = waiting.waiting_seconds()
    overdue = waiting.overdue()
    conflict = fields.Boolean(metadata=about("Whether the gateway's reports hold more than one final word.", False))
    because = fields.String(
        metadata=about(
            "Which report the status comes from, and why that one counts.",
            "The gateway said: 1 · Delivered, at 2026-01-31T09:30:04Z by its own clock, which means delivered; that is "
            "a final word, and it has given no other.",
        )
    )
    reports = fields.List(
        fields.Nested(ExplainedReport),
        metadata=about(
            "Everything recorded for it, superseded readings too, in the order recorded; of many, those that the "
            "message itself shows."
        ),
    )
    transition_count = fields.Integer(metadata=about("How many there are.", 2))
    transitions_cursor = kinds.next_cursor(
        cursors.TRANSITIONS,
        attribute="rest_after",
        metadata=about("Where those begin that are left out here; null: none is.", None),
    )
    attempts = fields.List(fields.Nested(Attempt), metadata=about("Every try to give it to the gateway."))
    transactions = fields.List(
        fields.Nested(GivenTransaction), metadata=about("Every transactionID that it was ever given.")
    )
    delays = fields.Nested(Delays, metadata=about("How long each part of the way took."))
