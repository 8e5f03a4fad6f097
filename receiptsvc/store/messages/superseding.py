"""Superseding transitions: the store's side of `worker.reprocess`.

It gives recorded receipts with the bytes that they were read from, and replaces their transitions and outcomes.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select, exists, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from receiptsvc import ids
from receiptsvc.domain.errors import Unreadable
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.domain.messages import Callback, Receipt
from receiptsvc.domain.statuses import Effect, Report
from receiptsvc.store.core import bulk
from receiptsvc.store.core.models import Audit, InboxRow, OutcomeRow, Transition
from receiptsvc.store.core.paging import Page
from receiptsvc.store.inbox import callbacks, counters
from receiptsvc.store.messages import hourly_counts, transitions

ReadReceipts: TypeAlias = Callable[[Callback, datetime], Sequence[Receipt | Unreadable]]  # of a `CallbackReader`


class RecordedReceipt(NamedTuple):
    """A receipt's current transition, and the callback that brought it. `part`: which of its receipts it is."""

    transition_id: int
    receipt_id: UUID
    message_id: UUID
    rule: str
    effect: Effect
    report: Report
    callback: Callback
    part: int


def find_current(session: Session, *, limit: int, after: int | None = None) -> Page[RecordedReceipt, int]:
    """Receipts with a transition that is not superseded, in the order of transition ids; no dismissed receipts.

    They are fewer than `limit` where their callbacks are long.
    """
    query = _select_current().where(Transition.id > (after or 0)).order_by(Transition.id).limit(limit + 1)
    page = callbacks.cut_to_size(session.execute(query).all(), limit, lambda row: row[0].id)
    return Page(items=_read(session, page.items), next=page.next)


def find_among(session: Session, receipt_ids: Collection[UUID], *, max_bytes: int) -> list[RecordedReceipt]:
    """The same of these receipts, the newest first; without those whose callback has more than `max_bytes`."""
    if not receipt_ids:
        return []
    query = _select_current(max_bytes).where(bulk.among(session, Transition.receipt_id, receipt_ids))
    return _read(session, session.execute(query.order_by(Transition.receipt_id.desc())).all())


def read_again(recorded: RecordedReceipt, read_receipts: ReadReceipts) -> Receipt | None:
    """What a receipt says; None if it can't be read any more, which changes nothing. `read_receipts`: of a reader."""
    receipts = read_receipts(recorded.callback, recorded.report.received_at)
    if recorded.part >= len(receipts):
        return None
    receipt = receipts[recorded.part]
    return None if isinstance(receipt, Unreadable) else receipt


def find_of(session: Session, receipt_id: UUID) -> RecordedReceipt | None:
    """The same of one receipt; None if it has none, or is dismissed."""
    found = session.execute(_select_current().where(Transition.receipt_id == receipt_id)).all()
    return next(iter(_read(session, found)), None)


def _select_current(max_bytes: int | None = None) -> Select[*tuple[Any, ...]]:
    carrier = aliased(InboxRow)  # the row that holds the bytes
    size = callbacks.size_of(carrier)
    query = (
        select(Transition, InboxRow.part, carrier.id, size)
        .join(InboxRow, InboxRow.id == Transition.receipt_id)
        .join(carrier, carrier.id == func.coalesce(InboxRow.callback_id, InboxRow.id))
        .where(Transition.superseded_at.is_(None), ~_is_dismissed(Transition.receipt_id))
    )
    return query if max_bytes is None else query.where(size <= max_bytes)


def _read(session: Session, rows: Sequence[Row[*tuple[Any, ...]]]) -> list[RecordedReceipt]:
    kept = callbacks.load(session, {carrier_id for *_, carrier_id, _ in rows})
    return [
        RecordedReceipt(
            transition_id=transition.id,
            receipt_id=transition.receipt_id,
            message_id=transition.message_id,
            rule=transition.rule,
            effect=Effect(transition.effect),
            report=transitions.report_of(transition),
            callback=kept[carrier_id],
            part=part,
        )
        for transition, part, carrier_id, _ in rows
        if transition.receipt_id is not None and carrier_id in kept
    ]


def lock_current(session: Session, receipts: Sequence[RecordedReceipt]) -> set[int]:
    """Lock receipts; the ids of those transitions that are still current. A dismissed receipt is left alone."""
    if not receipts:
        return set()
    is_meant = bulk.among(session, InboxRow.id, [each.receipt_id for each in receipts])
    locked = session.scalars(select(InboxRow.id).where(is_meant).order_by(InboxRow.id).with_for_update()).all()
    if not locked:
        return set()
    # Asked once they are locked: whoever dismisses one locks its row too, and may have been waited for just now.
    current = select(Transition.id).where(
        bulk.among(session, Transition.receipt_id, locked),
        Transition.superseded_at.is_(None),
        ~_is_dismissed(Transition.receipt_id),
    )
    return set(session.scalars(current))


def supersede(session: Session, receipts: Sequence[RecordedReceipt], now: datetime) -> None:
    """Take transitions out of the fold. The caller must record their replacements in the same transaction."""
    rows = [{"id": each.transition_id, "superseded_at": now} for each in receipts]
    bulk.update_all(session, Transition, "id", rows)
    counted = Counter(hourly_counts.of_receipt(each.report.received_at, each.effect) for each in receipts)
    codes = (hourly_counts.of_report(each.report, each.rule, each.effect) for each in receipts)
    counted.update(code for code in codes if code is not None)
    hourly_counts.add(session, Counter({key: -count for key, count in counted.items()}))


def move_outcomes(session: Session, effects: Sequence[tuple[RecordedReceipt, Effect]], now: datetime) -> None:
    """Count the outcomes that receipts have by their new transitions, and write an audit of each."""
    changed = [(receipt, effect) for receipt, effect in effects if receipt.effect is not effect]
    counters.move(
        session,
        Counter((ReceiptOutcome(receipt.effect.value), ReceiptOutcome(effect.value)) for receipt, effect in changed),
    )
    bulk.insert_all(
        session,
        Audit,
        [
            {
                "at": now,
                "actor": "rebuild",
                "action": "read again",
                "subject": ids.public("rcp", receipt.receipt_id),
                "reason": None,
                "details": {"from": receipt.effect.value, "to": effect.value},
            }
            for receipt, effect in effects
        ],
    )


def _is_dismissed(receipt_id: InstrumentedAttribute[Any]) -> ColumnElement[bool]:
    return exists().where(OutcomeRow.receipt_id == receipt_id)
