"""The kinds of values that the API takes and gives: ids, times, numbers, flags, words, cursors.

Text that comes in is always a `Text`, whatever else is asked of it: `schemas.base.Request` sees to that. What only one
endpoint knows does not belong here.
"""

import base64
import re
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

import marshmallow as ma
from marshmallow import fields, validate

from receiptsvc import ids
from receiptsvc.domain import countries, numbers
from receiptsvc.store.core.paging import MAX_ROWS
from receiptsvc.store.outbound.suppressions import Pair
from receiptsvc.store.queries import contacts, listing, timeline

Value = TypeVar("Value")

# As the documentation has it: regular expressions of JSON Schema.
CURSOR = "^[A-Za-z0-9_-]{1,400}$"
_SENDABLE = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]*$"
_TRANSACTION_ID = "^[0-9]{1,40}$"
NUMBER = r"^[+0-9 \t\u00a0\u202f().\u2010-\u2015\u2212/-]{2,40}$"

_MAX_REASON = 1000  # characters
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC_3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,6})\d*)?(?:([Zz])|([+-]\d\d:\d\d))\Z", re.ASCII
)
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PAIR_CURSOR = re.compile(r"([0-9]{1,20})\.([0-9a-z._ -]{0,16})\Z", re.ASCII)
_MOMENT_CURSOR = re.compile(r"(\d{1,17})\.([0-9a-f]{32})\Z", re.ASCII)
_PLACE_CURSOR = re.compile(r"(created|changed|clientRef)\.(\d{1,17})\.([0-9a-f]{32})\.([\s\S]{0,64})\Z")
_TIMELINE_CURSOR = re.compile(r"(\d{1,17})\.([0-3])\.([0-9a-f]{32})\.(\d{1,18})\Z", re.ASCII)


def refuse_illegal(text: str) -> None:
    """Raise ValidationError at the first character that XML 1.0, and so the gateway, or a database can't hold."""
    found = _ILLEGAL.search(text)
    if found:
        place = f"U+{ord(found[0]):04X} at index {found.start()}"
        raise ma.ValidationError(f"Holds {place}, a character that can't be sent or stored: leave it out.")


class Text(fields.String):
    """Text that can be sent, stored and looked up."""

    def _deserialize(self, value: Any, *context: Any, **options: Any) -> str:
        text: str = super()._deserialize(value, *context, **options)
        refuse_illegal(text)
        return text


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


class Recipients(fields.Field[dict[str, list[int]]]):
    """Phone numbers, read as the places at which each person stands among them. With `countryIsoCode` also local ones.

    Where some are no numbers, the others are the error's `valid_data`.
    """

    def _deserialize(self, value: Any, *context: Any, **_: Any) -> dict[str, list[int]]:
        if not isinstance(value, list) or not value:
            raise ma.ValidationError("Must be a list of at least one phone number.")
        _, siblings = context  # after the field's own name, as it came: the object that the field stands in
        country = siblings.get("countryIsoCode")
        region = countries.alpha_2(country) if isinstance(country, str) else None
        people: dict[str, list[int]] = {}
        faults: dict[int, list[str]] = {}
        for index, text in enumerate(value):
            number = numbers.normalise(text, region) if isinstance(text, str) else None
            if number is None:
                faults[index] = [_NO_NUMBER if isinstance(text, str) else "Not a valid string."]
            else:
                people.setdefault(number, []).append(index)
        if faults:
            raise ma.ValidationError(dict(faults), valid_data=people)
        return people


def words(*, most: int, least: int = 1, also: Callable[[str], object] | None = None, **options: Any) -> Text:
    """Text of so many characters."""
    checks: list[Callable[[str], object]] = [validate.Length(least, most)]
    field = Text(validate=checks + ([also] if also else []), **options)
    field.metadata = {"pattern": _SENDABLE, **field.metadata}
    return field


def choice(of: Collection[str], **options: Any) -> Text:
    """One of these words."""
    field = Text(validate=validate.OneOf(of), **options)
    field.metadata = {**field.metadata, "enum": list(of)}
    return field


