"""Opt-outs: whether a reply asks for no more messages."""

import unicodedata
from collections.abc import Collection


def is_opt_out(content: str, words: Collection[str]) -> bool:
    """Whether the whole content is one of `words`, which are normalised. "Please stop" may mean many things."""
    return normalise(content) in words


def normalise(text: str) -> str:
    """A text for comparison: casefolded, with single blanks between words, without punctuation around it."""
    words = " ".join(text.casefold().split())
    start, end = 0, len(words)
    while start < end and _is_ignorable(words[start]):
        start += 1
    while end > start and _is_ignorable(words[end - 1]):
        end -= 1
    return words[start:end]


def _is_ignorable(character: str) -> bool:
    """Whether a character is a blank, punctuation, or invisible."""
    return unicodedata.category(character)[0] in "ZPC"
