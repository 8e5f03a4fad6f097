"""What receipts were read as, and the bytes that they were read from: for reading them again."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from receiptsvc import ids
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.domain.messages import Callback
from receiptsvc.domain.statuses import Effect, Report
from receiptsvc.store.core import bulk
from receiptsvc.store.core.models import Audit, InboxRow, Transition
from receiptsvc.store.inbox import counters
from receiptsvc.store.messages import hourly_counts, transitions

_EFFECTS = [ReceiptOutcome(effect.value) for effect in Effect]


class Recorded(NamedTuple):
    """A receipt's transition that stands, and its bytes."""

    transition_id: int
    receipt_id: UUID
    message_id: UUID
    rule: str
    effect: Effect
    report: Report
    callback: Callback
    part: int


def standing(session: Session, after: int, limit: int) -> list[Recorded]:
    """Receipts' transitions that stand, in the order of their ids; not those of receipts that were dismissed."""
    carrier = aliased(InboxRow)  # the row that holds the bytes
    query = (
        select(Transition, InboxRow.part, carrier.method, carrier.query, carrier.content_type, carrier.body)
        .join(InboxRow, InboxRow.id == Transition.receipt_id)
        .join(carrier, carrier.id == func.coalesce(InboxRow.callback_id, InboxRow.id))
        .where(Transition.id > after, Transition.superseded_at.is_(None), InboxRow.outcome.in_(_EFFECTS))
        .order_by(Transition.id)
        .limit(limit)
    )
    return [
        Recorded(
            transition_id=transition.id,
            receipt_id=transition.receipt_id,
            message_id=transition.message_id,
            rule=transition.rule,
            effect=Effect(transition.effect),
            report=transitions.report_of(transition),
            callback=Callback._make(callback),
            part=part,
        )
        for transition, part, *callback in session.execute(query)
        if transition.receipt_id is not None
    ]


def hold(session: Session, recorded: Sequence[Recorded]) -> set[int]:
    """Lock receipts; the transitions of them that still stand. An operator's word stands above them."""
    if not recorded:
        return set()
    query = (
        select(InboxRow.id)
        .where(bulk.among(session, InboxRow.id, [one.receipt_id for one in recorded]), InboxRow.outcome.in_(_EFFECTS))
        .order_by(InboxRow.id)
        .with_for_update()
    )
    held = session.scalars(query).all()
    if not held:
        return set()
    standing_still = select(Transition.id).where(
        bulk.among(session, Transition.receipt_id, held), Transition.superseded_at.is_(None)
    )
    return set(session.scalars(standing_still))


def supersede(session: Session, recorded: Sequence[Recorded], now: datetime) -> None:
    """Take transitions out of the fold. Others must take their places in the same transaction."""
    rows = [{"id": one.transition_id, "superseded_at": now} for one in recorded]
    bulk.update_all(session, Transition, "id", rows)
    hourly_counts.add(session, Counter({key: -n for key, n in Counter(map(_counted, recorded)).items()}))


def move(session: Session, moved: Sequence[tuple[Recorded, Effect]], now: datetime) -> None:
    """Give receipts the outcomes of their new transitions, and put that on record."""
    changed = [(one, effect) for one, effect in moved if one.effect is not effect]
    bulk.update_all(
        session,
        InboxRow,
        "id",
        [{"id": one.receipt_id, "outcome": effect.value, "processed_at": now} for one, effect in changed],
    )
    counters.move(
        session, Counter((ReceiptOutcome(one.effect.value), ReceiptOutcome(effect.value)) for one, effect in changed)
    )
    bulk.insert_all(
        session,
        Audit,
        [
            {
                "at": now,
                "actor": "rebuild",
                "action": "read again",
                "subject": ids.public("rcp", one.receipt_id),
                "reason": None,
                "details": {"from": one.effect.value, "to": effect.value},
            }
            for one, effect in moved
        ],
    )


def _counted(recorded: Recorded) -> hourly_counts.CountKey:
    return hourly_counts.of_receipt(recorded.report.received_at, recorded.effect)