def query_flag(**options: Any) -> fields.Boolean:
    """true or false in a query."""
    wrong: dict[str, Any] = {"invalid": "Must be true or false."}
    return fields.Boolean(truthy={"true"}, falsy={"false"}, error_messages=wrong, **options)


def reason(**options: Any) -> Text:
    """Why somebody does something."""
    return words(most=_MAX_REASON, **options)


def limit(description: str = "How many at most.") -> fields.Integer:
    """How long a page may be."""
    documented = {"description": description, "examples": [100]}
    return fields.Integer(load_default=100, validate=validate.Range(1, MAX_ROWS), metadata=documented)


def moment(**options: Any) -> Coded[datetime]:
    """A time with its offset from UTC (RFC 3339). It is given out in UTC."""
    return _string(Coded(read=_read_moment, write=_write_moment, **options), format="date-time")


def query_moment(**options: Any) -> Coded[datetime]:
    """A time in a query, where a `+` that was not percent-encoded has become a blank."""
    return _string(
        Coded(read=lambda text: _read_moment(re.sub(r" (?=\d\d:\d\d\Z)", "+", text)), **options), format="date-time"
    )


def public_id(prefix: str, **options: Any) -> Coded[UUID]:
    """One of our ids, given out with its prefix."""
    return _string(
        Coded(write=lambda identifier: ids.public(prefix, identifier), **options), pattern=ids.pattern(prefix)
    )


def message_id(**options: Any) -> Coded[UUID]:
    """The id of a message, as it was given out."""
    return _string(Coded(read=_read_message_id, **options), pattern=ids.pattern("msg"))


def phone_number(**options: Any) -> Coded[str]:
    """A phone number in any usual writing, read as the digits of its international form."""
    return _string(Coded(read=_read_number, **options), pattern=NUMBER)


def transaction_id(**options: Any) -> Coded[str]:
    """A transactionID: digits, whose leading zeros say nothing."""
    return _string(Coded(read=_read_transaction_id, **options), pattern=_TRANSACTION_ID)


def anybody(**options: Any) -> Coded[str]:
    """Who wrote or was written to: a phone number in any usual writing, or a short code."""
    return _string(Coded(read=_read_anybody, **options), pattern=NUMBER)


def number_end(**options: Any) -> Coded[str]:
    """The last digits of a phone number."""
    return _string(Coded(read=_read_number_end, **options), pattern=NUMBER)


def cursor(**options: Any) -> Coded[str]:
    """Where a list goes on whose kind only what else is asked for tells: as it came, to be read as that kind's."""
    return _string(Coded(read=_read_cursor, **options), pattern=CURSOR)


def message_cursor(**options: Any) -> Coded[UUID]:
    """Where a list of messages goes on."""
    return _string(Coded(read=_read_message_cursor, write=ids.to_text, **options), pattern=CURSOR)


def pair_cursor(**options: Any) -> Coded[Pair]:
    """Where a list of suppressions goes on."""
    return _string(Coded(read=_read_pair_cursor, write=_write_pair_cursor, **options), pattern=CURSOR)


def moment_cursor(**options: Any) -> Coded[contacts.TimeCursor]:
    """Where a list goes on that is by time and id."""
    return _string(Coded(read=_read_moment_cursor, write=_write_moment_cursor, **options), pattern=CURSOR)


def place_cursor(**options: Any) -> Coded[listing.ListCursor]:
    """Where a list of messages goes on."""
    return _string(Coded(read=_read_place_cursor, write=_write_place_cursor, **options), pattern=CURSOR)


def timeline_cursor(**options: Any) -> Coded[timeline.TimelineCursor]:
    """Where a timeline goes on."""
    return _string(Coded(read=_read_timeline_cursor, write=_write_timeline_cursor, **options), pattern=CURSOR)


def parse_transaction_id(text: str) -> str | None:
    """A transactionID as it is stored; None if it is none."""
    return (text.lstrip("0") or "0") if re.fullmatch("[0-9]{1,40}", text) else None


_NO_NUMBER = "Is no possible phone number: write it with its country code, or give countryIsoCode for a local one."


def _string(field: Coded[Value], **more: str) -> Coded[Value]:
    """Say in the documentation that the field is a string."""
    field.metadata = {"type": "string", **more, **field.metadata}
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


