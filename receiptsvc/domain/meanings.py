"""What each status, effect, outcome and rule means, in words: the one place where that is written.

`/docs`, docs/api.md and docs/statuses.md are made from it (`make api-docs`). Nothing is decided here: the fold is in
`statuses`, the rules are applied by the worker.
"""

from collections.abc import Mapping
from typing import NamedTuple

from receiptsvc.domain import correlation, gateway_clock
from receiptsvc.domain.failures import FailureReason
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.domain.operator_actions import CANCELLED_BY_HAND, RESOLVED_BY_HAND
from receiptsvc.domain.statuses import RESOLUTIONS, Effect, Status


class Meaning(NamedTuple):
    """A word's meaning. `more`: whole sentences, such as an example; it may be empty."""

    means: str
    more: str = ""


class OutcomeMeaning(NamedTuple):
    """An outcome's meaning, and what an operator does about a receipt that has it."""

    means: str
    action: str = "nothing"


class StepMeaning(NamedTuple):
    """A step of our own: the statuses that it may report, and what happened."""

    statuses: tuple[Status, ...]
    means: str


# In rank order.
STATUSES: Mapping[Status, Meaning] = {
    Status.ACCEPTED: Meaning(
        "recorded here, to be given to the gateway",
        "It waits for its turn, for its `deliverAfter`, or until it is known whether the gateway refuses its account: "
        "`explain` says what holds it, and `GET /v1/sending` what holds sending.",
    ),
    Status.SEND_UNKNOWN: Meaning(
        "offered to the gateway, whose answer was lost: the gateway may have it",
        "It is offered again where that cannot make a second SMS; otherwise a receipt settles it, or a person.",
    ),
    Status.SUBMITTED: Meaning("the gateway took it", "Or another system sent it, and its receipts made it known here."),
    Status.SENT: Meaning("handed to a network", 'The gateway says, for example, "Message sent".'),
    Status.DELIVERED: Meaning("on the handset", 'For example "Delivered".'),
    Status.UNDELIVERED: Meaning("will not arrive", 'For example "Undeliverable".'),
    Status.EXPIRED: Meaning(
        "too old to deliver",
        'For example "Validity period expired". Or its `validUntil` passed before it was ever offered; then the '
        'reason is "never sent".',
    ),
    Status.REJECTED: Meaning("a network or the gateway refused to carry it", 'For example "Blocked".'),
    Status.FAILED: Meaning(
        "the gateway refused the submission, or a person settled it so",
        "The transition's `reason` is what the gateway said, or who settled it and why.",
    ),
    Status.CANCELLED: Meaning(
        "taken back before it was given to the gateway",
        "By `POST /v1/messages/cancel`, or because its recipient has been suppressed since, by an opt-out or by hand.",
    ),
}

# In the order in which they are tried: the first that fits is the effect.
EFFECTS: Mapping[Effect, Meaning] = {
    Effect.UNMAPPED: Meaning(
        "its code has no known meaning, so it changes nothing",
        'For example `statusid=77` with the description "Foo"; `STATUS_MAP` can name it.',
    ),
    Effect.DUPLICATE: Meaning(
        "the gateway had reported exactly this before", "The same provider id, description and provider time."
    ),
    Effect.CONFLICTING: Meaning(
        "a final status, after the gateway had reported a different one", "For example `expired` after `delivered`."
    ),
    Effect.STALE: Meaning("it left the status as it was", "For example `sent` after `delivered`."),
    Effect.APPLIED: Meaning("it changed the status", "For example the first `delivered`."),
}

OUTCOMES: Mapping[ReceiptOutcome, OutcomeMeaning] = {
    ReceiptOutcome.PENDING: OutcomeMeaning(
        "kept; not yet worked on, or to be tried again",
        "nothing; `oldestPendingSeconds` in the ledger shows whether the worker is behind",
    ),
    **{ReceiptOutcome(effect.value): OutcomeMeaning(meaning.means) for effect, meaning in EFFECTS.items()},
    ReceiptOutcome.UNMAPPED: OutcomeMeaning(
        EFFECTS[Effect.UNMAPPED].means,
        "name the code in `STATUS_MAP`, then run `python -m receiptsvc rebuild --apply`",
    ),
    ReceiptOutcome.UNMATCHED: OutcomeMeaning(
        "it fits no message, or several; it waits in the parking lot",
        "nothing: it is matched when a message comes to fit. Or match it by hand, or dismiss it",
    ),
    ReceiptOutcome.QUARANTINED: OutcomeMeaning(
        "it cannot be read, contradicts itself, or came with a wrong key", "look at it, then retry, match or dismiss it"
    ),
    ReceiptOutcome.DEAD: OutcomeMeaning("working on it failed eight times", "look at its reason, then retry it"),
    ReceiptOutcome.DISMISSED: OutcomeMeaning("an operator set it aside, with a reason"),
}

_COMPARE = (
    "compare it with the message that has its clientRef and number: is `DYNMARK_TIMEZONE` right? Once it is, retry it; "
    "or match it by hand, or dismiss it"
)


