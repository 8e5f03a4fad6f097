"""Reports that are joined one after another add up to what the fold says of all of them, in any order."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptsvc import ids
from receiptsvc.domain import standing
from receiptsvc.domain.standing import EMPTY, MAX_CONTENTS, Standing, join, state_of
from receiptsvc.domain.statuses import GATEWAY_STATUSES, Effect, Report, Status, classify, fold
from tests.domain.reports import ACCEPTED, own, said

gateway_reports = st.builds(
    lambda word, at, received, code: said(word, at, received=received, code=code),
    st.none() | st.sampled_from(sorted(GATEWAY_STATUSES)),
    st.none() | st.integers(-3, 8),
    st.integers(0, 5),
    st.sampled_from(["1", "2", None]),
)
own_reports = st.builds(
    own, st.sampled_from([Status.SEND_UNKNOWN, Status.SUBMITTED, Status.FAILED, Status.CANCELLED]), st.integers(0, 5)
)
histories = st.lists(gateway_reports | own_reports, max_size=3 * MAX_CONTENTS)


def join_all(reports: list[Report]) -> tuple[list[Effect], Standing]:
    """As the store joins them: stored and read again between two, with the overflowing digests beside it."""
    effects, after, kept = list[Effect](), EMPTY, set[bytes]()
    for report in reports:
        joined = join(after, report, ids.new(), known=kept)
        effects.append(joined.effect)
        if joined.overflow is not None:
            assert after.is_full
            kept.add(joined.overflow)
        read = standing.decode(standing.encode(joined.standing))
        assert read is not None
        assert standing.find_differences(read, joined.standing) == []
        assert standing.shown_receipts(read) == standing.shown_receipts(joined.standing)
        after = read
    return effects, after


@given(histories)
def test_each_report_has_the_effect_and_gives_the_state_that_all_reports_have(reports: list[Report]) -> None:
    told = [ACCEPTED, *reports]
    effects, after = join_all(told)
    expected = [classify(report, told[:number])[0] for number, report in enumerate(told) if number]
    assert effects[1:] == expected
    assert state_of(after) == fold(told)


@given(histories, st.randoms(use_true_random=False))
def test_in_any_order_they_add_up_to_the_same(reports: list[Report], random: Random) -> None:
    shuffled = [ACCEPTED, *reports, *reports]
    random.shuffle(shuffled)
    assert standing.find_differences(join_all([ACCEPTED, *reports])[1], join_all(shuffled)[1]) == []


def test_it_stays_small_however_many_reports_are_joined() -> None:
    _, after = join_all([ACCEPTED, *(said(Status.DELIVERED, minute) for minute in range(500))])
    assert len(after.contents) == MAX_CONTENTS
    assert len(standing.encode(after)) < 250


def test_the_deciding_report_and_one_of_each_final_word_are_named() -> None:
    sent, expired, delivered, again = (ids.new() for _ in range(4))
    after = join(EMPTY, ACCEPTED).standing
    assert standing.shown_receipts(after) == set()
    after = join(after, said(Status.SENT, 1), sent).standing
    assert standing.shown_receipts(after) == {sent}
    for word, at, receipt_id in (
        (Status.EXPIRED, 5, expired),
        (Status.DELIVERED, 2, delivered),
        (Status.DELIVERED, 3, again),
    ):
        after = join(after, said(word, at), receipt_id).standing
    assert standing.shown_receipts(after) == {expired, delivered, again}


@pytest.mark.parametrize("damage", [b"", b"\x02\x00\x00\x00", b"\x01", b"\x01\x02\x00\x00", b"\x01\x00\x00\x01abc"])
def test_what_cannot_be_read_is_none_and_no_error(damage: bytes) -> None:
    assert standing.decode(damage) is None


def test_a_standing_without_a_word_has_no_state() -> None:
    with pytest.raises(ValueError, match="no place in the fold"):
        state_of(join(EMPTY, said(None, 1)).standing)
