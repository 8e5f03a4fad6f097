"""A provider's time is read in every shape in which gateways, SMPP and the web write one, and never guessed at.

Each case: its kind, what is written, and the time in UTC; None: none can be read. In London, at about RECEIVED_AT.
"""

from datetime import UTC, datetime, timedelta
from time import process_time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptsvc.dynmark.inbound import times

LONDON = ZoneInfo("Europe/London")
RECEIVED_AT = datetime(2026, 11, 22, 10, 0, 30, tzinfo=UTC)
AT = "2026-11-22T10:00:00+00:00"

SHAPES = [
    ("ISO: hours of an offset", "2026-11-22T10:00:00+00", AT),
    ("ISO: hours of an offset, east", "2026-11-22T12:00:00+02", AT),
    ("ISO: hours of an offset, west", "2026-11-22T05:00:00-05", AT),
    ("ISO: hours of an offset, its plus unescaped", "2026-11-22T10:00:00 00", AT),
    ("ISO: one digit of an offset", "2026-11-22T12:00:00+2", AT),
    ("ISO: Z", "2026-11-22T10:00:00Z", AT),
    ("ISO: small letters", "2026-11-22t10:00:00z", AT),
    ("ISO: an offset after a blank", "2026-11-22 10:00:00 +0000", AT),
    ("ISO: a decimal comma", "2026-11-22T10:00:00,000Z", AT),
    ("ISO: a decimal comma with seven digits", "2026-11-22T10:00:00,0000000Z", AT),
    ("ISO: no zone", "2026-11-22T10:00:00", AT),
    ("ISO: compact", "20261122T100000Z", AT),
    ("ISO: compact, with an offset", "20261122T110000+0100", AT),
    ("ISO: compact, to the minute", "20261122T1000", AT),
    ("ISO: half compact", "20261122 10:00:00", AT),
    ("ISO: slashes", "2026/11/22 10:00:00", AT),
    ("ISO: dots", "2026.11.22 10:00:00", AT),
    ("Java: a zone in brackets", "2026-11-22T11:00:00+01:00[Europe/Paris]", AT),
    ("Java: Date.toString", "Sun Nov 22 10:00:00 GMT 2026", AT),
    ("Go: a name after the offset", "2026-11-22 10:00:00 +0000 UTC", AT),
    ("Ruby: a name", "2026-11-22 10:00:00 UTC", AT),
    ("Db2: dots in the clock", "2026-11-22-10.00.00.000000", AT),
    ("Oracle: a short year and dots", "22-NOV-26 10.00.00.000000 AM", AT),
    ("Oracle: with an offset", "22-NOV-26 10.00.00.000000 AM +00:00", AT),
    ("SQL Server: style 0", "Nov 22 2026 10:00AM", AT),
    ("SQL Server: style 9", "Nov 22 2026 10:00:00:000AM", AT),
    ("FIX", "20261122-10:00:00.000", AT),
    ("JavaScript: Date.toString", "Sun Nov 22 2026 10:00:00 GMT+0000 (Greenwich Mean Time)", AT),
    ("JavaScript: its plus unescaped", "Sun Nov 22 2026 10:00:00 GMT 0000 (Greenwich Mean Time)", AT),
    ("Apache", "22/Nov/2026:10:00:00 +0000", AT),
    ("RFC 5322", "Sun, 22 Nov 2026 10:00:00 +0000", AT),
    ("RFC 5322: its plus unescaped", "Sun, 22 Nov 2026 11:00:00  0100", AT),
    ("RFC 5322: a named zone", "Sun, 22 Nov 2026 05:00:00 EST", AT),
    ("RFC 5322: no weekday", "22 Nov 2026 10:00:00 GMT", AT),
    ("RFC 5322: one digit of a day", "1 Nov 2026 10:00:00 +0000", "2026-11-01T10:00:00+00:00"),
    ("RFC 850", "Sunday, 22-Nov-26 10:00:00 GMT", AT),
    ("asctime", "Sun Nov 22 10:00:00 2026", AT),
    ("asctime: a day of one digit", "Sun Nov  1 10:00:00 2026", "2026-11-01T10:00:00+00:00"),
    ("words: the replies' own", "22 Nov 2026 10:00:00", AT),
    ("words: a whole month", "22 November 2026 10:00", AT),
    ("words: American", "November 22, 2026 10:00 AM", AT),
    ("words: an ordinal", "22nd November 2026 at 10:00", AT),
    ("words: September in four letters", "22 Sept 2026 10:00:00", "2026-09-22T09:00:00+00:00"),
    ("12 hours: the afternoon", "22 Nov 2026 3:07:09 PM", "2026-11-22T15:07:09+00:00"),
    ("12 hours: with dots", "22 Nov 2026 3:07 p.m.", "2026-11-22T15:07:00+00:00"),
    ("12 hours: midnight", "22 Nov 2026 12:00:00 AM", "2026-11-22T00:00:00+00:00"),
    ("12 hours: noon", "22 Nov 2026 12:00:00 PM", "2026-11-22T12:00:00+00:00"),
    ("12 hours: a 24-hour clock beside it", "22 Nov 2026 15:07 PM", "2026-11-22T15:07:00+00:00"),
    ("12 hours: none", "22 Nov 2026 15:07 AM", None),
    ("12 hours: no zeroth hour of an afternoon", "22 Nov 2026 00:07 PM", None),
    ("Unix: seconds", "1795341600", AT),
    ("Unix: a fraction", "1795341600.000", AT),
    ("Unix: milliseconds", "1795341600000", AT),
    ("Unix: microseconds", "1795341600000000", AT),
    (".NET: Date", "/Date(1795341600000)/", AT),
    (".NET: with an offset", "/Date(1795341600000+0100)/", AT),
    (".NET: its slashes escaped", r"\/Date(1795341600000)\/", AT),
    ("digits: to the second", "20261122100000", AT),
    ("digits: to the millisecond", "20261122100000000", AT),
    ("digits: a fraction", "20261122100000.000", AT),
    ("digits: to the minute", "202611221000", AT),
    ("digits: the day first", "22112026100000", AT),
    ("SMPP: to the minute", "2611221000", AT),
    ("SMPP: to the second", "261122100000", AT),
    ("SMPP: absolute", "261122100000000+", AT),
    ("SMPP: absolute, its plus lost", "261122100000000", AT),
    ("SMPP: absolute, east by quarters", "261122153000022+", AT),
    ("SMPP: absolute, west by quarters", "261122050000020-", AT),
    ("SMPP: absolute, tenths", "261122100000500+", "2026-11-22T10:00:00.5+00:00"),
    ("SMPP: relative says no time", "000000001500000R", None),
    ("SMPP: absolute, too far away", "261122100000049+", None),
    ("zone: GMT", "2026-07-22 10:00:00 GMT", "2026-07-22T10:00:00+00:00"),
    ("zone: BST", "2026-07-22 10:00:00 BST", "2026-07-22T09:00:00+00:00"),
    ("zone: CEST", "2026-07-22 10:00:00 CEST", "2026-07-22T08:00:00+00:00"),
    ("zone: a name with an offset", "2026-07-22 10:00:00 UTC+02:00", "2026-07-22T08:00:00+00:00"),
    ("zone: one of three", "2026-07-22 10:00:00 CST", None),
    ("zone: another of three", "2026-07-22 10:00:00 IST", None),
    ("zone: unknown", "2026-07-22 10:00:00 XYZ", None),
    ("zone: too far", "2026-07-22 10:00:00 +15:00", None),
    ("zone: perhaps seconds", "2026-07-22 10:00 00", None),
    ("quoted", '"2026-11-22T10:00:00Z"', AT),
    ("none: a date alone", "2026-11-22", None),
    ("none: a clock alone", "10:00:00", None),
    ("none: no such day", "2026-11-31T10:00:00Z", None),
    ("none: no such month", "22 Nob 2026 10:00", None),
    ("none: too early a year", "1999-12-31T23:59:59", None),
    ("none: too late a year", "2100-01-01T00:00:00.000", None),
    ("none: words", "yesterday", None),
    ("none: digits of another script", "\u0662026-11-22T10:00:00", None),
    ("none: a spreadsheet's number", "46348.4166667", None),
    ("none: eleven digits", "17953416000", None),
]

