"""The line above the first page: whether something is wrong, and what, with what does most harm first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from receiptsvc.domain.problems import KINDS, Harm, Kind, rank
from receiptsvc.store.health.service_state import Finding

NOTHING = "Nothing is wrong."
NOT_KNOWN = "Not known yet."

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
    "sending_held": Kind.CREDENTIALS_REFUSED,  # or by a pause: either way nothing goes out
    "gateway_amiss": Kind.GATEWAY_AMISS,
    "callbacks_refused": Kind.CALLBACKS_REFUSED,
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

_SENDING = frozenset({"sending_held", "messages_late"})
_PARKED = "receipts_for_a_person"
_SETTINGS = frozenset({"sending_not_configured", "settings_unknown"})
_REMEDY = ": see "  # before what a text says to be done, or read


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """Something that is wrong. `is_harm`: whether it does harm as long as it lasts.

    `address`: of the page about it, below the service's; `words`: of the link to it.
    """

    name: str
    text: str
    is_harm: bool
    address: str
    words: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """All that is wrong, and the line that says so."""

    line: str
    items: Sequence[Item]


def judge(findings: Sequence[Finding], *, is_read: bool = True) -> Verdict:
    """The verdict on what was found. `is_read`: whether the service was looked at."""
    ranked = sorted(findings, key=lambda finding: _rank(finding.name))
    items = []
    for finding in ranked:
        address, words = find_page(finding.name)
        kind = KINDS_OF.get(finding.name)
        is_harm = kind is not None and KINDS[kind].harm is Harm.NOW
        items.append(Item(name=finding.name, text=finding.text, is_harm=is_harm, address=address, words=words))
    return Verdict(line=_write_line(ranked) if ranked or is_read else NOT_KNOWN, items=items)


def find_page(name: str) -> tuple[str, str]:
    """The page about a finding, by its name: its address below the service's, and the words of a link to it."""
    if name == _PARKED:
        return "ops/receipts", "Look at them"
    if name in _SENDING:
        return "ops/sending", "What holds it"
    if name in _SETTINGS:
        return "ops/settings", "Look at the settings"
    return "ops/problems", "What to do"


def _write_line(ranked: Sequence[Finding]) -> str:
    if not ranked:
        return NOTHING
    worst = (ranked[0].public or ranked[0].text).partition(_REMEDY)[0]
    return f"Wrong: {worst}" if len(ranked) == 1 else f"Wrong: {worst} (and {len(ranked) - 1} more)"


def _rank(name: str) -> tuple[bool, bool, int]:
    """By which findings are ordered: those of problems first, as these are, then those of settings."""
    kind = KINDS_OF.get(name)
    return (True, name not in KINDS_OF, 0) if kind is None else (False, *rank(kind))
