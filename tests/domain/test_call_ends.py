"""What the end of a call means for a message: what is noted, which step is recorded, and when it is let go on."""

from datetime import UTC, datetime, timedelta

import pytest

from receiptsvc import ids
from receiptsvc.domain import call_ends
from receiptsvc.domain.accounts import DISPELLED, AccountState
from receiptsvc.domain.call_ends import Attempt, CalledMessage, after_call, is_closed_by, step_if_late, step_of_call
from receiptsvc.domain.messages import SendOutcome, SendResult
from receiptsvc.domain.retry_policy import RepeatPolicy
from receiptsvc.domain.statuses import Status

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
BEGAN, BEFORE = NOW - timedelta(seconds=5), NOW - timedelta(seconds=600)
TAKEN, REFUSED, UNCLEAR, NOT_SENT = SendOutcome.TAKEN, SendOutcome.REFUSED, SendOutcome.UNCLEAR, SendOutcome.NOT_SENT
ACCOUNT_REFUSED, IN_WORDS, MAYBE_SENT = (
    SendOutcome.ACCOUNT_REFUSED,
    SendOutcome.SUSPECT_REFUSED,
    SendOutcome.SUSPECT_UNCLEAR,
)
CALLED = CalledMessage(
    id=ids.new(),
    impersonate_user_name=None,
    client_ref=None,
    transport="post",
    valid_until=None,
    status=Status.ACCEPTED,
    due_at=NOW,
    tries=1,
    calling_since=BEGAN,
    unclear_since=None,
    call_limit=8,
    suspicion=None,
)
WAITS = CALLED._replace(calling_since=None, suspicion=7)
LOST = (Status.SEND_UNKNOWN, "the gateway's answer was lost")


def noted(message: CalledMessage) -> tuple[datetime | None, int | None, int | None]:
    return message.unclear_since, message.suspicion, message.call_limit


@pytest.mark.parametrize("suspicion", [None, DISPELLED, 7])
@pytest.mark.parametrize("unclear_since", [None, BEFORE])
@pytest.mark.parametrize("outcome", SendOutcome)
def test_what_is_noted_after_a_call(
    outcome: SendOutcome, unclear_since: datetime | None, suspicion: int | None
) -> None:
    message = CALLED._replace(unclear_since=unclear_since, suspicion=suspicion)
    first_unclear = unclear_since or BEGAN
    expected = {
        TAKEN: (unclear_since, None, 8),
        REFUSED: (unclear_since, None, 8),
        NOT_SENT: (unclear_since, suspicion, 8),
        UNCLEAR: (first_unclear, DISPELLED if suspicion == DISPELLED else None, 4),
        ACCOUNT_REFUSED: (None, None, 8),  # it was not sent
        IN_WORDS: (unclear_since, 9, 8),
        MAYBE_SENT: (first_unclear, 9, 8),
    }
    after = after_call(message, SendResult(outcome=outcome), began_at=BEGAN, suspicion=9, call_limit=4)
    assert noted(after) == expected[outcome]
    assert after.calling_since is None
    assert after[:9] == message._replace(calling_since=None)[:9], "nothing else is"


def test_a_call_limit_stays_if_the_call_sets_none() -> None:
    assert after_call(CALLED, SendResult(outcome=UNCLEAR), began_at=BEGAN).call_limit == 8


def test_a_lost_answer_of_an_earlier_call_is_remembered_when_the_account_is_refused() -> None:
    message = CALLED._replace(unclear_since=BEFORE, status=Status.SEND_UNKNOWN, suspicion=7)
    assert noted(after_call(message, SendResult(outcome=ACCOUNT_REFUSED), began_at=BEGAN)) == (BEFORE, None, 8)


def test_refused_credentials_decide_no_suspicion_against_an_account() -> None:
    result = SendResult(outcome=ACCOUNT_REFUSED, is_of_credentials=True)
    message = CALLED._replace(unclear_since=BEFORE, suspicion=7)
    assert noted(after_call(message, result, began_at=BEGAN)) == (BEFORE, 7, 8)


@pytest.mark.parametrize(
    ("earlier", "outcome", "is_closed"),
    [
        (None, UNCLEAR, True),
        (None, TAKEN, True),
        (UNCLEAR, REFUSED, False),
        (UNCLEAR, TAKEN, True),
    ],
)
def test_the_first_end_of_an_attempt_stands_unless_it_was_taken_after_all(
    earlier: str | None, outcome: SendOutcome, *, is_closed: bool
) -> None:
    assert is_closed_by(Attempt(1, BEGAN, earlier), outcome) is is_closed


