"""The kinds of values that the API takes and gives: ids, times, numbers, flags, words, cursors.

What only one endpoint knows does not belong here.
"""

import base64
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

import marshmallow as ma
from marshmallow import fields, validate

from receiptsvc import ids
from receiptsvc.domain import countries
from receiptsvc.store import timeline
from receiptsvc.web import recipients

Value = TypeVar("Value")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC_3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,6})\d*)?(?:([Zz])|([+-]\d\d:\d\d))\Z", re.ASCII
)
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TIMELINE_CURSOR = re.compile(r"(\d{1,17})\.([0-2])\.([0-9a-f]{32})\.(\d{1,18})\Z", re.ASCII)


def refuse_illegal(text: str) -> None:
    """Raise ValidationError at the first character that XML 1.0, and so the gateway, can't carry."""
    found = _ILLEGAL.search(text)
    if found:
        raise ma.ValidationError(f"U+{ord(found[0]):04X} at index {found.start()} is a character that can't be sent.")


class Coded(fields.Field[Value], Generic[Value]):
    """A value that travels as a string. `read` raises ValidationError."""

    def __init__(
        self,
        *,
        read: Callable[[str], Value] | None = None,
        write: Callable[[Value], str] = str,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._read, self._write = read, write

    def _serialize(self, value: Value | None, *_: Any, **__: Any) -> str | None:
        return None if value is None else self._write(value)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Value:
        if not isinstance(value, str) or self._read is None:
            raise ma.ValidationError("Not a valid string.")
        return self._read(value)


class Flag(fields.Boolean):
    """true or false, and nothing that merely looks like it."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bool:
        if not isinstance(value, bool):
            raise ma.ValidationError("Must be true or false.")
        return value


class Recipients(fields.Field[dict[str, int]]):
    """Phone numbers, read as how often each person stands among them. With `countryIsoCode` also local ones."""

    def _deserialize(self, value: Any, *context: Any, **_: Any) -> dict[str, int]:
        if not isinstance(value, list) or not value:
            raise ma.ValidationError("Must be a list of at least one phone number.")
        _, siblings = context  # after the field's own name, as it came: the object that the field stands in
        country = siblings.get("countryIsoCode")
        region = countries.alpha_2(country) if isinstance(country, str) else None
        people: dict[str, int] = {}
        faults: dict[int, list[str]] = {}
        for index, text in enumerate(value):
            number = recipients.normalise(text, region) if isinstance(text, str) else None
            if number is None:
                faults[index] = [_NO_NUMBER if isinstance(text, str) else "Not a valid string."]
            else:
                people[number] = people.get(number, 0) + 1
        if faults:
            raise ma.ValidationError(dict(faults))
        return people


def words(*, most: int, also: Callable[[str], object] | None = None, **options: Any) -> fields.String:
    """Text of 1 to `most` characters, all of which can be sent."""
    checks: list[Callable[[str], object]] = [validate.Length(1, most), refuse_illegal]
    return fields.String(validate=checks + ([also] if also else []), **options)


def moment(**options: Any) -> Coded[datetime]:
    """A time with its offset from UTC (RFC 3339). It is given out in UTC."""
    return _string(Coded(read=_read_moment, write=_write_moment, **options), "date-time")


def query_moment(**options: Any) -> Coded[datetime]:
    """A time in a query, where a `+` that was not percent-encoded has become a blank."""
    return _string(
        Coded(read=lambda text: _read_moment(re.sub(r" (?=\d\d:\d\d\Z)", "+", text)), **options), "date-time"
    )


def public_id(prefix: str, **options: Any) -> Coded[UUID]:
    """One of our ids, given out with its prefix."""
    return _string(Coded(write=lambda identifier: ids.public(prefix, identifier), **options))


def phone_number(**options: Any) -> Coded[str]:
    """A phone number in any usual writing, read as the digits of its international form."""
    return _string(Coded(read=_read_number, **options))


def transaction_id(**options: Any) -> Coded[str]:
    """A transactionID: digits, whose leading zeros say nothing."""
    return _string(Coded(read=_read_transaction_id, **options))


def message_cursor(**options: Any) -> Coded[UUID]:
    """Where a list of messages goes on."""
    return _string(Coded(read=_read_message_cursor, write=ids.to_text, **options))


def timeline_cursor(**options: Any) -> Coded[timeline.Key]:
    """Where a timeline goes on."""
    return _string(Coded(read=_read_timeline_cursor, write=_write_timeline_cursor, **options))


def parse_transaction_id(text: str) -> str | None:
    """A transactionID as it is stored; None if it is none."""
    return (text.lstrip("0") or "0") if re.fullmatch("[0-9]{1,40}", text) else None


_NO_NUMBER = "Is no possible phone number: write it with its country code, or give countryIsoCode for a local one."


def _string(field: Coded[Value], form: str | None = None) -> Coded[Value]:
    """Say in the documentation that the field is a string."""
    field.metadata = {"type": "string"} | ({"format": form} if form else {}) | dict(field.metadata)
    return field


def _read_moment(text: str) -> datetime:
    found = _RFC_3339.match(text)
    if not found:
        raise ma.ValidationError("Must be a time with its offset (RFC 3339), such as 2026-01-31T09:30:00Z.")
    day, clock, fraction, utc, offset = found.groups()
    try:
        time = datetime.fromisoformat(f"{day}T{clock}.{fraction or '0':<06}{'+00:00' if utc else offset}")
        time = time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ma.ValidationError("There is no such time.") from None
    if not 1970 <= time.year < 3000:
        raise ma.ValidationError("Must lie in the years 1970 to 2999.")
    return time


def _write_moment(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _read_number(text: str) -> str:
    number = recipients.normalise(text)
    if number is None:
        raise ma.ValidationError(_NO_NUMBER.partition(":")[0] + ".")
    return number


def _read_transaction_id(text: str) -> str:
    digits = parse_transaction_id(text)
    if digits is None:
        raise ma.ValidationError("Must be 1 to 40 digits.")
    return digits


def _read_message_cursor(text: str) -> UUID:
    place = ids.from_text(text)
    if place is None:
        raise ma.ValidationError("Must be a nextCursor of this list.")
    return place


def _write_timeline_cursor(key: timeline.Key) -> str:
    micros = (key.at - _EPOCH) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(f"{micros}.{key.kind}.{key.id.hex}.{key.serial}".encode()).decode().rstrip("=")


def _read_timeline_cursor(text: str) -> timeline.Key:
    try:
        plain = base64.b64decode(text + "=" * (-len(text) % 4), altchars="-_", validate=True).decode()
        found = _TIMELINE_CURSOR.match(plain)
        if found:
            at = _EPOCH + timedelta(microseconds=int(found[1]))
            return timeline.Key(at, int(found[2]), UUID(hex=found[3]), int(found[4]))
    except (ValueError, OverflowError):
        pass
    raise ma.ValidationError("Must be a nextCursor of this timeline.")
