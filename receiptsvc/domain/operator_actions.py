"""Whether an operator may cancel or resolve a message, and why not. Pure.

The values of a message that decide: its status; when the call that it is in began, None outside a call; and when the
first call began whose answer leaves open if it was sent, None if no answer does.
"""

from datetime import datetime

from receiptsvc.domain.statuses import Status
from receiptsvc.domain.times import write_time

# The rules of the transitions that they make.
CANCELLED_BY_HAND = "cancelled by hand"
RESOLVED_BY_HAND = "resolved by hand"


def refuse_cancelling(
    status: str,
    *,
    calling_since: datetime | None,
    unclear_since: datetime | None,
    scheduled_at: datetime | None = None,
) -> str | None:
    """Why a message can't be cancelled; None if it can: it is accepted, and nothing of it went to the gateway.

    `scheduled_at`: its deliverAfter, if that is still to come; it changes the words alone.
    """
    if status == Status.ACCEPTED and calling_since is not None:
        return "It is just being given to the gateway, and can't be cancelled any more."
    if _may_be_sent(status, unclear_since):
        return "The gateway may have it, and can't be told to forget it."
    if status == Status.SUBMITTED and scheduled_at is not None:
        until = write_time(scheduled_at)
        return f"The gateway has it and keeps it until {until}, its deliverAfter: it can't be taken back."
    if status != Status.ACCEPTED:
        return f"It is {status}, and can't be cancelled any more."
    return None


def refuse_resolving(status: str, *, unclear_since: datetime | None) -> str | None:
    """Why a message can't be settled by hand; None if it can: it is not known whether it was sent."""
    if not _may_be_sent(status, unclear_since):
        return f"Only a message that is send_unknown can be resolved; this one is {status}."
    return None


def _may_be_sent(status: str, unclear_since: datetime | None) -> bool:
    # An accepted message may have been sent too, while it waits until it is known whether its account is refused.
    return status == Status.SEND_UNKNOWN or (status == Status.ACCEPTED and unclear_since is not None)
