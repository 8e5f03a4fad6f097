"""Which writings are one number; and the fast path of reading one agrees with phonenumbers."""

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiptsvc.domain import countries, numbers
from tests.support.forms import examples
from tests.support.numbers import ALL, ALWAYS, DOUBTFUL, HINTED, NEVER, NUMBERS, ORIGINATORS, STRANGE, Case

CODES = sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)
DIGITS = st.text("0123456789", max_size=18) | st.text("01589", max_size=18)
INTERNATIONAL = st.builds("{}{}".format, st.sampled_from(CODES) | st.integers(0, 9999), DIGITS)


def read_with_hint(case: Case) -> str | None:
    return numbers.normalise(case.written, countries.alpha_2(case.country))


def test_what_is_always_a_number_needs_no_hint_and_none_misleads() -> None:
    for case in [*ALWAYS, *STRANGE]:
        assert numbers.normalise(case.written) == numbers.read(case.written) == case.number, case
        assert numbers.fold(case.written) == numbers.fold_originator(case.written) == case.number, case
        assert read_with_hint(case) == case.number, case


def test_a_national_writing_is_a_number_of_the_hint_and_without_one_only_itself() -> None:
    for case in [*HINTED, *DOUBTFUL]:
        assert read_with_hint(case) == case.number, case
        assert numbers.read(case.written) == numbers.digits(case.written), case
        assert numbers.normalise(case.written) == (numbers.digits(case.written) if case in DOUBTFUL else None), case


def test_a_national_writing_may_be_the_number_that_it_is_with_a_hint() -> None:
    for case in HINTED:
        ending = numbers.national_ending(case.written)
        if ending is not None and case.number.endswith(ending):
            assert case.number in numbers.national_candidates(ending), case


def test_what_only_resembles_a_number_is_not_read_as_it() -> None:
    for case in NEVER:
        assert case.number not in {numbers.normalise(case.written), numbers.fold(case.written)}, case
        assert read_with_hint(case) != case.number, case


def test_a_writing_is_compared_with_a_number_in_the_number_s_own_country() -> None:
    same = {*ALWAYS, *STRANGE, *HINTED, *DOUBTFUL}
    for case in ALL:
        assert numbers.is_same(case.written, case.number) is (case in same), case
        is_unlike = [not numbers.is_same(case.written, other) for other in NUMBERS if other != case.number]
        assert all(is_unlike), case


def test_of_several_numbers_a_writing_is_the_international_one_or_the_only_one_that_fits() -> None:
    assert numbers.identify("07700 900001", ["447700900001", "447700900002", "12125550123"]) == "447700900001"
    assert numbers.identify("07700 900001", ["447700900001", "497700900001"]) is None
    assert numbers.identify("2079460000", ["442079460000", "2079460000"]) == "2079460000"
    assert numbers.identify("07700900001", ["447700900001", "07700900001"]) == "07700900001"
    assert numbers.identify("nobody", ["447700900001"]) is None


def test_every_writing_of_a_number_ends_alike() -> None:
    for case in [*ALWAYS, *STRANGE, *HINTED, *DOUBTFUL]:
        assert numbers.ending(case.written) == numbers.ending(case.number) != "", case
    assert numbers.ending("nobody 1") == ""


def test_originators_are_numbers_short_codes_or_names() -> None:
    for case in ORIGINATORS:
        is_same = numbers.fold_originator(case.written) == numbers.fold_originator(case.originator)
        assert is_same is case.is_same, case
    assert numbers.fold_originator(None) == numbers.fold_originator(" ") == ""


def test_every_writing_is_hidden_in_the_texts_of_others() -> None:
    for case in [*ALWAYS, *HINTED, *DOUBTFUL]:
        hidden = numbers.hide_all(f"To {case.written} at 12:30: no route")
        assert "[number]" in hidden, case
        assert sum(map(str.isdigit, hidden)) <= 4, case


