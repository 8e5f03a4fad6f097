"""Where one segment more begins, and what makes a text dear."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptsvc.domain.encoding import Encoding, measure, warnings

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
def test_measure(text: str, encoding: Encoding, segments: int) -> None:
    measured = measure(text)
    assert (measured.encoding, measured.segments) == (encoding, segments)


def test_a_dear_character_is_named_with_a_cheap_one() -> None:
    (warning,) = warnings(measure("it’s"))
    assert "U+2019" in warning
    assert "' would keep it GSM" in warning
    assert len(warnings(measure("жщю"), 2)) == 2


ALPHABETS = [st.sampled_from("a€^"), st.sampled_from("aж😀\ud83d"), st.characters(codec=None)]


def packed(widths: list[int], single: int, each: int) -> int:
    """Segments, filled character by character."""
    segments, filled = 1, 0
    for width in widths:
        if filled + width > each:
            segments, filled = segments + 1, 0
        filled += width
    return 1 if sum(widths) <= single else segments


@given(st.one_of([st.text(alphabet, min_size=1, max_size=400) for alphabet in ALPHABETS]))
def test_segments_are_what_filling_them_one_by_one_gives(text: str) -> None:
    measured = measure(text)
    if measured.encoding is Encoding.GSM:
        assert measured.segments == packed([1 + (c in "\f^{}\\[~]|€") for c in text], 160, 153)
    else:
        assert measured.segments == packed([1 + (c > "\uffff") for c in text], 70, 67)
    assert measured.outsiders == tuple(dict.fromkeys(c for c in text if measure(c).outsiders))


@given(st.text(min_size=1, max_size=400))
def test_a_longer_text_never_takes_fewer_segments(text: str) -> None:
    counts = [measure(text[:length]).segments for length in range(1, len(text) + 1)]
    assert counts == sorted(counts)
    assert measure(text).segments <= -(-2 * len(text) // 66)
