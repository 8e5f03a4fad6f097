"""Decodes a file of messages: which encoding its bytes are in, as spreadsheets really save them.

A mark, zero bytes (UTF-16) or valid UTF-8 decide. What is none of these is Windows-1252, as Excel on Windows saves
"CSV", or Mac Roman, as Excel and Numbers on a Mac can; or it is of Central Europe or DOS. One of the first two is taken
only if the others read as less: a capital within a word, a currency sign between two letters, a byte that it does not
have make no sense, and nor does a word that no language has (`languages`). The others are never taken by themselves:
too many more are like them. Else the file is refused, with the word in doubt as each would read it, and `--encoding`
names it. Nothing here knows of cells or messages.
"""

import codecs
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from receiptsvc.cli.send_file import languages
from receiptsvc.cli.send_file.languages import Plausibility
from receiptsvc.domain.errors import ReceiptsvcError

# The names that `--encoding` takes, and Python's.
ENCODINGS = {
    "utf-8": "utf-8-sig",
    "utf-16": "utf-16",
    "windows-1252": "cp1252",
    "mac-roman": "mac_roman",
    "iso-8859-15": "iso8859_15",
    "windows-1250": "cp1250",
    "windows-1251": "cp1251",
    "windows-1253": "cp1253",
    "windows-1254": "cp1254",
    "dos-850": "cp850",
    "dos-437": "cp437",
    "mac-central-europe": "mac_latin2",
}

_NEVER_ASSUMED = ("windows-1250", "dos-850", "dos-437")
_CANDIDATES = ("windows-1252", "mac-roman", *_NEVER_ASSUMED)

