"""How a text will travel, which decides what it costs: in GSM septets or UTF-16 code units, and in how many segments.

Sizes from GSM 03.38 and 03.40: 160 septets in one segment and 153 in each of several; 70 and 67 code units for UTF-16.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = frozenset("\f^{}\\[~]|€")  # two septets each: an escape and the character

_SUGGESTIONS = {
    "\u2018": "'",
    "\u2019": "'",
    "\u201c": '"',
    "\u201d": '"',
    "\u2013": "-",
    "\u2014": "-",
    "\u2026": "...",
    "\u00a0": "a plain space",
    "`": "'",
}


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
    outsiders = tuple(dict.fromkeys(c for c in text if c not in _BASIC and c not in _EXTENSION))
    if outsiders:
        widths = (1 + (ord(c) > 0xFFFF) for c in text)
        return Measure(encoding=Encoding.UTF16, segments=_segments(widths, 70, 67), outsiders=outsiders)
    widths = (1 + (c in _EXTENSION) for c in text)
    return Measure(encoding=Encoding.GSM, segments=_segments(widths, 160, 153), outsiders=())


def warnings(measured: Measure) -> list[str]:
    """Why a text became dear, in words, one a character."""
    return [
        f"U+{ord(c):04X} {c!r} makes this a UTF-16 text"
        + (f"; {_SUGGESTIONS[c]} would keep it GSM" if c in _SUGGESTIONS else "")
        for c in measured.outsiders
    ]


def _segments(widths: Iterator[int], single: int, each: int) -> int:
    """How many segments hold characters of these widths, none of them split over a boundary."""
    total, segments, filled = 0, 1, 0
    for width in widths:
        total += width
        if filled + width > each:
            segments, filled = segments + 1, 0
        filled += width
    return 1 if total <= single else segments
