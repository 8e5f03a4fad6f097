"""The time by the database's clock, which all processes share. Their own clocks may be wrong by hours.

What compares times of different processes (what is due, whose lease has ended, who is alive) uses this one.
"""

from datetime import UTC, datetime, timedelta
from time import time

_TOLERATED_SECONDS = 2.0  # a difference that nobody needs to be told of
_MIN_SECONDS = 1.0  # a smaller difference may be that of a measurement
_MAX_ROUND_TRIP_SECONDS = 0.25  # of a measurement that is taken


class Clock:
    """How much this process's clock is ahead of the database's. Thread-safe."""

    def __init__(self) -> None:
        self._ahead_seconds = 0.0

    def measured(self, sent_at: float, server_time: float) -> None:
        """Note the server's answer to a question of `sent_at`, both in seconds since 1970."""
        received_at = time()
        if received_at - sent_at <= _MAX_ROUND_TRIP_SECONDS:
            self._ahead_seconds = (sent_at + received_at) / 2 - server_time

    @property
    def ahead_seconds(self) -> float:
        """By how many seconds this process's clock is ahead; 0 if it is as good as equal."""
        return self._ahead_seconds if abs(self._ahead_seconds) >= _MIN_SECONDS else 0.0

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
