"""What the end of one call says of its account, and so of the end of another."""

import pytest

from receiptsvc.domain.accounts import SUSPECT, Finding, account_of, find, settle
from receiptsvc.domain.messages import SendOutcome

TAKEN, REFUSED, UNCLEAR, NOT_SENT = SendOutcome.TAKEN, SendOutcome.REFUSED, SendOutcome.UNCLEAR, SendOutcome.NOT_SENT
ACCOUNT_REFUSED, IN_WORDS, MAYBE_SENT = (
    SendOutcome.ACCOUNT_REFUSED,
    SendOutcome.SUSPECT_REFUSED,
    SendOutcome.SUSPECT_UNCLEAR,
)


@pytest.mark.parametrize(
    ("outcomes", "is_held", "is_met_again", "finding"),
    [
        ({REFUSED, UNCLEAR, NOT_SENT}, False, True, Finding.NOTHING),
        ({REFUSED}, True, False, Finding.NOTHING),
        ({TAKEN, UNCLEAR}, False, False, Finding.WORKS),
        ({TAKEN}, True, True, Finding.WORKS),
        ({IN_WORDS, UNCLEAR}, False, False, Finding.SUSPECTED),
        ({MAYBE_SENT}, False, False, Finding.SUSPECTED),
        ({IN_WORDS}, False, True, Finding.REFUSED),
        ({MAYBE_SENT}, True, False, Finding.REFUSED),
        ({ACCOUNT_REFUSED, TAKEN}, False, False, Finding.REFUSED),
        (set(), True, True, Finding.NOTHING),
    ],
)
def test_what_a_call_says_of_its_account(
    outcomes: set[SendOutcome], *, is_held: bool, is_met_again: bool, finding: Finding
) -> None:
    assert find(outcomes, is_held=is_held, is_met_again=is_met_again) is finding


@pytest.mark.parametrize("outcome", SendOutcome)
@pytest.mark.parametrize("finding", Finding)
def test_only_a_suspect_end_depends_on_what_is_found_of_the_account(outcome: SendOutcome, finding: Finding) -> None:
    settled = settle(outcome, finding, was_cleared=False, refuses_calls=True)
    if outcome in SUSPECT and finding is Finding.REFUSED:
        assert settled is ACCOUNT_REFUSED, "then nothing was sent"
    elif outcome in SUSPECT and finding is Finding.WORKS:
        assert settled is (REFUSED if outcome is IN_WORDS else UNCLEAR)
    else:
        assert settled is outcome


@pytest.mark.parametrize("finding", Finding)
def test_a_message_whose_account_was_cleared_has_met_words_about_itself(finding: Finding) -> None:
    assert settle(IN_WORDS, finding, was_cleared=True, refuses_calls=False) is REFUSED
    assert settle(MAYBE_SENT, finding, was_cleared=True, refuses_calls=False) is UNCLEAR


def test_items_that_are_refused_explain_no_message_that_may_have_been_sent() -> None:
    assert settle(IN_WORDS, Finding.REFUSED, was_cleared=False, refuses_calls=False) is ACCOUNT_REFUSED
    assert settle(MAYBE_SENT, Finding.REFUSED, was_cleared=False, refuses_calls=False) is MAYBE_SENT


def test_an_account_is_whom_a_message_goes_out_as() -> None:
    assert [account_of(name) for name in (None, "", "client")] == ["", "", "client"]
