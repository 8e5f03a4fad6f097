"""Which words could stand in a text: what the languages write that a file's doubtful bytes may be in.

A language is the letters that it has beside a to z, and where they can't stand. That is no dictionary: it tells `très`
from `trčs` and `Straße` from `Straáe`, and of what it can't tell apart both fit. Code pages are in `decoding`.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum

_LETTER = r"[^\W\d_\u00aa\u00b2\u00b3\u00b9\u00ba\u00bc-\u00be]"  # no raised figures, no fractions
_WORD = re.compile(rf"{_LETTER}+")
_VOWELS = "aeiouyáäâăàéěëêèíîìóöőôòúüűůùý"
_VOWEL = re.compile(f"[{_VOWELS}œæøåãõąę]")
_DOUBLED = "ss|tt|ll|pp|mm|ff|rr|cc"


class Plausibility(IntEnum):
    """How well the words of a text with letters beyond a to z fit languages."""

    NONE = 0  # some word fits no language
    MIXED = 1  # each fits some language
    ONE_LANGUAGE = 2  # one fits all


@dataclass(frozen=True, slots=True)
class _Language:
    letters: frozenset[str]
    misfit: re.Pattern[str]

    def has(self, word: str) -> bool:
        has_letters = self.letters.issuperset(letter for letter in word if not letter.isascii())
        return has_letters and _VOWEL.search(word) is not None and not self.misfit.search(word)


def _language(letters: str, *misfits: str) -> _Language:
    return _Language(frozenset(letters), re.compile("|".join(misfits) or r"(?!)"))


def _apart(consonants: str) -> str:
    """Accented consonants within a word that no vowel is beside."""
    return rf"(?<=\w)(?<![{_VOWELS}])[{consonants}](?![{_VOWELS}])"


_NOT_LATIN = r"[bcdgmprsw]z"  # as Slavic languages write
_LANGUAGES = {
    "French": _language(
        "àâæçéèêëîïôœùûü",
        rf"à.|(?<!^l)(?<!voil)(?<!déj)(?<!^)à$|^è|è$|è[{_VOWELS}]|ê$|ù.|(?<!^o)ù|ç$|ç[eiyéèêîï]",
        rf"œ(?![ueiétdsc]|no)|œæ|[èêû].*[êû]|[aeiuy]û|^(?=.*[àæèêîœùû]).*(?:[kw]|{_NOT_LATIN})",
    ),
    "Spanish": _language("áéíñóúü", rf"[áéíóú].*[áéíóú]|ñ(?![{_VOWELS}])|w"),
    "Portuguese": _language(
        "áâãàçéêíóôõúü",
        rf"õ(?!e)|ã(?![oeismn]|$)|.à|ç$|ç[ei]|[êô][{_VOWELS}]|[áâéêíóôú].*[áâéêíóôú]|[kwy]|{_NOT_LATIN}",
        "tt|ll|pp|mm|ff|cc",
    ),
    "Italian": _language("àèéìòùî", "[àèéìòùî].", "[^tirdpm]à(?<!^là)", "[kwjxy]", _NOT_LATIN),
    "Catalan, Gaelic": _language("àçèéíïòóúü", rf"[àèéíòóú].*[àèéíòóú]|[^tlmr]à$|è[{_VOWELS}]|ç[ei]|[kw]|{_NOT_LATIN}"),
    "German": _language("äöüß", r"(?<![aeiouyäöü])ß|(?<!au)(?<!ei)(?<!eu)(?<!äu)ß(?!$|[eitlbkcm])|[äöü][äöü]"),
    "Dutch": _language("éëïóöüèáí", rf"^è|è[{_VOWELS}]"),
    "Danish, Norwegian": _language("æøåé", "ø[aiou]|[wzcqx]"),
    "Swedish, Finnish": _language("åäöé"),
    "Icelandic": _language("áðéíóúýþæö", ".þ|^ð|[cqwz]"),
    "Turkish, as far as Windows-1252 has it": _language("çöüâ", "(?<![aeiouöünrlk])(?<!^)ç"),
    "Albanian": _language("çë", "(?<![aeiouyëjnr])(?<!^)ç"),
    "Polish": _language("ąćęłńóśźż", rf"^[ąęń]|[ąćęńśź][{_VOWELS}ąęó]|[vxq]"),
    "Czech": _language(
        "áčďéěíňóřšťúůýž",
        _apart("čďňřšťž"),
        rf"^[ůě]|[{_VOWELS}][ůě]|[ůě][{_VOWELS}]|[qwx]|{_DOUBLED}",
    ),
    "Slovak": _language(
        "áäčďéíĺľňóôŕšťúýž",
        _apart("čďľňšťž"),
        rf"(?:^|[{_VOWELS}])[ĺŕ]|[ĺŕ](?:$|[{_VOWELS}])|[qwx]|{_DOUBLED}",
    ),
    "Hungarian": _language("áéíóöőúüű", "[aeiouáéíóöúü][őű]|[őű][aeiouáéíóöúü]|[qwx]|ch"),
    "Croatian, Slovene": _language("čćđšž", _apart("čćđšž"), "[qwxy]"),
    "Romanian": _language("ăâîșțşţ", f"ă[aeoăâî]|[qwxk]|{_DOUBLED}"),
}


def plausibility(words: Collection[str]) -> Plausibility:
    """How well these words, as `words_of` gives them, fit languages."""
    fitting = [{name for name, language in _LANGUAGES.items() if language.has(word)} for word in words]
    if not all(fitting):
        return Plausibility.NONE
    return Plausibility.ONE_LANGUAGE if not fitting or set.intersection(*fitting) else Plausibility.MIXED


def words_of(text: str) -> set[str]:
    """The words of a text that have letters beyond a to z, in lower case."""
    return {word.lower() for word in _WORD.findall(text) if not word.isascii()}


def fits_some(word: str) -> bool:
    """Whether a word fits a language."""
    return any(language.has(word.lower()) for language in _LANGUAGES.values())