@pytest.mark.parametrize(
    "written",
    [
        *("44_7700_900123", "+44:7700:900123", "44,7700,900,123", "447700*900123", "44\u00b77700\u00b7900123"),
        *("4_4_7_7_0_0_9_0_0_1_2_3", "4:4:7:7:0:0:9:0:0:1:2:3", "4*4*7*7*0*0*9*0*0*1*2*3", "4 * 4 * 7 * 7 * 0 * 0 * 9"),
        *("447,700,900,123", "447'700'900'123", "44;7700;900123", "44|7700|900123", "44\u20227700\u2022900123"),
        *(
            "44\uff3f7700\uff3f900123",
            "44\uff1a7700\uff1a900123",
            "44\uff0c7700\uff0c900123",
            "44\uff0a7700\uff0a900123",
        ),
        *("44\u066c7700\u066c900123", "44\u30017700\u3001900123", "44\\7700\\900123", "44^7700^900123"),
        *("\u0664\u0664_\u0667\u0667\u0660\u0660_\u0669\u0660\u0660\u0661\u0662\u0663", "12:30:45:00123"),
        *("2026-11-30-07700", "2026-1130", "07700:900123", "10.0.0.1:900123", "256.0.0.1:80807", "44,770/900,123"),
    ],
)
def test_a_number_whose_digits_are_parted_is_hidden(written: str) -> None:
    assert numbers.hide_all(f"To {written}, no route") == "To [number], no route"
    assert numbers.hide_all(f"at 12:30, to={written}") == "at 12:30, to=[number]"


@pytest.mark.parametrize(
    "text",
    [
        *("2026-11-30", "2026-11-30 14:50:29", "2026-11-30 14:50:29.123456", "2026-11-30T14:50:29.123Z", "30/11/2026"),
        *("at 12:30, 12:45, 13:00 and 13:15", "12:30:45.123", "12:30-14:45", "12:30 \u2013 14:45", "12:30:45,123"),
        *("1,234,567", "1,234,567 of 9,876,543", "1'234'567 receipts", "999,999,999 rows"),
        *("codes 1, 2, 3, 4, 5, 6, 7, 8", "1: 20; 2: 30; 3: 40", "0.5, 1.25", "error 123456", "at 10.0.0.1:8080"),
        *("msg_01k8z3r5t6e8vbyq0h4n2m7c9d", "rcp_01k8z4a0b1c2d3e4f5g6h7j8k8", "order_12_b_3456", "v1.2.3", "100%"),
    ],
)
def test_times_dates_counts_and_ids_are_not_hidden(text: str) -> None:
    assert numbers.hide_all(text) == text


@given(st.text() | st.text("0123456789+() -.\u0664\uff14\uff0btel:", max_size=60))
@settings(max_examples=examples(300), deadline=None, derandomize=True, database=None)
def test_no_text_raises(text: str) -> None:
    folded = numbers.fold(text)
    assert numbers.fold(folded) == folded or numbers.read(text) is None
    for region in (None, "GB", "AR", "XX"):
        assert (numbers.normalise(text, region) or "0").isdigit()
    assert numbers.is_same(text, folded) or numbers.read(text) is None
    numbers.is_same(text, "447700900001")
    numbers.identify(text, ["447700900001", "12125550123"])
    numbers.hide_all(text)


@pytest.mark.parametrize("text", ["4" * 1_000_000, "+" * 1_000_000, "\u0664" * 1_000_000, " 1" * 500_000])
def test_a_text_too_long_for_a_number_is_a_name_and_is_not_remembered(text: str) -> None:
    caches = [numbers._read, numbers._is_same]  # noqa: SLF001 - what they hold is seen nowhere else
    before = [cache.cache_info().currsize for cache in caches]
    assert numbers.normalise(text) is numbers.read(text) is None
    assert not numbers.is_same(text, "447700900001")
    assert [cache.cache_info().currsize for cache in caches] == before


@pytest.mark.parametrize(
    ("number", "country", "is_of_country"),
    [("447700900001", "GBR", True), ("447700900001", "FRA", False), ("447700900001", None, False), ("1", "XXX", False)],
)
def test_a_number_is_of_the_countries_with_its_code(number: str, country: str | None, is_of_country: bool) -> None:
    assert numbers.is_of_country(number, country) is is_of_country


