"""The API's field types: ids, times, numbers, flags, texts, cursors (what these hold: `cursors`).

Incoming text is always a `Text`; `schemas.base.Request` enforces it. Rules of a single endpoint do not belong here.
"""

import json
import re
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import marshmallow as ma
from marshmallow import fields, validate

from receiptsvc import ids
from receiptsvc.domain import countries, numbers, references
from receiptsvc.store.core.paging import MAX_ROWS
from receiptsvc.web.http import cursors
from receiptsvc.web.http.cursors import Cursor

Value = TypeVar("Value")

# Patterns for the OpenAPI document: regular expressions of JSON Schema.
_SENDABLE = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]*$"
_TRANSACTION_ID = "^[0-9]{1,40}$"
_ZONE = "^[A-Za-z][A-Za-z0-9+_/-]{0,63}$"
NUMBER = "^[^A-Za-z]{1,40}$"  # what `numbers` reads has digits of any script, so a pattern can say only this shortly

_GUID = r"^[\t\n\r -\u007f]+$"
MAX_CLIENT_REF = 64  # UTF-16 code units, the gateway's limit
MAX_GUID = 36  # characters, the gateway's limit

_MAX_REASON = 1000  # characters
_RFC_3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,6})\d*)?(?:([Zz])|([+-]\d\d:\d\d))\Z", re.ASCII
)
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def refuse_illegal(text: str) -> None:
    """Raise ValidationError at the first character that XML 1.0 (and so the gateway) or a database can't hold."""
    illegal = _ILLEGAL.search(text)
    if illegal:
        character = f"U+{ord(illegal[0]):04X} at index {illegal.start()}"
        raise ma.ValidationError(f"Holds {character}, a character that can't be sent or stored: leave it out.")


class Text(fields.String):
    """Text that can be sent, stored and looked up. Incoming text must be of this type."""

    def _deserialize(self, value: Any, *context: Any, **options: Any) -> str:
        if not isinstance(value, str):
            raise ma.ValidationError(
                _describe_type(value, such_as(self), is_time=self.metadata.get("format") == "date-time")
            )
        text: str = super()._deserialize(value, *context, **options)
        refuse_illegal(text)
        return text


class ClientRef(Text):
    """A clientRef to look for. As it is given: `references` says what it may have been stored as."""

    def _deserialize(self, value: Any, *context: Any, **options: Any) -> str:
        given: str = super()._deserialize(value, *context, **options)
        if not 1 <= len(given.strip() or given) <= MAX_CLIENT_REF:
            raise ma.ValidationError(f"Length must be between 1 and {MAX_CLIENT_REF}.")
        return given


class NewClientRef(Text):
    """The clientRef of a new message, as `references` stores it."""

    def _deserialize(self, value: Any, *context: Any, **options: Any) -> str:
        client_ref = references.trim_client_ref(super()._deserialize(value, *context, **options))
        if client_ref is None:
            raise ma.ValidationError("Is nothing but blanks: give a reference, such as order/1234, or leave it out.")
        length = references.client_ref_length(client_ref)
        if length > MAX_CLIENT_REF:
            raise ma.ValidationError(
                f"Has {length} characters as the gateway counts them (an emoji is two): at most {MAX_CLIENT_REF}."
            )
        return client_ref


class MessageGuid(Text):
    """A messageGuid, as `references` stores it."""

    def _deserialize(self, value: Any, *context: Any, **options: Any) -> str:
        guid = references.normalise_guid(super()._deserialize(value, *context, **options))
        if not 1 <= len(guid) <= MAX_GUID or not guid.isascii():
            raise ma.ValidationError(f"Must be 1 to {MAX_GUID} characters of ASCII, best a GUID.")
        return guid


class Coded(fields.Field[Value], Generic[Value]):
    """A value that is a string in JSON.

    `read` makes the value from the string and raises ValidationError; without it the field is for output only.
    """

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
            raise ma.ValidationError(
                _describe_type(value, such_as(self), is_time=self.metadata.get("format") == "date-time")
            )
        return self._read(value)


