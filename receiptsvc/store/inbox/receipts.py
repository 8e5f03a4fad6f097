"""Kept receipts as operators see them: list, show, and match, retry, dismiss or replay them.

Each action is one short transaction: it locks the row before it decides, counts the move, and writes an audit. Receipts
are not read or matched here: what is to be processed again becomes `pending`, and the worker does the rest.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, false, literal_column, select, update
from sqlalchemy.orm import Session, defer

from receiptsvc import ids
from receiptsvc.domain.errors import ReceiptsvcError, Refused
from receiptsvc.domain.inbox import Channel, ReceiptOutcome
from receiptsvc.store.core import audits, bulk
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import is_sqlite
from receiptsvc.store.core.keyset import MAX_PAGES_SCANNED, Equals, Scan, scan
from receiptsvc.store.core.models import Audit, InboxRow, Message, Parked, Transition
from receiptsvc.store.core.paging import Page, cut
from receiptsvc.store.inbox import counters, pending

RETRIABLE = (ReceiptOutcome.UNMATCHED, ReceiptOutcome.QUARANTINED, ReceiptOutcome.DEAD)
MATCHABLE = (*RETRIABLE, ReceiptOutcome.DISMISSED)
DISMISSIBLE = (ReceiptOutcome.UNMAPPED, *RETRIABLE)

REPLAYED = "receipts"  # the subject of the audits of a replay

# The conditions of two partial indexes, word for word as the migration has them.
_COMMON = (ReceiptOutcome.PENDING, ReceiptOutcome.APPLIED)
_IS_RARE: ColumnElement[bool] = literal_column("(inbox.outcome NOT IN ('pending', 'applied'))")
_IS_RARE_CHANNEL: ColumnElement[bool] = literal_column("(inbox.channel <> 'message')")

_WITHOUT_BYTES = (defer(InboxRow.query, raiseload=True), defer(InboxRow.body, raiseload=True))


class NoSuchMessage(ReceiptsvcError):
    """The message that an operator assigns a receipt to does not exist."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceiptFilter:
    """Which receipts to list: those that fit every given field. `message_id`: those recorded about this message.

    `since` ≤ time of the receipt's id < `until`. An id is made when its callback arrives; the further receipts of one
    callback get theirs when the worker splits it.
    """

    outcome: ReceiptOutcome | None = None
    channel: Channel | None = None
    message_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceiptEntry:
    """A receipt without its bytes. `message_id`: of its transition, else the one assigned by hand, else its URL's."""

    row: InboxRow
    message_id: UUID | None
    candidates: Sequence[str]  # public ids
    look_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceiptDetail(ReceiptEntry):
    """A receipt with its bytes, which another row may hold, its transition, and its audits."""

    query: bytes
    body: bytes
    content_type: str | None
    transition: Transition | None  # the current one; else the last one that was superseded
    audits: Sequence[Audit]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplaySelection:
    """Which receipts to replay. `since` ≤ time of receipt < `until`."""

    outcomes: Collection[ReceiptOutcome] = RETRIABLE
    since: datetime | None = None
    until: datetime | None = None


def list_receipts(
    session: Session, where: ReceiptFilter, *, limit: int, after: UUID | None = None
) -> Page[ReceiptEntry, UUID]:
    """Receipts, the newest first, without their bytes. A short page need not be the last one: see `keyset`."""
    page = scan(session, _plan_scan(session, where, limit), limit=limit, after=(after,) if after is not None else None)
    receipt_ids = [receipt_id for (receipt_id,) in page.keys]
    query = select(InboxRow).options(*_WITHOUT_BYTES).where(bulk.among(session, InboxRow.id, receipt_ids))
    rows = session.scalars(query.order_by(InboxRow.id.desc())).all() if receipt_ids else []
    return Page(items=_load_entries(session, rows), next=page.next[0] if page.next is not None else None)


