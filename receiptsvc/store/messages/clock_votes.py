"""Reads what the newest receipts show of the gateway's clock. What it means is in `domain.gateway_clock`."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from time import monotonic

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain import gateway_clock
from receiptsvc.domain.correlation import (
    BY_ADOPTED_CLIENT_REF,
    BY_ADOPTED_TRANSACTION,
    BY_CLIENT_REF,
    BY_LONE_TRANSACTION,
    BY_SHIFTED_CLOCK,
    BY_TOKEN,
    BY_TRANSACTION,
)
from receiptsvc.domain.gateway_clock import Vote
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.domain.statuses import Status
from receiptsvc.store.core.models import Message, OutcomeRow, Transition

MAX_LOOKED_AT = 1000  # of the newest transitions, or receipts: enough to tell, and read in milliseconds

_SURE = (BY_TOKEN, BY_TRANSACTION, BY_LONE_TRANSACTION)  # rules that find a message without the receipt's time
_ADOPTED = (BY_ADOPTED_TRANSACTION, BY_ADOPTED_CLIENT_REF)
_VALID_SECONDS = 10.0


class VoteCache:
    """What `read_with_hints` reads of the last day, for those who often ask, some seconds old at most. Thread-safe."""

    def __init__(self) -> None:
        self._votes: Sequence[Vote] = ()
        self._valid_until = 0.0  # of the monotonic clock

    def read(self, session: Session, now: datetime) -> Sequence[Vote]:
        """The votes of the newest receipts of the day before `now`."""
        if monotonic() >= self._valid_until:
            self._votes = read_with_hints(session, now - gateway_clock.WINDOW)
            self._valid_until = monotonic() + _VALID_SECONDS
        return self._votes


def read(session: Session, since: datetime) -> Sequence[Vote]:
    """The votes of the newest receipts that came after `since`, as far as they have one. By these receipts are matched.

    So none is here that a wrong match, or none, would change.
    """
    return list(_read_recorded(session, since, sure=_SURE))


def read_with_hints(session: Session, since: datetime) -> Sequence[Vote]:
    """The same, and what more there is to tell a wrong setting by; nothing is matched by it.

    A receipt that was matched by clientRef counts as a sure one: if the setting were wrong, its time would need another
    shift than 0. One that fits no message, or was adopted since, may have a hint.
    """
    return [*_read_recorded(session, since, sure=(*_SURE, BY_CLIENT_REF)), *_read_unmatched(session, since)]


def _read_recorded(session: Session, since: datetime, *, sure: Collection[str]) -> Iterator[Vote]:
    newest = select(Transition.id).order_by(Transition.id.desc()).limit(MAX_LOOKED_AT).subquery()
    is_timed = and_(
        Transition.rule.in_((*sure, BY_SHIFTED_CLOCK)),
        Transition.occurred_at.is_not(None),
        Message.offered_at.is_not(None),
    )
    query = (
        select(
            Transition.status,
            Transition.rule,
            Transition.reason,
            Transition.occurred_at,
            Transition.received_at,
            Message.offered_at,
        )
        .join(newest, newest.c.id == Transition.id)
        .join(Message, Message.id == Transition.message_id)
        .where(
            or_(is_timed, Transition.rule.in_(_ADOPTED)),
            Transition.superseded_at.is_(None),
            Transition.received_at > since,
        )
    )
    for row in session.execute(query):
        status = Status(row.status) if row.status else None
        if row.rule in _ADOPTED:
            shift = gateway_clock.read_hint(row.reason)
            vote = Vote(status, shift, row.received_at, is_sure=False) if shift is not None else None
        else:
            is_sure = row.rule in sure
            vote = gateway_clock.vote_of(status, row.occurred_at, row.offered_at, row.received_at, is_sure=is_sure)
        if vote is not None:
            yield vote


def _read_unmatched(session: Session, since: datetime) -> Iterator[Vote]:
    is_unmatched = OutcomeRow.outcome == ReceiptOutcome.UNMATCHED
    query = select(OutcomeRow.receipt_id, OutcomeRow.reason).where(
        is_unmatched, OutcomeRow.receipt_id >= ids.first_at(since)
    )
    for receipt_id, reason in session.execute(query.order_by(OutcomeRow.receipt_id.desc()).limit(MAX_LOOKED_AT)):
        shift = gateway_clock.read_hint(reason)
        if shift is not None:
            yield Vote(None, shift, ids.made_at(receipt_id), is_sure=False, is_hint=True)
