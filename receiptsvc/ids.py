"""Our ids: UUIDv7 inside, `prefix_` and 26 characters of Crockford base32 outside (the TypeID form).

UUIDv7 sorts by the time it was made, so a table's newest rows are adjacent. An id is known before its row is written.
"""

from datetime import datetime
from hashlib import blake2b
from string import ascii_uppercase
from uuid import UUID

from uuid_utils.compat import uuid7

from receiptsvc.domain.times import from_micros, to_micros

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
# From Crockford's digits to those of int() in base 32. The letters that Crockford excludes, and upper case, become ".".
_EXCLUDED = "ilou" + ascii_uppercase
_DIGITS = str.maketrans(_ALPHABET + _EXCLUDED, "0123456789abcdefghijklmnopqrstuv" + "." * len(_EXCLUDED))

LENGTH = 26  # characters of base32 that hold 128 bits


def new() -> UUID:
    """A new id, greater than every id that this process made before."""
    return uuid7()


def part_of(identifier: UUID, part: int) -> UUID:
    """The id of a part of what has this id: always the same, and of the same millisecond."""
    digest = blake2b(b"%b%d" % (identifier.bytes, part), digest_size=10).digest()
    number = identifier.int >> 80 << 80 | int.from_bytes(digest, "big")
    return UUID(int=number & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62)  # the version and the variant


def first_at(time: datetime) -> UUID:
    """The lower bound of the ids made at this time (aware) or later; to the millisecond."""
    return UUID(int=max(0, to_micros(time) // 1000) << 80)


def made_at(identifier: UUID) -> datetime:
    """When an id was made, to the millisecond."""
    return from_micros((identifier.int >> 80) * 1000)


def base32(data: bytes) -> str:
    """`data` as lower-case Crockford base32, big-endian, `ceil(bits / 5)` characters."""
    length = -(-len(data) * 8 // 5)
    number = int.from_bytes(data, "big")
    return "".join(_ALPHABET[(number >> (5 * index)) & 31] for index in reversed(range(length)))


def to_text(identifier: UUID) -> str:
    """The 26 characters of an id, without prefix."""
    number = identifier.int  # two characters at a time, since exports write a hundred thousand a second
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])


def from_text(text: str) -> UUID | None:
    """The id that `to_text` writes as `text`; None if there is none."""
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
    """A regular expression for JSON Schema that matches what `public` writes."""
    return f"^{prefix}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$"


def parse(prefix: str, text: str) -> UUID | None:
    """The id that `public` writes as `text` with this prefix, else None."""
    head, _, tail = text.partition("_")
    return from_text(tail) if head == prefix else None
