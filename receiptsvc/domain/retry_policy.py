"""When a message is sent again after its call ended, and how many messages its next call may have. Pure."""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from receiptsvc.domain.backoff import Backoff
from receiptsvc.domain.messages import SendOutcome

_NOT_SENT = Backoff.doubling(timedelta(seconds=1), timedelta(minutes=5))
_MAY_BE_SENT = frozenset({SendOutcome.UNCLEAR, SendOutcome.SUSPECT_UNCLEAR})


@dataclass(frozen=True, kw_only=True, slots=True)
class RepeatPolicy:
    """When a message may be offered again after an answer was lost. `spread`: by how much of a gap it may be longer.

    `transports`: those by which the gateway ignores a message that it has had, so that a repeat can't be a second SMS.
    """

    after: timedelta
    duration: timedelta
    transports: frozenset[str]
    spread: float = 0.0


def next_due(
    outcome: SendOutcome,
    *,
    ended_before: Collection[str | None],
    can_repeat: bool,
    unclear_since: datetime | None,
    valid_until: datetime | None,
    now: datetime,
    repeats: RepeatPolicy,
    stretch: float,
) -> datetime | None:
    """When to look at a message again after its call ended so; None: never.

    `ended_before`: the outcomes of its attempts, this one included. `can_repeat`: the messageGuid is on the wire, so a
    repeat can't be a second SMS. `unclear_since`: when the first call began that may have given it to the gateway.
    """
    alike = _MAY_BE_SENT if outcome in _MAY_BE_SENT else {outcome}
    before = sum(ended in alike for ended in ended_before) - 1  # how often it ended so before
    unclear_gap = _unclear(repeats.after).gap(before) * stretch
    last = (unclear_since or now) + repeats.duration
    last_repeat = min(last, valid_until or last)
    match outcome:
        case SendOutcome.ACCOUNT_REFUSED | SendOutcome.SUSPECT_REFUSED:
            return now  # its account is held, or this message waits; it did nothing wrong
        case SendOutcome.SUSPECT_UNCLEAR:
            # Within the time for repeats it may be tried again; then it is settled as one that may have been sent.
            return min(now + unclear_gap, last_repeat) if can_repeat else last_repeat
        case SendOutcome.NOT_SENT:
            return now + _NOT_SENT.gap(before) * stretch
        case SendOutcome.UNCLEAR if can_repeat:
            due = now + unclear_gap
            return due if due < last_repeat else None
        case _:  # settled, or a repeat could be a second SMS
            return None


def next_call_limit(outcomes: Sequence[SendOutcome], *, is_repeat: bool) -> int | None:
    """How many messages the next calls of a call's messages may have; None: as many as before.

    Half as many, if a repeat ended unclear for all of them: so one message that breaks every call ends up alone.
    """
    is_unclear = all(outcome is SendOutcome.UNCLEAR for outcome in outcomes)
    return (len(outcomes) + 1) // 2 if is_unclear and is_repeat and len(outcomes) > 1 else None


def stretch(repeats: RepeatPolicy) -> float:
    """By how much gaps are longer: one factor for a call, so that its messages stay together."""
    return 1 + repeats.spread * random.random()  # noqa: S311 - no secret


@cache
def _unclear(first: timedelta) -> Backoff:
    return Backoff.doubling(first, max(first, _NOT_SENT.gaps[-1]))