class Flag(fields.Boolean):
    """JSON's true or false; no string or number that could stand for them."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bool:
        if not isinstance(value, bool):
            raise ma.ValidationError("Must be true or false.")
        return value


class Choices(fields.List[str]):
    """Some of these words. In a query repeated, or separated by commas; in JSON a list, or one such text.

    Read as a tuple, each word once, in the order of `words`.
    """

    def __init__(self, words: Collection[str], **options: Any) -> None:
        super().__init__(
            choice(words), validate=validate.Length(min=1, error="Must have at least one word."), **options
        )
        self._words = words

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        given = [value] if isinstance(value, str) else value
        if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
            raise ma.ValidationError("Must be a list of words.")
        read = {word.strip() for each in given for word in each.split(",")}
        if not read <= set(self._words):
            raise ma.ValidationError(f"Must be one or several of: {', '.join(self._words)}.")
        return tuple(word for word in self._words if word in read)


class TextByName(fields.Dict):
    """An object of texts by names. A fault in a name, or in its text, has the path of the name."""

    def _deserialize(self, value: Any, *context: Any, **options: Any) -> Any:
        try:
            return super()._deserialize(value, *context, **options)  # type: ignore[no-untyped-call]  # marshmallow's
        except ma.ValidationError as error:
            if not isinstance(error.messages, dict):
                raise
            faults = {
                name: [*(f"Its name: {text}" for text in of.get("key", ())), *of.get("value", ())]
                for name, of in error.messages.items()
            }
            raise ma.ValidationError(faults, valid_data=error.valid_data) from None


class Recipients(fields.Field[dict[str, list[int]]]):
    """A list of phone numbers, read as number → its indexes in the list. With `countryIsoCode` also local numbers.

    If some are invalid, the error's `valid_data` holds the others.
    """

    def _deserialize(self, value: Any, *context: Any, **_: Any) -> dict[str, list[int]]:
        if not isinstance(value, list) or not value:
            raise ma.ValidationError(f"Must be a list of at least one phone number{such_as(self)}.")
        _, siblings = context  # the field's own name, and the incoming object that holds the field
        country = siblings.get("countryIsoCode")
        region = countries.alpha_2(country) if isinstance(country, str) else None
        problem = _NO_NUMBER_THERE if region else _NO_NUMBER_HERE  # if its form is right
        indexes: dict[str, list[int]] = {}
        faults: dict[int, list[str]] = {}
        for index, text in enumerate(value):
            number = numbers.normalise(text, region) if isinstance(text, str) and not _is_uri(text) else None
            if number is None:
                faults[index] = [
                    _describe(text, problem, region) if isinstance(text, str) else _describe_type(text, _SUCH_NUMBER)
                ]
            else:
                indexes.setdefault(number, []).append(index)
        if faults:
            raise ma.ValidationError(dict(faults), valid_data=indexes)
        return indexes


def such_as(field: fields.Field[Any]) -> str:
    """For the end of a sentence: the field's first example in JSON, if it has one."""
    examples = field.metadata.get("examples", ())
    return f", such as {json.dumps(examples[0], ensure_ascii=False)}" if examples else ""


