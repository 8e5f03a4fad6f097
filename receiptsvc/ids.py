"""Our ids: UUIDv7 inside, `prefix_` and 26 characters of Crockford base32 outside (the TypeID form).

UUIDv7 sorts by the time it was made, so a table's newest rows lie together and an id is known before its row is.
"""

from datetime import UTC, datetime, timedelta
from string import ascii_uppercase
from uuid import UUID

from uuid_utils.compat import uuid7

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
# To the digits that int() knows in base 32. What Crockford leaves out, and upper case, become none of them.
_NONE = "ilou" + ascii_uppercase
_DIGITS = str.maketrans(_ALPHABET + _NONE, "0123456789abcdefghijklmnopqrstuv" + "." * len(_NONE))

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

LENGTH = 26  # characters of base32 that hold 128 bits


def new() -> UUID:
    """A new id, greater than every one this process made before."""
    return uuid7()


def first_at(time: datetime) -> UUID:
    """What no id is less than that was made at this time (aware) or later; to the millisecond."""
    return UUID(int=max(0, (time - _EPOCH) // timedelta(milliseconds=1)) << 80)


def base32(data: bytes) -> str:
    """`data` as lower-case Crockford base32, big-endian, `ceil(bits / 5)` characters."""
    length = -(-len(data) * 8 // 5)
    number = int.from_bytes(data, "big")
    return "".join(_ALPHABET[(number >> (5 * place)) & 31] for place in reversed(range(length)))


def to_text(identifier: UUID) -> str:
    """The 26 characters of an id, without prefix."""
    number = identifier.int  # two characters at a time, since exports write a hundred thousand a second
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])


def from_text(text: str) -> UUID | None:
    """The id that `to_text` wrote as `text`; None if it wrote no such thing."""
    if len(text) != LENGTH or not text.isascii():
        return None
    digits = text.translate(_DIGITS)
    try:
        return UUID(int=int(digits, 32)) if digits.isalnum() else None  # int() also takes signs, blanks and _
    except ValueError:
        return None


def public(prefix: str, identifier: UUID) -> str:
    """An id as users see it, such as `msg_01j…`. Prefixes: `msg`, `rcp`, `rpl`, `cnv`."""
    return f"{prefix}_{to_text(identifier)}"


def pattern(prefix: str) -> str:
    """What `public` writes, as a regular expression of JSON Schema."""
    return f"^{prefix}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$"


def parse(prefix: str, text: str) -> UUID | None:
    """The id behind `text` if it is one of this prefix, else None."""
    head, _, tail = text.partition("_")
    return from_text(tail) if head == prefix else None
