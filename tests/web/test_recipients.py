"""The fast path of number parsing agrees with phonenumbers."""

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiptsvc.domain import numbers
from tests.support.forms import examples

CODES = sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)
DIGITS = st.text("0123456789", max_size=18) | st.text("01589", max_size=18)
NUMBERS = st.builds("{}{}".format, st.sampled_from(CODES) | st.integers(0, 9999), DIGITS)


def as_phonenumbers_says(number: str, region: str | None = None) -> str | None:
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None
    written = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    return written.removeprefix("+") if phonenumbers.is_possible_number(parsed) else None


@pytest.mark.long
@settings(max_examples=examples(300), deadline=None, derandomize=True, database=None)
@given(digits=NUMBERS.filter(lambda digits: 3 <= len(digits) <= 18))
def test_an_international_number_is_read_as_phonenumbers_reads_it(digits: str) -> None:
    expected = as_phonenumbers_says(f"+{digits}")
    assert numbers.normalise(f"+{digits}") == expected
    assert numbers.normalise(f"00{digits}") == expected
    if not digits.startswith("00"):
        assert numbers.normalise(digits) == expected
        local = as_phonenumbers_says(digits, "GB")
        assert numbers.normalise(digits, "GB") == (local or expected)


@pytest.mark.parametrize("begin", ["1", "0", "8", "00", "15", "90"])
def test_every_country_code_and_every_length_is_read_alike(begin: str) -> None:
    for code in CODES:
        for length in range(19 - len(str(code))):
            digits = f"{code}{(begin + '23456789' * 3)[:length]}"
            assert numbers.normalise(f"+{digits}") == as_phonenumbers_says(f"+{digits}"), digits


@pytest.mark.parametrize("written", ["00", "000", "+0", "+00", "+44", "0044", "44", "+000000000000"])
def test_too_few_digits_are_not_a_number(written: str) -> None:
    assert numbers.normalise(written) is None
