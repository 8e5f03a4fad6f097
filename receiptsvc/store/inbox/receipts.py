"""Kept receipts as operators see them, and what they may do with one: match, retry, dismiss; or replay many.

Each deed is one short transaction that takes the row's lock before it decides, counts the move, and leaves an audit.
Nothing here reads a receipt: what is to be worked on again becomes `pending`, and the worker does the rest.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, false, literal_column, select, update
from sqlalchemy.orm import Session, defer

from receiptsvc import ids
from receiptsvc.domain.errors import ReceiptsvcError, Refused
from receiptsvc.domain.inbox import Channel, ReceiptOutcome
from receiptsvc.store.core import audits, bulk
from receiptsvc.store.core.audits import Actor
from receiptsvc.store.core.db import MAX_SECONDS, Database, is_sqlite
from receiptsvc.store.core.keyset import REACH, Equals, Scan, scan
from receiptsvc.store.core.models import Audit, InboxRow, Message, Parked, Transition
from receiptsvc.store.core.paging import Page
from receiptsvc.store.inbox import counters, pending

RETRIABLE = (ReceiptOutcome.UNMATCHED, ReceiptOutcome.QUARANTINED, ReceiptOutcome.DEAD)
MATCHABLE = (*RETRIABLE, ReceiptOutcome.DISMISSED)
DISMISSIBLE = (ReceiptOutcome.UNMAPPED, *RETRIABLE)

MAX_REPLAYED = 100_000  # in one call
REPLAYED = "receipts"  # the subject of a replay's audits, which are about many

_SLICE = 500  # rows in one transaction

# What the index of rare outcomes is over, in its very words.
_COMMON = (ReceiptOutcome.PENDING, ReceiptOutcome.APPLIED)
_IS_RARE: ColumnElement[bool] = literal_column("(inbox.outcome NOT IN ('pending', 'applied'))")
_IS_RARE_CHANNEL: ColumnElement[bool] = literal_column("(inbox.channel <> 'message')")

_WITHOUT_BYTES = (defer(InboxRow.query, raiseload=True), defer(InboxRow.body, raiseload=True))


class NoSuchMessage(ReceiptsvcError):
    """The message that a receipt is said to be about is not here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceiptFilter:
    """Which receipts to list: all that every given field fits. `message_id`: what was recorded about this message.

    `since`, `until` (itself left out): when the receipt's id was made, which is when its callback arrived; one that
    came along with others has its id from when these were told apart.
    """

    outcome: ReceiptOutcome | None = None
    channel: Channel | None = None
    message_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceiptEntry:
    """A receipt without its bytes. `message_id`: what it was recorded about, else what it is said to be about."""

    row: InboxRow
    message_id: UUID | None
    candidates: Sequence[str]  # public ids
    look_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceiptDetail(ReceiptEntry):
    """A receipt with its bytes, which may stand in another row, what it led to, and what was done to it."""

    query: bytes
    body: bytes
    content_type: str | None
    transition: Transition | None  # what stands; else what was last recorded of it
    audits: Sequence[Audit]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplaySelection:
    """Which receipts to replay. Times are those of receipt; `until` itself is left out."""

    outcomes: Collection[ReceiptOutcome] = RETRIABLE
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Replayed:
    """How many receipts were replayed, and after which one to go on; None: those were all."""

    count: int
    next: UUID | None


def list_receipts(
    session: Session, where: ReceiptFilter, *, limit: int, after: UUID | None = None
) -> Page[ReceiptEntry, UUID]:
    """Receipts, the newest first, without their bytes. A page may be short and not be the last: see `walks`."""
    walked = scan(session, _way(session, where, limit), limit=limit, after=(after,) if after is not None else None)
    found = [identifier for (identifier,) in walked.keys]
    query = select(InboxRow).options(*_WITHOUT_BYTES).where(bulk.among(session, InboxRow.id, found))
    rows = session.scalars(query.order_by(InboxRow.id.desc())).all() if found else []
    return Page(items=_entries(session, rows), next=walked.next[0] if walked.next is not None else None)