def action_for(outcome: ReceiptOutcome, reason: str | None) -> str:
    """What an operator does about a receipt that has an outcome for this reason."""
    is_time = reason == correlation.UNFITTING or gateway_clock.read_hint(reason) is not None
    return _COMPARE if outcome is ReceiptOutcome.UNMATCHED and is_time else OUTCOMES[outcome].action


# Why a message failed, as classes for statistics. In the order in which the gateway's words are tried, then our own.
FAILURE_REASONS: Mapping[FailureReason, Meaning] = {
    FailureReason.UNKNOWN_NUMBER: Meaning("there is no such subscriber", 'For example "Unknown subscriber".'),
    FailureReason.BLOCKED: Meaning(
        "the person, the network or a filter keeps it away", 'For example "Blacklisted" or "Call barred".'
    ),
    FailureReason.CREDIT: Meaning(
        "the account or the handset has no credit left", 'For example "Insufficient credit".'
    ),
    FailureReason.EXPIRED: Meaning(
        "it became too old to deliver", 'For example "Validity period expired"; or `expired` without another reason.'
    ),
    FailureReason.UNREACHABLE: Meaning(
        "the handset is off, away, busy or full", 'For example "Absent subscriber" or "Memory full".'
    ),
    FailureReason.NETWORK: Meaning("a fault of a network or a route", 'For example "Network congestion".'),
    FailureReason.UNSAID: Meaning(
        "the gateway gave no reason: no description, or one that only says that it failed",
        'For example "Undeliverable".',
    ),
    FailureReason.OTHER: Meaning("its description is in none of these classes"),
    FailureReason.REFUSED: Meaning("the gateway did not take it when it was sent", "Its status is `failed`."),
    FailureReason.NEVER_SENT: Meaning("its `validUntil` passed before it was given to the gateway"),
    FailureReason.BY_HAND: Meaning("a person settled it as failed", "By `POST /v1/messages/{id}/resolve`."),
}

# How a receipt found its message, in the order in which the rules are tried.
MATCHING_RULES: Mapping[str, Meaning] = {
    "matched by hand": Meaning("an operator said so"),
    "token": Meaning(
        "it came to the callback URL that was given with just this message",
        "It is quarantined if its recipient is not the message's, or if a send's answer gave its transactionID and "
        "recipient to another message.",
    ),
    "transactionID and recipient": Meaning(
        "a send's answer, or an earlier receipt, gave that transactionID to a message to that recipient"
    ),
    "transactionID": Meaning("it names no recipient, and only one message has that transactionID"),
    "clientRef and recipient": Meaning(
        "exactly one message has both",
        "That message was offered to the gateway before the receipt's time plus five minutes, and one of the two has "
        "no transactionID.",
    ),
    "clientRef and recipient, by a clock of another zone": Meaning(
        "the same, but its time lies before the offer of its message",
        "A shift by whole quarters of an hour, of 14 hours at most, puts it between offer and receipt. Only for a time "
        "without a zone of its own, only if one message in all has both, and never while other receipts of its status "
        "show `DYNMARK_TIMEZONE` to be right.",
    ),
    "adopted by transactionID and recipient": Meaning(
        "another system sent the message, which is kept here with origin `external`",
        "The receipt came to the static URL, and nothing fitted for `ADOPT_AFTER_SECONDS`.",
    ),
    "adopted by clientRef and recipient": Meaning("the same, for a receipt without a transactionID"),
}

STEPS: Mapping[str, StepMeaning] = {
    "accepted": StepMeaning((Status.ACCEPTED,), "the message was taken in"),
    "the gateway took it": StepMeaning((Status.SUBMITTED,), "the gateway's answer says so"),
    "the gateway refused it": StepMeaning((Status.FAILED,), "the reason is what the gateway said"),
    "the gateway's answer was lost": StepMeaning(
        (Status.SEND_UNKNOWN,),
        "it was lost, or proves nothing; over SOAP it is offered again with the same messageGuid, which the gateway "
        "takes for the same message",
    ),
    "validUntil went by": StepMeaning((Status.EXPIRED,), "it was never sent"),
    "recipient suppressed": StepMeaning(
        (Status.CANCELLED, Status.SEND_UNKNOWN),
        "its recipient opted out of the sender's messages, or was suppressed by hand: what was never sent is "
        "cancelled, what may have been sent is never offered again",
    ),
    CANCELLED_BY_HAND: StepMeaning((Status.CANCELLED,), "a person took it back; the reason says who, and why"),
    RESOLVED_BY_HAND: StepMeaning(
        RESOLUTIONS,
        "a person settled a `send_unknown`; the reason says who, and why",
    ),
    "adopted": StepMeaning((Status.SUBMITTED,), "another system sent it"),
    "receipts taken away": StepMeaning(
        (Status.SUBMITTED,),
        "some of an adopted message's receipts are about other messages, by `rebuild` or a person's word",
    ),
    "adoption taken back": StepMeaning(
        (Status.CANCELLED,), "all of its receipts are about other messages: there is no such message"
    ),
}
