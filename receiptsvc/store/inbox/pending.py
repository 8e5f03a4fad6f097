"""The queue of what waits to be worked on: take, settle, put back, reopen.

Every receipt is in the ledger's counts from its first commit, and each of its moves is counted in the commit that makes
it. Taking a receipt deletes its row in `pending`, and `settle` sees to it that each one taken ends somewhere. Which
message a receipt belongs to is decided in `domain.correlation`.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import ColumnElement, Select, any_, delete, func, literal, literal_column, or_, select, union_all
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain.inbox import RECORDED, Channel, ReceiptOutcome
from receiptsvc.domain.messages import Callback
from receiptsvc.store.core import bulk, topics
from receiptsvc.store.core.db import is_sqlite
from receiptsvc.store.core.models import InboxRow, Message, OutcomeRow, PendingRow
from receiptsvc.store.core.topics import Topic
from receiptsvc.store.inbox import callbacks, counters
from receiptsvc.store.inbox.columns import ARRIVED, QUEUED


class ClaimedReceipt(NamedTuple):
    """A receipt that this transaction has taken from the queue."""

    id: UUID
    channel: str
    message_id: UUID | None
    claimed_kid: str | None  # as in `Arrival`
    received_at: datetime
    method: str
    query: bytes
    content_type: str | None
    content_encoding: str | None
    body: bytes
    callback_id: UUID | None
    part: int
    group_id: UUID | None
    is_large: bool
    next_at: datetime | None
    tries: int
    processed_at: datetime | None  # when it last got an outcome, if it ever had one
    assigned_to: UUID | None

    @property
    def is_unauthenticated(self) -> bool:
        """Whether its key was wrong."""
        return self.claimed_kid is not None


Verdict: TypeAlias = tuple[ClaimedReceipt, ReceiptOutcome, str | None]  # with a reason, where there is one
Postponed: TypeAlias = tuple[ClaimedReceipt, datetime | None, str | None]  # until when, if for a time; and why

_KEPT = tuple(name for name in ClaimedReceipt._fields if name in InboxRow.__table__.c)
_QUEUED = tuple(name for name in ClaimedReceipt._fields if name not in _KEPT)
REPLIES = UUID(int=1)  # the group of replies that are held back
_CROWD = 1_000
_LOOKED_AT = 5_000  # of the next receipts


def select_next(limit: int, *, after: UUID | None = None, without: Collection[UUID] = ()) -> Select[UUID]:
    """The next of what has waited for nothing but its turn, in the order of arrival, except these groups."""
    query = _select_waiting(after)
    if without:
        query = query.where(or_(PendingRow.group_id.is_(None), PendingRow.group_id.not_in(without)))
    return query.limit(limit)


def select_of_groups(groups: Collection[UUID], limit: int, *, after: UUID | None = None) -> Select[UUID]:
    """The same of these groups only."""
    return _select_waiting(after).where(PendingRow.group_id.in_(groups)).limit(limit)


def _select_waiting(after: UUID | None) -> Select[UUID]:
    query = select(PendingRow.receipt_id).where(PendingRow.next_at.is_(None), ~PendingRow.is_large)
    if after is not None:
        query = query.where(PendingRow.receipt_id > after)
    return query.order_by(PendingRow.receipt_id)


def select_due(now: datetime, limit: int) -> Select[UUID]:
    """The next of what was reopened, or put back without a fault of its own."""
    is_due = (PendingRow.next_at <= now, PendingRow.tries == 0, ~PendingRow.is_large)
    query = select(PendingRow.receipt_id).where(*is_due)
    return query.order_by(PendingRow.next_at, PendingRow.receipt_id).limit(limit)


def select_large(now: datetime, limit: int) -> Select[UUID]:
    """The next large ones."""
    query = select(PendingRow.receipt_id).where(PendingRow.is_large, _is_due(now), PendingRow.tries == 0)
    return query.order_by(PendingRow.receipt_id).limit(limit)


def find_others(session: Session, now: datetime, limit: int) -> tuple[Sequence[UUID], bool]:
    """What failed before and is due again, to be worked on one by one; and whether a large one is due."""
    is_failed = (PendingRow.next_at <= now, PendingRow.tries > 0)
    failed = select(PendingRow.receipt_id, literal(False).label("is_large")).where(*is_failed)
    failed = failed.order_by(PendingRow.next_at, PendingRow.receipt_id).limit(limit)
    large = select_large(now, 1).add_columns(literal(True).label("is_large"))
    rows = session.execute(union_all(*(select(part.subquery()) for part in (failed, large)))).all()
    return [receipt_id for receipt_id, is_large in rows if not is_large], any(is_large for _, is_large in rows)


def select_untried(now: datetime, limit: int) -> Select[UUID]:
    """What is due and never failed, whatever it waited for; none of the large ones."""
    query = select(PendingRow.receipt_id).where(_is_due(now), PendingRow.tries == 0, ~PendingRow.is_large)
    return query.order_by(PendingRow.receipt_id).limit(limit)


def find_suspects(session: Session, now: datetime, limit: int) -> Sequence[UUID]:
    """What is due and failed before, or is large."""
    query = select(PendingRow.receipt_id).where(_is_due(now), or_(PendingRow.tries > 0, PendingRow.is_large))
    return session.scalars(query.order_by(PendingRow.receipt_id).limit(limit)).all()


def measure(session: Session, now: datetime, most: int) -> tuple[int, UUID | None]:
    """How many are due and never failed, `most` at most, and the first of them; none of the large ones.

    Those that another transaction has taken and not yet settled are counted too.
    """
    query = select_untried(now, most)
    count, first = select(func.count()).select_from(query.subquery()), query.limit(1)
    size, first_id = session.execute(select(count.scalar_subquery(), first.scalar_subquery())).one()
    return size, first_id


def select_these(receipt_ids: Collection[UUID]) -> Select[UUID]:
    """These, whether they are due or not."""
    return select(PendingRow.receipt_id).where(PendingRow.receipt_id.in_(receipt_ids))


def _is_due(now: datetime) -> ColumnElement[bool]:
    return or_(PendingRow.next_at.is_(None), PendingRow.next_at <= now)


class Crowd(NamedTuple):
    """Receipts of one group that wait, as many as were looked at. `message_id`: theirs, if the group is a message's."""

    size: int
    message_id: UUID | None
    first_receipt_id: UUID
    is_of_replies: bool = False

    def describe(self) -> str:
        """What is wrong, by the id of what they are of."""
        if self.is_of_replies:
            return f"replies crowd the queue: {self.size} or more of them wait"
        of = ids.public("msg", self.message_id) if self.message_id else ids.public("rcp", self.first_receipt_id)
        return f"the receipts of {of} crowd the queue: {self.size} or more of one sender wait"


