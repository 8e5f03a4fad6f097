"""Why messages fail, in classes for statistics. Pure.

The gateway's descriptions are free text, of which many say no reason. The words looked for are those of the error
lists of SMPP and of 3GPP TS 29.002, which gateways pass on. A class is no status: nothing is decided by it.
What each means to a reader is in `meanings`.
"""

import re
from enum import StrEnum
from functools import lru_cache

from receiptsvc.domain.statuses import FINAL, Report, Source, Status

FAILURES = FINAL - {Status.DELIVERED, Status.CANCELLED}


class FailureReason(StrEnum):
    """A class of reasons."""

    UNKNOWN_NUMBER = "unknown_number"  # there is no such subscriber
    BLOCKED = "blocked"  # by the person, the network or a filter
    CREDIT = "credit"  # there is none left
    EXPIRED = "expired"  # it became too old, for whatever reason
    UNREACHABLE = "unreachable"  # the handset is off, away, busy or full
    NETWORK = "network"  # a fault of a network or a route
    REFUSED = "refused"  # the gateway did not take it
    NEVER_SENT = "never_sent"  # its validUntil went by before
    BY_HAND = "by_hand"  # a person said so
    UNSAID = "unsaid"  # words without a reason, or none
    OTHER = "other"


# The first that fits. Beginnings of words, in lower case, with single blanks between them.
_WORDS = {
    FailureReason.UNKNOWN_NUMBER: (
        r"unknown (?:subscriber|number|destination|recipient|address|msisdn)|(?:invalid|wrong|bad|incorrect) (?:phone "
        r"|mobile |destination |dest )?(?:number|msisdn|destination|recipient|address|addr)|no such|does not exist"
        r"|not (?:in service|allocated|assigned|provisioned)|unallocated|unassigned|unprovisioned|teleservice"
    ),
    FailureReason.BLOCKED: (
        r"block|barr|black ?list|opt(?:ed)? ?out|unsubscribed|spam|filter|denied|prohibit|forbid|not allowed"
        r"|not permitted|dnd\b|do not disturb|restricted|screened"
    ),
    FailureReason.CREDIT: r"credit|balance|funds|quota",
    FailureReason.EXPIRED: r"expire|validity|too old",
    FailureReason.UNREACHABLE: (
        r"absent|unreachable|not reachable|(?:switched|powered|turned) off|out of (?:coverage|range|service|reach)"
        r"|no (?:coverage|answer|paging|response from (?:handset|phone|mobile))|detached|busy|memory|sim\b|handset"
        r"|phone|mobile|unavailable|roaming"
    ),
    FailureReason.NETWORK: (
        r"network|congest|rout|operator|carrier|system|temporar|time ?out|timed out|throttl|capacity|internal"
        r"|technical|gateway|smsc|msc\b|hlr\b|protocol|facility|unexpected|data missing"
    ),
}
_PATTERNS = {reason: re.compile(rf"\b(?:{words})") for reason, words in _WORDS.items()}
_NO_REASON = re.compile(
    r"(?:(?:un|not )?(?:delivered|deliverable)|(?:message |delivery |sms )?(?:failed|failure|deleted|rejected|error))?"
)
_OWN = {"the gateway refused it": FailureReason.REFUSED, "validUntil went by": FailureReason.NEVER_SENT}


def reason_of(report: Report, rule: str) -> FailureReason:
    """The class of a report that a message failed. `rule`: of its transition."""
    if report.source is Source.OURSELVES:
        return _OWN.get(rule, FailureReason.BY_HAND)
    reason = _read(report.provider_description or "")
    if report.status is Status.EXPIRED and reason in {FailureReason.UNSAID, FailureReason.OTHER}:
        return FailureReason.EXPIRED
    return reason


@lru_cache(maxsize=1024)
def _read(description: str) -> FailureReason:
    plain = " ".join(re.findall(r"\w+", description.casefold().replace("_", " ")))
    found = (reason for reason, pattern in _PATTERNS.items() if pattern.search(plain))
    return next(found, FailureReason.UNSAID if _NO_REASON.fullmatch(plain) else FailureReason.OTHER)