def _describe_type(value: object, such: str, *, is_time: bool = False) -> str:
    """What is wrong with a value that is no string. `such`: of `such_as`. `is_time`: no number can stand for it."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and not is_time
    return f"Must be a string: put the number in quotes{such}." if is_number else f"Must be a string{such}."


def text(*, max_length: int, min_length: int = 1, check: Callable[[str], object] | None = None, **options: Any) -> Text:
    """Text of a limited number of characters. `check` raises ValidationError."""
    checks: list[Callable[[str], object]] = [validate.Length(min_length, max_length)]
    field = Text(validate=checks + ([check] if check else []), **options)
    field.metadata = {"pattern": _SENDABLE, **field.metadata}
    return field


def client_ref(**options: Any) -> ClientRef:
    """A clientRef to look for, with or without blanks at its ends."""
    field = ClientRef(**options)
    field.metadata = {"pattern": _SENDABLE, "minLength": 1, "maxLength": MAX_CLIENT_REF, **field.metadata}
    return field


def new_client_ref(**options: Any) -> NewClientRef:
    """A clientRef for a new message."""
    field = NewClientRef(**options)
    field.metadata = {"pattern": _SENDABLE, "minLength": 1, "maxLength": MAX_CLIENT_REF, **field.metadata}
    return field


def message_guid(**options: Any) -> MessageGuid:
    """A messageGuid for a new message."""
    field = MessageGuid(**options)
    field.metadata = {"pattern": _GUID, "minLength": 1, "maxLength": MAX_GUID, **field.metadata}
    return field


def choice(values: Collection[str], **options: Any) -> Text:
    """One of these words."""
    field = Text(validate=validate.OneOf(values), **options)
    field.metadata = {**field.metadata, "enum": list(values)}
    return field


class QueryFlag(fields.Boolean):
    """true or false: words in a query, and with `is_json` JSON's own."""

    is_json = False

    def _deserialize(self, value: Any, *context: Any, **options: Any) -> bool:
        if self.is_json and not isinstance(value, bool):
            raise ma.ValidationError("Must be true or false.")
        return value if isinstance(value, bool) else bool(super()._deserialize(value, *context, **options))


def query_flag(**options: Any) -> QueryFlag:
    """true or false in a query."""
    error_messages: dict[str, Any] = {"invalid": "Must be true or false."}
    return QueryFlag(truthy={"true"}, falsy={"false"}, error_messages=error_messages, **options)


def reason(**options: Any) -> Text:
    """Why an operator does something, for the record."""
    return text(max_length=_MAX_REASON, **options)


class QueryInteger(fields.Integer):
    """A whole number: digits in a query, and with `is_json` a number of JSON."""

    is_json = False

    def _deserialize(self, value: Any, *context: Any, **options: Any) -> Any:
        is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if self.is_json and not is_whole:
            raise self.make_error("invalid")
        return super()._deserialize(value, *context, **options)


def limit(description: str = "How many at most.") -> QueryInteger:
    """The most entries of a page, 1 to MAX_ROWS."""
    documented = {"description": description, "examples": [100]}
    return QueryInteger(load_default=100, validate=validate.Range(1, MAX_ROWS), metadata=documented)


def moment(**options: Any) -> Coded[datetime]:
    """A time with its offset from UTC (RFC 3339). Written in UTC."""
    return _string(Coded(read=_read_moment, write=_write_moment, **options), format="date-time")


def query_moment(**options: Any) -> Coded[datetime]:
    """A time in a query, where a `+` that was not percent-encoded arrives as a space."""
    return _string(
        Coded(read=lambda text: _read_moment(re.sub(r" (?=\d\d:\d\d\Z)", "+", text)), **options), format="date-time"
    )


def timezone(**options: Any) -> Coded[ZoneInfo]:
    """A time zone by its name in the IANA database."""
    return _string(Coded(read=_read_timezone, **options), pattern=_ZONE)


def public_id(prefix: str, **options: Any) -> Coded[UUID]:
    """One of our ids, written with its prefix; for output only."""
    return _string(
        Coded(write=lambda identifier: ids.public(prefix, identifier), **options), pattern=ids.pattern(prefix)
    )


def message_id(**options: Any) -> Coded[UUID]:
    """The public id of a message, `msg_…`."""
    return _string(Coded(read=_read_message_id, **options), pattern=ids.pattern("msg"))


def phone_number(**options: Any) -> Coded[str]:
    """A phone number in any usual notation, read as the digits of its international form."""
    return _string(Coded(read=_read_number, **options), pattern=NUMBER)


def transaction_id(**options: Any) -> Coded[str]:
    """A transactionID: digits, without regard to leading zeros."""
    return _string(Coded(read=_read_transaction_id, **options), pattern=_TRANSACTION_ID)


def phone_or_short_code(**options: Any) -> Coded[str]:
    """The sender or recipient of a reply: a phone number in any usual notation, or a short code. Read as digits."""
    return _string(Coded(read=_read_phone_or_short_code, **options), pattern=NUMBER)


