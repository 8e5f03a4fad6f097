"""What `rebuild` would change if one of the gateway's codes meant something else. Nothing is written.

It reads receipts as `worker.reprocess` does, and folds the reports of their messages anew. Only the newest receipts of
the code are read: a page waits for it. What `rebuild` finds beside the code is left out.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain.callback_reader import CallbackReader, report_of
from receiptsvc.domain.errors import Unreadable
from receiptsvc.domain.messages import Callback, Receipt
from receiptsvc.domain.statuses import Report, Status, fold
from receiptsvc.store.core import bulk
from receiptsvc.store.core.keyset import force_index_order
from receiptsvc.store.core.models import Message, ReceiptReferences, Transition
from receiptsvc.store.messages import superseding, transitions
from receiptsvc.store.messages.superseding import RecordedReceipt

MAX_RECEIPTS = 150  # of the code, that are read again
LOOKED_THROUGH = 3_000  # receipts of either kind, for those of the code

_MAX_BYTES = 64 * 1024  # of a callback: reading a larger one takes long
_MAX_REPORTS = 10_000  # of all messages together
_MAX_READ = 2_000  # receipts of the callbacks that are read, which may hold others too


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A message whose status would be another one."""

    message_id: UUID
    was: Status
    now: Status


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """What would change. `receipts`: how many with the code were read; `unread`: how many could not be, or may not.

    `looked_to`: receipts with the code that came before it were not looked for; None: all were found. `readings`: how
    many receipts would be read otherwise, by the status that they were read as, and would be; None: unmapped.
    `unfolded`: messages with too many reports to tell what would become of them.
    """

    receipts: int
    unread: int
    looked_to: datetime | None
    readings: Mapping[tuple[Status | None, Status | None], int]
    messages: int  # that these receipts are about
    unfolded: int
    changes: Sequence[Change]  # the newest first

    @property
    def moves(self) -> Mapping[tuple[Status, Status], int]:
        """How many messages would go from which status to which."""
        return Counter((change.was, change.now) for change in self.changes)


def preview(session: Session, status_id: str, reader: CallbackReader) -> Preview:
    """What would change if `reader` had read the receipts with this code."""
    receipt_ids, looked_to = _find_receipts(session, status_id)
    recorded = superseding.find_among(session, receipt_ids, max_bytes=_MAX_BYTES)
    read = list(_read(recorded, reader))
    changed = [(receipt, report) for receipt, report in read if report != receipt.report]
    by_message: dict[UUID, dict[UUID, Report]] = {}
    for receipt, report in changed:
        by_message.setdefault(receipt.message_id, {})[receipt.receipt_id] = report
    statuses = _find_foldable(session, by_message)
    return Preview(
        receipts=len(read),
        unread=len(receipt_ids) - len(read),
        looked_to=looked_to,
        readings=Counter((receipt.report.status, report.status) for receipt, report in changed),
        messages=len(by_message),
        unfolded=len(by_message) - len(statuses),
        changes=_fold(session, statuses, by_message),
    )


def _find_receipts(session: Session, status_id: str) -> tuple[list[UUID], datetime | None]:
    """The newest receipts with this code that were recorded; and how far back that is, if there may be more.

    Those without a meaning are written down by their code (`receipt_references`). Others are looked for among all.
    """
    force_index_order(session)
    is_current = (Transition.receipt_id.is_not(None), Transition.superseded_at.is_(None))
    newest = select(Transition.receipt_id, Transition.provider_status_id).where(*is_current)
    newest = newest.order_by(Transition.receipt_id.desc())
    named = select(ReceiptReferences.receipt_id).where(ReceiptReferences.provider_status_id == status_id)
    named = named.order_by(ReceiptReferences.receipt_id.desc())
    looked, references = newest.limit(LOOKED_THROUGH).subquery(), named.limit(LOOKED_THROUGH).subquery()
    queries = (
        select(looked.c.receipt_id)
        .where(looked.c.provider_status_id == status_id)
        .order_by(looked.c.receipt_id.desc()),
        select(references.c.receipt_id)
        .join(Transition, Transition.receipt_id == references.c.receipt_id)
        .where(*is_current, Transition.provider_status_id == status_id)
        .order_by(references.c.receipt_id.desc()),
    )
    found = {each for query in queries for each in session.scalars(query.limit(MAX_RECEIPTS + 1))}
    ordered = sorted(found, reverse=True)
    if len(ordered) > MAX_RECEIPTS:
        return ordered[:MAX_RECEIPTS], ids.made_at(ordered[MAX_RECEIPTS - 1])
    beyond = (
        newest.with_only_columns(Transition.receipt_id).offset(LOOKED_THROUGH).limit(1),
        named.offset(LOOKED_THROUGH).limit(1),
    )
    ends = [end for query in beyond if (end := session.scalar(query)) is not None]
    return ordered, ids.made_at(max(ends)) if ends else None


def _read(recorded: Sequence[RecordedReceipt], reader: CallbackReader) -> Iterator[tuple[RecordedReceipt, Report]]:
    """What receipts report, as far as they can be read any more, and as long as they are few enough.

    Some hundred bytes can hold ten thousand receipts; each callback is read once.
    """
    known: dict[tuple[Callback, datetime], Sequence[Receipt | Unreadable]] = {}

    def read_receipts(callback: Callback, received_at: datetime) -> Sequence[Receipt | Unreadable]:
        key = callback, received_at
        if key not in known:
            if sum(map(len, known.values())) > _MAX_READ:
                return ()
            known[key] = reader.read_receipts(callback, received_at)
        return known[key]

    for receipt in recorded:
        said = superseding.read_again(receipt, read_receipts)
        if said is not None:
            yield receipt, report_of(said, receipt.report.received_at, reader)


def _find_foldable(session: Session, message_ids: Collection[UUID]) -> dict[UUID, Status]:
    """The statuses of messages, the newest first, as far as they have few enough reports together."""
    if not message_ids:
        return {}
    rows = session.execute(
        select(Message.id, Message.status, Message.transition_count)
        .where(bulk.among(session, Message.id, list(message_ids)))
        .order_by(Message.id.desc())
    ).all()
    running = accumulate(row.transition_count for row in rows)
    return {row.id: Status(row.status) for row, count in zip(rows, running, strict=True) if count <= _MAX_REPORTS}


def _fold(
    session: Session, statuses: Mapping[UUID, Status], by_message: Mapping[UUID, Mapping[UUID, Report]]
) -> list[Change]:
    """The messages whose reports fold to another status once some of them are replaced."""
    now: dict[UUID, Status] = {}
    for message_id, reports in transitions.stream_reports(session, list(statuses)):
        replaced = by_message[message_id]
        now[message_id] = fold(
            replaced.get(receipt_id, report) if receipt_id is not None else report for report, receipt_id, _ in reports
        ).status
    return [
        Change(message_id=message_id, was=was, now=now[message_id])
        for message_id, was in statuses.items()
        if now.get(message_id, was) is not was
    ]
