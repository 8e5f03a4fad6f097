"""Message encoding, which decides the cost: GSM septets or UTF-16 code units, and how many segments.

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
_NON_GSM = re.compile(f"[^{re.escape(_BASIC + _EXTENSION)}]")
_TWO_SEPTETS = re.compile(f"[{re.escape(_EXTENSION)}]")
_TWO_CODE_UNITS = re.compile("[\U00010000-\U0010ffff]")

# What word processors and web pages use instead of plain characters. Unicode's NFKD covers the many kinds of blanks.
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
_SUGGESTIONS = {character: plain for plain, variants in _PLAIN.items() for character in variants}
_IN_WORDS = {" ": "a plain space", "": "leaving it out", "\n": "a plain line break"}


class Encoding(StrEnum):
    """The encoding that a text needs."""

    GSM = "GSM"
    UTF16 = "UTF-16"


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """What a text costs. `non_gsm`: the characters that keep it from being GSM, each once, in their order."""

    encoding: Encoding
    segments: int
    non_gsm: tuple[str, ...]


def measure(text: str) -> Measurement:
    """Encoding and segments of `text` (not empty)."""
    non_gsm = non_gsm_characters(text)
    if non_gsm:
        return Measurement(
            encoding=Encoding.UTF16, segments=_count_segments(text, _TWO_CODE_UNITS, 70, 67), non_gsm=non_gsm
        )
    return Measurement(encoding=Encoding.GSM, segments=_count_segments(text, _TWO_SEPTETS, 160, 153), non_gsm=())


def non_gsm_characters(text: str) -> tuple[str, ...]:
    """The characters that keep a text from being GSM, each once, in their order."""
    return tuple(dict.fromkeys(_NON_GSM.findall(text)))


def suggestion(character: str) -> str | None:
    """GSM text of much the same meaning to use instead of a character outside GSM; None: none is known.

    For a letter with an accent that GSM lacks it is the letter alone; for an invisible character it is empty.
    """
    if character in _SUGGESTIONS:
        return _SUGGESTIONS[character]
    decomposed = unicodedata.normalize("NFKD", character)
    plain = "".join(part for part in decomposed if not unicodedata.combining(part)).replace("\u2044", "/")
    is_meaningful = plain.strip() or (plain and character.isspace())
    return plain if is_meaningful and not _NON_GSM.search(plain) else None


def code_point(character: str) -> str:
    """A character's code point as Unicode writes it, such as `U+2019`."""
    return f"U+{ord(character):04X}"


def warnings(measured: Measurement, limit: int | None = None) -> list[str]:
    """Why a text is UTF-16, in one sentence for each character outside GSM, of which at most `limit`."""
    return [f"{code_point(c)} {c!r} makes this a UTF-16 text{_advice(c)}" for c in measured.non_gsm[:limit]]


def _advice(character: str) -> str:
    plain = suggestion(character)
    if plain is None:
        return ""
    return f"; {_IN_WORDS.get(plain, plain)} would keep it GSM"


def _count_segments(text: str, wide: re.Pattern[str], single: int, each: int) -> int:
    """How many segments hold this text. A `wide` character takes two units, which are never split between segments.

    `single`: the units of a lone segment; `each`: of each of several.
    """
    wide_at = {found.start() + before for before, found in enumerate(wide.finditer(text))}  # in units
    total = len(text) + len(wide_at)
    if total <= single:
        return 1
    if not wide_at:
        return -(-total // each)
    segments, filled = 1, each
    while filled < total:
        filled -= filled - 1 in wide_at  # it would be split: it moves to the next segment
        segments, filled = segments + 1, filled + each
    return segments
