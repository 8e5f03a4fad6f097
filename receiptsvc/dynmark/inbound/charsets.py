"""Decodes the bytes of a callback. A declared charset is only a hint, the bytes decide, and nothing is refused.

Only the charsets listed here are used, under whichever of their names they are declared. Python has further codecs that
are no charsets (idna, punycode, unicode_escape, zip, rot13), and some of them take minutes for a mebibyte.
"""

import codecs
import json
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE
from collections.abc import Mapping
from contextlib import suppress
from encodings import normalize_encoding
from encodings.aliases import aliases
from functools import lru_cache

_MAX_NAME_LENGTH = 40
_WIDE_BOMS = (BOM_UTF16_LE, BOM_UTF16_BE, BOM_UTF32_LE, BOM_UTF32_BE)
# By the names of Python's modules. Each of them reads ASCII as ASCII, but for the wide ones.
_WIDE = "utf_16 utf_16_be utf_16_le utf_32 utf_32_be utf_32_le"
# Their bytes look like ASCII.
_STATEFUL = (
    "hz iso2022_jp iso2022_jp_1 iso2022_jp_2 iso2022_jp_2004 iso2022_jp_3 iso2022_jp_ext iso2022_kr utf_7"
)  # fmt: skip
_MULTI_BYTE = (
    "big5 big5hkscs cp932 cp949 cp950 euc_jis_2004 euc_jisx0213 euc_jp euc_kr gb18030 gb2312 gbk johab shift_jis "
    "shift_jis_2004 shift_jisx0213"
)
_SINGLE_BYTE = (
    "ascii latin_1 iso8859_2 iso8859_3 iso8859_4 iso8859_5 iso8859_6 iso8859_7 iso8859_8 iso8859_9 iso8859_10 "
    "iso8859_11 iso8859_13 iso8859_14 iso8859_15 iso8859_16 cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 "
    "cp1258 cp437 cp720 cp737 cp775 cp850 cp852 cp855 cp857 cp858 cp860 cp861 cp862 cp863 cp864 cp865 cp866 cp869 "
    "cp874 cp1006 cp1125 hp_roman8 koi8_r koi8_t koi8_u kz1048 mac_cyrillic mac_greek mac_iceland mac_latin2 mac_roman "
    "mac_turkish palmos ptcp154 tis_620"
)


def _names_of(modules: str) -> Mapping[str, str]:
    """The canonical name of each of these charsets by every name that Python knows it by, normalised."""
    names = dict[str, str]()
    for module in modules.split():
        with suppress(LookupError):  # Python can be built without some
            name = codecs.lookup(module).name
            names |= dict.fromkeys((module, _normalise(name)), name)
            names |= {alias: name for alias, target in aliases.items() if target == module}
    return names


def _normalise(name: str) -> str:
    return normalize_encoding(name).replace(".", "_").lower()


_WIDE_NAMES = _names_of(_WIDE)
_BEFORE_UTF8 = _names_of(f"{_STATEFUL} {_MULTI_BYTE}")
_AFTER_UTF8 = _names_of(_SINGLE_BYTE)  # they decode any bytes at all, or nearly


def decode(data: bytes, charset: str | None = None) -> str:
    """Decode by UTF-8 or the declared charset; else by cp1252, with replacement characters. Never raises."""
    for name in _candidates(charset) if charset and len(charset) <= _MAX_NAME_LENGTH else ("utf-8",):
        try:
            return data.removeprefix(BOM_UTF8).decode(name)
        except ValueError:
            continue
    return data.decode("cp1252", "replace")


def to_utf8(body: bytes, charset: str | None) -> bytes:
    """A body in UTF-16 or UTF-32 as UTF-8; any other body unchanged. Never raises."""
    declared = _find(_WIDE_NAMES, charset) if charset and len(charset) <= _MAX_NAME_LENGTH else None
    if declared is None and not body.startswith(_WIDE_BOMS) and body.count(0) * 4 < len(body):
        return body
    for name in (json.detect_encoding(body), declared):
        if name is not None and not name.startswith("utf-8"):
            try:
                text = body.decode(name).removeprefix("\ufeff")
            except ValueError:
                continue
            if "=" in text or text[:1] in {"{", "["}:  # else its bytes only looked like it
                return text.encode()
    return body


@lru_cache(maxsize=64)
def _candidates(charset: str) -> tuple[str, ...]:
    """The charsets to try, in order."""
    before, after = _find(_BEFORE_UTF8, charset), _find(_AFTER_UTF8, charset)
    return tuple(name for name in (before, "utf-8", after) if name is not None)


def _find(names: Mapping[str, str], charset: str) -> str | None:
    """The canonical name of a declared charset; None if it is not one of these.

    Python itself is not asked: it would look for a module by any name, and remember each in vain for ever.
    """
    return names.get(_normalise(charset)) if charset.isascii() else None
