"""What an operator may do to a message, by the values that decide."""

from datetime import UTC, datetime

import pytest

from receiptsvc.domain.operator_actions import refuse_cancelling, refuse_resolving
from receiptsvc.domain.statuses import Status

SINCE = datetime(2026, 3, 1, 12, tzinfo=UTC)
IN_CALL = "It is just being given to the gateway, and can't be cancelled any more."
MAY_BE_SENT = "The gateway may have it, and can't be told to forget it."


@pytest.mark.parametrize(
    ("status", "calling_since", "unclear_since", "refusal"),
    [
        (Status.ACCEPTED, None, None, None),
        (Status.ACCEPTED, SINCE, None, IN_CALL),
        (Status.ACCEPTED, SINCE, SINCE, IN_CALL),
        (Status.ACCEPTED, None, SINCE, MAY_BE_SENT),
        (Status.SEND_UNKNOWN, None, SINCE, MAY_BE_SENT),
        (Status.SEND_UNKNOWN, SINCE, SINCE, MAY_BE_SENT),
    ],
)
def test_only_a_message_of_which_nothing_went_out_is_cancelled(
    status: Status, calling_since: datetime | None, unclear_since: datetime | None, refusal: str | None
) -> None:
    assert refuse_cancelling(status, calling_since=calling_since, unclear_since=unclear_since) == refusal


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.ACCEPTED, Status.SEND_UNKNOWN}))
@pytest.mark.parametrize("unclear_since", [None, SINCE])
def test_a_message_whose_fate_is_known_is_neither_cancelled_nor_resolved(
    status: Status, unclear_since: datetime | None
) -> None:
    refusal = refuse_cancelling(status, calling_since=None, unclear_since=unclear_since)
    assert refusal == f"It is {status.value}, and can't be cancelled any more."
    assert refuse_resolving(status, unclear_since=unclear_since) == (
        f"Only a message that is send_unknown can be resolved; this one is {status.value}."
    )


@pytest.mark.parametrize(
    ("status", "unclear_since", "may"),
    [
        (Status.SEND_UNKNOWN, SINCE, True),
        (Status.SEND_UNKNOWN, None, True),
        (Status.ACCEPTED, SINCE, True),
        (Status.ACCEPTED, None, False),
    ],
)
def test_a_message_is_resolved_while_it_is_not_known_whether_it_was_sent(
    status: Status, unclear_since: datetime | None, *, may: bool
) -> None:
    assert (refuse_resolving(status, unclear_since=unclear_since) is None) is may


def test_what_the_gateway_keeps_until_later_is_said_to_be_there() -> None:
    refusal = refuse_cancelling(Status.SUBMITTED, calling_since=None, unclear_since=None, scheduled_at=SINCE)
    assert (
        refusal
        == "The gateway has it and keeps it until 2026-03-01T12:00:00Z, its deliverAfter: it can't be taken back."
    )
    for status, unclear_since in ((Status.ACCEPTED, None), (Status.SEND_UNKNOWN, SINCE), (Status.DELIVERED, None)):
        told = [
            refuse_cancelling(status, calling_since=None, unclear_since=unclear_since, scheduled_at=at)
            for at in (None, SINCE)
        ]
        assert told[0] == told[1]