OLD = [  # as before
    ("2016-01-11T14:11:45.170", "2016-01-11T14:11:45.170+00:00"),
    ("2016-07-11T14:11:45.170", "2016-07-11T13:11:45.170+00:00"),
    ("2016-07-11T14:11:45.1234567", "2016-07-11T13:11:45.123456+00:00"),  # seven digits, as .NET writes them
    ("2016-01-11 14:11", "2016-01-11T14:11:00+00:00"),
    ("2016-01-11T14:11:45+02:00", "2016-01-11T12:11:45+00:00"),
    ("2016-01-11T14:11:45 02:00", "2016-01-11T12:11:45+00:00"),  # a plus that travelled unescaped
    ("2016-01-11T14:11:45-0530", "2016-01-11T19:41:45+00:00"),
    ("2016-03-27T00:59:59.999", "2016-03-27T00:59:59.999+00:00"),
    ("2016-03-27T01:30:00.000", "2016-03-27T01:30:00+00:00"),  # no clock showed it
    ("2016-03-27T02:00:00.000", "2016-03-27T01:00:00+00:00"),
    ("2016-10-30T02:00:00.000", "2016-10-30T02:00:00+00:00"),
    ("2016-02-29T23:59:59.999", "2016-02-29T23:59:59.999+00:00"),
    ("1 january 2016 7:46:51", "2016-01-01T07:46:51+00:00"),
    ("13/07/2016 14:11:45", "2016-07-13T13:11:45+00:00"),
    ("07/13/2016 14:11:45", "2016-07-13T13:11:45+00:00"),
    ("1452521505", "2016-01-11T14:11:45+00:00"),
    ("2016-02-30T14:11:45.170", None),
    ("2016-01-11T24:00:00.000", None),
    ("0001-01-01T00:00:00+14:00", None),
    ("2016-01-11T25:00:00", None),
    ("9999-12-31T23:59:59", None),
]


