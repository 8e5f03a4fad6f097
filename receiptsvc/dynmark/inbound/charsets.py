"""Bytes of a callback → text. A declared charset is a hint, the bytes decide, and nothing is refused."""

import json
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE
from functools import lru_cache

_NOT_OF_TEXT = frozenset({"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"})  # Python's own
_MAX_NAME = 40
_WIDE_BOMS = (BOM_UTF16_LE, BOM_UTF16_BE, BOM_UTF32_LE, BOM_UTF32_BE)
_SWITCHING = ("iso-2022", "iso2022", "hz", "utf-7", "utf7")  # ASCII, but for what it means
_EVERY_BYTE = bytes(range(256))


def decoded(data: bytes, charset: str | None = None) -> str:
    """The text of these bytes: by UTF-8 or the declared charset; else by the Western code page, which reads all."""
    for name in _tried(charset):
        try:
            return data.removeprefix(BOM_UTF8).decode(name)
        except ValueError:
            continue
    return data.decode("cp1252", "replace")


def narrowed(body: bytes, charset: str | None) -> bytes:
    """A body with two or four bytes a character made UTF-8; any other as it is."""
    is_declared = charset is not None and _letter_in(charset) is None
    if not is_declared and not body.startswith(_WIDE_BOMS) and body.count(0) * 4 < len(body):
        return body
    for name in (json.detect_encoding(body), charset if is_declared else None):
        if name is not None and not name.startswith("utf-8"):
            try:
                text = body.decode(name).removeprefix("\ufeff")
            except ValueError:
                continue
            if "=" in text or text[:1] in {"{", "["}:  # else its bytes had other reasons to look so
                return text.encode()
    return body


@lru_cache(maxsize=64)
def _tried(charset: str | None) -> tuple[str, ...]:
    """The charsets to try. By chance a text is hardly ever UTF-8; where a byte is a character, all have a meaning."""
    if charset is None or _letter_in(charset) != "a":
        return ("utf-8",)
    is_of_single_bytes = len(_EVERY_BYTE.decode(charset, "replace")) == len(_EVERY_BYTE)
    is_switching = charset.lower().startswith(_SWITCHING)
    return ("utf-8", charset) if is_of_single_bytes and not is_switching else (charset, "utf-8")


def _letter_in(charset: str) -> str | None:
    """What the byte of an `a` says in a charset: `a` in most; None: it needs more bytes. Empty: no charset of text."""
    if len(charset) > _MAX_NAME or charset.lower().replace("_", "-") in _NOT_OF_TEXT:
        return ""
    try:
        return b"a".decode(charset)
    except LookupError:
        return ""
    except ValueError:
        return None