def find_crowd(session: Session) -> Crowd | None:
    """The largest group among the next receipts, if a thousand or more of them wait."""
    head = select(PendingRow.group_id, PendingRow.receipt_id).where(PendingRow.next_at.is_(None))
    looked_at = head.order_by(PendingRow.receipt_id).limit(_LOOKED_AT).subquery()
    size = func.count().label("size")
    groups = select(looked_at.c.group_id, size).where(looked_at.c.group_id.is_not(None)).group_by(looked_at.c.group_id)
    found = session.execute(groups.having(size >= _CROWD).order_by(size.desc()).limit(1)).one_or_none()
    if found is None:
        return None
    in_group = PendingRow.group_id == found.group_id
    first = session.scalar(
        head.with_only_columns(PendingRow.receipt_id).where(in_group).order_by(PendingRow.receipt_id).limit(1)
    )
    message_id = session.scalar(select(Message.id).where(Message.id == found.group_id))
    return None if first is None else Crowd(found.size, message_id, first, found.group_id == REPLIES)


def take(session: Session, *picks: Select[UUID]) -> list[ClaimedReceipt]:
    """Take the picked receipts from the queue, in the order of arrival; none that another transaction has locked.

    The caller settles them or puts them back, each one, before its commit.
    """
    if is_sqlite(session):
        receipt_ids = {receipt_id for pick in picks for receipt_id in session.scalars(pick)}
        if not receipt_ids:
            return []
        is_taken = PendingRow.receipt_id.in_(receipt_ids)
        query = select(*_columns(InboxRow, _KEPT), *_columns(PendingRow, _QUEUED))
        query = query.join(PendingRow, PendingRow.receipt_id == InboxRow.id).where(is_taken).order_by(InboxRow.id)
        rows = session.execute(query).all()
        session.execute(delete(PendingRow).where(is_taken))
    else:
        # The row locks are taken inside ARRAY(…), which is evaluated once: an IN might be evaluated row by row.
        picked = [func.array(pick.with_for_update(skip_locked=True).scalar_subquery()) for pick in picks]
        is_picked = or_(*(PendingRow.receipt_id == any_(array) for array in picked))
        queued = delete(PendingRow).where(is_picked).returning(PendingRow.receipt_id, *_columns(PendingRow, _QUEUED))
        taken = queued.cte("taken")
        query = select(*_columns(InboxRow, _KEPT), *(taken.c[name] for name in _QUEUED))
        rows = session.execute(query.join(taken, taken.c.receipt_id == InboxRow.id).order_by(InboxRow.id)).all()
    return [ClaimedReceipt._make(row) for row in rows]  # whose fields are in this order