def read(text: str, zone: ZoneInfo = LONDON, received_at: datetime = RECEIVED_AT) -> datetime | None:
    time = times.read(text, zone, received_at)
    assert time is None or time.at.tzinfo is UTC
    return time and time.at


@pytest.mark.parametrize(("text", "at"), [case[1:] for case in SHAPES], ids=[case[0] for case in SHAPES])
def test_every_shape_is_read(text: str, at: str | None) -> None:
    assert read(text) == (at and datetime.fromisoformat(at))


@pytest.mark.parametrize(("text", "at"), OLD)
def test_an_unambiguous_writing_is_taken_as_it_stands_however_old(text: str, at: str | None) -> None:
    assert read(text) == (at and datetime.fromisoformat(at))


AMBIGUOUS = [  # kind, written, and the reading that lies about the time of receipt
    ("day or month first: the day", "11/12/2026 10:00:00", "2026-12-11T10:00:00", "2026-12-11T10:00:00"),
    ("day or month first: the month", "11/12/2026 10:00:00", "2026-11-12T10:00:00", "2026-11-12T10:00:00"),
    ("day or month first: neither", "11/12/2026 10:00:00", "2026-11-22T10:00:00", None),
    ("day or month first: both are one", "11/11/2026 10:00:00", "2026-12-22T10:00:00", "2026-11-11T10:00:00"),
    ("day or month first: dashes", "05-06-2026 10:00", "2026-06-05T09:00:30", "2026-06-05T09:00:00"),
    ("day or month first: dots are never American", "05.06.2026 10:00", "2027-06-05T09:00:30", "2026-06-05T09:00:00"),
    ("short year: the day first", "22/11/26 10:00", "2026-11-22T10:00:30", "2026-11-22T10:00:00"),
    ("short year: the year first", "26-11-22 10:00", "2026-11-22T10:00:30", "2026-11-22T10:00:00"),
    ("short year: too old", "10-11-12 10:00", "2026-11-22T10:00:30", None),
    ("digits: SMPP's or an operator's", "0210021543", "2002-10-02T14:43:30", "2002-10-02T14:43:00"),
    ("digits: an operator's", "2211261000", "2026-11-22T10:00:30", "2026-11-22T10:00:00"),
    ("digits: a date or seconds since 1970", "1801010000", "2018-01-01T00:00:10", "2018-01-01T00:00:00"),
    ("digits: seconds since 1970 or a date", "1801010000", "2027-01-27T00:33:30", "2027-01-27T00:33:20"),
    ("digits: a year of two or of four", "201012100000", "2020-10-12T09:00:10", "2020-10-12T09:00:00"),
    ("window: a day before", "11/12/2026 10:00:00", "2026-12-12T10:00:00", "2026-12-11T10:00:00"),
    ("window: more than a day before", "11/12/2026 10:00:00", "2026-12-12T10:00:01", None),
    ("window: five minutes after", "11/12/2026 10:00:00", "2026-12-11T09:55:00", "2026-12-11T10:00:00"),
    ("window: more than five minutes after", "11/12/2026 10:00:00", "2026-12-11T09:54:59", None),
    ("day or month first: the day, in February", "01/02/2026 10:00:00", "2026-02-01T10:00:00", "2026-02-01T10:00:00"),
]


