"""The line above the first page: whether something is wrong, and what, with what does most harm first."""

from collections.abc import Sequence
from dataclasses import dataclass

from receiptsvc.store.health.service_state import Finding

NOTHING = "Nothing is wrong."

# The names of findings, what does most harm first: receipts that may be lost, then receipts and messages that wait.
_BREAKS = (
    "database_away",
    "database_fault",
    "database_unreadable",
    "database_misfit",
    "spool_unreadable",
    "worker_unseen",
    "no_receipts",
    "callbacks_refused",
    "receipts_late",
    "gateway_amiss",
    "sending_held",
    "messages_late",
    "receipts_crowd",
)
# What goes by, what a person has to settle some time, and what may become a trouble.
_WAITS = (
    "spool_in_use",
    "spool_aside",
    "send_unknown_overdue",
    "receipts_for_a_person",
    "receipts_unmapped",
    "connections_exceed",
    "gateway_clock",
    "clock_differs",
    "time_slice_missing",
    "sending_not_configured",
    "settings_unknown",
)
HARM = (*_BREAKS, *_WAITS)

_PARKED = frozenset({"receipts_for_a_person", "receipts_unmapped"})
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


def judge(findings: Sequence[Finding]) -> Verdict:
    """The verdict on what was found."""
    ranked = sorted(findings, key=lambda finding: _rank(finding.name))
    items = []
    for finding in ranked:
        address, words = find_page(finding.name)
        is_harm = finding.name in _BREAKS
        items.append(Item(name=finding.name, text=finding.text, is_harm=is_harm, address=address, words=words))
    return Verdict(line=_write_line(ranked), items=items)


def find_page(name: str) -> tuple[str, str]:
    """The page about a finding, by its name: its address below the service's, and the words of a link to it."""
    if name in _PARKED:
        return "ops/receipts", "Look at them"
    if name in _SETTINGS:
        return "ops/settings", "Look at the settings"
    return "ops/problems", "What to do"


def _write_line(ranked: Sequence[Finding]) -> str:
    if not ranked:
        return NOTHING
    worst = (ranked[0].public or ranked[0].text).partition(_REMEDY)[0]
    return f"Wrong: {worst}" if len(ranked) == 1 else f"Wrong: {worst} (and {len(ranked) - 1} more)"


def _rank(name: str) -> int:
    return HARM.index(name) if name in HARM else len(HARM)
