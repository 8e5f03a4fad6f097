"""The fold looks at content alone; an effect depends on what was recorded before."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptsvc.domain.statuses import (
    FINAL,
    GATEWAY_STATUSES,
    LETTERS,
    Effect,
    Report,
    State,
    Status,
    classify,
    fold,
)
from tests.domain.reports import ACCEPTED, minutes, own, said

FOLDS = [
    ("accepted alone", [ACCEPTED], Status.ACCEPTED, 0, False),
    ("progress rises in rank", [ACCEPTED, own(Status.SUBMITTED, 1)], Status.SUBMITTED, 1, False),
    ("a lost answer is below submitted", [own(Status.SUBMITTED, 1), own(Status.SEND_UNKNOWN, 2)], Status.SUBMITTED, 1, False),
    ("the earliest report of a rank gives its time", [said(Status.SENT, 5), said(Status.SENT, 3)], Status.SENT, 3, False),
    ("sent without a provider time counts from its receipt", [ACCEPTED, said(Status.SENT, received=7)], Status.SENT, 7, False),
    ("late sent does not overwrite delivered", [said(Status.DELIVERED, 2), said(Status.SENT, 9)], Status.DELIVERED, 2, False),
    ("delivered beats a later undelivered", [said(Status.DELIVERED, 2), said(Status.UNDELIVERED, 9)], Status.DELIVERED, 2, True),
    ("delivered without a time beats undelivered with one", [said(Status.DELIVERED), said(Status.UNDELIVERED, 9)], Status.DELIVERED, 60, True),
    ("a provider time beats none", [said(Status.REJECTED, 1), said(Status.UNDELIVERED)], Status.REJECTED, 1, True),
    ("the later final word wins", [said(Status.UNDELIVERED, 3), said(Status.EXPIRED, 4)], Status.EXPIRED, 4, True),
    ("undelivered beats expired at one time", [said(Status.EXPIRED, 3), said(Status.UNDELIVERED, 3)], Status.UNDELIVERED, 3, True),
    ("expired beats rejected at one time", [said(Status.REJECTED, 3), said(Status.EXPIRED, 3)], Status.EXPIRED, 3, True),
    ("sent beats our own refusal", [own(Status.FAILED, 1), said(Status.SENT, 2)], Status.SENT, 2, False),
    ("a receipt beats our own expiry", [own(Status.EXPIRED, 1), said(Status.REJECTED)], Status.REJECTED, 60, False),
    ("our own final word beats our own progress", [own(Status.SUBMITTED, 3), own(Status.FAILED, 1)], Status.FAILED, 1, False),
    ("an unknown code changes nothing", [ACCEPTED, said(None, 4, code="77")], Status.ACCEPTED, 0, False),
    ("one final word said twice is no conflict", [said(Status.EXPIRED, 1), said(Status.EXPIRED, 2)], Status.EXPIRED, 2, False),
    ("our own final word is no conflict with the gateway's", [own(Status.FAILED), said(Status.DELIVERED, 1)], Status.DELIVERED, 1, False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("reports", "status", "at", "conflict"), [case[1:] for case in FOLDS], ids=[c[0] for c in FOLDS]
)
def test_reports_fold_to_this_state(reports: list[Report], status: Status, at: float, conflict: bool) -> None:
    expected = State(status=status, status_at=minutes(at), conflict=conflict)
    assert {fold(order) for order in permutations(reports)} == {expected}


@pytest.mark.parametrize("status", sorted(FINAL))
def test_every_final_word_has_its_place_among_the_final_words(status: Status) -> None:
    others = [own(Status.FAILED, 1), own(Status.CANCELLED, 1)]
    assert fold([own(status, 1), *others]).status in FINAL


def test_the_letters_of_statuses_that_were_ever_stored_stay_and_differ() -> None:
    """Rows of the change feed hold them: a letter may be added here, never changed."""
    stored = {
        "accepted": b"a",
        "send_unknown": b"u",
        "submitted": b"m",
        "sent": b"s",
        "delivered": b"d",
        "undelivered": b"n",
        "expired": b"e",
        "rejected": b"r",
        "failed": b"f",
        "cancelled": b"c",
    }
    assert {word: LETTERS[Status(word)] for word in stored} == stored
    assert set(LETTERS) == set(Status)
    assert len({*LETTERS.values(), b"-", b"+"}) == len(Status) + 2, "the feed has - and + for itself"
    assert all(len(letter) == 1 for letter in LETTERS.values())


words = st.sampled_from(sorted(GATEWAY_STATUSES))
times = st.none() | st.integers(0, 3)
gateway_reports = st.builds(
    lambda word, at, received, code: said(word, at, received=received, code=code),
    st.none() | words,
    times,
    st.integers(0, 5),
    st.sampled_from(["1", "2"]),
)
own_reports = st.builds(own, st.sampled_from([Status.SEND_UNKNOWN, Status.SUBMITTED, Status.FAILED]), st.integers(0, 5))


@given(st.lists(gateway_reports | own_reports, max_size=8), st.randoms())
def test_neither_order_nor_repetition_matters(reports: list[Report], random: object) -> None:
    whole = [ACCEPTED, *reports]
    shuffled = whole + reports
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a Random of its own, untyped
    assert fold(shuffled) == fold(whole)


@given(st.lists(gateway_reports, min_size=1, max_size=6))
def test_below_final_nothing_moves_back(reports: list[Report]) -> None:
    rank = list(Status)
    seen = [ACCEPTED]
    for report in reports:
        before = fold(seen).status
        seen.append(report)
        after = fold(seen).status
        if before in (Status.ACCEPTED, Status.SENT):
            assert rank.index(after) >= rank.index(before)
        else:
            assert after not in (Status.ACCEPTED, Status.SENT)


EFFECTS = [
    ("the first sent is applied", [ACCEPTED], said(Status.SENT, 1), Effect.APPLIED),
    ("no word is unmapped", [ACCEPTED], said(None, 1, code="9"), Effect.UNMAPPED),
    ("no word is unmapped also the second time", [said(None, 1, code="9")], said(None, 1, code="9"), Effect.UNMAPPED),
    ("the same said twice is a duplicate", [said(Status.SENT, 1)], said(Status.SENT, 1, received=99), Effect.DUPLICATE),
    ("another time is no duplicate", [said(Status.SENT, 1)], said(Status.SENT, 2), Effect.STALE),
    ("no time equals only no time", [said(Status.SENT)], said(Status.SENT, 1), Effect.STALE),
    ("no time twice is a duplicate", [said(Status.SENT)], said(Status.SENT), Effect.DUPLICATE),
    ("another id is no duplicate", [said(Status.SENT, 1, code="1")], said(Status.SENT, 1, code="2"), Effect.STALE),
    ("sent after delivered is stale", [said(Status.DELIVERED, 1)], said(Status.SENT, 2), Effect.STALE),
    ("delivered after sent is applied", [said(Status.SENT, 1)], said(Status.DELIVERED, 2), Effect.APPLIED),
    ("another final word conflicts though it wins", [said(Status.EXPIRED, 1)], said(Status.DELIVERED, 2), Effect.CONFLICTING),
    ("another final word conflicts though it loses", [said(Status.DELIVERED, 1)], said(Status.EXPIRED, 2), Effect.CONFLICTING),
    ("a duplicate is called so before a conflict", [said(Status.EXPIRED, 1), said(Status.DELIVERED, 2)], said(Status.EXPIRED, 1), Effect.DUPLICATE),
    ("a final word against our own does not conflict", [own(Status.FAILED)], said(Status.DELIVERED, 2), Effect.APPLIED),
    ("our answer after a receipt is stale", [said(Status.DELIVERED, 1)], own(Status.SUBMITTED), Effect.STALE),
    ("our answer is applied", [ACCEPTED], own(Status.SUBMITTED), Effect.APPLIED),
]  # fmt: skip


@pytest.mark.parametrize(("earlier", "report", "effect"), [case[1:] for case in EFFECTS], ids=[c[0] for c in EFFECTS])
def test_a_report_has_this_effect(earlier: list[Report], report: Report, effect: Effect) -> None:
    told = [ACCEPTED, *earlier]
    assert classify(report, told) == (effect, fold([*told, report]))
