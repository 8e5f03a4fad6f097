"""What the end of one call says of its account, and so of the end of another."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import pytest

from receiptsvc import ids
from receiptsvc.domain.accounts import (
    DISPELLED,
    SUSPECT,
    AccountSign,
    AccountState,
    End,
    Judgement,
    account_of,
    blame_credentials,
    doubts,
    find,
    judge,
    said_of_credentials,
    settle,
)
from receiptsvc.domain.messages import SendOutcome, SendResult

TAKEN, REFUSED, UNCLEAR, NOT_SENT = SendOutcome.TAKEN, SendOutcome.REFUSED, SendOutcome.UNCLEAR, SendOutcome.NOT_SENT
ACCOUNT_REFUSED, IN_WORDS, MAYBE_SENT = (
    SendOutcome.ACCOUNT_REFUSED,
    SendOutcome.SUSPECT_REFUSED,
    SendOutcome.SUSPECT_UNCLEAR,
)


@pytest.mark.parametrize(
    ("outcomes", "is_held", "is_met_again", "sign"),
    [
        ({REFUSED, UNCLEAR, NOT_SENT}, False, True, AccountSign.NOTHING),
        ({REFUSED}, True, False, AccountSign.NOTHING),
        ({TAKEN, UNCLEAR}, False, False, AccountSign.WORKS),
        ({TAKEN}, True, True, AccountSign.WORKS),
        ({IN_WORDS, UNCLEAR}, False, False, AccountSign.SUSPECTED),
        ({MAYBE_SENT}, False, False, AccountSign.SUSPECTED),
        ({IN_WORDS}, False, True, AccountSign.REFUSED),
        ({MAYBE_SENT}, True, False, AccountSign.REFUSED),
        ({ACCOUNT_REFUSED, TAKEN}, False, False, AccountSign.REFUSED),
        (set(), True, True, AccountSign.NOTHING),
    ],
)
def test_what_a_call_says_of_its_account(
    outcomes: set[SendOutcome], *, is_held: bool, is_met_again: bool, sign: AccountSign
) -> None:
    assert find(outcomes, is_held=is_held, is_met_again=is_met_again) is sign


@pytest.mark.parametrize("outcome", SendOutcome)
@pytest.mark.parametrize("sign", AccountSign)
def test_only_a_suspect_end_depends_on_what_is_found_of_the_account(outcome: SendOutcome, sign: AccountSign) -> None:
    settled = settle(outcome, sign, was_cleared=False, refuses_calls=True)
    if outcome in SUSPECT and sign is AccountSign.REFUSED:
        assert settled is ACCOUNT_REFUSED, "then nothing was sent"
    elif outcome in SUSPECT and sign is AccountSign.WORKS:
        assert settled is (REFUSED if outcome is IN_WORDS else UNCLEAR)
    else:
        assert settled is outcome


@pytest.mark.parametrize("sign", AccountSign)
def test_a_message_whose_account_was_cleared_has_met_words_about_itself(sign: AccountSign) -> None:
    assert settle(IN_WORDS, sign, was_cleared=True, refuses_calls=False) is REFUSED
    assert settle(MAYBE_SENT, sign, was_cleared=True, refuses_calls=False) is UNCLEAR


def test_items_that_are_refused_explain_no_message_that_may_have_been_sent() -> None:
    assert settle(IN_WORDS, AccountSign.REFUSED, was_cleared=False, refuses_calls=False) is ACCOUNT_REFUSED
    assert settle(MAYBE_SENT, AccountSign.REFUSED, was_cleared=False, refuses_calls=False) is MAYBE_SENT


def test_an_account_is_whom_a_message_goes_out_as() -> None:
    assert [account_of(name) for name in (None, "", "client")] == ["", "", "client"]


def state(works_number: int = 0, **how: bool) -> AccountState:
    return AccountState(
        **{"is_refused": False, "is_suspected": False, "refuses_calls": False} | how, works_number=works_number
    )


HELD, SUSPECTED, WORKS = state(is_refused=True), state(is_suspected=True), state(5)
HELD_FOR_CALLS = state(is_refused=True, refuses_calls=True)


def judge_in_order(
    ends: Sequence[End], account: AccountState | None, met_again: Collection[SendOutcome] = ()
) -> tuple[Judgement, list[SendOutcome]]:
    """The judgement, and the outcomes in the order of these ends."""
    message_ids = [ids.new() for _ in ends]
    judgement = judge(dict(zip(message_ids, ends, strict=True)), account, met_again)
    return judgement, [judgement.outcomes[one] for one in message_ids]


@pytest.mark.parametrize(
    ("ends", "account", "met_again", "sign", "outcomes"),
    [
        # Nothing is known against the account.
        ([End(IN_WORDS, None)], None, (), AccountSign.SUSPECTED, [IN_WORDS]),
        ([End(MAYBE_SENT, None)], None, (), AccountSign.SUSPECTED, [MAYBE_SENT]),
        ([End(IN_WORDS, None), End(TAKEN, None)], None, (), AccountSign.WORKS, [REFUSED, TAKEN]),
        ([End(IN_WORDS, DISPELLED)], None, (), AccountSign.NOTHING, [REFUSED]),
        ([End(ACCOUNT_REFUSED, None), End(MAYBE_SENT, None)], None, (), AccountSign.REFUSED, [ACCOUNT_REFUSED] * 2),
        # Messages of another call have met the same, or not.
        ([End(IN_WORDS, None)], SUSPECTED, (), AccountSign.SUSPECTED, [IN_WORDS]),
        ([End(IN_WORDS, None)], SUSPECTED, {IN_WORDS}, AccountSign.REFUSED, [ACCOUNT_REFUSED]),
        ([End(MAYBE_SENT, 2)], SUSPECTED, {MAYBE_SENT}, AccountSign.REFUSED, [ACCOUNT_REFUSED]),
        # Refused items explain no message that may have been sent.
        (
            [End(IN_WORDS, None), End(MAYBE_SENT, None)],
            SUSPECTED,
            {IN_WORDS},
            AccountSign.REFUSED,
            [ACCOUNT_REFUSED, MAYBE_SENT],
        ),
        ([End(MAYBE_SENT, None)], HELD, (), AccountSign.REFUSED, [MAYBE_SENT]),
        ([End(MAYBE_SENT, None)], HELD_FOR_CALLS, (), AccountSign.REFUSED, [ACCOUNT_REFUSED]),
        # A message's own suspicion was dispelled: the words are about itself, but not while its account is in doubt.
        ([End(IN_WORDS, 5)], WORKS, (), AccountSign.NOTHING, [REFUSED]),
        ([End(MAYBE_SENT, 5)], WORKS, (), AccountSign.NOTHING, [UNCLEAR]),
        ([End(IN_WORDS, 6)], WORKS, (), AccountSign.SUSPECTED, [IN_WORDS]),
        ([End(IN_WORDS, DISPELLED)], SUSPECTED, (), AccountSign.SUSPECTED, [IN_WORDS]),
        ([End(MAYBE_SENT, DISPELLED)], SUSPECTED, (), AccountSign.NOTHING, [UNCLEAR]),
        ([End(IN_WORDS, DISPELLED)], HELD, (), AccountSign.REFUSED, [ACCOUNT_REFUSED]),
        ([End(MAYBE_SENT, DISPELLED)], HELD, (), AccountSign.REFUSED, [MAYBE_SENT]),
        # What is not in doubt stays as it ended.
        ([End(UNCLEAR, 3), End(NOT_SENT, None)], HELD, (), AccountSign.NOTHING, [UNCLEAR, NOT_SENT]),
        ([End(TAKEN, None), End(MAYBE_SENT, None)], HELD, (), AccountSign.WORKS, [TAKEN, UNCLEAR]),
    ],
)
def test_how_a_call_is_judged_by_how_its_account_stands(
    ends: list[End],
    account: AccountState | None,
    met_again: Collection[SendOutcome],
    sign: AccountSign,
    outcomes: list[SendOutcome],
) -> None:
    judgement, settled = judge_in_order(ends, account, met_again)
    assert (judgement.sign, settled) == (sign, outcomes)
    assert judgement.has_decided is (account is not None and sign in {AccountSign.REFUSED, AccountSign.WORKS})


@pytest.mark.parametrize(
    ("outcome", "met_again", "of_calls"),
    [
        (ACCOUNT_REFUSED, (), True),
        (MAYBE_SENT, {MAYBE_SENT}, True),
        (IN_WORDS, {IN_WORDS}, False),
        (TAKEN, (), False),
    ],
)
def test_a_refusal_is_one_of_calls_if_whole_calls_met_it(
    outcome: SendOutcome, met_again: Collection[SendOutcome], *, of_calls: bool
) -> None:
    assert judge_in_order([End(outcome, None)], SUSPECTED, met_again)[0].of_calls is of_calls


def test_only_ends_that_a_message_met_in_doubt_can_confirm_a_suspicion() -> None:
    ends = [End(IN_WORDS, 5), End(MAYBE_SENT, 6), End(UNCLEAR, None), End(TAKEN, 7)]
    assert doubts(ends, WORKS) == {MAYBE_SENT}
    assert doubts([*ends, End(IN_WORDS, None)], WORKS) == {MAYBE_SENT, IN_WORDS}
    assert doubts(ends, None) == set(), "there is nothing to confirm"


def test_our_credentials_are_refused_if_any_answer_proves_it() -> None:
    taken, refused = SendResult(outcome=TAKEN), SendResult(outcome=ACCOUNT_REFUSED, is_of_credentials=True)
    of_account = SendResult(outcome=ACCOUNT_REFUSED)
    assert said_of_credentials([taken, refused]) == {ACCOUNT_REFUSED}
    assert said_of_credentials([taken, of_account]) == {TAKEN}
    assert said_of_credentials([of_account, SendResult(outcome=UNCLEAR)]) == set()


@pytest.mark.parametrize("outcome", SendOutcome)
def test_refused_credentials_explain_what_is_suspect_and_nothing_else(outcome: SendOutcome) -> None:
    result = SendResult(outcome=outcome, code="9", description="Logon failed")
    expected = replace(result, outcome=ACCOUNT_REFUSED, is_of_credentials=True) if outcome in SUSPECT else result
    assert blame_credentials(result) == expected


@pytest.mark.parametrize(
    ("account", "may_be_sent", "explains"),
    [
        (HELD, False, True),
        (HELD, True, False),
        (HELD_FOR_CALLS, True, True),
        (SUSPECTED, False, False),
    ],
)
def test_what_a_refusal_explains(account: AccountState, *, may_be_sent: bool, explains: bool) -> None:
    assert account.explains(may_be_sent=may_be_sent) is explains
