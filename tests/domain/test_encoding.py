"""Where the next segment begins, and which characters make a text costly."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiptsvc.domain.encoding import Encoding, measure, non_gsm_characters, suggestion, warnings
from tests.support.forms import examples

CASES = [
    ("a" * 160, Encoding.GSM, 1),
    ("a" * 161, Encoding.GSM, 2),
    ("a" * 306, Encoding.GSM, 2),
    ("a" * 307, Encoding.GSM, 3),
    ("€" * 80, Encoding.GSM, 1),
    ("€" * 81, Encoding.GSM, 2),
    ("a" * 152 + "€" + "a" * 152, Encoding.GSM, 3),  # the euro would straddle a boundary, and moves over it
    ("a" * 151 + "€" + "a" * 153, Encoding.GSM, 2),
    ("ж" * 70, Encoding.UTF16, 1),
    ("ж" * 71, Encoding.UTF16, 2),
    ("ж" * 134, Encoding.UTF16, 2),
    ("ж" * 135, Encoding.UTF16, 3),
    ("😀" * 35, Encoding.UTF16, 1),
    ("ж" * 66 + "😀" + "ж" * 66, Encoding.UTF16, 3),  # a surrogate pair is not split either
    ("a" * 69 + "’", Encoding.UTF16, 1),
    ("a" * 70 + "’", Encoding.UTF16, 2),
]


@pytest.mark.parametrize(("text", "encoding", "segments"), CASES)
def test_a_text_has_this_encoding_and_these_segments(text: str, encoding: Encoding, segments: int) -> None:
    measured = measure(text)
    assert (measured.encoding, measured.segments) == (encoding, segments)


def test_a_warning_names_the_costly_character_and_a_gsm_one() -> None:
    (warning,) = warnings(measure("it’s"))
    assert "U+2019" in warning
    assert "' would keep it GSM" in warning
    assert len(warnings(measure("жщю"), 2)) == 2


@pytest.mark.parametrize(
    ("character", "plain", "words"),
    [
        ("\u2018", "'", "' would"),
        ("\u201d", '"', '" would'),
        ("\u2013", "-", "- would"),
        ("\u2026", "...", "... would"),
        ("\u00a0", " ", "a plain space would"),
        ("\u2009", " ", "a plain space would"),
        ("\t", " ", "a plain space would"),
        ("\u2022", "-", "- would"),
        ("\u200b", "", "leaving it out would"),
        ("\u2028", "\n", "a plain line break would"),
        ("\u2122", "TM", "TM would"),
        ("\u00bd", "1/2", "1/2 would"),
        ("\u00e1", "a", "a would"),
        ("\u00e7", "c", "c would"),
        ("\ufb01", "fi", "fi would"),
    ],
)
def test_usual_typographic_characters_have_a_suggestion(character: str, plain: str, words: str) -> None:
    assert suggestion(character) == plain
    assert words in warnings(measure(character))[0]


def test_every_suggestion_is_gsm() -> None:
    for character in map(chr, range(0x20000)):
        plain = suggestion(character)
        assert plain is None or not non_gsm_characters(plain)
    for character in ("\u0436", "\u4e00", "\U0001f600", "\u0301", "\u00a8"):
        assert suggestion(character) is None
        assert "would" not in warnings(measure(character))[0]


# The tables of GSM 03.38, by the rows of the standard: an independent model.
BASIC = [
    "@\u00a3$\u00a5\u00e8\u00e9\u00f9\u00ec\u00f2\u00c7\n\u00d8\u00f8\r\u00c5\u00e5",
    "\u0394_\u03a6\u0393\u039b\u03a9\u03a0\u03a8\u03a3\u0398\u039e\u00c6\u00e6\u00df\u00c9",  # and the escape
    " !\"#\u00a4%&'()*+,-./",
    "0123456789:;<=>?",
    "\u00a1ABCDEFGHIJKLMNO",
    "PQRSTUVWXYZ\u00c4\u00d6\u00d1\u00dc\u00a7",
    "\u00bfabcdefghijklmno",
    "pqrstuvwxyz\u00e4\u00f6\u00f1\u00fc\u00e0",
]
EXTENSION = "\f^{}\\[~]|\u20ac"
SEPTETS = dict.fromkeys("".join(BASIC), 1) | dict.fromkeys(EXTENSION, 2)


def model(text: str) -> tuple[Encoding, int]:
    """Puts each character into the last segment if it fits, else into a new one."""
    if all(character in SEPTETS for character in text):
        encoding, widths, single, each = Encoding.GSM, [SEPTETS[c] for c in text], 160, 153
    else:
        widths = [len(c.encode("utf-16-be", "surrogatepass")) // 2 for c in text]
        encoding, single, each = Encoding.UTF16, 70, 67
    parts = [0]
    for width in widths:
        if parts[-1] + width > each:
            parts.append(0)
        parts[-1] += width
    return encoding, 1 if sum(widths) <= single else len(parts)


def test_the_tables_hold_the_whole_standard() -> None:
    assert (len("".join(BASIC)), len(SEPTETS)) == (127, 137)
    for character in map(chr, range(0x20000)):
        assert (character in SEPTETS) == (not non_gsm_characters(character))


@st.composite
def at_an_edge(draw: st.DrawFn) -> str:
    """Texts that end, or have a character of two units, just before, on and just behind a boundary."""
    filler, wide, single, each = draw(
        st.sampled_from([("a", "\u20ac", 160, 153), ("\u0436", "\U0001f600", 70, 67), ("\u20ac", "a", 160, 153)])
    )
    edge = draw(st.sampled_from([single, *(each * parts for parts in range(1, 5))]))
    ahead = (edge // 2 if filler == "\u20ac" else edge) + draw(st.integers(-3, 2))
    behind = draw(st.integers(0, 3) | st.integers(0, 2 * each))
    return filler * ahead + wide * draw(st.integers(0, 3)) + filler * behind


@pytest.mark.long
@settings(max_examples=examples(300), deadline=None, derandomize=True, database=None)
@given(at_an_edge())
def test_the_count_equals_the_models_at_every_boundary(text: str) -> None:
    measured = measure(text)
    assert (measured.encoding, measured.segments) == model(text)


ALPHABETS = [st.sampled_from("a\u20ac^"), st.sampled_from("a\u0436\U0001f600\ud83d"), st.characters(codec=None)]


@settings(deadline=None, derandomize=True, database=None)
@given(st.one_of([st.text(alphabet, min_size=1, max_size=400) for alphabet in ALPHABETS]))
def test_the_count_equals_the_models_for_any_text(text: str) -> None:
    measured = measure(text)
    assert (measured.encoding, measured.segments) == model(text)
    assert measured.non_gsm == tuple(dict.fromkeys(c for c in text if c not in SEPTETS))


@given(st.text(min_size=1, max_size=400))
def test_a_longer_text_never_takes_fewer_segments(text: str) -> None:
    counts = [measure(text[:length]).segments for length in range(1, len(text) + 1)]
    assert counts == sorted(counts)
    assert measure(text).segments <= -(-2 * len(text) // 66)
