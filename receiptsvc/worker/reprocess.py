"""Reads kept receipts again with today's status map and reader, and finds those that now mean something else.

Only receipts that matched a message are read. The match itself is not questioned, but for receipts that were adopted
(`adoption_repair`). Where a receipt now means something else, a new transition supersedes the old one in the fold and
in the ledger. The old one stays visible. What unmapped receipts name is written down, if an earlier release did not.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from uuid import UUID

from sqlalchemy.orm import Session

from receiptsvc import ids
from receiptsvc.domain import correlation
from receiptsvc.domain.callback_reader import report_of
from receiptsvc.domain.messages import Receipt
from receiptsvc.domain.statuses import Effect, Report
from receiptsvc.store.core import slices
from receiptsvc.store.core.db import Database
from receiptsvc.store.core.paging import Page
from receiptsvc.store.inbox import receipt_references
from receiptsvc.store.inbox.receipts import describe_matches
from receiptsvc.store.messages import superseding, transitions
from receiptsvc.store.messages.superseding import RecordedReceipt
from receiptsvc.worker import adoption_repair
from receiptsvc.worker.adoption_repair import Misadopted
from receiptsvc.worker.receipt_batch import ReceiptRules

_KEPT_CALLBACKS = 2  # as read: one may hold thousands of receipts, each of which is asked for
_SLICE = 500
_SQLITE_SLICE = 100  # at most about 50 ms


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A receipt whose status is read differently today. It holds no personal data."""

    receipt: str  # public id
    message: str  # public id
    provider_status_id: str | None
    provider_description: str | None
    was: str | None  # the status that it was read as; None: unmapped
    now: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """A receipt that was adopted, and is about a message of ours. It holds no personal data."""

    receipt: str  # public id
    adopted_as: str  # public id of the message that was made for it
    message: str  # public id of ours
    rule: str  # which found ours


def reprocess(
    database: Database,
    rules: ReceiptRules,
    now: datetime,
    *,
    is_applied: bool = False,
    slice_size: int | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Iterator[Difference | Move]:
    """Every receipt that is read differently today, or is about another message.

    With `is_applied` each slice is corrected before it is yielded. Each slice is one short transaction, so it can be
    stopped at any point and started again. `on_progress` gets the number of receipts read. Raises StorageUnavailable.
    """
    size = slice_size or (_SQLITE_SLICE if database.is_sqlite else _SLICE)

    def step(session: Session, after: int | None) -> Page[RecordedReceipt, int]:
        return superseding.find_current(session, limit=size, after=after)

    read_receipts = lru_cache(maxsize=_KEPT_CALLBACKS)(rules.reader.read_receipts)
    for page in slices.walk(database.reading, step):
        said_by = ((receipt, superseding.read_again(receipt, read_receipts)) for receipt in page.items)
        read = [(receipt, said) for receipt, said in said_by if said is not None]
        with database.reading() as session:
            adopted = adoption_repair.find(session, read)
        moved_ids = {each.recorded.receipt_id for each in adopted}
        read = [(receipt, said) for receipt, said in read if receipt.receipt_id not in moved_ids]
        reports = [(receipt, said, report_of(said, receipt.report.received_at, rules.reader)) for receipt, said in read]
        changed = [each for each in reports if each[2] != each[0].report]
        unmapped = [(receipt, said) for receipt, said in read if receipt.effect is Effect.UNMAPPED]
        if is_applied and (changed or unmapped or adopted):
            with database.transaction() as session:
                adoption_repair.move(session, adopted, rules.reader, now)
                receipt_references.write(session, _references(unmapped), replaces=False)
                _apply(session, changed, rules.reader.version, now)
            database.let_others_write()
        yield from (_difference(receipt, report) for receipt, _, report in changed)
        yield from map(_move, adopted)
        on_progress(len(page.items))


def _references(named: Sequence[tuple[RecordedReceipt, Receipt]]) -> list[dict[str, object]]:
    rows = (receipt_references.row_of(recorded.receipt_id, receipt, None) for recorded, receipt in named)
    return [row for row in rows if row is not None]


def _apply(
    session: Session, changed: Sequence[tuple[RecordedReceipt, Receipt, Report]], map_version: str, now: datetime
) -> None:
    """Supersede transitions, and give their receipts the outcomes of the new ones."""
    current_ids = superseding.lock_current(session, [receipt for receipt, _, _ in changed])
    replaced = [each for each in changed if each[0].transition_id in current_ids]
    locked = transitions.lock_messages(session, {receipt.message_id for receipt, _, _ in replaced})
    by_hand = {receipt.receipt_id for receipt, _, _ in replaced if receipt.rule == correlation.BY_HAND}
    hands = describe_matches(session, by_hand)
    entries: list[tuple[UUID, transitions.NewTransition]] = [
        (
            receipt.message_id,
            transitions.NewTransition(
                report=report,
                rule=receipt.rule,
                reason="; ".join(["read again", *filter(None, [hands.get(receipt.receipt_id)])]),
                receipt_id=receipt.receipt_id,
                map_version=map_version,
            ),
        )
        for receipt, _, report in replaced
    ]
    superseding.supersede(session, [receipt for receipt, _, _ in replaced], now)
    transitions.refold(session, locked)
    effects = transitions.record(session, locked, entries, now)
    outcomes = [(receipt, effect) for (receipt, _, _), effect in zip(replaced, effects, strict=True)]
    superseding.move_outcomes(session, outcomes, now)
    unmapped = [
        (receipt, said)
        for (receipt, said, _), effect in zip(replaced, effects, strict=True)
        if effect is Effect.UNMAPPED
    ]
    mapped = {receipt.receipt_id for receipt, effect in outcomes if effect is not Effect.UNMAPPED}
    receipt_references.forget(session, mapped - by_hand)
    receipt_references.write(session, _references(unmapped))


def _difference(recorded: RecordedReceipt, report: Report) -> Difference:
    return Difference(
        receipt=ids.public("rcp", recorded.receipt_id),
        message=ids.public("msg", recorded.message_id),
        provider_status_id=report.provider_status_id,
        provider_description=report.provider_description,
        was=recorded.report.status,
        now=report.status,
    )


def _move(found: Misadopted) -> Move:
    return Move(
        receipt=ids.public("rcp", found.recorded.receipt_id),
        adopted_as=ids.public("msg", found.recorded.message_id),
        message=ids.public("msg", found.match.message_id),
        rule=found.match.rule,
    )
