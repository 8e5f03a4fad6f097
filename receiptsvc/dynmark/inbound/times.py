"""Reads the times of callbacks, in the shapes in which SMS gateways, SMPP and the web write them.

A writing with one meaning is taken as it stands, however old. One with several (day or month first; digits that may be
a date or seconds since 1970) is read only if a single reading lies about the time of receipt. The result depends on the
text, the setting and the time of receipt alone: whenever it is read again, it is the same.

Sources: ISO 8601 and RFC 3339; RFC 5322, RFC 850 and asctime as in RFC 9110 5.6.7; SMPP 3.4 7.1.1 and appendix B; the
`toString` of Java, JavaScript, Ruby and Go; the defaults of .NET, SQL Server, Oracle and Db2.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from itertools import product
from typing import NamedTuple
from zoneinfo import ZoneInfo

from receiptsvc.domain.times import from_micros

_MAX_LENGTH = 100
_YEARS = range(2000, 2100)  # a time outside these is a mistake, and some databases can't return it
_MAX_OFFSET = timedelta(hours=14)
_BEFORE_RECEIPT, _AFTER_RECEIPT = timedelta(days=1), timedelta(minutes=5)
_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
# Hours ahead of UTC. CST and IST are left out: each is used for three zones.
_NAMED_ZONES = {
    **dict.fromkeys(("z", "gmt", "utc", "ut", "wet"), 0),
    **dict.fromkeys(("bst", "west", "cet"), 1),
    **dict.fromkeys(("cest", "eet"), 2),
    **dict.fromkeys(("eest", "msk"), 3),
    "est": -5,
    "edt": -4,
    "cdt": -5,
    "mst": -7,
    "mdt": -6,
    "pst": -8,
    "pdt": -7,
}
_FLAGS = re.IGNORECASE | re.ASCII

_FRACTION = r"(?:[.,](?P<fraction>\d{1,9}))?"
_CLOCK = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,:](?P<fraction>\d{1,9}))?)?"
    r"(?:\s?(?P<half>[ap])\.?m\.?)?"
)
_DOTTED_CLOCK = rf"(?P<hour>\d{{1,2}})\.(?P<minute>\d\d)\.(?P<second>\d\d){_FRACTION}(?:\s?(?P<half>[ap])\.?m\.?)?"
_OFFSET = r"(?P<sign>[+-]|\s)\s?(?P<offset>\d\d(?::?\d\d)?|\d(?::\d\d)?)"  # an unescaped plus arrives as a blank
_ZONE = rf"(?:\s*(?P<zone>[a-z]{{1,5}}))?(?:\s?{_OFFSET}(?:\s?\([^()]*\)|\s?\[[^\[\]]*\]|\s[a-z]{{3,5}})?)?"
_WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]{0,6}\.?,?\s+)?"
_NAMED_MONTH = r"(?P<name>[a-z]{3,9})\.?"
_SHORT_OR_LONG_YEAR = r"(?P<year>\d{4}|\d\d)"
_JOINT = r"(?:[T\s,_]+|\sat\s|[:-])"

_ISO = re.compile(rf"(?P<year>\d{{4}})-(?P<month>\d\d?)-(?P<day>\d\d?)[T\s]{_CLOCK}{_ZONE}", _FLAGS)
_DATES = (
    r"(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})",
    r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)",
    rf"{_WEEKDAY}(?P<day>\d{{1,2}})(?:st|nd|rd|th)?[\s/-]{{1,3}}{_NAMED_MONTH},?[\s/-]{{1,3}}{_SHORT_OR_LONG_YEAR}",
    rf"{_WEEKDAY}{_NAMED_MONTH}\s{{1,3}}(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?\s{{1,3}}(?P<year>\d{{4}})",
    rf"(?P<day>\d{{1,2}})(?P<dash>[/.-])(?P<month>\d{{1,2}})(?P=dash){_SHORT_OR_LONG_YEAR}",
    rf"(?P<month>\d{{1,2}})(?P<dash>[/-])(?P<day>\d{{1,2}})(?P=dash){_SHORT_OR_LONG_YEAR}",
    r"(?P<year>\d\d)(?P<dash>[/-])(?P<month>\d\d)(?P=dash)(?P<day>\d\d)",
)
_COMPACT_CLOCK = rf"(?P<hour>\d\d)(?P<minute>\d\d)(?:(?P<second>\d\d){_FRACTION})?"
_SHAPES = (
    *(re.compile(f"{date}{_JOINT}{clock}{_ZONE}", _FLAGS) for date, clock in product(_DATES, (_CLOCK, _DOTTED_CLOCK))),
    re.compile(rf"{_DATES[1]}[T\s_-]{_COMPACT_CLOCK}{_ZONE}", _FLAGS),
    re.compile(rf"{_WEEKDAY}{_NAMED_MONTH}\s{{1,3}}(?P<day>\d{{1,2}})\s+{_CLOCK}{_ZONE}\s+(?P<year>\d{{4}})", _FLAGS),
)
_YEAR, _SHORT_YEAR, _MONTH_DAY = r"(?P<year>\d{4})", r"(?P<year>\d\d)", r"(?P<month>\d\d)(?P<day>\d\d)"
_DAY_MONTH, _TO_MINUTE = r"(?P<day>\d\d)(?P<month>\d\d)", r"(?P<hour>\d\d)(?P<minute>\d\d)"
_TO_SECOND = rf"{_TO_MINUTE}(?P<second>\d\d)"
_DIGITS = tuple(  # by their lengths, several may fit
    re.compile(pattern, re.ASCII)
    for pattern in (
        rf"{_YEAR}{_MONTH_DAY}{_TO_MINUTE}",
        rf"{_YEAR}{_MONTH_DAY}{_TO_SECOND}(?:[.,]?(?P<fraction>\d{{3}}))?",
        rf"{_DAY_MONTH}{_YEAR}{_TO_MINUTE}",
        rf"{_DAY_MONTH}{_YEAR}{_TO_SECOND}",
        rf"{_SHORT_YEAR}{_MONTH_DAY}{_TO_MINUTE}",  # the dates of an SMPP receipt
        rf"{_SHORT_YEAR}{_MONTH_DAY}{_TO_SECOND}",
        rf"{_DAY_MONTH}{_SHORT_YEAR}{_TO_MINUTE}",  # an operator's
        rf"{_DAY_MONTH}{_SHORT_YEAR}{_TO_SECOND}",
    )
)
# SMPP's absolute time: tenths, then quarters of an hour ahead of UTC. An unescaped plus at its end is lost.
_SMPP = re.compile(
    rf"{_SHORT_YEAR}{_MONTH_DAY}{_TO_SECOND}(?P<fraction>\d)(?P<quarters>[0-3]\d|4[0-8])(?P<sign>[+-]?)", re.ASCII
)
_UNIX = re.compile(r"(\d{10})(?:[.,](\d{1,9}))?|(\d{13})|(\d{16})", re.ASCII)
_DOT_NET = re.compile(r"\\?/?Date\((\d{12,13})(?:[+\s-]\d{4})?\)\\?/?", _FLAGS)


class ProviderTime(NamedTuple):
    """A time of the gateway, in UTC. `is_local`: it named no zone, and was read in that of the setting."""

    at: datetime
    is_local: bool


def read(text: str, zone: ZoneInfo, received_at: datetime) -> ProviderTime | None:
    """The time that a text says; None if it says none, or could mean several."""
    if len(text) > _MAX_LENGTH:
        return None
    text = text.strip(" \t\r\n\"'")
    match = _ISO.fullmatch(text)  # nearly all are
    if match:
        return _build(match.groupdict(), zone, received_at)
    readings = {reading.at: reading for reading in _find_readings(text, zone, received_at)}
    if len(readings) > 1:
        since, until = received_at - _BEFORE_RECEIPT, received_at + _AFTER_RECEIPT
        readings = {at: reading for at, reading in readings.items() if since <= at <= until}
    return next(iter(readings.values())) if len(readings) == 1 else None


def _find_readings(text: str, zone: ZoneInfo, received_at: datetime) -> Iterator[ProviderTime]:
    """Every reading of a text by any shape."""
    digits = _DIGITS if text[:4].isdigit() else ()
    for shape in (*_SHAPES, *digits):
        match = shape.fullmatch(text)
        reading = _build(match.groupdict(), zone, received_at) if match else None
        if reading is not None:
            yield reading
    for at in (_read_unix(text), _read_dot_net(text), _read_smpp(text)):
        if at is not None and at.year in _YEARS:
            yield ProviderTime(at, is_local=False)


def _build(parts: dict[str, str | None], zone: ZoneInfo, received_at: datetime) -> ProviderTime | None:
    try:
        local = _build_local(parts)
        tz = _read_zone(parts, local, zone)
        at = _in_setting(local, zone, received_at) if tz is None else local.replace(tzinfo=tz).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return ProviderTime(at, is_local=tz is None) if local.year in _YEARS and at.year in _YEARS else None


def _build_local(parts: dict[str, str | None]) -> datetime:
    """What calendar and clock showed, without a zone. Raises ValueError."""
    year, hour = int(parts["year"] or 0), int(parts["hour"] or 0)
    half = (parts.get("half") or "").lower()
    if half:
        hour = _on_24_hours(hour, half)
    name = parts.get("name")
    return datetime(  # noqa: DTZ001 - its zone is read apart
        year + 2000 if len(parts["year"] or "") == 2 else year,
        _read_month(name) if name else int(parts["month"] or 0),
        int(parts["day"] or 0),
        hour,
        int(parts["minute"] or 0),
        int(parts.get("second") or 0),
        int((parts.get("fraction") or "0").ljust(6, "0")[:6]),
    )


def _on_24_hours(hour: int, half: str) -> int:
    noon = 12
    if half == "a":
        if hour > noon:
            raise ValueError("no morning has such an hour")
        return hour % noon
    if hour == 0:
        raise ValueError("no afternoon has such an hour")
    return hour if hour >= noon else hour + noon


def _read_month(name: str) -> int:
    name = name.lower()
    return next(number for number, month in enumerate([*_MONTHS, name], start=1) if month.startswith(name))


def _read_zone(parts: dict[str, str | None], local: datetime, zone: ZoneInfo) -> tzinfo | None:
    """The zone that a text names; None if it names none. Raises ValueError for an unknown one."""
    name, offset = (parts.get("zone") or "").lower(), parts.get("offset")
    if offset is None:
        if not name:
            return None
        at = local.replace(tzinfo=zone)
        for each in (at, at.replace(fold=1)):  # CST is what the zone of the setting calls so
            if (each.tzname() or "").lower() == name:
                return timezone(each.utcoffset() or timedelta())
        return timezone(timedelta(hours=_named_hours(name)))
    if name:
        _named_hours(name)  # a name that is none makes the offset doubtful
    sign = parts["sign"] or ""
    is_short = len(offset) <= 2
    if is_short and sign.isspace() and parts.get("second") is None:
        raise ValueError("these may be seconds")
    hours, minutes = (int(offset), 0) if is_short else (int(offset[:-2].rstrip(":")), int(offset[-2:]))
    distance = timedelta(hours=hours, minutes=minutes)
    if distance > _MAX_OFFSET or minutes > 59:
        raise ValueError("no zone is so far away")
    return timezone(-distance if sign == "-" else distance)


def _named_hours(name: str) -> int:
    hours = _NAMED_ZONES.get(name)
    if hours is None:
        raise ValueError("an unknown zone")
    return hours


def _in_setting(local: datetime, zone: ZoneInfo, received_at: datetime) -> datetime:
    """A zoneless time in the zone of the setting, in UTC.

    Clocks that are put back show an hour twice. It is the later one, unless that had not come at the time of receipt.
    """
    if zone.key == "UTC":
        return local.replace(tzinfo=UTC)
    first = local.replace(tzinfo=zone).astimezone(UTC)
    second = local.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return second if first < second <= received_at + _AFTER_RECEIPT else first


def _read_unix(text: str) -> datetime | None:
    """Seconds since 1970, perhaps with a fraction; or milliseconds, or microseconds."""
    match = _UNIX.fullmatch(text)
    if match is None:
        return None
    seconds, fraction, milliseconds, microseconds = match.groups()
    if seconds is not None:
        return from_micros(int(seconds) * 1_000_000 + int((fraction or "0").ljust(6, "0")[:6]))
    return from_micros(int(milliseconds or 0) * 1000 + int(microseconds or 0))


def _read_dot_net(text: str) -> datetime | None:
    """`/Date(1448186400000+0100)/`: milliseconds since 1970, in UTC whatever the offset after them says."""
    match = _DOT_NET.fullmatch(text)
    return from_micros(int(match[1]) * 1000) if match else None


def _read_smpp(text: str) -> datetime | None:
    match = _SMPP.fullmatch(text)
    if match is None:
        return None
    parts = match.groupdict()
    distance = timedelta(minutes=15 * int(parts["quarters"]))
    try:
        local = _build_local(parts)
    except ValueError:
        return None
    return (local + distance if parts["sign"] == "-" else local - distance).replace(tzinfo=UTC)