def take_one(session: Session, receipt_id: UUID) -> list[ClaimedReceipt]:
    """Take one receipt, even if it is not due; none if it is not pending, or another transaction has locked it."""
    return take(session, select(PendingRow.receipt_id).where(PendingRow.receipt_id == receipt_id))


def put_back(session: Session, rows: Sequence[Postponed]) -> None:
    """Put taken receipts back into the queue. Their tries and groups are what they say."""
    bulk.insert_all(
        session,
        PendingRow,
        [
            {
                "receipt_id": row.id,
                **{name: getattr(row, name) for name in _QUEUED},
                "next_at": until,
                "reason": reason,
            }
            for row, until, reason in rows
        ],
    )


def add_parts(session: Session, first: ClaimedReceipt, count: int) -> int:
    """Add a pending receipt for each further one of a taken callback, whose own row keeps the bytes; how many.

    `count`: of all its receipts. Pass the result to `settle`, which counts the new rows. They share a turn.
    """
    arrived = {column: getattr(first, column) for column in ARRIVED}
    shared = {**arrived, "query": b"", "content_type": None, "content_encoding": None, "body": b""}
    parts = [
        {**shared, "id": ids.part_of(first.id, part), "callback_id": first.id, "part": part} for part in range(1, count)
    ]
    bulk.insert_all(session, InboxRow, parts)
    group_id = group_of_parts(first)
    bulk.insert_all(session, PendingRow, [{"receipt_id": part["id"], "group_id": group_id} for part in parts])
    return count - 1


def group_of_parts(first: ClaimedReceipt) -> UUID:
    """The group of a callback's further receipts."""
    return first.message_id or first.id


def has_parts(session: Session, first: ClaimedReceipt) -> bool:
    """Whether a callback's further receipts already have rows. They have none if it could not be read before."""
    return session.scalar(select(InboxRow.id).where(InboxRow.id == ids.part_of(first.id, 1))) is not None


def callback_of(session: Session, row: ClaimedReceipt) -> Callback:
    """The callback that brought a receipt, and perhaps others with it."""
    if row.callback_id is None:
        return Callback(row.method, row.query, row.content_type, row.body, row.content_encoding)
    return callbacks.load(session, [row.callback_id])[row.callback_id]


