"""What operators do to a slice of receipts at once: work on them again, dismiss them, take a dismissal back.

Each is the same as what `receipts` does to one, in a few statements for all. Receipts that others have locked, or that
have another outcome by now, are left alone. An audit of each receipt is written where it is given up or restored: its
page says who did that. Who works on many again has an audit for the slice.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain.inbox import ReceiptOutcome
from receiptsvc.store.core import audits, bulk
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.models import Audit, InboxRow, OutcomeRow, Parked
from receiptsvc.store.inbox import counters, pending, receipts
from receiptsvc.store.inbox.receipts import DISMISSIBLE, RETRIABLE, ReceiptFilter, Standing

MANY = "receipts"  # the subject of the audits of a slice that a filter found

DISMISSED, RESTORED, REPLAYED = "dismissed", "restored", "replayed"  # actions of audits


class Changed(NamedTuple):
    """The receipts of a slice that were changed, the oldest first, and how many had which outcome before."""

    receipt_ids: Sequence[UUID]
    moved: Mapping[ReceiptOutcome, int]

    @property
    def details(self) -> dict[str, Any]:
        """For the audit of the slice."""
        ends = {"first": self.receipt_ids[0], "last": self.receipt_ids[-1]} if self.receipt_ids else {}
        return {
            "count": len(self.receipt_ids),
            "from": {outcome.value: self.moved[outcome] for outcome in sorted(self.moved)},
            **{name: ids.public("rcp", receipt_id) for name, receipt_id in ends.items()},
        }


_NOTHING = Changed([], {})


def retry(
    session: Session, receipt_ids: Collection[UUID], outcomes: Collection[ReceiptOutcome], now: datetime
) -> Changed:
    """Make these receipts pending again that have one of these outcomes."""
    wanted = sorted(set(outcomes) & set(RETRIABLE))
    if not receipt_ids or not wanted:
        return _NOTHING
    query = (
        select(OutcomeRow.receipt_id)
        .where(bulk.among(session, OutcomeRow.receipt_id, receipt_ids), OutcomeRow.outcome.in_(wanted))
        .order_by(OutcomeRow.receipt_id)
        .with_for_update(skip_locked=True)
    )
    return _reopen(session, session.scalars(query).all(), now)


def dismiss(
    session: Session,
    receipt_ids: Collection[UUID],
    outcomes: Collection[ReceiptOutcome],
    by: Actor,
    now: datetime,
    *,
    group: str | None = None,
) -> Changed:
    """Give these receipts up that have one of these outcomes. `group`: as their audits name what they were part of."""
    wanted = set(outcomes) & set(DISMISSIBLE)
    found = {each: stands for each, stands in _lock(session, receipt_ids).items() if stands.outcome in wanted}
    if not found:
        return _NOTHING
    dismissed = sorted(found)
    is_meant = bulk.among(session, Parked.receipt_id, dismissed)
    session.execute(delete(Parked).where(is_meant).execution_options(synchronize_session=False))
    values = {"outcome": ReceiptOutcome.DISMISSED, "reason": by.reason, "processed_at": now}
    statement = bulk.upsert(session, OutcomeRow)
    statement = statement.on_conflict_do_update(
        index_elements=["receipt_id"], set_={name: statement.excluded[name] for name in values}
    )
    bulk.execute_all(session, statement, OutcomeRow, [{"receipt_id": each, **values} for each in dismissed])
    moved = Counter(stands.outcome for stands in found.values())
    counters.move(session, {(outcome, ReceiptOutcome.DISMISSED): count for outcome, count in moved.items()})
    after = dict.fromkeys(dismissed, ReceiptOutcome.DISMISSED)
    _note_each(session, found, after, action=DISMISSED, by=by, now=now, group=group)
    return Changed(dismissed, moved)


def restore(session: Session, receipt_ids: Collection[UUID], by: Actor, now: datetime, *, group: str) -> Changed:
    """Take the dismissal of these receipts back that a group's last dismissal was."""
    locked = _lock(session, receipt_ids)
    names = {
        ids.public("rcp", each): each for each, stands in locked.items() if stands.outcome is ReceiptOutcome.DISMISSED
    }
    newest = audits.find_newest(session, names, DISMISSED)
    restored = sorted(names[name] for name, audit in newest.items() if audit.details.get("group") == group)
    if not restored:
        return _NOTHING
    recorded = receipts.find_recorded(session, restored)
    receipts.forget_outcomes(session, recorded)
    _reopen(session, [each for each in restored if each not in recorded], now)
    after = {each: recorded.get(each, ReceiptOutcome.PENDING) for each in restored}
    _note_each(session, {each: locked[each] for each in restored}, after, action=RESTORED, by=by, now=now, group=group)
    return Changed(restored, {ReceiptOutcome.DISMISSED: len(restored)})


