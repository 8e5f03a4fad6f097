"""Whether the gateway's clock is in the zone of the setting: what the times of its receipts show.

The time of a receipt lies between the offer of its message and the receipt's arrival. Of all shifts by whole quarters
of an hour that put it there, a receipt that came soon leaves one: its vote. Nothing here changes a time.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from math import ceil, floor
from typing import NamedTuple

from receiptsvc.domain.statuses import Status

WINDOW = timedelta(days=1)  # clocks are put forward and back: older votes count no more

_QUARTER = timedelta(minutes=15)
_SLACK = timedelta(minutes=1)
_MAX_SHIFT = 14 * 4  # quarters: no two zones are further apart from UTC
_MIN_AGREEING = 5
_QUARTERS_OF_HOUR = 4


class Vote(NamedTuple):
    """What one receipt shows. `shift`: quarters of an hour that its time has to be moved by; 0: the setting is right.

    `is_sure`: its message was found without its time.
    """

    status: Status | None
    shift: int
    received_at: datetime
    is_sure: bool


def find_shifts(occurred_at: datetime, offered_at: datetime, received_at: datetime) -> range:
    """The shifts, in quarters of an hour, that put a time between offer and receipt. There may be none, or many."""
    lowest = ceil((offered_at - _SLACK - occurred_at) / _QUARTER)
    highest = floor((received_at + _SLACK - occurred_at) / _QUARTER)
    return range(max(lowest, -_MAX_SHIFT), min(highest, _MAX_SHIFT) + 1)


def vote_of(
    status: Status | None, occurred_at: datetime, offered_at: datetime, received_at: datetime, *, is_sure: bool
) -> Vote | None:
    """The vote of a receipt; None if it leaves no shift, or several."""
    shifts = find_shifts(occurred_at, offered_at, received_at)
    return Vote(status, shifts[0], received_at, is_sure) if len(shifts) == 1 else None


def is_setting_right(votes: Iterable[Vote], status: Status | None, received_at: datetime) -> bool:
    """Whether receipts of this status, that came within a day before, show the zone of the setting to be right."""
    return any(
        vote.shift == 0 and vote.is_sure and vote.status is status and _is_recent(vote, received_at) for vote in votes
    )


def find_agreeing(votes: Iterable[Vote], now: datetime) -> Sequence[Vote]:
    """The recent votes for the shift that the most agree on; empty as long as those are not enough, or it is 0.

    A gateway may have a clock for each status. Of one for which the setting was right, those count that came since:
    the setting may have been changed.
    """
    recent = [vote for vote in votes if _is_recent(vote, now)]
    right_at: dict[Status | None, datetime] = {}
    for vote in recent:
        if vote.shift == 0 and vote.is_sure:
            right_at[vote.status] = max(vote.received_at, right_at.get(vote.status, vote.received_at))
    wrong = [
        vote
        for vote in recent
        if vote.shift != 0 and (vote.status not in right_at or vote.received_at > right_at[vote.status])
    ]
    counts = Counter(vote.shift for vote in wrong)
    if not counts:
        return []
    shift, count = max(counts.items(), key=lambda item: (item[1], -abs(item[0]), item[0]))
    return [vote for vote in wrong if vote.shift == shift] if count >= _MIN_AGREEING else []


def describe(votes: Iterable[Vote], now: datetime) -> str | None:
    """In words by how much the gateway's clock seems to differ; None as long as not enough receipts agree."""
    agreeing = find_agreeing(votes, now)
    if not agreeing:
        return None
    shift = agreeing[0].shift
    return f"the gateway's clock seems to be {_in_words(abs(shift))} {'ahead' if shift < 0 else 'behind'}"


def _is_recent(vote: Vote, at: datetime) -> bool:
    return at - WINDOW < vote.received_at <= at


def _in_words(quarters: int) -> str:
    hours, rest = divmod(quarters, _QUARTERS_OF_HOUR)
    words = [] if hours == 0 else ["an hour" if hours == 1 else f"{hours} hours"]
    return " and ".join([*words, f"{15 * rest} minutes"] if rest else words)
