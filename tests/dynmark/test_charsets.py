"""A declared charset is a hint, taken only if it is listed; no name and no bytes are a fault."""

import encodings
import pkgutil
from collections.abc import Mapping
from encodings.aliases import aliases

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptsvc.dynmark.inbound.charsets import decode, to_utf8

EVERY_NAME = sorted({module.name for module in pkgutil.iter_modules(encodings.__path__)} | set(aliases))
SPELLINGS = ("{}", "{} ", " {}", "{}_", "-{}", "{}\t", "{}.", "encodings.{}")
NO_CHARSETS = (
    *("idna", "punycode", "raw_unicode_escape", "unicode_escape", "undefined", "mbcs", "oem", "charmap", "aliases"),
    *("base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec", "zip", "rot13"),
    *("cp037", "cp500", "cp1140"),  # EBCDIC
)
# Each of these is read otherwise by a codec that is no charset.
TELLING = (b"sender=1&xn--mnchen-3ya", b"abc-7", b"\\u0041\\x41", b"sender", b"=41&=", b"begin 666 a\n")


@pytest.mark.parametrize("name", NO_CHARSETS)
def test_a_codec_that_is_no_charset_is_not_used_however_it_is_spelled(name: str) -> None:
    for spelling in SPELLINGS:
        for written in (spelling.format(name), spelling.format(name).upper().replace("_", "-")):
            for data in TELLING:
                assert decode(data, written) == data.decode(), written


@pytest.mark.parametrize("spelling", ["{}", "{} ", "-{}", " {}_"])
def test_a_charset_is_known_by_every_spelling_of_its_name(spelling: str) -> None:
    for name in ("shift_jis", "SHIFT-JIS", "sjis", "csShiftJIS"):
        assert decode("注文".encode("shift_jis"), spelling.format(name)) == "注文"


@given(
    st.binary(max_size=200),
    st.none() | st.text(max_size=60) | st.builds(str.format, st.sampled_from(SPELLINGS), st.sampled_from(EVERY_NAME)),
)
def test_no_bytes_and_no_name_raise(data: bytes, name: str | None) -> None:
    assert isinstance(decode(data, name), str)
    assert isinstance(to_utf8(data, name), bytes)


@pytest.mark.parametrize("name", EVERY_NAME)
def test_what_begins_like_json_does_so_in_every_charset(name: str) -> None:
    for beginning in (b"{", b"["):
        assert decode(beginning, name) == beginning.decode()


def test_names_that_callers_invent_are_not_remembered() -> None:
    known: Mapping[str, object] = encodings._cache  # noqa: SLF001 - Python's own, for ever
    before = len(known)
    for number in range(200):
        decode(b"\xe9", f"invented-{number}")
        to_utf8(b"\xe9", f"invented-{number}")
    assert len(known) == before
