"""Times as integers: microseconds since the beginning of 1970, exact in both directions; times and durations in words.

Pure.
"""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EXACT_BELOW_SECONDS = 10
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def to_micros(time: datetime) -> int:
    """The microseconds of an aware time."""
    return (time - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The time, in UTC. Raises OverflowError for one beyond the years 1 to 9999."""
    return _EPOCH + timedelta(microseconds=micros)


def describe_duration(seconds: float) -> str:
    """About how long: in the greatest unit of which there are two or more, or exactly one."""
    whole = max(0, int(seconds))
    return next(
        (f"{whole // length} {unit}" for length, unit in _UNITS if whole >= 2 * length or whole == length), f"{whole} s"
    )


def describe_delay(seconds: float) -> str:
    """How long a step took: tenths count only while it is short. Below 0: the clocks of two sides differ."""
    sign, length = ("\N{MINUS SIGN}" if round(seconds, 1) < 0 else ""), abs(seconds)
    return f"{sign}{length:.1f} s" if length < _EXACT_BELOW_SECONDS else f"{sign}{describe_duration(length)}"


def write_time(time: datetime) -> str:
    """A time in a sentence: UTC, to the second."""
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