def find_receipt(session: Session, receipt_id: UUID) -> ReceiptDetail | None:
    """A receipt, and all there is to know of it."""
    row = session.get(InboxRow, receipt_id)
    if row is None:
        return None
    callback = (session.get(InboxRow, row.callback_id) if row.callback_id else None) or row
    recorded = select(Transition).where(Transition.receipt_id == receipt_id)
    [entry] = _entries(session, [row])
    return ReceiptDetail(
        row=row,
        message_id=entry.message_id,
        candidates=entry.candidates,
        look_at=entry.look_at,
        query=callback.query,
        body=callback.body,
        content_type=callback.content_type,
        transition=session.scalars(
            recorded.order_by(Transition.superseded_at.is_not(None), Transition.id.desc()).limit(1)
        ).first(),
        audits=audits.read(session, ids.public("rcp", receipt_id)),
    )


def match(session: Session, receipt_id: UUID, message_id: UUID, by: Actor, now: datetime) -> ReceiptEntry | None:
    """Say which message a receipt is about, and have it worked on again; None: there is no such receipt.

    Raises Refused, and NoSuchMessage.
    """
    row = _hold(session, receipt_id, "matched", MATCHABLE)
    if row is None:
        return None
    if row.channel == Channel.INBOUND:
        raise Refused("It is a reply; replies belong to conversations and are not matched to a message.")
    recorded = session.scalar(
        select(Transition.message_id).where(Transition.receipt_id == row.id, Transition.superseded_at.is_(None))
    )
    if recorded is not None:
        raise Refused(f"It was recorded about {ids.public('msg', recorded)}, and what was recorded stays.")
    if session.scalar(select(Message.id).where(Message.id == message_id)) is None:
        raise NoSuchMessage("there is no message with this id")
    session.execute(update(InboxRow).where(InboxRow.id == row.id).values(assigned_to=message_id))
    return _work_again(session, row, "matched", by, now, message=ids.public("msg", message_id))


def retry(session: Session, receipt_id: UUID, by: Actor, now: datetime) -> ReceiptEntry | None:
    """Have a receipt worked on again; None: there is no such receipt. Raises Refused."""
    row = _hold(session, receipt_id, "retried", RETRIABLE)
    return None if row is None else _work_again(session, row, "retried", by, now)


def dismiss(session: Session, receipt_id: UUID, by: Actor, now: datetime) -> ReceiptEntry | None:
    """Give a receipt up for good; None: there is no such receipt. What was recorded of it stays. Raises Refused."""
    row = _hold(session, receipt_id, "dismissed", DISMISSIBLE)
    if row is None:
        return None
    before = ReceiptOutcome(row.outcome)
    session.execute(delete(Parked).where(Parked.receipt_id == row.id))
    _audit(session, row, "dismissed", by, now, to=ReceiptOutcome.DISMISSED)
    values = {"outcome": ReceiptOutcome.DISMISSED, "reason": by.reason, "processed_at": now}
    session.execute(update(InboxRow).where(InboxRow.id == row.id).values(values))
    counters.move(session, {(before, ReceiptOutcome.DISMISSED): 1})
    return _read_again(session, row.id)