def find_receipt(session: Session, receipt_id: UUID) -> ReceiptDetail | None:
    """A receipt with everything that is known about it; None if it does not exist."""
    row = session.get(InboxRow, receipt_id)
    if row is None:
        return None
    callback = (session.get(InboxRow, row.callback_id) if row.callback_id else None) or row
    of_receipt = select(Transition).where(Transition.receipt_id == receipt_id)
    [entry] = _load_entries(session, [row])
    return ReceiptDetail(
        row=row,
        message_id=entry.message_id,
        candidates=entry.candidates,
        look_at=entry.look_at,
        query=callback.query,
        body=callback.body,
        content_type=callback.content_type,
        transition=session.scalars(
            of_receipt.order_by(Transition.superseded_at.is_not(None), Transition.id.desc()).limit(1)
        ).first(),
        audits=audits.read(session, ids.public("rcp", receipt_id)),
    )


def match(session: Session, receipt_id: UUID, message_id: UUID, by: Actor, now: datetime) -> ReceiptEntry | None:
    """Assign a receipt to a message, and make it pending again; None if there is no such receipt.

    Raises Refused, and NoSuchMessage.
    """
    row = _lock(session, receipt_id, "matched", MATCHABLE)
    if row is None:
        return None
    if row.channel == Channel.INBOUND:
        raise Refused("It is a reply; replies belong to conversations and are not matched to a message.")
    recorded_id = session.scalar(
        select(Transition.message_id).where(Transition.receipt_id == row.id, Transition.superseded_at.is_(None))
    )
    if recorded_id is not None:
        raise Refused(f"It was recorded about {ids.public('msg', recorded_id)}, and what was recorded stays.")
    if session.scalar(select(Message.id).where(Message.id == message_id)) is None:
        raise NoSuchMessage("there is no message with this id")
    session.execute(update(InboxRow).where(InboxRow.id == row.id).values(assigned_to=message_id))
    return _reopen(session, row, "matched", by, now, message=ids.public("msg", message_id))


def retry(session: Session, receipt_id: UUID, by: Actor, now: datetime) -> ReceiptEntry | None:
    """Make a receipt pending again; None if there is no such receipt. Raises Refused."""
    row = _lock(session, receipt_id, "retried", RETRIABLE)
    return None if row is None else _reopen(session, row, "retried", by, now)


def dismiss(session: Session, receipt_id: UUID, by: Actor, now: datetime) -> ReceiptEntry | None:
    """Give a receipt up; None if there is no such receipt. Its transition, if any, stays. Raises Refused."""
    row = _lock(session, receipt_id, "dismissed", DISMISSIBLE)
    if row is None:
        return None
    before = ReceiptOutcome(row.outcome)
    session.execute(delete(Parked).where(Parked.receipt_id == row.id))
    _audit(session, row, "dismissed", by, now, to=ReceiptOutcome.DISMISSED)
    values = {"outcome": ReceiptOutcome.DISMISSED, "reason": by.reason, "processed_at": now}
    session.execute(update(InboxRow).where(InboxRow.id == row.id).values(values))
    counters.move(session, {(before, ReceiptOutcome.DISMISSED): 1})
    return _reload(session, row.id)


def find_replayable(
    session: Session, selection: ReplaySelection, *, limit: int, after: UUID | None = None
) -> Page[UUID, UUID]:
    """The next receipts to replay, by id. One query for each outcome, so that an index gives them in order."""
    receipt_ids: set[UUID] = set()
    for outcome in selection.outcomes:
        query = select(InboxRow.id).where(_has_outcome(session, outcome))
        if after is not None:
            query = query.where(InboxRow.id > after)
        if selection.since is not None:
            query = query.where(InboxRow.received_at >= selection.since)
        if selection.until is not None:
            query = query.where(InboxRow.received_at < selection.until)
        receipt_ids.update(session.scalars(query.order_by(InboxRow.id).limit(limit + 1)))
    return cut(sorted(receipt_ids), limit, lambda receipt_id: receipt_id)


