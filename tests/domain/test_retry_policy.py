"""When a message is offered again after each end of a call, and how large its next call may be."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from receiptsvc.domain import retry_policy
from receiptsvc.domain.messages import SendOutcome
from receiptsvc.domain.retry_policy import RepeatPolicy, next_call_limit, next_due

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
REPEATS = RepeatPolicy(after=timedelta(seconds=60), duration=timedelta(hours=1), transports=frozenset({"soap"}))
TAKEN, REFUSED, UNCLEAR, NOT_SENT = SendOutcome.TAKEN, SendOutcome.REFUSED, SendOutcome.UNCLEAR, SendOutcome.NOT_SENT
ACCOUNT_REFUSED, IN_WORDS, MAYBE_SENT = (
    SendOutcome.ACCOUNT_REFUSED,
    SendOutcome.SUSPECT_REFUSED,
    SendOutcome.SUSPECT_UNCLEAR,
)
NEVER = None


def due_in(
    outcome: SendOutcome,
    before: Sequence[str | None] = (),
    *,
    can_repeat: bool = True,
    unclear_for: float | None = None,
    valid_for: float | None = None,
    stretch: float = 1,
) -> float | None:
    """In how many seconds a message is due. `unclear_for`, `valid_for`: seconds before and after now."""
    due = next_due(
        outcome,
        ended_before=[*before, outcome],
        can_repeat=can_repeat,
        unclear_since=None if unclear_for is None else NOW - timedelta(seconds=unclear_for),
        valid_until=None if valid_for is None else NOW + timedelta(seconds=valid_for),
        now=NOW,
        repeats=REPEATS,
        stretch=stretch,
    )
    return None if due is None else (due - NOW).total_seconds()


@pytest.mark.parametrize(
    ("outcome", "before", "seconds"),
    [
        (NOT_SENT, [], 1),
        (NOT_SENT, [NOT_SENT], 2),
        (NOT_SENT, [NOT_SENT] * 3, 8),
        (NOT_SENT, [NOT_SENT] * 20, 300),
        (NOT_SENT, [UNCLEAR, UNCLEAR], 1),
        (UNCLEAR, [], 60),
        (UNCLEAR, [UNCLEAR], 120),
        (UNCLEAR, [UNCLEAR, UNCLEAR], 240),
        (UNCLEAR, [UNCLEAR] * 9, 300),
        (UNCLEAR, [NOT_SENT, NOT_SENT, None], 60),
        (UNCLEAR, [MAYBE_SENT], 120),
        (MAYBE_SENT, [UNCLEAR, IN_WORDS], 120),
        (ACCOUNT_REFUSED, [ACCOUNT_REFUSED] * 5, 0),
        (IN_WORDS, [IN_WORDS] * 5, 0),
        (TAKEN, [UNCLEAR], NEVER),
        (REFUSED, [], NEVER),
    ],
)
def test_gaps_grow_with_what_ended_alike_before(
    outcome: SendOutcome, before: list[str | None], seconds: float | None
) -> None:
    assert due_in(outcome, before) == seconds


@pytest.mark.parametrize(
    ("outcome", "can_repeat", "unclear_for", "valid_for", "seconds"),
    [
        (UNCLEAR, True, 3539, None, 60),
        (UNCLEAR, True, 3540, None, NEVER),  # the gap ends with the time for repeats
        (UNCLEAR, True, 0, 61, 60),
        (UNCLEAR, True, 0, 60, NEVER),
        (UNCLEAR, True, 3590, 7200, NEVER),  # a later validUntil gives no more time
        (UNCLEAR, False, 0, None, NEVER),  # a repeat could be a second SMS
        (MAYBE_SENT, True, 0, None, 60),
        (MAYBE_SENT, True, 3590, None, 10),  # then it is settled as one that may have been sent
        (MAYBE_SENT, True, 0, 20, 20),
        (MAYBE_SENT, False, 600, None, 3000),
        (MAYBE_SENT, False, 0, 20, 20),
        (NOT_SENT, True, None, 0, 1),  # what is late is found out when it is due
    ],
)
def test_repeats_end_with_their_time_and_validity(
    outcome: SendOutcome, *, can_repeat: bool, unclear_for: float | None, valid_for: float | None, seconds: float | None
) -> None:
    assert due_in(outcome, can_repeat=can_repeat, unclear_for=unclear_for, valid_for=valid_for) == seconds


def test_the_gaps_of_a_call_are_stretched_by_one_factor() -> None:
    assert [due_in(outcome, stretch=1.5) for outcome in (NOT_SENT, UNCLEAR, MAYBE_SENT)] == [1.5, 90, 90]
    assert due_in(IN_WORDS, stretch=1.5) == 0
    assert retry_policy.stretch(REPEATS) == 1
    stretched = {retry_policy.stretch(replace(REPEATS, spread=0.2)) for _ in range(50)}
    assert len(stretched) > 1
    assert all(1 <= factor <= 1.2 for factor in stretched)


def test_the_first_gap_of_a_repeat_is_never_cut() -> None:
    patient = replace(REPEATS, after=timedelta(hours=2), duration=timedelta(days=1))
    due = next_due(
        UNCLEAR,
        ended_before=[UNCLEAR] * 3,
        can_repeat=True,
        unclear_since=NOW,
        valid_until=None,
        now=NOW,
        repeats=patient,
        stretch=1,
    )
    assert due == NOW + timedelta(hours=2)


@pytest.mark.parametrize(
    ("outcomes", "is_repeat", "limit"),
    [
        ([UNCLEAR] * 4, True, 2),
        ([UNCLEAR] * 5, True, 3),
        ([UNCLEAR] * 2, True, 1),
        ([UNCLEAR], True, None),
        ([UNCLEAR] * 4, False, None),  # a first call may be cut by anything
        ([UNCLEAR, UNCLEAR, TAKEN], True, None),
        ([MAYBE_SENT] * 4, True, None),
    ],
)
def test_calls_are_halved_while_repeats_stay_unclear_as_a_whole(
    outcomes: list[SendOutcome], *, is_repeat: bool, limit: int | None
) -> None:
    assert next_call_limit(outcomes, is_repeat=is_repeat) == limit
