"""How a text will travel, which decides what it costs: in GSM septets or UTF-16 code units, and in how many segments.

Sizes from GSM 03.38 and 03.40: 160 septets in one segment and 153 in each of several; 70 and 67 code units for UTF-16.
"""

import re
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
    outsiders = tuple(dict.fromkeys(_OUTSIDER.findall(text)))
    if outsiders:
        return Measure(encoding=Encoding.UTF16, segments=_segments(text, _PAIRED, 70, 67), outsiders=outsiders)
    return Measure(encoding=Encoding.GSM, segments=_segments(text, _ESCAPED, 160, 153), outsiders=())


def warnings(measured: Measure, most: int | None = None) -> list[str]:
    """Why a text became dear, in words, one a character. `most`: of how many characters."""
    return [
        f"U+{ord(c):04X} {c!r} makes this a UTF-16 text"
        + (f"; {_SUGGESTIONS[c]} would keep it GSM" if c in _SUGGESTIONS else "")
        for c in measured.outsiders[:most]
    ]


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
