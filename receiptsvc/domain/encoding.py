"""How a text will travel, which decides what it costs: in GSM septets or UTF-16 code units, and in how many segments.

Sizes from GSM 03.38 and 03.40: 160 septets in one segment and 153 in each of several; 70 and 67 code units for UTF-16.
"""

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum

_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = "\f^{}\\[~]|€"  # two septets each: an escape and the character

# Patterns, because a request can hold millions of characters.
_OUTSIDER = re.compile(f"[^{re.escape(_BASIC + _EXTENSION)}]")
_ESCAPED = re.compile(f"[{re.escape(_EXTENSION)}]")
_PAIRED = re.compile("[\U00010000-\U0010ffff]")  # two code units each

# What word processors and web pages put in the place of plain characters; Unicode itself knows the many blanks.
_PLAIN = {
    "'": "\u2018\u2019\u201a\u201b\u2032\u2039\u203a\u00b4\u02bc`",
    '"': "\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb",
    "-": "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2022\u2023\u2043\u25cf\u25aa\u25e6\u00b7",
    "...": "\u2026",
    " ": "\t\u00a0",
    "": "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff",
    "\n": "\u2028\u2029\x85",
    "(c)": "\u00a9",
    "(R)": "\u00ae",
    "x": "\u00d7",
    "/": "\u00f7\u2044",
    "->": "\u2192",
    "<=": "\u2264",
    ">=": "\u2265",
}
_SUGGESTIONS = {character: plain for plain, alike in _PLAIN.items() for character in alike}
_IN_WORDS = {" ": "a plain space", "": "leaving it out", "\n": "a plain line break"}


class Encoding(StrEnum):
    """The alphabet that a text needs."""

    GSM = "GSM"
    UTF16 = "UTF-16"


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """What a text will cost. `outsiders`: the characters that keep it from being GSM, each once, in their order."""

    encoding: Encoding
    segments: int
    outsiders: tuple[str, ...]


def measure(text: str) -> Measure:
    """Encoding and segments of `text` (not empty)."""
    found = outsiders(text)
    if found:
        return Measure(encoding=Encoding.UTF16, segments=_segments(text, _PAIRED, 70, 67), outsiders=found)
    return Measure(encoding=Encoding.GSM, segments=_segments(text, _ESCAPED, 160, 153), outsiders=())


def outsiders(text: str) -> tuple[str, ...]:
    """The characters that keep a text from being GSM, each once, in their order."""
    return tuple(dict.fromkeys(_OUTSIDER.findall(text)))


def suggestion(character: str) -> str | None:
    """What could stand in a GSM text instead of an outsider, and say much the same; None: nothing is known.

    For a letter with an accent that GSM lacks it is the letter alone; for an invisible character it is empty.
    """
    if character in _SUGGESTIONS:
        return _SUGGESTIONS[character]
    apart = unicodedata.normalize("NFKD", character)
    plain = "".join(part for part in apart if not unicodedata.combining(part)).replace("\u2044", "/")
    says_as_much = plain.strip() or (plain and character.isspace())
    return plain if says_as_much and not _OUTSIDER.search(plain) else None


def code_point(character: str) -> str:
    """A character's number as Unicode writes it, such as `U+2019`."""
    return f"U+{ord(character):04X}"


def warnings(measured: Measure, most: int | None = None) -> list[str]:
    """Why a text became dear, in words, one a character. `most`: of how many characters."""
    return [f"{code_point(c)} {c!r} makes this a UTF-16 text{_advice(c)}" for c in measured.outsiders[:most]]


def _advice(character: str) -> str:
    plain = suggestion(character)
    if plain is None:
        return ""
    return f"; {_IN_WORDS.get(plain, plain)} would keep it GSM"


def _segments(text: str, wide: re.Pattern[str], single: int, each: int) -> int:
    """How many segments hold this text, its wide characters two units long and none of them split over a boundary."""
    wide_at = {found.start() + before for before, found in enumerate(wide.finditer(text))}  # in units
    total = len(text) + len(wide_at)
    if total <= single:
        return 1
    if not wide_at:
        return -(-total // each)
    segments, filled = 1, each
    while filled < total:
        filled -= filled - 1 in wide_at  # it moves over the boundary
        segments, filled = segments + 1, filled + each
    return segments
