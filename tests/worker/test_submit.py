"""A refused account holds all sending, loudly, and one message at a time finds out whether it works again."""

from datetime import UTC, datetime, timedelta

from receiptsvc.config import Settings
from receiptsvc.domain.messages import Outcome
from receiptsvc.worker.submit import AccountHold

T0 = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def test_a_refused_account_holds_everything_but_one_probe_at_growing_gaps() -> None:
    hold = AccountHold()
    assert hold.allowance(250, at(0)) == 250
    hold.note([Outcome.ACCOUNT_REFUSED], at(0))
    assert hold.is_on
    gaps, now = [], 0.0
    for _ in range(6):
        waited = 0
        while not hold.allowance(250, at(now)):
            now, waited = now + 1, waited + 1
        gaps.append(waited)
        assert hold.allowance(250, at(now)) == 0, "one probe at a time"
        hold.note([Outcome.ACCOUNT_REFUSED], at(now))
    assert gaps == [30, 60, 120, 240, 300, 300]


def test_several_calls_that_learn_of_one_refusal_count_once() -> None:
    hold = AccountHold()
    for _ in range(4):
        hold.note([Outcome.ACCOUNT_REFUSED], at(0))
    assert hold.allowance(250, at(29)) == 0
    assert hold.allowance(250, at(30)) == 1


def test_only_a_message_that_was_taken_frees_the_account() -> None:
    hold = AccountHold()
    hold.note([Outcome.ACCOUNT_REFUSED], at(0))
    hold.note([Outcome.REFUSED, Outcome.NOT_SENT, Outcome.UNCLEAR], at(31))
    assert hold.allowance(250, at(31)) == 1
    hold.note([Outcome.TAKEN], at(61))
    assert hold.allowance(250, at(61)) == 250


def test_a_probe_for_which_there_was_no_message_is_not_used_up() -> None:
    hold = AccountHold()
    hold.note([Outcome.ACCOUNT_REFUSED], at(0))
    assert hold.allowance(250, at(30)) == 1
    hold.probe_later()
    assert hold.allowance(250, at(31)) == 1


def test_a_lease_outlives_its_call() -> None:
    keys = {"CALLBACK_KEYS": "a" * 16, "API_KEYS": "a:read:" + "b" * 16}
    assert Settings.from_env(keys).lease_seconds == 160
