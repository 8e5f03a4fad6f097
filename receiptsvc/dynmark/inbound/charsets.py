"""Decodes the bytes of a callback. A declared charset is only a hint, the bytes decide, and nothing is refused."""

import json
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE
from functools import lru_cache

_NOT_CHARSETS = frozenset({"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"})  # Python codecs
_MAX_NAME_LENGTH = 40
_WIDE_BOMS = (BOM_UTF16_LE, BOM_UTF16_BE, BOM_UTF32_LE, BOM_UTF32_BE)
_STATEFUL = ("iso-2022", "iso2022", "hz", "utf-7", "utf7")  # their bytes look like ASCII
_EVERY_BYTE = bytes(range(256))


def decode(data: bytes, charset: str | None = None) -> str:
    """Decode by UTF-8 or the declared charset; else by cp1252, with replacement characters for the rest."""
    for name in _candidates(charset):
        try:
            return data.removeprefix(BOM_UTF8).decode(name)
        except ValueError:
            continue
    return data.decode("cp1252", "replace")


def to_utf8(body: bytes, charset: str | None) -> bytes:
    """A body in UTF-16 or UTF-32 as UTF-8; any other body unchanged."""
    is_declared_wide = charset is not None and _decode_letter(charset) is None
    if not is_declared_wide and not body.startswith(_WIDE_BOMS) and body.count(0) * 4 < len(body):
        return body
    for name in (json.detect_encoding(body), charset if is_declared_wide else None):
        if name is not None and not name.startswith("utf-8"):
            try:
                text = body.decode(name).removeprefix("\ufeff")
            except ValueError:
                continue
            if "=" in text or text[:1] in {"{", "["}:  # else its bytes only looked like it
                return text.encode()
    return body


@lru_cache(maxsize=64)
def _candidates(charset: str | None) -> tuple[str, ...]:
    """The charsets to try, in order. UTF-8 goes before single-byte charsets, which decode any bytes at all."""
    if charset is None or _decode_letter(charset) != "a":
        return ("utf-8",)
    is_single_byte = len(_EVERY_BYTE.decode(charset, "replace")) == len(_EVERY_BYTE)
    is_stateful = charset.lower().startswith(_STATEFUL)
    return ("utf-8", charset) if is_single_byte and not is_stateful else (charset, "utf-8")


def _decode_letter(charset: str) -> str | None:
    """The byte of an `a` decoded by a charset: `a` in most. None: it needs more bytes. Empty: not a charset."""
    if len(charset) > _MAX_NAME_LENGTH or charset.lower().replace("_", "-") in _NOT_CHARSETS:
        return ""
    try:
        return b"a".decode(charset)
    except LookupError:
        return ""
    except ValueError:
        return None
