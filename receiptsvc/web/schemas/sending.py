"""Schemas of the sending state, and of what an operator does about messages that are on their way."""

from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import ValidationError, fields, validates_schema

from receiptsvc.bulk_actions import MAX_CHANGED
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.domain.statuses import RESOLUTIONS
from receiptsvc.store.outbound.accounts import MAX_SHOWN
from receiptsvc.store.outbound.next_due import MAX_WAITING
from receiptsvc.web.http import fields as kinds
from receiptsvc.web.schemas.base import Request, Schema, about

COUNTED = (ReceiptOutcome.UNMAPPED, ReceiptOutcome.UNMATCHED, ReceiptOutcome.QUARANTINED, ReceiptOutcome.DEAD)
NO_WORKER = "no worker is at work"

_EXAMPLE_TIME = "2026-01-31T09:30:05.310000Z"
_RESOLUTIONS = [status.value for status in RESOLUTIONS]
_FILTERS = ("clientRef", "clientRefPrefix", "recipient", "originator", "createdBy", "since", "until")


class AccountState(Schema):
    """An account that the gateway refuses, or may refuse."""

    name = fields.String(
        allow_none=True, metadata=about("The impersonateUserName; null: the account without one.", "client-7")
    )
    refused_at = kinds.moment(
        allow_none=True, metadata=about("Since when the gateway refuses it; null: it may refuse it.", _EXAMPLE_TIME)
    )
    suspected_at = kinds.moment(
        allow_none=True,
        metadata=about(
            "Since when an answer leaves open whether the account is refused, or one call only. The messages of such "
            "calls wait, and the next call of the account decides.",
            None,
        ),
    )
    next_try_at = kinds.moment(
        allow_none=True,
        metadata=about(
            "When one message is offered to see; one that waits, only if no other is due. Null: none that waits may be "
            "offered again before another one shows it.",
            _EXAMPLE_TIME,
        ),
    )
    waiting = fields.Integer(metadata=about("How many messages wait until that is decided.", 0))


class GatewayFault(Schema):
    """What a worker's calls show to be wrong with the gateway itself."""

    fault = fields.String(metadata=about("What is wrong.", "no connection to the gateway: ConnectionRefusedError"))
    since = kinds.moment(
        metadata=about("When the first call began that found it, without a good one since.", _EXAMPLE_TIME)
    )


class LastPause(Schema):
    """A pause that is over."""

    paused_at = kinds.moment(metadata=about("When it began.", _EXAMPLE_TIME))
    paused_by = fields.String(metadata=about("Which API key paused.", "desk"))
    reason = fields.String(metadata=about("Why, in the words of who did it.", "wrong texts"))
    resumed_at = kinds.moment(metadata=about("When it ended.", _EXAMPLE_TIME))
    resumed_by = fields.String(metadata=about("Which API key resumed.", "desk"))
    resume_reason = fields.String(allow_none=True, metadata=about("Why it ended.", "the wrong ones are cancelled"))


class Finding(Schema):
    """Something that is not as it should be."""

    name = fields.String(
        metadata=about("Its kind, which stays the same while the text changes; the log has it too.", "worker_unseen")
    )
    text = fields.String(metadata=about("What it is, in words.", NO_WORKER))


