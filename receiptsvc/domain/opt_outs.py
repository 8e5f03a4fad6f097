"""Whether a reply says that its sender wants no more messages."""

import unicodedata
from collections.abc import Collection


def is_opt_out(content: str, words: Collection[str]) -> bool:
    """Whether the whole of a reply is one of `words`, which are folded. "Please stop" may mean many things."""
    return fold(content) in words


def fold(text: str) -> str:
    """A text without regard to case, to how its words are parted, and to blanks and punctuation around it."""
    words = " ".join(text.casefold().split())
    start, end = 0, len(words)
    while start < end and _is_ornament(words[start]):
        start += 1
    while end > start and _is_ornament(words[end - 1]):
        end -= 1
    return words[start:end]


def _is_ornament(character: str) -> bool:
    """Whether this is a blank, a mark of punctuation, or invisible."""
    return unicodedata.category(character)[0] in "ZPC"