def as_phonenumbers_says(number: str, region: str | None = None) -> str | None:
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None
    written = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    return written.removeprefix("+") if phonenumbers.is_possible_number(parsed) else None


@pytest.mark.long
@settings(max_examples=examples(300), deadline=None, derandomize=True, database=None)
@given(digits=INTERNATIONAL.filter(lambda digits: 3 <= len(digits) <= 18))
def test_an_international_number_is_read_as_phonenumbers_reads_it(digits: str) -> None:
    expected = as_phonenumbers_says(f"+{digits}")
    assert numbers.normalise(f"+{digits}") == expected
    assert numbers.normalise(f"00{digits}") == expected
    if not digits.startswith("00"):
        bare = numbers.normalise(digits)
        assert bare == expected or (bare is None and expected != digits)  # without a plus a zero may be no trunk prefix
        local = as_phonenumbers_says(digits, "GB")
        british = {each for each in (local, bare if digits.startswith("44") else None) if (each or "").startswith("44")}
        read = numbers.normalise(digits, "GB")
        assert read in british if len(british) == 1 else read is None or read in british


@pytest.mark.parametrize("begin", ["1", "0", "8", "00", "15", "90"])
def test_every_country_code_and_every_length_is_read_alike(begin: str) -> None:
    for code in CODES:
        for length in range(19 - len(str(code))):
            digits = f"{code}{(begin + '23456789' * 3)[:length]}"
            assert numbers.normalise(f"+{digits}") == as_phonenumbers_says(f"+{digits}"), digits


@pytest.mark.parametrize("written", ["00", "000", "+0", "+00", "+44", "0044", "44", "+000000000000"])
def test_too_few_digits_are_not_a_number(written: str) -> None:
    assert numbers.normalise(written) is None


@pytest.mark.parametrize(
    ("number", "written"),
    [
        ("447700900123", ["447700900123", "+44 (0)7700 900-123", "07700900123", "7700 900123", "0044 7700 900 123"]),
        ("36201234567", ["06201234567", "201234567"]),
        ("12025550123", ["+1 202 555 0123", "(202) 555-0123"]),
        ("79161234567", ["8 916 123-45-67"]),
        ("5491123456789", ["541123456789", "+54 11 2345 6789", "011 2345 6789"]),
        ("541123456789", ["5491123456789"]),
        ("525512345678", ["5215512345678"]),
        ("5511987654321", ["551187654321", "011 98765 4321"]),
        ("60030", ["60030"]),
    ],
)
def test_each_writing_of_a_number_is_among_those_to_look_for(number: str, written: list[str]) -> None:
    wanted = numbers.writings(number)
    assert [each for each in written if numbers.fold(each) not in wanted] == []
    assert wanted[0] == number
    assert len(wanted) <= 9


def test_what_is_looked_for_is_no_other_number() -> None:
    for number in ("447700900123", "12025550123", "36201234567"):
        for other in ("447700900124", "12025550124", "36201234568", "4477009001230"):
            assert not set(numbers.writings(number)) & set(numbers.writings(other))


@pytest.mark.parametrize(
    ("number", "place", "countries"),
    [
        ("447700900123", ("44", "7700"), "GB"),
        ("12025550123", ("1", "2025"), "US"),
        ("79161234567", ("7", "9161"), "RU"),
        ("2901234", ("290", ""), "SH"),  # four digits stay untold
        ("68512345", ("685", "1"), "WS"),
        ("60030", ("", ""), ""),
        ("ACME", ("", ""), ""),
        ("", ("", ""), ""),
        ("0770090012345", ("", ""), ""),
    ],
)
def test_a_place_is_the_calling_code_and_at_most_four_digits(
    number: str, place: tuple[str, str], countries: str
) -> None:
    assert numbers.place(number) == place
    assert "".join(numbers.countries_of(place[0])[:1]) == countries


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("447700900123", "+44 ••• •••123"),
        ("15005550006", "+1 ••• •••006"),
        ("60006", "60006"),  # a short code names no person
        ("ACME", "••• •••CME"),
    ],
)
def test_a_masked_number_shows_its_country_and_its_end(number: str, shown: str) -> None:
    assert numbers.mask(number) == shown