_MARKS = (  # the longer ones first
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WORKBOOKS = {  # the first bytes of files that are not text
    b"PK\x03\x04": "an Excel, Numbers or OpenDocument workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF": "a PDF",
    b"\x1f\x8b": "compressed by gzip",
    b"{\\rtf": "an RTF document",
}
_SAMPLE_BYTES = 4096
_END_OF_FILE = "\x1a"  # DOS programs write it as the last character

_LONE = (
    "\u00e0\u00e1\u00e8\u00e9\u00f2\u00f3\u00f4\u00c0\u00c1\u00c9\u00d3\u00e5\u00c5\u00f6\u00d6"  # words of one letter
)
_CONTRACTION = re.compile(r"n\u2019t\b|[A-Za-z]\u2019(?:ll|re|ve)\b|\bI\u2019m\b", re.ASCII)
_LINE_ENDS = re.compile("\r\n|\r|\n")
_OTHER_SCRIPT = re.compile("[\u00c0-\u024f]{3}")  # as Cyrillic and Greek look: no Western word has three in a row
_HARD_BLANK = "\u00a0"
_NOT_ASCII = re.compile("[^\x00-\x7f]")
_BYTES_OF_WORD = re.compile(rb"[A-Za-z\x80-\xff]+")
_MAX_SHOWN = 24  # bytes


class NotDecoded(ReceiptsvcError):
    """A file can't be decoded. `line`: where that was seen; None: it is about the whole file."""

    def __init__(self, what: str, line: int | None = None) -> None:
        super().__init__(what)
        self.line = line


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """A file's text, and the name of the encoding that it was taken to be in, if nothing in the file says so."""

    text: str
    assumed: str | None = None
    first_line: int = 1  # of the characters that depend on it


def decode(data: bytes, encoding: str | None = None) -> Decoded:
    """The text of a file. `encoding`: one of ENCODINGS; None: by the bytes. Raises NotDecoded."""
    for start, kind in _WORKBOOKS.items():
        if data.startswith(start):
            raise NotDecoded(f"Is {kind}, not text: save it as CSV UTF-8.")
    if encoding is not None:
        return Decoded(text=_clean(_decode_as(data, encoding, ENCODINGS[encoding])))
    marked = next((kind for mark, kind in _MARKS if data.startswith(mark)), None) or _find_utf_16(data)
    if marked is not None:
        return Decoded(text=_clean(_decode_as(data, marked, "utf-8-sig" if marked == "utf-8" else marked)))
    try:
        return Decoded(text=_clean(data.decode()))
    except UnicodeDecodeError as error:
        return _decode_one_byte(data, error.start)


def _decode_as(data: bytes, name: str, codec: str) -> str:
    try:
        return data.decode(codec)
    except UnicodeDecodeError as error:
        before = data[: error.start].decode(codec, "ignore") if "16" in codec or "32" in codec else None
        line = _line_of(data, error.start) if before is None else len(_LINE_ENDS.findall(before)) + 1
        raise NotDecoded(f"Is not {name.upper()}: save the file as UTF-8.", line) from None


def _line_of(data: bytes, position: int) -> int:
    return len(_LINE_ENDS.findall(data[:position].decode("latin-1"))) + 1


def _clean(text: str) -> str:
    return text.removeprefix("\ufeff").removesuffix(_END_OF_FILE)


def _find_utf_16(data: bytes) -> str | None:
    """UTF-16 without a mark: of characters that are mostly Latin, one byte of two is zero."""
    sample = data[:_SAMPLE_BYTES]
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if not even + odd:
        return None
    if even == 0 and odd * 2 >= len(sample[1::2]):
        return "utf-16-le"
    if odd == 0 and even * 2 >= len(sample[::2]):
        return "utf-16-be"
    raise NotDecoded("Holds zero bytes: it is not text, or cut. Save it as CSV UTF-8.")


def _decode_one_byte(data: bytes, start: int) -> Decoded:
    """A file of one byte a character: in the one encoding in which it makes sense. `start`: where it is not UTF-8."""
    readings = {name: text for name in _CANDIDATES if (text := _try(data, ENCODINGS[name])) is not None}
    name = _choose_by_signs(data, readings)
    if name is None or _is_doubted(name, readings):
        raise _doubt(data, start)
    return Decoded(text=_clean(readings[name]), assumed=name, first_line=_line_of(data, start))


def _choose_by_signs(data: bytes, readings: Mapping[str, str]) -> str | None:
    """Windows-1252 or Mac Roman, by what makes sense and, if both do, by how lines end; None: either, or neither."""
    windows, mac = readings.get("windows-1252"), readings.get("mac-roman")
    if windows is None or mac is None or windows == mac:
        return next((name for name in ("windows-1252", "mac-roman") if name in readings), None)
    if b"\n" not in data and b"\r" in data:
        return "mac-roman"
    return "windows-1252" if b"\r\n" in data or _is_english(windows) else None


def _is_doubted(name: str, readings: Mapping[str, str]) -> bool:
    """Whether a word of this reading is of no language, or a reading of DOS or Central Europe is no less plausible."""
    ranks = {other: languages.plausibility(languages.words_of(text)) for other, text in readings.items()}
    return ranks[name] is Plausibility.NONE or any(
        ranks[other] >= ranks[name] and readings[other] != readings[name]
        for other in readings
        if other in _NEVER_ASSUMED
    )


def _doubt(data: bytes, start: int) -> NotDecoded:
    """The refusal of a file, with the first word in doubt as each encoding reads it."""
    words = [found for found in _BYTES_OF_WORD.finditer(data) if found.end() > start and not found[0].isascii()]
    word = next((found for found in words if _is_word_in_doubt(found[0])), words[0])
    shown: dict[str, list[str]] = {}
    for name in _CANDIDATES:
        text = word[0][:_MAX_SHOWN].decode(ENCODINGS[name], "replace")
        if text.isprintable() and "\ufffd" not in text:
            shown.setdefault(text, []).append(name)
    read = ", ".join(f'"{text}" in {" and ".join(names)}' for text, names in shown.items())
    what = f": a word is {read}" if read else ""
    return NotDecoded(
        f"Is not UTF-8{what}. Save the file as UTF-8, or name what it is with --encoding.",
        _line_of(data, word.start()),
    )


def _is_word_in_doubt(word: bytes) -> bool:
    """Whether Windows-1252 reads it as no word, or another encoding as another one."""
    windows, *others = (word.decode(ENCODINGS[name], "replace") for name in _CANDIDATES)
    if not languages.fits_some(windows):
        return True
    return any(languages.fits_some(other) for other in others if other != windows)


def _try(data: bytes, codec: str) -> str | None:
    """The text in this encoding; None if it makes no sense so."""
    try:
        text = data.decode(codec)
    except UnicodeDecodeError:
        return None
    if _OTHER_SCRIPT.search(text):
        return None
    padded = f" {text} "
    return text if all(_is_sensible(padded, found.start()) for found in _NOT_ASCII.finditer(padded)) else None


def _is_english(text: str) -> bool:
    """Whether all that is not ASCII are the apostrophes of contractions."""
    return _NOT_ASCII.search(_CONTRACTION.sub("", text)) is None


def _is_apart(before: str, after: str) -> bool:
    return not (before.isalpha() and after.isalpha())


# What is neither ASCII nor a letter: whether it can stand between these two characters.
_SIGNS: tuple[tuple[str, Callable[[str, str], bool]], ...] = (
    ("\u2026", lambda before, after: not after.isalpha() or before.isalnum()),  # an ellipsis
    ("\u201a\u201e", lambda before, after: after.isalnum() and not before.isalnum()),  # low quotes open
    ("\u00b0", lambda before, after: (before.isdigit() or before == " ") and (after in "CF" or not after.isalpha())),
    (
        "\u00b2\u00b3\u00bd\u00bc\u00be\u00b9\u00ba\u00aa",  # raised figures and fractions
        lambda before, after: not after.isalpha() and (before.isdigit() or before in " mM"),
    ),
    ("\u2019\u2018\u00b4", lambda before, after: before.isalnum() or after.isalnum()),  # apostrophes
    ("\u2013\u2014", lambda before, after: not (before.islower() and after.islower())),  # dashes
    ("\u00a1\u00bf", lambda before, after: after.isalpha() and not before.isalnum()),  # Spanish, before a word
    ("\u201c\u201d\u00ab\u00bb\u2039\u203a", _is_apart),  # other quotes
    ("\u20ac\u00a3\u00a5\u00a2\u2022", lambda before, _after: not before.isalpha()),  # a DOS accent may look so
    ("\u00a7\u00a9\u00ae\u2122\u00b7\u00b1\u00d7", _is_apart),
)


def _is_sensible(text: str, at: int) -> bool:
    """Whether a character that is not ASCII can stand where it does in a text of Western Europe."""
    before, character, after = text[at - 1], text[at], text[at + 1]
    for characters, may_stand in _SIGNS:
        if character in characters:
            return may_stand(before, after)
    return character == _HARD_BLANK or (character.isalpha() and _is_sensible_letter(text, at))


def _is_sensible_letter(text: str, at: int) -> bool:
    before, letter, after = text[at - 1], text[at], text[at + 1]
    if not unicodedata.name(letter, "").startswith("LATIN ") or unicodedata.normalize("NFKC", letter) != letter:
        return False
    if before.isdigit() or after.isdigit() or letter == "\u0192":  # the florin sign
        return False
    if not before.isalpha() and not after.isalpha():
        return letter in _LONE
    if letter.isupper():
        if not before.isalpha() and after.isupper() and text[at + 2 : at + 3].islower():
            return False
        return not before.islower() and not (before.isalpha() and after.islower())
    return letter == "\u00df" or not (after.isupper() or (before.isupper() and text[at - 2].isupper()))