def replay(session: Session, receipt_ids: Sequence[UUID], selection: ReplaySelection, by: Actor, now: datetime) -> int:
    """Make these receipts pending again, but those that others have locked or changed; how many."""
    if not receipt_ids:
        return 0
    locked: dict[ReceiptOutcome, list[UUID]] = defaultdict(list)
    query = (
        select(InboxRow.id, InboxRow.outcome)
        .where(bulk.among(session, InboxRow.id, receipt_ids), InboxRow.outcome.in_(selection.outcomes))
        .order_by(InboxRow.id)
        .with_for_update(skip_locked=True)
    )
    for receipt_id, outcome in session.execute(query):
        locked[ReceiptOutcome(outcome)].append(receipt_id)
    moved = sorted(receipt_id for of_outcome in locked.values() for receipt_id in of_outcome)
    if not moved:
        return 0
    clear_look = update(Parked).where(bulk.among(session, Parked.receipt_id, moved)).values(look_at=None)
    session.execute(clear_look.execution_options(synchronize_session=False))
    audits.write(
        session,
        at=now,
        actor=by.actor,
        action="replayed",
        subject=REPLAYED,
        reason=by.reason,
        details={
            "count": len(moved),
            "from": {outcome.value: len(locked[outcome]) for outcome in sorted(locked)},
            "first": ids.public("rcp", moved[0]),
            "last": ids.public("rcp", moved[-1]),
            "outcomes": sorted(outcome.value for outcome in selection.outcomes),
            "since": selection.since.isoformat() if selection.since else None,
            "until": selection.until.isoformat() if selection.until else None,
        },
    )
    for outcome in sorted(locked):  # by name, the order in which `counters` are written, against deadlocks
        pending.reopen(session, locked[outcome], outcome, now)
    return len(moved)


def _has_outcome(session: Session, outcome: ReceiptOutcome) -> ColumnElement[bool]:
    """Whether a row has this outcome, written so that the index of rare outcomes can serve it."""
    is_equal = InboxRow.outcome == outcome
    if outcome in _COMMON or not is_sqlite(session):
        return is_equal
    return and_(is_equal, _IS_RARE)  # SQLite uses a partial index only where the query repeats its condition literally


