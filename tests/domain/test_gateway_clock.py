"""What the times of receipts show of the gateway's clock."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from receiptsvc.domain.gateway_clock import (
    Vote,
    describe,
    find_shifts,
    is_setting_right,
    read_hint,
    suggest,
    vote_of,
    write_hint,
)
from receiptsvc.domain.statuses import Status

T0 = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
HOUR = 3600


def seconds(count: float) -> datetime:
    return T0 + timedelta(seconds=count)


SHIFTS = [  # the time as read and the receipt, in seconds after the offer; the quarters of an hour that fit
    (0, 1, [0]),
    (30, 60, [0]),
    (HOUR, 60, [-4]),
    (-HOUR, 60, [4]),
    (-HOUR, 839, [4]),
    (-HOUR, 840, [4, 5]),
    (-HOUR, 1000, [4, 5]),
    (-HOUR, HOUR, [4, 5, 6, 7, 8]),
    (-14 * HOUR, 60, [56]),
    (14 * HOUR, 60, [-56]),
    (-14.25 * HOUR, 60, []),
    (-420, 60, []),
    (0, -3600, []),
]


@pytest.mark.parametrize(("at", "received", "quarters"), SHIFTS)
def test_the_shifts_that_put_a_time_between_offer_and_receipt(at: float, received: float, quarters: list[int]) -> None:
    assert list(find_shifts(seconds(at), T0, seconds(received))) == quarters
    vote = vote_of(Status.SENT, seconds(at), T0, seconds(received), is_sure=True)
    assert (vote is not None) is (len(quarters) == 1)


def votes(*shifts: int, status: Status = Status.DELIVERED, at: float = 0, is_sure: bool = True) -> list[Vote]:
    return [Vote(status, shift, seconds(at), is_sure) for shift in shifts]


def test_a_setting_is_right_for_a_status_if_one_receipt_of_the_day_before_shows_it() -> None:
    right = votes(0)
    assert is_setting_right(right, Status.DELIVERED, T0)
    assert is_setting_right(right, Status.DELIVERED, seconds(24 * HOUR - 1))
    assert not is_setting_right(right, Status.DELIVERED, seconds(24 * HOUR))
    assert not is_setting_right(right, Status.DELIVERED, seconds(-1)), "what came later proves nothing of before"
    assert not is_setting_right(right, Status.SENT, T0), "a gateway may have a clock for each status"
    assert not is_setting_right(votes(0, is_sure=False), Status.DELIVERED, T0)
    assert not is_setting_right(votes(4, 4), Status.DELIVERED, T0)


WORDS = [
    ([-4] * 5, "an hour ahead"),
    ([4] * 5, "an hour behind"),
    ([-8] * 5, "2 hours ahead"),
    ([22] * 5, "5 hours and 30 minutes behind"),
    ([-1] * 5, "15 minutes ahead"),
    ([5] * 5, "an hour and 15 minutes behind"),
    ([-4] * 4, None),
    ([-4] * 4 + [4], None),
    ([-4] * 6 + [4] * 5, "an hour ahead"),
    ([-4] * 5 + [0], None),
    ([0] * 9, None),
    ([], None),
]


@pytest.mark.parametrize(("shifts", "words"), WORDS)
def test_once_enough_receipts_agree_the_difference_is_told(shifts: list[int], words: str | None) -> None:
    expected = words and f"the gateway's clock seems to be {words}"
    assert describe(votes(*shifts), T0) == describe(reversed(votes(*shifts)), T0) == expected
    assert describe(votes(*shifts, at=-24 * HOUR), T0) is None


def test_a_status_for_which_the_setting_is_right_does_not_count() -> None:
    sent = votes(0, -4, -4, -4, -4, -4, status=Status.SENT)
    assert describe(sent, T0) is None
    delivered = votes(-4, -4, -4, -4, -4)
    for made in ([*sent, *delivered], [*delivered, *sent]):
        assert describe(made, T0) == "the gateway's clock seems to be an hour ahead"


def test_a_setting_that_was_right_before_it_was_changed_hides_nothing() -> None:
    before, after = votes(0, 0, at=-HOUR), votes(-4, -4, -4, -4, -4)
    assert describe([*before, *after], T0) == "the gateway's clock seems to be an hour ahead"
    assert describe([*before, *after[1:]], T0) is None
    assert describe([*votes(-4, -4, -4, -4, -4, at=-HOUR), *votes(0)], T0) is None, "it was put right since"
    unsure = [*after, *votes(0, is_sure=False)]
    assert describe(unsure, T0) == "the gateway's clock seems to be an hour ahead"


def hints(*shifts: int, at: float = 0) -> list[Vote]:
    return [Vote(None, shift, seconds(at), is_sure=False, is_hint=True) for shift in shifts]


def test_hints_tell_what_is_wrong_since_the_setting_was_right_for_any_status() -> None:
    told = hints(-4, -4, -4, -4, -4)
    assert describe(told, T0) == "the gateway's clock seems to be an hour ahead"
    assert describe(told[1:], T0) is None
    assert describe([*votes(0, at=-HOUR), *told], T0) == "the gateway's clock seems to be an hour ahead"
    assert describe([*votes(0, status=Status.SENT), *told], T0) is None
    assert describe([*told[:3], *votes(-4, -4)], T0) == "the gateway's clock seems to be an hour ahead"


def test_a_hint_is_read_as_it_was_written_also_behind_other_notes() -> None:
    for shift in (*range(-56, 0), *range(1, 57)):
        assert read_hint(write_hint(shift)) == read_hint(f"its time is odd; {write_hint(shift)}") == shift
    assert [read_hint(each) for each in (None, "", "it has no transactionID", f"{write_hint(4)}; so")] == [None] * 4


SETTINGS = [  # the setting, the shift of times in winter, what is said behind "DYNMARK_TIMEZONE is "
    ("UTC", -4, "UTC, at UTC+00:00: a zone that was at UTC+01:00 fits, such as Europe/Paris"),
    ("Europe/Paris", 4, "Europe/Paris, at UTC+01:00: a zone that was at UTC+00:00 fits, such as UTC or Europe/London"),
    (
        "America/New_York",
        -42,
        "America/New_York, at UTC-05:00: a zone that was at UTC+05:30 fits, such as Asia/Kolkata",
    ),
    ("UTC", 5, "UTC, at UTC+00:00: a zone that was at UTC-01:15 fits"),
]


@pytest.mark.parametrize(("setting", "shift", "words"), SETTINGS)
def test_what_the_setting_is_and_what_fits_is_said(setting: str, shift: int, words: str) -> None:
    assert suggest(shift, T0, ZoneInfo(setting)) == f"DYNMARK_TIMEZONE is {words}"