@pytest.mark.parametrize(
    ("text", "received_at", "at"), [case[1:] for case in AMBIGUOUS], ids=[case[0] for case in AMBIGUOUS]
)
def test_of_an_ambiguous_writing_the_reading_about_the_time_of_receipt_is_taken(
    text: str, received_at: str, at: str | None
) -> None:
    received = datetime.fromisoformat(received_at).replace(tzinfo=UTC)
    assert read(text, received_at=received) == (at and datetime.fromisoformat(at).replace(tzinfo=UTC))


REPEATED = [  # the hour that clocks in London show twice, as received in UTC and as read
    ("2026-10-25T01:30:00", "2026-10-25T00:30:10", "00:30:00"),
    ("2026-10-25T01:30:00", "2026-10-25T01:24:59", "00:30:00"),
    ("2026-10-25T01:30:00", "2026-10-25T01:25:00", "01:30:00"),
    ("2026-10-25T01:30:00", "2026-10-25T01:30:10", "01:30:00"),
    ("2026-10-25T01:00:00", "2026-10-25T00:00:01", "00:00:00"),
    ("2026-10-25T01:59:59", "2026-10-25T02:00:00", "01:59:59"),
    ("25/10/2026 01:30", "2026-10-25T00:30:10", "00:30:00"),
    ("2026-10-25T01:30:00", "2026-11-25T00:00:00", "01:30:00"),
]


@pytest.mark.parametrize(("text", "received_at", "clock"), REPEATED)
def test_the_repeated_hour_is_read_by_the_time_of_receipt(text: str, received_at: str, clock: str) -> None:
    received = datetime.fromisoformat(received_at).replace(tzinfo=UTC)
    assert read(text, received_at=received) == datetime.fromisoformat(f"2026-10-25T{clock}").replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "is_local"),
    [
        ("2026-11-22T10:00:00", True),
        ("22 Nov 2026 10:00", True),
        ("2611221000", True),
        ("2026-11-22T10:00:00Z", False),
        ("2026-11-22T10:00:00 GMT", False),
        ("1795341600", False),
        ("261122100000000+", False),
    ],
)
def test_a_time_tells_whether_it_was_read_in_the_zone_of_the_setting(text: str, is_local: bool) -> None:
    time = times.read(text, LONDON, RECEIVED_AT)
    assert time is not None
    assert time.is_local is is_local


@pytest.mark.parametrize(
    ("text", "zone", "hour"),
    [
        ("2026-11-22 10:00:00 CST", "America/Chicago", 16),
        ("2026-11-22 10:00:00 CST", "Asia/Shanghai", 2),
        ("2026-11-22 15:30:00 IST", "Asia/Kolkata", 10),
        ("2026-11-22 10:00:00 SAST", "Africa/Johannesburg", 8),
    ],
)
def test_a_name_is_that_of_the_settings_zone_first(text: str, zone: str, hour: int) -> None:
    assert read(text, ZoneInfo(zone)) == datetime(2026, 11, 22, hour, tzinfo=UTC)


@given(st.text(max_size=120) | st.from_regex(r"[0-9]{6,20}[+R-]?", fullmatch=True), st.timezone_keys())
def test_any_text_is_at_worst_no_time(text: str, key: str) -> None:
    found = read(text, ZoneInfo(key))
    assert found is None or 2000 <= found.year < 2100


@given(st.datetimes(datetime(2000, 1, 2), datetime(2099, 12, 30)))  # noqa: DTZ001
def test_a_time_that_is_written_with_its_zone_is_read_back(at: datetime) -> None:
    aware = at.replace(microsecond=0, tzinfo=UTC)
    for form in (
        "%Y-%m-%dT%H:%M:%S+00",
        "%a, %d %b %Y %H:%M:%S +0000",
        "%A, %d-%b-%y %H:%M:%S GMT",
        "%y%m%d%H%M%S000+",
    ):
        assert read(aware.strftime(form)) == aware, form


@pytest.mark.parametrize("piece", ["1", " ", "1 ", "a", "22 ", "+0", "jan ", "(", ":", "11/"])
def test_a_text_made_to_be_slow_is_read_soon(piece: str) -> None:
    started = process_time()
    for number in range(100):
        read((f"{number} jan 2026 10:00" + piece * 100)[:100])
        read((piece * 100)[:100])
    assert process_time() - started < 2


def test_what_is_read_depends_on_the_receipt_alone() -> None:
    assert read("11/12/2026 10:00") is None
    later = RECEIVED_AT + timedelta(days=19)
    assert read("11/12/2026 10:00", received_at=later) == read("11/12/2026 10:00", received_at=later)
