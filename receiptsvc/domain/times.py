"""Times as integers: microseconds since the beginning of 1970, exact in both directions. Pure."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_micros(time: datetime) -> int:
    """The microseconds of an aware time."""
    return (time - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The time, in UTC. Raises OverflowError for one beyond the years 1 to 9999."""
    return _EPOCH + timedelta(microseconds=micros)
