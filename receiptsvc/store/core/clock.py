"""The time by the database's clock, which all processes share. Their own clocks may be wrong by hours.

What compares times of different processes (what is due, whose lease has ended, who is alive) uses this one.
"""

from datetime import UTC, datetime, timedelta
from time import monotonic, time

_TOLERATED_SECONDS = 2.0  # a difference that nobody needs to be told of
_MIN_SECONDS = 1.0  # a smaller difference may be that of a measurement
_MAX_ROUND_TRIP_SECONDS = 0.25  # of a measurement that is taken
_STANDS_STILL_SECONDS = 3.0  # no question that takes so long was only slow


class Clock:
    """How much this process's clock is ahead of the database's. Thread-safe.

    The database's time is counted on by `monotonic`: so the process's own clock may be put forward or back at any time,
    and what is due is not taken for due an hour early until the database is asked again.
    """

    def __init__(self) -> None:
        self._since_1970: float | None = None  # by the database's clock, when `monotonic` was 0; None: never measured
        self._asked_at = float("-inf")  # by `monotonic`: the last question that was answered
        self.answers_since: datetime | None = None  # it stood still, or was away, before that; None: it never was

    def measured(self, sent_at: float, server_time: float) -> None:
        """Note the server's answer, in seconds since 1970, to a question of `sent_at`, a time of `monotonic`."""
        received_at = monotonic()
        if received_at - sent_at <= _MAX_ROUND_TRIP_SECONDS:
            self._since_1970 = server_time - (sent_at + received_at) / 2
        self.waited(received_at - sent_at)

    def waited(self, seconds: float) -> None:
        """Note how long an answer took."""
        self._asked_at = max(self._asked_at, monotonic() - seconds)
        if seconds >= _STANDS_STILL_SECONDS:
            self.was_away()

    def has_answered_since(self, at: float) -> bool:
        """Whether the database has answered what this process asked since a time of `monotonic`: then it is there."""
        return self._asked_at >= at

    def was_away(self) -> None:
        """Note that the database could not be used until now."""
        self.answers_since = self.now()

    @property
    def ahead_seconds(self) -> float:
        """By how many seconds this process's clock is ahead; 0 if it is as good as equal."""
        if self._since_1970 is None:
            return 0.0
        ahead_seconds = time() - (self._since_1970 + monotonic())
        return ahead_seconds if abs(ahead_seconds) >= _MIN_SECONDS else 0.0

    def now(self) -> datetime:
        """The present time by the database's clock, UTC."""
        return datetime.now(UTC) - timedelta(seconds=self.ahead_seconds)


def describe_skew(whose: str, ahead_seconds: float) -> str | None:
    """What is wrong with a clock, if it differs so much from the database's that somebody should know.

    `ahead_seconds`: by how much it is ahead.
    """
    if abs(ahead_seconds) <= _TOLERATED_SECONDS:
        return None
    direction = "ahead of" if ahead_seconds > 0 else "behind"
    return f"{whose} clock is {abs(ahead_seconds):.0f} s {direction} the database's"