def note(session: Session, action: str, changed: Changed, *, where: ReceiptFilter, by: Actor, now: datetime) -> None:
    """Write the audit of a slice of what a filter found, unless nothing was changed."""
    if not changed.receipt_ids:
        return
    given = {
        "channel": where.channel,
        "providerStatusId": where.names.provider_status_id,
        "providerDescription": where.names.provider_description,
    }
    audits.write(
        session,
        at=now,
        actor=by.actor,
        action=action,
        subject=MANY,
        reason=by.reason,
        details={
            **changed.details,
            "outcomes": sorted(outcome.value for outcome in where.outcomes),
            "since": where.since.isoformat() if where.since else None,
            "until": where.until.isoformat() if where.until else None,
            **{name: value for name, value in given.items() if value is not None},
        },
    )


def _lock(session: Session, receipt_ids: Collection[UUID]) -> Mapping[UUID, Standing]:
    """Lock those of these receipts that nobody else has locked, and read where they stand now."""
    if not receipt_ids:
        return {}
    rows = select(InboxRow.id).where(bulk.among(session, InboxRow.id, receipt_ids)).order_by(InboxRow.id)
    locked = session.scalars(rows.with_for_update(skip_locked=True)).all()
    if not locked:
        return {}
    written = select(OutcomeRow.receipt_id).where(bulk.among(session, OutcomeRow.receipt_id, locked))
    written = written.order_by(OutcomeRow.receipt_id)
    held = set(session.scalars(written.with_for_update(skip_locked=True)))
    busy = set(session.scalars(written)) - held
    return receipts.find_outcomes(session, [each for each in locked if each not in busy])


def _reopen(session: Session, receipt_ids: Sequence[UUID], now: datetime) -> Changed:
    """Make receipts pending whose rows in `outcomes` are locked."""
    if not receipt_ids:
        return _NOTHING
    # Without look_at the parking lot does not release them meanwhile; the worker unparks each when it settles it.
    clear_look = update(Parked).where(bulk.among(session, Parked.receipt_id, receipt_ids)).values(look_at=None)
    session.execute(clear_look.execution_options(synchronize_session=False))
    return Changed(receipt_ids, pending.reopen(session, receipt_ids, now))


def _note_each(
    session: Session,
    before: Mapping[UUID, Standing],
    after: Mapping[UUID, ReceiptOutcome],
    *,
    action: str,
    by: Actor,
    now: datetime,
    group: str | None,
) -> None:
    """Write an audit of each receipt. `before`: where they stood. `after`: their new outcomes."""
    bulk.insert_all(
        session,
        Audit,
        [
            {
                "at": now,
                "actor": by.actor,
                "action": action,
                "subject": ids.public("rcp", receipt_id),
                "reason": by.reason,
                "details": {"from": stood.outcome.value, "to": after[receipt_id].value}
                | ({"was": stood.reason} if stood.reason else {})
                | ({"group": group} if group is not None else {}),
            }
            for receipt_id, stood in before.items()
        ],
    )
