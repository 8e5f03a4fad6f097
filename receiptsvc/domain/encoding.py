"""Message encoding, which decides the cost: GSM septets or UTF-16 code units, and how many segments.

Sizes from GSM 03.38 and 03.40: 160 septets in one segment and 153 in each of several; 70 and 67 code units for UTF-16.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = "\f^{}\\[~]|€"  # two septets each: an escape and the character

# Patterns, because a request can hold millions of characters.
_NON_GSM = re.compile(f"[^{re.escape(_BASIC + _EXTENSION)}]")
_MARK = "[\u0300-\u036f]"  # an accent that is a character of its own, behind its letter
_HAS_MARK = re.compile(_MARK)
_NON_GSM_OR_MARKED = re.compile(f"(?s:.){_MARK}+|{_NON_GSM.pattern}")
_TWO_SEPTETS = re.compile(f"[{re.escape(_EXTENSION)}]")
_TWO_CODE_UNITS = re.compile("[\U00010000-\U0010ffff]")

# What word processors and web pages use instead of plain characters. Unicode's NFKD covers the many kinds of blanks.
_PLAIN = {
    "'": "\u2018\u2019\u201a\u201b\u2032\u2035\u2039\u203a\u00b4\u02b9\u02bb\u02bc\u02bd\u02c8\ua78c`",
    '"': "\u201c\u201d\u201e\u201f\u2033\u2036\u00ab\u00bb\u02ba\u02dd\u02ee\u301d\u301e\u301f",
    "-": "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2022\u2023\u2043\u25cf\u25aa\u25e6\u00b7",
    "...": "\u2026",
    " ": "\t\u00a0",
    "": (
        "\u00ad\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064"
        "\u2066\u2067\u2068\u2069\ufe0e\ufe0f\ufeff"
    ),
    "\n": "\u2028\u2029\x85",
    "(c)": "\u00a9",
    "(R)": "\u00ae",
    "x": "\u00d7",
    "/": "\u00f7\u2044\u2215",
    "|": "\u00a6\u2223\u01c0",
    ":": "\u2236\ua789\u02d0",
    "~": "\u02dc\u223c",
    "^": "\u02c6",
    "*": "\u2217\u204e",
    "\\": "\u2216",
    "!": "\u01c3",
    "u": "\u00b5",
    "->": "\u2192",
    "<=": "\u2264",
    ">=": "\u2265",
}
_SUGGESTIONS = {character: plain for plain, variants in _PLAIN.items() for character in variants} | {
    # Letters of Latin that Unicode does not take apart.
    **dict(zip("ıłŁđĐðÐħĦŧŦƒĸɑɡ", "ilLdDdDhHtTfkag", strict=True)),
    "œ": "oe",
    "Œ": "OE",
    "ẞ": "ß",
}
# Letters of other scripts that look like those of Latin: the likely ones among Unicode's confusables (UTS #39).
_LOOKALIKES = dict(
    zip(
        "АВЕЅІЈКМНОРСТУҮХѴԌԚԜӀ" + "аеѕіјһорсухѵԁԛԝӏү" + "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧϹ" + "αινορυϲϳ",  # noqa: RUF001
        "ABESIJKMHOPCTYYXVGQWI" + "aesijhopcyxvdqwly" + "ABEZHIKMNOPTYXC" + "aivopucj",
        strict=True,
    )
)
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
    """The characters that keep a text from being GSM, each once, in their order: a letter with its accents is one."""
    pattern = _NON_GSM_OR_MARKED if _HAS_MARK.search(text) else _NON_GSM
    return tuple(dict.fromkeys(pattern.findall(text)))


@lru_cache(maxsize=8192)
def suggestion(character: str) -> str | None:
    """GSM text of much the same meaning to use instead of a character outside GSM; None: none is known.

    For a letter with an accent that GSM has it is the two as one character, for any other the letter alone; for a
    letter that looks like one of Latin it is that; for an invisible character it is empty.
    """
    known = _SUGGESTIONS.get(character, _LOOKALIKES.get(character))
    if known is not None:
        return known
    composed = unicodedata.normalize("NFC", character)
    if not _NON_GSM.search(composed):
        return composed
    decomposed = unicodedata.normalize("NFKD", character)
    letters = (part for part in decomposed if not unicodedata.combining(part))
    plain = "".join(_LOOKALIKES.get(part, part) for part in letters).replace("\u2044", "/")
    is_meaningful = plain.strip() or (plain and character.isspace())
    return plain if is_meaningful and not _NON_GSM.search(plain) else None


def suggestions(characters: Sequence[str], limit: int | None = None) -> list[str | None]:
    """A suggestion for each of the first of a text's `characters` outside GSM.

    None for a letter that looks like one of Latin if another letter can't be replaced: it is a text in that script.
    """
    found = [suggestion(character) for character in characters[:limit]]
    if not any(map(_is_lookalike, characters[:limit])):
        return found
    if any(character[0].isalpha() and suggestion(character) is None for character in characters):
        return [
            None if _is_lookalike(character) else plain for character, plain in zip(characters, found, strict=False)
        ]
    return found


def code_point(character: str) -> str:
    """A character's code point as Unicode writes it, such as `U+2019`; of a letter with accents several."""
    return " ".join(f"U+{ord(part):04X}" for part in character)


def warnings(measured: Measurement, limit: int | None = None) -> list[str]:
    """Why a text is UTF-16, in one sentence for each character outside GSM, of which at most `limit`."""
    return [
        f"{code_point(character)} {character!r} makes this a UTF-16 text{_advise(character, plain)}"
        for character, plain in zip(measured.non_gsm, suggestions(measured.non_gsm, limit), strict=False)
    ]


def _advise(character: str, plain: str | None) -> str:
    if plain is None:
        return ""
    if _is_lookalike(character):
        return f"; it only looks like {plain} ({code_point(plain)}), which would keep it GSM"
    if unicodedata.normalize("NFC", character) == plain:  # the two look the same
        return f"; {plain} as the one character {code_point(plain)} would keep it GSM"
    return f"; {_IN_WORDS.get(plain, plain)} would keep it GSM"


def _is_lookalike(character: str) -> bool:
    return any(part in _LOOKALIKES for part in character + unicodedata.normalize("NFKD", character))


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
