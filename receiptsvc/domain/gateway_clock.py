"""Whether the gateway's clock is in the zone of the setting: what the times of its receipts show.

The time of a receipt lies between the offer of its message and the receipt's arrival. Of all shifts by whole quarters
of an hour that put it there, a receipt that came soon leaves one: its vote. Nothing here changes a time.

A receipt that fits no message as it is read, but names exactly one, gives a hint: it counts for what is told of the
setting, and for no match.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from math import ceil, floor
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from receiptsvc.domain.statuses import Status

WINDOW = timedelta(days=1)  # clocks are put forward and back: older votes count no more

_QUARTER = timedelta(minutes=15)
_SLACK = timedelta(minutes=1)
_MAX_SHIFT = 14 * 4  # quarters: no two zones are further apart from UTC
_MIN_AGREEING = 5
_QUARTERS_OF_HOUR = 4
_EXAMPLES = (  # of zones to set, some for each of the offsets that most people have
    *("UTC", "Europe/London", "Europe/Paris", "Europe/Athens", "Europe/Moscow", "Asia/Dubai", "Asia/Kolkata"),
    *("Asia/Bangkok", "Asia/Singapore", "Asia/Tokyo", "Australia/Sydney", "Pacific/Auckland", "America/Sao_Paulo"),
    *("America/New_York", "America/Chicago", "America/Denver", "America/Los_Angeles"),
)
_MAX_EXAMPLES = 3
_HINT = "its time fits the one message with its clientRef and recipient only if the gateway's clock is {}"


class Vote(NamedTuple):
    """What one receipt shows. `shift`: quarters of an hour that its time has to be moved by; 0: the setting is right.

    `is_sure`: its message was found without its time. `is_hint`: none was found, and its status is not known here.
    """

    status: Status | None
    shift: int
    received_at: datetime
    is_sure: bool
    is_hint: bool = False


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
    the setting may have been changed. Of hints those count that came since it was right for any.
    """
    recent = [vote for vote in votes if _is_recent(vote, now)]
    right_at: dict[Status | None, datetime] = {}
    for vote in recent:
        if vote.shift == 0 and vote.is_sure:
            right_at[vote.status] = max(vote.received_at, right_at.get(vote.status, vote.received_at))
    last_right_at = max(right_at.values(), default=None)

    def came_since(vote: Vote) -> bool:
        at = last_right_at if vote.is_hint else right_at.get(vote.status)
        return at is None or vote.received_at > at

    wrong = [vote for vote in recent if vote.shift != 0 and came_since(vote)]
    counts = Counter(vote.shift for vote in wrong)
    if not counts:
        return []
    shift, count = max(counts.items(), key=lambda item: (item[1], -abs(item[0]), item[0]))
    return [vote for vote in wrong if vote.shift == shift] if count >= _MIN_AGREEING else []


def describe(votes: Iterable[Vote], now: datetime) -> str | None:
    """In words by how much the gateway's clock seems to differ; None as long as not enough receipts agree."""
    agreeing = find_agreeing(votes, now)
    return write_difference(agreeing) if agreeing else None


def write_difference(agreeing: Sequence[Vote]) -> str:
    """The same, of what `find_agreeing` has found, which is not empty."""
    return f"the gateway's clock seems to be {_in_words(agreeing[0].shift)}"


def explain_setting(agreeing: Sequence[Vote], zone: ZoneInfo) -> str:
    """What the setting is and what would fit, in words, of what `find_agreeing` has found, which is not empty."""
    return suggest(agreeing[0].shift, max(vote.received_at for vote in agreeing), zone)


def suggest(shift: int, at: datetime, zone: ZoneInfo) -> str:
    """The same, by the shift of a receipt that came at a time. `zone`: the setting."""
    offset = _offset_of(zone, at) or timedelta()
    fitting = offset - shift * _QUARTER
    names = [name for name in _EXAMPLES if _offset_of(_open(name), at) == fitting][:_MAX_EXAMPLES]
    such = f", such as {' or '.join(filter(None, (', '.join(names[:-1]), names[-1])))}" if names else ""
    return f"DYNMARK_TIMEZONE is {zone.key}, at {_write(offset)}: a zone that was at {_write(fitting)} fits{such}"


def write_hint(shift: int) -> str:
    """Why a receipt fits no message whose time would, by this shift, fit the only one that it names."""
    return _HINT.format(_in_words(shift))


def read_hint(reason: str | None) -> int | None:
    """The shift in a reason that is, or ends with, what `write_hint` wrote; None if there is none."""
    return None if reason is None else _HINTS.get(reason.rpartition("; ")[2])


def _is_recent(vote: Vote, at: datetime) -> bool:
    return at - WINDOW < vote.received_at <= at


def _open(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError:  # not every system has all of them
        return None


def _offset_of(zone: ZoneInfo | None, at: datetime) -> timedelta | None:
    return at.astimezone(zone).utcoffset() if zone is not None else None


def _write(offset: timedelta) -> str:
    minutes = round(abs(offset) / timedelta(minutes=1))
    return f"UTC{'-' if offset < timedelta() else '+'}{minutes // 60:02}:{minutes % 60:02}"


def _in_words(shift: int) -> str:
    """Where a clock is whose times have to be moved by so many quarters of an hour."""
    hours, rest = divmod(abs(shift), _QUARTERS_OF_HOUR)
    words = [] if hours == 0 else ["an hour" if hours == 1 else f"{hours} hours"]
    length = " and ".join([*words, f"{15 * rest} minutes"] if rest else words)
    return f"{length} {'ahead' if shift < 0 else 'behind'}"


_HINTS: Mapping[str, int] = {write_hint(shift): shift for shift in range(-_MAX_SHIFT, _MAX_SHIFT + 1) if shift}