def _read_message_id(text: str) -> UUID:
    found = ids.parse("msg", text)
    if found is None:
        raise ma.ValidationError("Must be a message's id, such as msg_01k8z3r5t6e8vbyq0h4n2m7c9d.")
    return found


def _read_number(text: str) -> str:
    number = numbers.normalise(text)
    if number is None:
        raise ma.ValidationError(_NO_NUMBER.partition(":")[0] + ".")
    return number


def _read_transaction_id(text: str) -> str:
    digits = parse_transaction_id(text)
    if digits is None:
        raise ma.ValidationError("Must be 1 to 40 digits.")
    return digits


def _read_cursor(text: str) -> str:
    if not re.fullmatch(CURSOR, text):
        raise ma.ValidationError("Must be a nextCursor of this list.")
    return text


def _read_message_cursor(text: str) -> UUID:
    place = ids.from_text(text)
    if place is None:
        raise ma.ValidationError("Must be a nextCursor of this list.")
    return place


def _write_pair_cursor(pair: Pair) -> str:
    return _wrap(".".join(pair))


def _read_pair_cursor(text: str) -> Pair:
    found = _unwrap(_PAIR_CURSOR, text)
    if not found:
        raise ma.ValidationError("Must be a nextCursor of this list.")
    return Pair(found[1], found[2])


def _read_anybody(text: str) -> str:
    number = numbers.normalise(text) or numbers.digits_only(text)
    if number is None:
        raise ma.ValidationError("Is neither a phone number nor a short code.")
    return number


def _read_number_end(text: str) -> str:
    digits = numbers.digits_only(text)
    if digits is None or len(digits) < listing.MIN_DIGITS:
        raise ma.ValidationError(f"Must be at least the last {listing.MIN_DIGITS} digits of a number.")
    return digits


def _write_moment_cursor(place: tuple[datetime, UUID]) -> str:
    at, identifier = place
    return _wrap(f"{_micros(at)}.{identifier.hex}")


def _read_moment_cursor(text: str) -> contacts.TimeCursor:
    found = _unwrap(_MOMENT_CURSOR, text)
    at = _time_of(found[1]) if found else None
    if found is None or at is None:
        raise ma.ValidationError("Must be a nextCursor of this list.")
    return contacts.TimeCursor(at, UUID(hex=found[2]))


def _write_place_cursor(place: listing.ListCursor) -> str:
    *before, at, identifier = place.key
    return _wrap(f"{place.order}.{_micros(at)}.{identifier.hex}.{before[0] if before else ''}")


def _read_place_cursor(text: str) -> listing.ListCursor:
    found = _unwrap(_PLACE_CURSOR, text)
    at = _time_of(found[2]) if found else None
    if found is None or at is None or "\0" in found[4]:
        raise ma.ValidationError("Must be a nextCursor of this list.")
    order = listing.Order(found[1])
    before = (found[4],) if order is listing.Order.CLIENT_REF else ()
    return listing.ListCursor(order, (*before, at, UUID(hex=found[3])))


def _micros(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def _time_of(micros: str) -> datetime | None:
    try:
        return _EPOCH + timedelta(microseconds=int(micros))
    except OverflowError:
        return None


def _write_timeline_cursor(key: timeline.TimelineCursor) -> str:
    return _wrap(f"{_micros(key.at)}.{key.kind}.{key.id.hex}.{key.serial}")


def _read_timeline_cursor(text: str) -> timeline.TimelineCursor:
    found = _unwrap(_TIMELINE_CURSOR, text)
    at = _time_of(found[1]) if found else None
    if found is None or at is None:
        raise ma.ValidationError("Must be a nextCursor of this timeline.")
    return timeline.TimelineCursor(at, int(found[2]), UUID(hex=found[3]), int(found[4]))


def _wrap(place: str) -> str:
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _unwrap(form: re.Pattern[str], cursor: str) -> re.Match[str] | None:
    """The parts of a place that `_wrap` wrote; None if it wrote no such thing."""
    try:
        return form.match(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars="-_", validate=True).decode())
    except ValueError:
        return None