def replay(
    database: Database,
    which: ReplaySelection,
    by: Actor,
    clock: Callable[[], datetime],
    *,
    after: UUID | None = None,
    is_dry_run: bool = False,
    most: int = MAX_REPLAYED,
    slice_size: int = _SLICE,
) -> Replayed:
    """Have up to `most` receipts worked on again, in the order of ids: a slice and a short transaction at a time.

    It stops early when it has taken long. What others hold is left to them. `is_dry_run`: only count. It commits:
    what a slice has moved stays so, whatever becomes of the next.
    """
    count = looked = 0
    deadline = monotonic() + MAX_SECONDS
    while True:
        size = min(slice_size, most - looked)
        if is_dry_run:
            with database.reading() as session:
                found = _find(session, which, after, size + 1)
            moved = len(found[:size])
        else:
            with database.transaction() as session:
                found = _find(session, which, after, size + 1)
                moved = _replay_slice(session, found[:size], which, by, clock()) if found else 0
        count, looked = count + moved, looked + len(found[:size])
        if len(found) <= size:
            return Replayed(count=count, next=None)
        after = found[size - 1]
        if looked >= most or monotonic() >= deadline:
            return Replayed(count=count, next=after)
        if not is_dry_run:
            database.rest()


def _has(session: Session, outcome: ReceiptOutcome) -> ColumnElement[bool]:
    """Whether a row has this outcome; put so that the index of rare outcomes serves."""
    is_so = InboxRow.outcome == outcome
    if outcome in _COMMON or not is_sqlite(session):
        return is_so
    return and_(is_so, _IS_RARE)  # SQLite sees that an index fits only where its own condition stands there as it is


