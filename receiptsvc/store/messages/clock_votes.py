"""Reads what the newest receipts show of the gateway's clock. What it means is in `domain.gateway_clock`."""

from collections.abc import Sequence
from datetime import datetime
from time import monotonic

from sqlalchemy import select
from sqlalchemy.orm import Session

from receiptsvc.domain import gateway_clock
from receiptsvc.domain.correlation import BY_LONE_TRANSACTION, BY_SHIFTED_CLOCK, BY_TOKEN, BY_TRANSACTION
from receiptsvc.domain.gateway_clock import Vote
from receiptsvc.domain.statuses import Status
from receiptsvc.store.core.models import Message, Transition

_SURE = (BY_TOKEN, BY_TRANSACTION, BY_LONE_TRANSACTION)  # rules that find a message without the receipt's time
_MAX_LOOKED_AT = 1000  # of the newest transitions: enough to tell, and read in milliseconds
_VALID_SECONDS = 10.0


class VoteCache:
    """The votes of the last day for those who often ask, some seconds old at most. Thread-safe."""

    def __init__(self) -> None:
        self._votes: Sequence[Vote] = ()
        self._valid_until = 0.0  # of the monotonic clock

    def read(self, session: Session, now: datetime) -> Sequence[Vote]:
        """The votes of the newest receipts of the day before `now`."""
        if monotonic() >= self._valid_until:
            self._votes = read(session, now - gateway_clock.WINDOW)
            self._valid_until = monotonic() + _VALID_SECONDS
        return self._votes


def read(session: Session, since: datetime) -> Sequence[Vote]:
    """The votes of the newest receipts that came after `since`, as far as they have one."""
    newest = select(Transition.id).order_by(Transition.id.desc()).limit(_MAX_LOOKED_AT).subquery()
    query = (
        select(Transition.status, Transition.rule, Transition.occurred_at, Transition.received_at, Message.offered_at)
        .join(newest, newest.c.id == Transition.id)
        .join(Message, Message.id == Transition.message_id)
        .where(
            Transition.rule.in_((*_SURE, BY_SHIFTED_CLOCK)),
            Transition.superseded_at.is_(None),
            Transition.occurred_at.is_not(None),
            Transition.received_at > since,
            Message.offered_at.is_not(None),
        )
    )
    votes = (
        gateway_clock.vote_of(
            Status(row.status) if row.status else None,
            row.occurred_at,
            row.offered_at,
            row.received_at,
            is_sure=row.rule in _SURE,
        )
        for row in session.execute(query)
    )
    return [vote for vote in votes if vote is not None]
