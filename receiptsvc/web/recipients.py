"""Phone numbers as people write them, made the digits that the gateway takes. What is refused is never repeated."""

import re

import phonenumbers

_LONGEST = 40
_ORNAMENT = re.compile("[ \t\u00a0\u202f().\u2010-\u2015\u2212/-]")
_NUMBER = re.compile(r"\+?[0-9]{2,20}")


def normalise(text: str, region: str | None = None) -> str | None:
    """The digits of the E.164 form without `+`; None if this is no possible number.

    International numbers may begin with `+`, `00` or just the country code. `region` (ISO 3166-1 alpha-2) lets a number
    without `+` or `00` be a local one of that country first.
    """
    if len(text) > _LONGEST:
        return None
    compact = _ORNAMENT.sub("", text)
    if not _NUMBER.fullmatch(compact):
        return None
    if compact.startswith("+"):
        return _possible(compact, None)
    if compact.startswith("00"):
        return _possible("+" + compact[2:], None)
    local = _possible(compact, region) if region else None
    return local or _possible("+" + compact, None)


def _possible(number: str, region: str | None) -> str | None:
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(parsed):
        return None
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164).removeprefix("+")