def _way(session: Session, where: ReceiptFilter, limit: int) -> Scan:
    """The first of these that is asked for finds its rows by an index; what else is asked for is looked at."""
    wanted: dict[str, ColumnElement[bool]] = {}
    pins: list[Equals] = []
    is_few = False
    served: ColumnElement[bool] | None = None
    if where.message_id is not None:
        found = _recorded(session, where.message_id)
        served, is_few = (bulk.among(session, InboxRow.id, found) if found else false()), True
    if where.outcome is not None:
        wanted["outcome"] = _has(session, where.outcome)
        if served is None and where.outcome is ReceiptOutcome.PENDING:
            served = _queued(session, limit * REACH // 2)
            is_few = served is not None
        elif served is None and where.outcome not in _COMMON:
            served, pins = _IS_RARE, [(InboxRow.outcome, where.outcome)]
            del wanted["outcome"]
    if where.channel is not None:
        wanted["channel"] = InboxRow.channel == where.channel
        if served is None and where.channel is not Channel.MESSAGE:
            served, pins = _IS_RARE_CHANNEL, [(InboxRow.channel, where.channel)]
            del wanted["channel"]
    return Scan(
        order=(InboxRow.id,),
        branches=[[served] if served is not None else []],
        pins=[pins],
        since=ids.first_at(where.since) if where.since is not None else None,
        until=ids.first_at(where.until) if where.until is not None else None,
        others=list(wanted.values()),
        is_few=is_few,
    )


def _recorded(session: Session, message_id: UUID) -> Sequence[UUID]:
    """The receipts that were recorded about a message. Asked first: so no plan walks through the ledger for them."""
    recorded = select(Transition.receipt_id).where(
        Transition.message_id == message_id, Transition.receipt_id.is_not(None), Transition.superseded_at.is_(None)
    )
    return [receipt_id for receipt_id in session.scalars(recorded) if receipt_id is not None]


def _queued(session: Session, most: int) -> ColumnElement[bool] | None:
    """What picks out the pending receipts if they are few. If they are not, the newest receipts are pending ones."""
    queue = select(InboxRow.id).where(InboxRow.outcome == ReceiptOutcome.PENDING)
    found = session.scalars(queue.order_by(InboxRow.next_at, InboxRow.id).limit(most + 1)).all()
    if len(found) > most:
        return None
    return bulk.among(session, InboxRow.id, found) if found else false()


def _entries(session: Session, rows: Sequence[InboxRow]) -> list[ReceiptEntry]:
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


def _hold(session: Session, receipt_id: UUID, deed: str, outcomes: Sequence[ReceiptOutcome]) -> InboxRow | None:
    """A receipt, locked. Raises Refused if its outcome is none of these."""
    query = select(InboxRow).options(*_WITHOUT_BYTES).where(InboxRow.id == receipt_id)
    row = session.scalars(query.with_for_update()).one_or_none()
    if row is not None and row.outcome not in outcomes:
        *most, last = outcomes
        raise Refused(f"It is {row.outcome}; only what is {', '.join(most)} or {last} can be {deed}.")
    return row


def _work_again(session: Session, row: InboxRow, deed: str, by: Actor, now: datetime, **details: str) -> ReceiptEntry:
    before = ReceiptOutcome(row.outcome)
    # With no look ahead, nobody else takes it up from the parking lot meanwhile; whoever settles it takes it off.
    session.execute(update(Parked).where(Parked.receipt_id == row.id).values(look_at=None))
    _audit(session, row, deed, by, now, to=ReceiptOutcome.PENDING, **details)
    pending.reopen(session, [row.id], before, now)
    return _read_again(session, row.id)


def _audit(
    session: Session, row: InboxRow, deed: str, by: Actor, now: datetime, *, to: ReceiptOutcome, **details: str
) -> None:
    moved = {"from": row.outcome, "to": to.value} | ({"was": row.reason} if row.reason else {})
    audits.write(
        session,
        at=now,
        actor=by.actor,
        action=deed,
        subject=ids.public("rcp", row.id),
        reason=by.reason,
        details=moved | details,
    )


def _read_again(session: Session, receipt_id: UUID) -> ReceiptEntry:
    """A receipt after its row was changed behind the session's back."""
    query = select(InboxRow).options(*_WITHOUT_BYTES).where(InboxRow.id == receipt_id)
    return _entries(session, session.scalars(query.execution_options(populate_existing=True)).all())[0]


def _find(session: Session, which: ReplaySelection, after: UUID | None, limit: int) -> list[UUID]:
    """The next `limit` receipts to replay, by id. Each outcome is asked for alone: so an index gives them in order."""
    found: set[UUID] = set()
    for outcome in which.outcomes:
        query = select(InboxRow.id).where(_has(session, outcome))
        if after is not None:
            query = query.where(InboxRow.id > after)
        if which.since is not None:
            query = query.where(InboxRow.received_at >= which.since)
        if which.until is not None:
            query = query.where(InboxRow.received_at < which.until)
        found.update(session.scalars(query.order_by(InboxRow.id).limit(limit)))
    return sorted(found)[:limit]


def _replay_slice(
    session: Session, receipt_ids: Sequence[UUID], which: ReplaySelection, by: Actor, now: datetime
) -> int:
    held: dict[ReceiptOutcome, list[UUID]] = defaultdict(list)
    query = (
        select(InboxRow.id, InboxRow.outcome)
        .where(bulk.among(session, InboxRow.id, receipt_ids), InboxRow.outcome.in_(which.outcomes))
        .order_by(InboxRow.id)
        .with_for_update(skip_locked=True)
    )
    for receipt_id, outcome in session.execute(query):
        held[ReceiptOutcome(outcome)].append(receipt_id)
    moved = sorted(receipt_id for every in held.values() for receipt_id in every)
    if not moved:
        return 0
    unlooked = update(Parked).where(bulk.among(session, Parked.receipt_id, moved)).values(look_at=None)
    session.execute(unlooked.execution_options(synchronize_session=False))
    audits.write(
        session,
        at=now,
        actor=by.actor,
        action="replayed",
        subject=REPLAYED,
        reason=by.reason,
        details={
            "count": len(moved),
            "from": {outcome.value: len(held[outcome]) for outcome in sorted(held)},
            "first": ids.public("rcp", moved[0]),
            "last": ids.public("rcp", moved[-1]),
            "outcomes": sorted(outcome.value for outcome in which.outcomes),
            "since": which.since.isoformat() if which.since else None,
            "until": which.until.isoformat() if which.until else None,
        },
    )
    for outcome in sorted(held):  # by name, as the counters are written in: see `ledger`
        pending.reopen(session, held[outcome], outcome, now)
    return len(moved)
