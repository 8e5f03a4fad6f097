"""Durations in words."""

from datetime import datetime
from zoneinfo import ZoneInfo

from receiptsvc.domain.times import describe_delay, describe_duration, write_time


def test_durations_are_in_the_greatest_unit_that_says_enough() -> None:
    shown = {
        0: "0 s",
        -5: "0 s",
        60: "1 min",
        119.9: "119 s",
        120: "2 min",
        3600: "1 h",
        7199: "119 min",
        7200: "2 h",
        200_000: "2 d",
    }
    assert {seconds: describe_duration(seconds) for seconds in shown} == shown


def test_delays_have_tenths_while_they_are_short_and_may_be_below_nought() -> None:
    shown = {
        0: "0.0 s",
        -0.04: "0.0 s",
        0.26: "0.3 s",
        9.9: "9.9 s",
        10.4: "10 s",
        7200: "2 h",
        -1.5: "−1.5 s",
        -7200: "−2 h",
    }
    assert {seconds: describe_delay(seconds) for seconds in shown} == shown


def test_a_time_in_a_sentence_is_in_utc_and_to_the_second() -> None:
    paris = datetime(2026, 7, 1, 14, 30, 5, 999_999, tzinfo=ZoneInfo("Europe/Paris"))
    assert write_time(paris) == "2026-07-01T12:30:05Z"
