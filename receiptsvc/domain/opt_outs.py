"""Opt-outs and opt-ins: which words a reply consists of, and what all words of one person add up to. Pure.

A reply is such a word if its first line with a letter or digit in it holds nothing else. Whatever is neither letter nor
digit may stand around it. A phrase may be written as one word. It may be repeated, and followed by the number or name
that the reply answers. More is not read: "please stop by" is no opt-out.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime

from receiptsvc.domain import numbers

_MARKS = re.compile("[\u0300-\u036f\u20d0-\u20ff\ufe00-\ufe0f]")  # accents, keycaps, and which form an emoji has
_DOTLESS = str.maketrans("\u0131", "i")  # a Turkish keyboard's
_LATIN = re.compile("[a-z]")
_LOOK_ALIKES = str.maketrans(  # Cyrillic and Greek letters that look like Latin ones, small or capital
    "\u0430\u0432\u0435\u043a\u043c\u043d\u043e\u0440\u0441\u0442\u0443\u0445\u0456\u0458\u0455"
    "\u03b1\u03b2\u03b5\u03b6\u03b7\u03b9\u03ba\u03bc\u03bd\u03bf\u03c1\u03c4\u03c5\u03c7",
    "abekmhopctyxijsabezhikmnoptyx",
)
_FRAMED = re.compile("(?:NEGATIVE )?(?:CIRCLED|SQUARED|PARENTHESIZED) LATIN (?:CAPITAL|SMALL) LETTER ([A-Z])")
_DASHES = (" ", "")  # OPT-OUT is "opt out", and UN-SUBSCRIBE is "unsubscribe"
_MAX_LENGTH = 1_000  # characters, of all that is read


def is_word(content: str, words: Collection[str], answered: Collection[str] = ()) -> bool:
    """Whether a reply is one of `words`, which are normalised.

    `answered`: the sender or senders that it answers, as `numbers.fold_originator` gives them.
    """
    lines = content[:_MAX_LENGTH].splitlines()
    if len(content) > _MAX_LENGTH:
        del lines[-1]  # the rest of it is not known
    line = next((line for line in lines if _read(line)), "")
    return any(_holds_only(_read(line, dash), words, answered, dash) for dash in _DASHES)


def normalise(text: str) -> str:
    """A word or phrase as `is_word` wants it; empty if there is no letter or digit in it."""
    return " ".join(_read(text))


def answered_senders(recipient: str | None, originators: Collection[str | None]) -> frozenset[str]:
    """The senders that a reply answers, as `numbers.fold_originator` gives them; empty: the account's own number.

    That is the number it was sent to, and the originator of the message that it is linked to, if it is to any.
    """
    answered = {*originators, *([recipient] if recipient else [])}
    return frozenset(map(numbers.fold_originator, answered or {None}))


def is_refused(opt_outs: Iterable[datetime | None], opt_ins: Iterable[datetime | None]) -> bool:
    """Whether a person who has sent these words refuses messages. In: their provider times, in any order.

    The latest word decides. Where that can't be told, because a word has no time or both have the same, they refuse.
    """
    refused = list(opt_outs)
    dated = [at for at in refused if at is not None]
    if not refused or len(dated) < len(refused):
        return bool(refused)
    return not any(at is not None and at > max(dated) for at in opt_ins)


def _read(line: str, dash: str = _DASHES[0]) -> Sequence[str]:
    """The letters and digits of a line, in words, whatever keyboard wrote them. `dash`: what one in a word reads as."""
    plain = "".join(_fold(line, dash))
    plain = _MARKS.sub("", unicodedata.normalize("NFKD", plain).casefold()).translate(_DOTLESS)
    words = unicodedata.normalize("NFKC", plain).split()
    return [word.translate(_LOOK_ALIKES) if _LATIN.search(word) else word for word in words]


def _fold(line: str, dash: str) -> Iterator[str]:
    for place, character in enumerate(line):
        kind = unicodedata.category(character)
        if kind[0] in "LNM":
            yield character
        elif framed := _FRAMED.fullmatch(unicodedata.name(character, "")):
            yield framed[1]
        elif kind == "Pd" and line[place - 1 : place].isalnum() and line[place + 1 : place + 2].isalnum():
            yield dash
        elif kind != "Cf":  # that is invisible
            yield " "


def _holds_only(line: Sequence[str], words: Collection[str], answered: Collection[str], dash: str) -> bool:
    for word in (written for phrase in words for written in (phrase.split(), ["".join(phrase.split())])):
        rest = line
        while word and rest[: len(word)] == word:
            rest = rest[len(word) :]
        if len(rest) < len(line) and (not rest or any(_is_name(rest, name, dash) for name in answered)):
            return True
    return False


def _is_name(rest: Sequence[str], name: str, dash: str) -> bool:
    digits = "".join(rest)
    is_number = name.isdigit() and digits.isascii() and digits.isdigit()
    return numbers.is_same(digits, name) if is_number else bool(name) and rest == _read(name, dash)
