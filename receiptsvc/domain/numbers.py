"""Phone numbers: from how people write them to the digits that the gateway takes. No error repeats a number."""

import re
from dataclasses import dataclass
from functools import cache

import phonenumbers
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata

_MAX_LENGTH = 40
_SEPARATORS = re.compile("[ \t\u00a0\u202f().\u2010-\u2015\u2212/-]")
_NUMBER = re.compile(r"\+?[0-9]{2,20}")
_NO_MATCH = "(?!)"
_COUNTRY_CODES = {str(code): code for code in COUNTRY_CODE_TO_REGION_CODE}


def normalise(text: str, region: str | None = None) -> str | None:
    """The digits of the E.164 form, without `+`; None if this is not a possible number.

    An international number may begin with `+`, `00` or just the country code. With a `region` (ISO 3166-1 alpha-2), a
    number without `+` or `00` is first tried as a national number of that country.
    """
    if len(text) > _MAX_LENGTH:
        return None
    compact = _SEPARATORS.sub("", text)
    if not _NUMBER.fullmatch(compact):
        return None
    if compact.startswith("+"):
        return _international(compact[1:])
    if compact.startswith("00"):
        return _international(compact[2:])
    national = _parse_possible(compact, region) if region else None
    return national or _international(compact)


def digits_only(text: str) -> str | None:
    """The digits of a short code, or of a part of a number; None if the text holds anything else."""
    compact = _SEPARATORS.sub("", text[: _MAX_LENGTH + 1])
    return compact.removeprefix("+") if len(text) <= _MAX_LENGTH and _NUMBER.fullmatch(compact) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """The numbering plan of a country code: which lengths are possible, for digits without a trunk prefix."""

    lengths: frozenset[int]
    trunk: re.Pattern[str]


def _international(digits: str) -> str | None:
    """The same as `_parse_possible` of `+` and these digits, twenty times as fast where they need no rewriting."""
    for length in (1, 2, 3):
        plan = _plan(digits[:length])
        if plan is not None:
            national = digits[length:]
            if plan.trunk.match(national):
                break
            return digits if len(national) in plan.lengths else None
    return _parse_possible("+" + digits, None)


@cache
def _plan(country_code: str) -> _Plan | None:
    """The plan of a country code; None if these digits are not a country code."""
    code = _COUNTRY_CODES.get(country_code, 0)
    region = phonenumbers.region_code_for_country_code(code)
    metadata = PhoneMetadata.metadata_for_region_or_calling_code(code, region)
    if metadata is None or metadata.general_desc is None:
        return None
    return _Plan(
        lengths=frozenset(metadata.general_desc.possible_length + metadata.general_desc.possible_length_local_only),
        trunk=re.compile(metadata.national_prefix_for_parsing or _NO_MATCH),
    )


def _parse_possible(number: str, region: str | None) -> str | None:
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(parsed):
        return None
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164).removeprefix("+")