@pytest.mark.parametrize(
    ("outcome", "earlier", "is_last", "step"),
    [
        (TAKEN, None, True, (Status.SUBMITTED, "the gateway took it", None)),
        (TAKEN, UNCLEAR, False, (Status.SUBMITTED, "the gateway took it", None)),
        (REFUSED, UNCLEAR, True, (Status.FAILED, "the gateway refused it", "3: Bad: line 2")),
        (REFUSED, UNCLEAR, False, None),  # the newer attempt may be taken
        (REFUSED, TAKEN, True, None),
        (UNCLEAR, TAKEN, False, (*LOST, "3: Bad: line 2")),
        (NOT_SENT, None, True, None),
        (ACCOUNT_REFUSED, None, True, None),
        (IN_WORDS, None, True, None),
        (MAYBE_SENT, None, True, None),
    ],
)
def test_the_step_that_a_call_s_end_is(
    outcome: SendOutcome, earlier: str | None, *, is_last: bool, step: tuple[Status, str, str | None] | None
) -> None:
    result = SendResult(outcome=outcome, code="3", description="Bad", detail="line 2")
    attempts = [Attempt(1, BEFORE, earlier), Attempt(2, BEGAN, outcome)]
    assert step_of_call(result, attempts, is_last=is_last) == step


def test_a_reason_is_what_the_gateway_said_if_anything() -> None:
    attempts = [Attempt(1, BEGAN, REFUSED)]
    steps = [
        step_of_call(SendResult(outcome=REFUSED, description=said), attempts, is_last=True)
        for said in ("Bad", "", None)
    ]
    assert [step and step.reason for step in steps] == ["Bad", None, None]


@pytest.mark.parametrize(
    ("status", "may_be_sent", "step"),
    [
        (Status.ACCEPTED, False, (Status.EXPIRED, "validUntil went by", "never sent")),
        (Status.ACCEPTED, True, (*LOST, None)),
        (Status.SEND_UNKNOWN, True, None),
    ],
)
def test_what_is_too_late_is_expired_only_if_it_was_never_sent(
    status: Status, *, may_be_sent: bool, step: tuple[Status, str, str | None] | None
) -> None:
    assert step_if_late(status, may_be_sent=may_be_sent) == step


def state(works_number: int = 0, *, is_refused: bool = False, refuses_calls: bool = False) -> AccountState:
    return AccountState(
        is_refused=is_refused, is_suspected=not is_refused, refuses_calls=refuses_calls, works_number=works_number
    )


@pytest.mark.parametrize(
    ("unclear_since", "account", "after"),
    [
        (None, state(), None),
        (None, state(6), None),  # it works by what is known up to another suspicion
        (None, state(is_refused=True), ((None, None, 8), ACCOUNT_REFUSED)),
        (None, state(7), ((None, DISPELLED, 1), IN_WORDS)),  # once more, alone
        (BEFORE, state(), None),
        (BEFORE, state(is_refused=True), None),  # of items only
        (BEFORE, state(is_refused=True, refuses_calls=True), ((None, None, 8), ACCOUNT_REFUSED)),
        (BEFORE, state(7), ((BEFORE, DISPELLED, 8), UNCLEAR)),
        (BEFORE, state(7, is_refused=True), ((BEFORE, DISPELLED, 8), UNCLEAR)),
    ],
)
def test_what_waits_goes_on_as_its_account_stands(
    unclear_since: datetime | None,
    account: AccountState,
    after: tuple[tuple[datetime | None, int | None, int | None], SendOutcome] | None,
) -> None:
    released = call_ends.release(WAITS._replace(unclear_since=unclear_since), account)
    assert (released and (noted(released.message), released.outcome)) == after
    assert (released and released.step) == ((*LOST, None) if after and after[1] is UNCLEAR else None)


def test_what_was_settled_meanwhile_waits_no_more_and_is_never_due() -> None:
    released = call_ends.release(WAITS._replace(due_at=None), state())
    assert released is not None
    assert (released.message.suspicion, released.outcome, released.step) == (None, None, None)


@pytest.mark.parametrize(
    "message",
    [WAITS._replace(suspicion=None), WAITS._replace(suspicion=DISPELLED), WAITS._replace(calling_since=BEGAN)],
)
def test_what_does_not_wait_or_is_being_tried_is_left_alone(message: CalledMessage) -> None:
    assert call_ends.release(message, state(7)) is None
    assert call_ends.release(WAITS, None) is None


@pytest.mark.parametrize(("transport", "is_due"), [("post", True), ("pigeon", False)])
def test_only_by_a_transport_that_ignores_repeats_is_a_lost_answer_repeated(transport: str, *, is_due: bool) -> None:
    repeats = RepeatPolicy(after=timedelta(seconds=60), duration=timedelta(hours=1), transports=frozenset({"post"}))
    message = CALLED._replace(transport=transport, unclear_since=BEGAN)
    attempts = [Attempt(1, BEFORE, UNCLEAR), Attempt(2, BEGAN, UNCLEAR)]
    due = call_ends.next_due(message, attempts, UNCLEAR, now=NOW, repeats=repeats, stretch=1)
    assert due == (NOW + timedelta(seconds=120) if is_due else None)