def number_suffix(**options: Any) -> Coded[str]:
    """The last digits of a phone number."""
    return _string(Coded(read=_read_number_suffix, **options), pattern=NUMBER)


def cursor(kind: Cursor[Value], **options: Any) -> Coded[Value]:
    """Where a page of a list begins."""
    options.setdefault(
        "metadata", {"description": "The nextCursor of the page before, with the same filters as there."}
    )
    return _string(Coded(read=kind.decode, **options), pattern=cursors.PATTERN)


def next_cursor(kind: Cursor[Value], **options: Any) -> Coded[Value]:
    """Where the next page of a list begins."""
    options.setdefault("metadata", {"description": "Ask with it for the next page; null: this is the last."})
    return _string(Coded(write=kind.encode, allow_none=True, **options), pattern=cursors.PATTERN)


_SUCH_NUMBER = ', such as "447700900000"'
_NO_NUMBER = "Is no possible phone number."
_NATIONAL = (
    "Is no possible phone number: it is written as inside a country. Write it with a + and the country code, or look "
    "for its last digits by recipientEnds."
)
_NO_NUMBER_HERE = "Is no possible phone number: write it with its country code, or give countryIsoCode for a local one."
_NO_NUMBER_THERE = "Is no possible phone number of countryIsoCode; one of another country needs a + or 00 in front."


def _is_uri(text: str) -> bool:
    """Whether it begins with `tel:`: callbacks may, but letters are refused here."""
    return text[:4].lower() == "tel:"


def _describe(text: str, problem: str, region: str | None = None) -> str:
    """Why a text is no number: its form, else the problem."""
    reason = numbers.explain_refusal(text, region)
    return f"Is no possible phone number: {reason}." if reason else problem


def _string(field: Coded[Value], **schema: str) -> Coded[Value]:
    """Document the field as a string in OpenAPI."""
    field.metadata = {"type": "string", **schema, **field.metadata}
    return field


def _read_moment(text: str) -> datetime:
    match = _RFC_3339.match(text)
    if not match:
        raise ma.ValidationError("Must be a time with its offset (RFC 3339), such as 2026-01-31T09:30:00Z.")
    day, clock, fraction, utc, offset = match.groups()
    try:
        time = datetime.fromisoformat(f"{day}T{clock}.{fraction or '0':<06}{'+00:00' if utc else offset}")
        time = time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ma.ValidationError("There is no such time.") from None
    if not 1970 <= time.year < 3000:
        raise ma.ValidationError("Must lie in the years 1970 to 2999.")
    return time


def _read_timezone(text: str) -> ZoneInfo:
    try:
        if re.fullmatch(_ZONE, text):
            return ZoneInfo(text)
    except (ValueError, OSError, LookupError):  # such as the name of a folder of zones
        pass
    raise ma.ValidationError("Must be the name of a time zone, such as Europe/London.")


def _write_moment(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _read_message_id(text: str) -> UUID:
    identifier = ids.parse("msg", text)
    if identifier is None:
        raise ma.ValidationError("Must be a message's id, such as msg_01k8z3r5t6e8vbyq0h4n2m7c9d.")
    return identifier


def _read_number(text: str) -> str:
    number = None if _is_uri(text) else numbers.normalise(text)
    if number is None:
        raise ma.ValidationError(_describe(text, _NATIONAL if numbers.national_ending(text) else _NO_NUMBER))
    return number


def _read_transaction_id(text: str) -> str:
    digits = references.parse_transaction_id(text)
    if digits is None:
        raise ma.ValidationError("Must be 1 to 40 digits.")
    return digits


def _read_phone_or_short_code(text: str) -> str:
    number = None if _is_uri(text) else numbers.read(text)
    if number is None:
        raise ma.ValidationError("Is neither a phone number nor a short code.")
    return number


def _read_number_suffix(text: str) -> str:
    digits = None if _is_uri(text) else numbers.digits(text)
    if digits is None or len(digits) < numbers.INDEXED_DIGITS:
        raise ma.ValidationError(f"Must be at least the last {numbers.INDEXED_DIGITS} digits of a number.")
    return digits