class SendingState(Schema):
    """Whether messages go out and receipts come back, and if not, why."""

    can_send = fields.Boolean(
        metadata=about("Whether the service has a gateway account: DYNMARK_USERNAME and DYNMARK_PASSWORD.", True)
    )
    paused = fields.Boolean(metadata=about("Whether an operator has paused sending.", False))
    paused_at = kinds.moment(allow_none=True, metadata=about("Since when it is paused.", None))
    paused_by = fields.String(allow_none=True, metadata=about("Which API key paused it.", None))
    reason = fields.String(
        attribute="pause_reason", allow_none=True, metadata=about("Why, in the words of who did it.", None)
    )
    last_pause = fields.Nested(
        LastPause, allow_none=True, metadata={"description": "The last pause, once it is over; null: there is none."}
    )
    waiting = fields.Integer(
        metadata=about(
            f"How many messages wait to be given to the gateway, now or at another try; at most {MAX_WAITING:,} are "
            "counted.",
            2,
        )
    )
    waiting_since = kinds.moment(
        allow_none=True, metadata=about("Since when the first of them waits; null: none does.", _EXAMPLE_TIME)
    )
    account_refused_at = kinds.moment(
        allow_none=True,
        metadata=about(
            "Since when the gateway refuses our credentials, or the account without an impersonateUserName; null: it "
            "does not.",
            None,
        ),
    )
    next_probe_at = kinds.moment(
        allow_none=True,
        metadata=about("When one message is offered to see whether it takes them again.", None),
    )
    accounts = fields.List(
        fields.Nested(AccountState),
        metadata=about(f"Accounts that are refused, or may be, each by itself; at most {MAX_SHOWN}.", []),
    )
    overdue = fields.Integer(
        metadata=about("Messages that stay send_unknown: their answer was lost, and they are not offered again.", 0)
    )
    workers = fields.Integer(metadata=about("How many workers have shown themselves lately; 0: nothing is sent.", 1))
    worker_seen_at = kinds.moment(
        allow_none=True,
        metadata=about("When a worker last showed itself, or ended; null: there was none.", _EXAMPLE_TIME),
    )
    gateway_faults = fields.List(
        fields.Nested(GatewayFault),
        metadata=about("Since when the gateway can't be reached, or leaves calls without a clear answer.", []),
    )
    messages_late_seconds = fields.Float(
        metadata=about("How long the first message has waited though it is due and nothing holds sending.", 0.0)
    )
    receipts_late_seconds = fields.Float(
        metadata=about("How long the first receipt has waited to be worked on though it is due.", 0.0)
    )
    no_receipts = fields.Boolean(
        metadata=about("Whether messages wait for receipts, and none has come for half an hour.", False)
    )
    callbacks_refused = fields.Integer(
        metadata=about("Callbacks of the last hour's sample that claim a key which is not listed.", 0)
    )
    unmapped = fields.Integer(metadata=about("Receipts with a code that has no meaning here: see STATUS_MAP.", 0))
    unmatched = fields.Integer(metadata=about("Receipts that fit no message yet.", 0))
    quarantined = fields.Integer(metadata=about("Receipts that can't be read, or came with a wrong key.", 0))
    dead = fields.Integer(metadata=about("Receipts on which work failed again and again.", 0))
    findings = fields.List(
        fields.Nested(Finding), metadata=about("What of these numbers is not as it should be, by its kind.")
    )
    degraded = fields.List(fields.String(), metadata=about("The texts of the findings.", [NO_WORKER]))


class Pause(Request):
    """Why sending is to stop."""

    reason = kinds.reason(required=True, metadata=about("Why; it is shown to everybody who asks.", "wrong texts"))


class OptionalReason(Request):
    """Why something is done. It may be left out, and so may the whole body."""

    IS_OPTIONAL = True

    reason = kinds.reason(metadata=about("Why, for the record.", "the customer called"))


class Resolution(Request):
    """What became of a message, as a person found out."""

    status = kinds.choice(
        _RESOLUTIONS,
        required=True,
        metadata=about("What it is from now on, unless a receipt says otherwise.", "submitted"),
    )
    reason = kinds.reason(required=True, metadata=about("How that is known.", "seen in the gateway's portal"))


class Cancellation(Request):
    """Which messages to cancel: those that match every field sent and were not yet given to the gateway."""

    RULES: ClassVar[Mapping[str, object]] = {"anyOf": [{"required": [name]} for name in _FILTERS]}

    client_ref = kinds.client_ref(metadata=about("Their clientRef.", "campaign-7"))
    client_ref_prefix = kinds.text(max_length=64, metadata=about("How their clientRef begins.", "campaign-"))
    recipient = kinds.phone_number(metadata=about("Whom they go to, in any usual writing.", "+44 7700 900000"))
    originator = kinds.text(max_length=16, metadata=about("Their sender, exactly as it was given.", "ACME"))
    created_by = kinds.text(max_length=100, metadata=about("The name of the API key that sent them.", "shop"))
    since = kinds.query_moment(metadata=about("Accepted at this time or later.", _EXAMPLE_TIME))
    until = kinds.query_moment(metadata=about("Accepted before this time.", _EXAMPLE_TIME))
    scheduled = kinds.Flag(
        load_default=False, metadata=about("Only those that wait here until their deliverAfter.", True)
    )
    reason = kinds.reason(metadata=about("Why, for the record.", "wrong texts"))
    dry_run = kinds.Flag(load_default=False, metadata=about("Only count them.", True))

    @validates_schema
    def _require_filter(self, data: Mapping[str, Any], **_: object) -> None:
        """Without a filter the request would cancel every message, so it is refused."""
        if not data.keys() - {"reason", "dry_run", "scheduled"}:
            raise ValidationError(f"Must name at least one of {', '.join(_FILTERS)}.")


class Cancelled(Schema):
    """How many messages were cancelled."""

    cancelled = fields.Integer(
        attribute="count", metadata=about("How many were; with dryRun, how many would be.", 9731)
    )
    is_complete = fields.Boolean(
        metadata=about(f"Whether these were all; a call goes on for some seconds, and to some {MAX_CHANGED:,}.", True),
    )
    dry_run = fields.Boolean(metadata=about("Whether they were only counted.", False))
