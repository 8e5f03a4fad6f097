"""What the end of a call to the gateway means for each message: what is noted of it, and which step is recorded. Pure.

What a call says of its account comes first (`domain.accounts`); the gaps between calls are `domain.retry_policy`'s.
"""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from receiptsvc.domain import retry_policy
from receiptsvc.domain.accounts import DISPELLED, AccountState
from receiptsvc.domain.messages import SendOutcome, SendResult
from receiptsvc.domain.retry_policy import RepeatPolicy
from receiptsvc.domain.statuses import Status


class CalledMessage(NamedTuple):
    """What of a message decides what follows from its call."""

    id: UUID
    impersonate_user_name: str | None
    client_ref: str | None
    transport: str
    valid_until: datetime | None
    status: str
    due_at: datetime | None
    tries: int
    calling_since: datetime | None
    unclear_since: datetime | None  # when the first call began that may have given it to the gateway
    call_limit: int | None
    suspicion: int | None  # the number of the one that it met; `DISPELLED`: of one that was


class Attempt(NamedTuple):
    """An attempt, as far as it decides anything. `outcome`: None until it has ended."""

    number: int
    started_at: datetime
    outcome: str | None


class Step(NamedTuple):
    """A report of our own about a message, to be recorded as a transition."""

    status: Status
    rule: str
    reason: str | None = None


class Release(NamedTuple):
    """A message that waits under a suspicion no more. `outcome`: what its call's end counts as; None: it is settled."""

    message: CalledMessage
    outcome: SendOutcome | None
    step: Step | None = None


_LOST = Step(Status.SEND_UNKNOWN, "the gateway's answer was lost")
_STEPS = {
    SendOutcome.TAKEN: Step(Status.SUBMITTED, "the gateway took it"),
    SendOutcome.REFUSED: Step(Status.FAILED, "the gateway refused it"),
    SendOutcome.UNCLEAR: _LOST,
}


def is_closed_by(attempt: Attempt, outcome: SendOutcome) -> bool:
    """Whether this is how an attempt ended: its first end stands, but for one that was taken after all."""
    return attempt.outcome is None or outcome is SendOutcome.TAKEN


def step_of_call(result: SendResult, attempts: Collection[Attempt], *, is_last: bool) -> Step | None:
    """The step that a call's end is. `attempts`: all of the message, this one included. `is_last`: it is the newest."""
    step = _STEPS.get(result.outcome)
    if result.outcome is SendOutcome.REFUSED and (not is_last or _was_taken(attempts)):
        return None  # another attempt was taken, or still may be: a refusal of this one does not fail the message
    if step is None or result.outcome is SendOutcome.TAKEN:
        return step
    said = [part for part in (result.code, result.description, result.detail) if part]
    return step._replace(reason=": ".join(said) or None)


def step_if_late(status: str, *, may_be_sent: bool) -> Step | None:
    """The step of a message that may not be called any more: one that may have been sent is for a receipt to settle."""
    if not may_be_sent:
        return Step(Status.EXPIRED, "validUntil went by", "never sent")
    # What is still accepted has waited because its account may be refused.
    return _LOST if status == Status.ACCEPTED else None


def step_if_suppressed(status: str, unclear_since: datetime | None) -> Step:
    """The step of an unsettled message that is in no call, and may not be called any more since its recipient objects.

    One that may have been sent stays `send_unknown`: it is no second SMS, and no false end.
    """
    if status == Status.ACCEPTED and unclear_since is None:
        return Step(Status.CANCELLED, "recipient suppressed", "never sent")
    return Step(Status.SEND_UNKNOWN, "recipient suppressed", "it is never offered again")


def after_call(
    message: CalledMessage,
    result: SendResult,
    *,
    began_at: datetime,
    suspicion: int | None = None,
    call_limit: int | None = None,
) -> CalledMessage:
    """What is noted of a message after its last call, begun at `began_at`.

    `suspicion`: the number of the one that the call raised. `call_limit`: of its next calls, if this stays unclear.
    """
    message = message._replace(calling_since=None)
    since = message.unclear_since or began_at
    match result.outcome:
        case SendOutcome.SUSPECT_REFUSED:
            return message._replace(suspicion=suspicion)
        case SendOutcome.SUSPECT_UNCLEAR:
            return message._replace(suspicion=suspicion, unclear_since=since)
        case SendOutcome.UNCLEAR:
            return message._replace(
                suspicion=DISPELLED if message.suspicion == DISPELLED else None,
                unclear_since=since,
                call_limit=call_limit or message.call_limit,
            )
        case SendOutcome.ACCOUNT_REFUSED if not result.is_of_credentials:
            return _refused_with_account(message)
        case SendOutcome.TAKEN | SendOutcome.REFUSED:
            return message._replace(suspicion=None)
        case _:
            return message


def release(message: CalledMessage, state: AccountState | None) -> Release | None:
    """What becomes of a message that waits, now that its account stands so; None: it waits on.

    A refused account has sent nothing of it. If the account works, what was refused goes out once more, alone, and what
    may have been sent is a lost answer like any other.
    """
    if state is None or not message.suspicion or message.calling_since is not None:
        return None  # it waits no more, or is being tried
    may_be_sent = message.unclear_since is not None
    if message.due_at is None:  # a receipt or a person has settled it
        return Release(message._replace(suspicion=None), None)
    if state.explains(may_be_sent=may_be_sent):
        return Release(_refused_with_account(message), SendOutcome.ACCOUNT_REFUSED)
    if message.suspicion > state.works_number:
        return None
    if may_be_sent:
        return Release(message._replace(suspicion=DISPELLED), SendOutcome.UNCLEAR, _LOST)
    return Release(message._replace(suspicion=DISPELLED, call_limit=1), SendOutcome.SUSPECT_REFUSED)


def next_due(
    message: CalledMessage,
    attempts: Collection[Attempt],
    outcome: SendOutcome,
    *,
    now: datetime,
    repeats: RepeatPolicy,
    stretch: float,
) -> datetime | None:
    """When to look again at a message whose call ended so; None: never. `message`: as it is noted after that."""
    return retry_policy.next_due(
        outcome,
        ended_before=[attempt.outcome for attempt in attempts],
        can_repeat=message.transport in repeats.transports,
        unclear_since=message.unclear_since,
        valid_until=message.valid_until,
        now=now,
        repeats=repeats,
        stretch=stretch,
    )


def _refused_with_account(message: CalledMessage) -> CalledMessage:
    """A message of a call that was refused with its account, so that it was not sent by it."""
    # Before that its answer may have been lost; then it may have been sent all the same.
    unclear_since = None if message.status == Status.ACCEPTED else message.unclear_since
    return message._replace(suspicion=None, unclear_since=unclear_since)


def _was_taken(attempts: Collection[Attempt]) -> bool:
    return any(attempt.outcome == SendOutcome.TAKEN for attempt in attempts)