def settle(
    session: Session,
    taken: Collection[ClaimedReceipt],
    verdicts: Collection[Verdict],
    now: datetime,
    *,
    later: Sequence[Postponed] = (),
    new_parts: int = 0,
) -> None:
    """End what was taken: give it its outcome, or put it back; count the moves, and the rows that `add_parts` added.

    The outcome of a receipt that was recorded is told by its transition, which the caller has recorded; every other
    one is written down here. Call it once in a transaction, and late: other transactions may wait for the counters.
    """
    ended = Counter([row.id for row, _, _ in verdicts] + [row.id for row, _, _ in later])
    if ended != Counter(row.id for row in taken):
        raise RuntimeError("each receipt that is taken must end once")
    put_back(session, later)
    outcomes = [
        {
            "receipt_id": row.id,
            "outcome": outcome,
            "reason": reason,
            "processed_at": now,
            "assigned_to": row.assigned_to,
        }
        for row, outcome, reason in verdicts
        if row.channel == Channel.INBOUND or outcome not in RECORDED
    ]
    # One that came again, after the time slice of its row was dropped, has its row here already.
    statement = bulk.upsert(session, OutcomeRow).on_conflict_do_nothing(index_elements=["receipt_id"])
    bulk.execute_all(session, statement, OutcomeRow, outcomes)
    moves = Counter((ReceiptOutcome.PENDING, outcome) for _, outcome, _ in verdicts)
    counters.move(session, moves, {counters.RECEIVED: new_parts, ReceiptOutcome.PENDING: new_parts})


def reopen(
    session: Session, receipt_ids: Collection[UUID], now: datetime, *, assigned_to: UUID | None = None
) -> Mapping[ReceiptOutcome, int]:
    """Make receipts pending again that have a row in `outcomes`, which the caller has locked; how many of each outcome.

    `assigned_to`: the message that an operator says they are about; None: as it was.
    """
    if not receipt_ids:
        return {}
    columns = (OutcomeRow.receipt_id, OutcomeRow.outcome, OutcomeRow.reason, OutcomeRow.processed_at)
    is_meant = bulk.among(session, OutcomeRow.receipt_id, receipt_ids)
    is_large: ColumnElement[bool] = literal_column(QUEUED["is_large"])
    query = select(*columns, OutcomeRow.assigned_to, is_large).join(InboxRow, InboxRow.id == OutcomeRow.receipt_id)
    rows: list[dict[str, Any]] = []
    moved: Counter[ReceiptOutcome] = Counter()
    for receipt_id, outcome, reason, processed_at, assigned, large in session.execute(query.where(is_meant)):
        moved[ReceiptOutcome(outcome)] += 1
        rows.append(
            {
                "receipt_id": receipt_id,
                "is_large": bool(large),
                "next_at": now,
                "reason": reason,
                "processed_at": processed_at,
                "assigned_to": assigned_to or assigned,
            }
        )
    session.execute(delete(OutcomeRow).where(is_meant).execution_options(synchronize_session=False))
    bulk.insert_all(session, PendingRow, rows)
    counters.move(session, {(outcome, ReceiptOutcome.PENDING): count for outcome, count in moved.items()})
    topics.mark(session, Topic.RECEIPTS)
    return moved


def _columns(model: type[InboxRow | PendingRow], names: Sequence[str]) -> list[Any]:
    return [getattr(model, name) for name in names]


def first_waiting() -> Select[datetime]:
    """The query of when the first receipt arrived that has waited for nothing but its turn: the head of an index."""
    query = select(InboxRow.received_at).join(PendingRow, PendingRow.receipt_id == InboxRow.id)
    return query.where(PendingRow.next_at.is_(None)).order_by(PendingRow.receipt_id).limit(1)


def first_due() -> Select[datetime | None]:
    """The query of when the first of the others is due: the head of another index."""
    query = select(PendingRow.next_at).where(PendingRow.next_at.is_not(None))
    return query.order_by(PendingRow.next_at, PendingRow.receipt_id).limit(1)
