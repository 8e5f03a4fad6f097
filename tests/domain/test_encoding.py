"""Where the next segment begins, and which characters make a text costly."""

import re

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


# Kind: a character that looks like a GSM one: the text, the costly characters, the plain ones.
LOOKALIKES = {
    "Cyrillic in a Latin word": ("P\u0430ypal", "\u0430", "a"),
    "several": ("\u0421\u041eDE 1234", "\u0421\u041e", "CO"),
    "with an accent": ("\u0401L", "\u0401", "E"),
    "Ukrainian": ("V\u0456sa", "\u0456", "i"),
    "Greek capitals": ("\u0391\u03a4\u039c", "\u0391\u03a4\u039c", "ATM"),
    "a Greek omicron": ("g\u03bfod", "\u03bf", "o"),
    "a lunate sigma": ("\u03f9ode", "\u03f9", "C"),
    "all of a word": ("\u041d\u041e\u0421\u041e\u041a", "\u041d\u041e\u0421\u041a", "HOCK"),
}
# The same, of letters and signs that are not of another script.
VARIANTS = {
    "full width": ("\uff26ree", "\uff26", "F"),
    "mathematical letters, as bold": ("\U0001d5d9ree", "\U0001d5d9", "F"),
    "a dotless i": ("d\u0131sk", "\u0131", "i"),
    "a letter with a stroke": ("\u0142", "\u0142", "l"),
    "a phonetic letter": ("\u0251", "\u0251", "a"),
    "a modifier apostrophe": ("it\u02bcs", "\u02bc", "'"),
    "a prime": ("5\u2032", "\u2032", "'"),
    "a ratio for a colon": ("12\u223630", "\u2236", ":"),
    "a division slash": ("1\u22152", "\u2215", "/"),
    "an asterisk operator": ("\u2217", "\u2217", "*"),
    "a small tilde": ("\u02dc", "\u02dc", "~"),
    "a click for an exclamation mark": ("Hi\u01c3", "\u01c3", "!"),
    "a broken bar": ("a\u00a6b", "\u00a6", "|"),
}


@pytest.mark.parametrize(("text", "costly", "plain"), LOOKALIKES.values(), ids=LOOKALIKES)
def test_a_letter_that_looks_like_a_plain_one_is_told_with_that(text: str, costly: str, plain: str) -> None:
    told = warnings(measure(text))
    assert len(told) == len(costly)
    for warning, character, letter in zip(told, costly, plain, strict=True):
        assert f"U+{ord(character):04X} {character!r} makes this a UTF-16 text" in warning
        assert f"it only looks like {letter} (U+{ord(letter):04X}), which would keep it GSM" in warning


@pytest.mark.parametrize(("text", "costly", "plain"), VARIANTS.values(), ids=VARIANTS)
def test_a_variant_of_a_plain_character_is_told_with_that(text: str, costly: str, plain: str) -> None:
    (warning,) = warnings(measure(text))
    assert warning == f"U+{ord(costly):04X} {costly!r} makes this a UTF-16 text; {plain} would keep it GSM"


# Kind: an accent that is a character of its own, as macOS and some keyboards write it.
ACCENTS = {
    "acute": ("cafe\u0301", "U+0065 U+0301", "\u00e9 as the one character U+00E9 would"),
    "grave": ("a\u0300 la", "U+0061 U+0300", "\u00e0 as the one character U+00E0 would"),
    "diaeresis": ("U\u0308bung", "U+0055 U+0308", "\u00dc as the one character U+00DC would"),
    "tilde": ("man\u0303ana", "U+006E U+0303", "\u00f1 as the one character U+00F1 would"),
    "ring": ("A\u030angstrom", "U+0041 U+030A", "\u00c5 as the one character U+00C5 would"),
    "cedilla": ("C\u0327a", "U+0043 U+0327", "\u00c7 as the one character U+00C7 would"),
    "an angstrom sign": ("\u212b", "U+212B", "\u00c5 as the one character U+00C5 would"),
    "an ohm sign": ("\u2126", "U+2126", "\u03a9 as the one character U+03A9 would"),
    "a Kelvin sign": ("\u212a", "U+212A", "K as the one character U+004B would"),
    "one that GSM lacks": ("fe\u0302te", "U+0065 U+0302", "; e would"),
    "two": ("Vie\u0323\u0302t", "U+0065 U+0323 U+0302", "; e would"),
    "on a letter that looks like another": ("\u0435\u0308", "U+0435 U+0308", "it only looks like e (U+0065)"),
}


@pytest.mark.parametrize(("text", "code_points", "plain"), ACCENTS.values(), ids=ACCENTS)
def test_an_unnormalised_accent_is_told_with_its_letter(text: str, code_points: str, plain: str) -> None:
    (warning,) = warnings(measure(text))
    assert warning.startswith(f"{code_points} '")
    assert plain in warning
    assert measure(text).encoding is Encoding.UTF16


# Kind: a text in another script holds letters that look like Latin ones, and none of them is a mistake.
FOREIGN = [
    "\u041f\u0440\u0438\u0432\u0435\u0442",  # Russian
    "\u0434\u043e\u0431\u0440\u043e",  # Ukrainian
    "\u03ba\u03b1\u03bb\u03b7\u03bc\u03ad\u03c1\u03b1",  # Greek
    "\u4e00 \u0430",
    "Your code: \u043a\u043e\u0434",
]


@pytest.mark.parametrize("text", FOREIGN)
def test_a_text_in_another_script_is_not_advised_to_look_like_latin(text: str) -> None:
    assert not any("looks like" in warning for warning in warnings(measure(text)))


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
    clusters = re.findall("(?s:.)[\u0300-\u036f]+|(?s:.)", text)
    assert measured.non_gsm == tuple(dict.fromkeys(c for c in clusters if c not in SEPTETS))


@given(st.text(min_size=1, max_size=400))
def test_a_longer_text_never_takes_fewer_segments(text: str) -> None:
    counts = [measure(text[:length]).segments for length in range(1, len(text) + 1)]
    assert counts == sorted(counts)
    assert measure(text).segments <= -(-2 * len(text) // 66)