def _plan_scan(session: Session, where: ReceiptFilter, limit: int) -> Scan:
    """How to read a page: the first given filter that an index serves picks the rows, the others are checked by row."""
    unserved: dict[str, ColumnElement[bool]] = {}
    equals: list[Equals] = []
    is_small = False
    served: ColumnElement[bool] | None = None
    if where.message_id is not None:
        receipt_ids = _find_recorded(session, where.message_id)
        served, is_small = (bulk.among(session, InboxRow.id, receipt_ids) if receipt_ids else false()), True
    if where.outcome is not None:
        unserved["outcome"] = _has_outcome(session, where.outcome)
        if served is None and where.outcome is ReceiptOutcome.PENDING:
            served = _pending_condition(session, limit * MAX_PAGES_SCANNED // 2)
            is_small = served is not None
        elif served is None and where.outcome not in _COMMON:
            served, equals = _IS_RARE, [(InboxRow.outcome, where.outcome)]
            del unserved["outcome"]
    if where.channel is not None:
        unserved["channel"] = InboxRow.channel == where.channel
        if served is None and where.channel is not Channel.MESSAGE:
            served, equals = _IS_RARE_CHANNEL, [(InboxRow.channel, where.channel)]
            del unserved["channel"]
    return Scan(
        order=(InboxRow.id,),
        branches=[[served] if served is not None else []],
        equals=[equals],
        since=ids.first_at(where.since) if where.since is not None else None,
        until=ids.first_at(where.until) if where.until is not None else None,
        filters=list(unserved.values()),
        is_small=is_small,
    )


def _find_recorded(session: Session, message_id: UUID) -> Sequence[UUID]:
    """The receipts recorded about a message. A query of its own, so that no plan scans the ledger for them."""
    recorded = select(Transition.receipt_id).where(
        Transition.message_id == message_id, Transition.receipt_id.is_not(None), Transition.superseded_at.is_(None)
    )
    return [receipt_id for receipt_id in session.scalars(recorded) if receipt_id is not None]


def _pending_condition(session: Session, limit: int) -> ColumnElement[bool] | None:
    """The condition of the pending receipts, if there are at most `limit`.

    None: there are more. Then the newest receipts are mostly pending, and a scan of all receipts finds them soon.
    """
    queue = select(InboxRow.id).where(InboxRow.outcome == ReceiptOutcome.PENDING)
    receipt_ids = session.scalars(queue.order_by(InboxRow.next_at, InboxRow.id).limit(limit + 1)).all()
    if len(receipt_ids) > limit:
        return None
    return bulk.among(session, InboxRow.id, receipt_ids) if receipt_ids else false()


def _load_entries(session: Session, rows: Sequence[InboxRow]) -> list[ReceiptEntry]:
    if not rows:
        return []
    receipt_ids = [row.id for row in rows]
    recorded: dict[UUID | None, UUID] = {
        row.receipt_id: row.message_id
        for row in session.execute(
            select(Transition.receipt_id, Transition.message_id).where(
                bulk.among(session, Transition.receipt_id, receipt_ids), Transition.superseded_at.is_(None)
            )
        )
    }
    parked: dict[UUID, tuple[Sequence[str], datetime | None]] = {
        row.receipt_id: (row.candidates, row.look_at)
        for row in session.execute(
            select(Parked.receipt_id, Parked.candidates, Parked.look_at).where(
                bulk.among(session, Parked.receipt_id, receipt_ids)
            )
        )
    }
    return [
        ReceiptEntry(
            row=row,
            message_id=recorded.get(row.id) or row.assigned_to or row.message_id,
            candidates=parked[row.id][0] if row.id in parked else (),
            look_at=parked[row.id][1] if row.id in parked else None,
        )
        for row in rows
    ]


def _lock(session: Session, receipt_id: UUID, action: str, outcomes: Sequence[ReceiptOutcome]) -> InboxRow | None:
    """A receipt, locked. Raises Refused if it has none of these outcomes. `action`: a participle such as `matched`."""
    query = select(InboxRow).options(*_WITHOUT_BYTES).where(InboxRow.id == receipt_id)
    row = session.scalars(query.with_for_update()).one_or_none()
    if row is not None and row.outcome not in outcomes:
        *others, last = outcomes
        raise Refused(f"It is {row.outcome}; only what is {', '.join(others)} or {last} can be {action}.")
    return row


def _reopen(session: Session, row: InboxRow, action: str, by: Actor, now: datetime, **details: str) -> ReceiptEntry:
    before = ReceiptOutcome(row.outcome)
    # Without look_at the parking lot does not release it meanwhile; the worker unparks it when it settles it.
    session.execute(update(Parked).where(Parked.receipt_id == row.id).values(look_at=None))
    _audit(session, row, action, by, now, to=ReceiptOutcome.PENDING, **details)
    pending.reopen(session, [row.id], before, now)
    return _reload(session, row.id)


def _audit(
    session: Session, row: InboxRow, action: str, by: Actor, now: datetime, *, to: ReceiptOutcome, **details: str
) -> None:
    move = {"from": row.outcome, "to": to.value} | ({"was": row.reason} if row.reason else {})
    audits.write(
        session,
        at=now,
        actor=by.actor,
        action=action,
        subject=ids.public("rcp", row.id),
        reason=by.reason,
        details=move | details,
    )


def _reload(session: Session, receipt_id: UUID) -> ReceiptEntry:
    """A receipt after a statement has changed its row, which the session has not noticed."""
    query = select(InboxRow).options(*_WITHOUT_BYTES).where(InboxRow.id == receipt_id)
    return _load_entries(session, session.scalars(query.execution_options(populate_existing=True)).all())[0]
