"""The line above the first page: whether something is wrong, and what, with what does most harm first."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from uuid import UUID

from receiptsvc import ids
from receiptsvc.domain.problems import KINDS, Harm, Kind, rank
from receiptsvc.store.health.health_log import NO_WORKER
from receiptsvc.store.health.problems import PREFIX
from receiptsvc.store.health.service_state import Finding

NOTHING = "Nothing is wrong."
NOTHING_THEN = "Nothing was wrong at the last look."
NOT_KNOWN = "Not known yet."
PROBLEMS = "ops/problems"  # the page of what has none of its own

# What problem a finding is of, by its name: that says what does harm, and what comes first. None: of a setting.
KINDS_OF: Mapping[str, Kind | None] = {
    "database_away": Kind.DATABASE_AWAY,
    "database_fault": Kind.DATABASE_AWAY,
    "database_unreadable": Kind.DATABASE_AWAY,
    "database_misfit": Kind.DATABASE_AWAY,
    "worker_unseen": Kind.WORKER_UNSEEN,
    "spool_in_use": Kind.SPOOL_WAITING,
    "spool_unreadable": Kind.SPOOL_UNREADABLE,
    "spool_aside": Kind.SPOOL_ASIDE,
    "sending_held": Kind.CREDENTIALS_REFUSED,  # or those of an account
    "sending_paused": Kind.SENDING_PAUSED,
    "gateway_amiss": Kind.GATEWAY_AMISS,
    "callbacks_refused": Kind.CALLBACKS_REFUSED,
    "callbacks_misrouted": Kind.CALLBACKS_MISROUTED,
    "no_receipts": Kind.NO_RECEIPTS,
    "receipts_late": Kind.RECEIPTS_LATE,
    "messages_late": Kind.MESSAGES_LATE,
    "gateway_clock": Kind.TIMEZONE_WRONG,
    "send_unknown_overdue": Kind.SEND_UNKNOWN,
    "receipts_unmapped": Kind.UNMAPPED,
    "receipts_for_a_person": Kind.UNMATCHED,
    "receipts_crowd": Kind.RECEIPTS_CROWD,
    "time_slice_missing": Kind.TIME_SLICE_MISSING,
    "connections_exceed": Kind.CONNECTIONS_EXCEED,
    "clock_differs": Kind.WORKER_CLOCK,
    "sending_not_configured": None,
    "settings_unknown": None,
}

_SENDING = frozenset({"sending_held", "sending_paused", "messages_late"})
_PARKED = "receipts_for_a_person"
_SETTINGS = frozenset({"sending_not_configured", "settings_unknown"})
_REMEDY = re.compile(": (?=(?:see|mend|name) )")  # before what a text says to be done, or read


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """Something that is wrong. `text`: of the first, only what the line above does not say; it may be empty.

    `is_harm`: whether it does harm as long as it lasts. `address`: of the page about it, below the service's; `words`:
    of the link to it.
    """

    name: str
    text: str
    is_harm: bool
    address: str
    words: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """All that is wrong, and the line that says so. `meant`: what is as somebody wants it, and no problem."""

    line: str
    items: Sequence[Item]
    meant: Sequence[Item] = ()


def judge(
    findings: Sequence[Finding], *, is_read: bool = True, problems: Mapping[Kind, UUID] = MappingProxyType({})
) -> Verdict:
    """The verdict on what was found. `is_read`: whether the service was looked at.

    `problems`: of each kind that has a single one, the problem; to that a finding leads.
    """
    meant = [describe(finding) for finding in findings if finding.is_meant]
    wrong = sorted((finding for finding in findings if not finding.is_meant), key=_rank)
    items = [_lead(describe(finding), problems) for finding in wrong]
    if not items and meant and is_read:  # it is in the line so that it is said aloud
        line = f"{NOTHING.removesuffix('.')}, but {' and '.join(item.text for item in meant)}."
        return Verdict(line=line, items=(), meant=[replace(item, text="") for item in meant])
    if not items:
        return Verdict(line=NOTHING if is_read else NOT_KNOWN, items=(), meant=meant)
    worst, *remedy = _REMEDY.split(items[0].text, maxsplit=1)
    items[0] = replace(items[0], text="".join(remedy))
    return Verdict(
        line=f"Wrong: {worst}{f' (and {len(items) - 1} more)' if items[1:] else ''}", items=items, meant=meant
    )


def find_page(name: str) -> tuple[str, str]:
    """The page about a finding, by its name: its address below the service's, and the words of a link to it."""
    if name == _PARKED:
        return "ops/receipts", "Look at them"
    if name in _SENDING:
        return "ops/sending", "What holds it up"
    if name in _SETTINGS:
        return "ops/settings", "Look at the settings"
    return PROBLEMS, "What to do"


def describe(finding: Finding) -> Item:
    """A finding as it is said by itself, with all its text."""
    address, words = find_page(finding.name)
    text = NO_WORKER.text if finding.name == NO_WORKER.name else finding.text
    is_harm = _find_harm(finding) is Harm.NOW
    return Item(name=finding.name, text=text, is_harm=is_harm, address=address, words=words)


def _lead(item: Item, problems: Mapping[Kind, UUID]) -> Item:
    """The same, leading to the problem itself."""
    kind = KINDS_OF.get(item.name)
    if item.address != PROBLEMS or kind is None or kind not in problems:
        return item
    return replace(item, address=f"{PROBLEMS}/{ids.public(PREFIX, problems[kind])}")


def _find_harm(finding: Finding) -> Harm:
    kind = KINDS_OF.get(finding.name)
    return Harm.WAITS if kind is None or finding.has_stopped else KINDS[kind].harm


def _rank(finding: Finding) -> tuple[bool, bool, int]:
    """By which findings are ordered: those of problems first, as these are, then those of settings."""
    kind = KINDS_OF.get(finding.name)
    return (True, finding.name not in KINDS_OF, 0) if kind is None else (False, *rank(kind, _find_harm(finding)))
