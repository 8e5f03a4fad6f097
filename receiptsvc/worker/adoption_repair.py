"""Finds adopted receipts that are about a message of ours after all, and moves them to it.

A receipt is adopted when it fits no message for a time. A corrected DYNMARK_TIMEZONE, or a transactionID that became
known later, may show whose it is. Only the strict rules of `domain.correlation` count, as if no other system's messages
were here. `reprocess` reads the receipts, and calls this.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.orm import Session

from receiptsvc.domain import correlation, numbers
from receiptsvc.domain.callback_reader import CallbackReader, report_of
from receiptsvc.domain.correlation import Match, MatchContext, TransactionLinks
from receiptsvc.domain.inbox import Channel
from receiptsvc.domain.messages import Origin, Receipt
from receiptsvc.domain.statuses import Effect
from receiptsvc.store.inbox import receipt_references
from receiptsvc.store.messages import adoptions, superseding, transitions
from receiptsvc.store.messages.superseding import RecordedReceipt
from receiptsvc.store.messages.transitions import LockedMessage, NewTransition

_WAS_ADOPTED = "read again; it was taken for another system's"


class Misadopted(NamedTuple):
    """A receipt that is recorded about another system's message, what it says, and the message of ours that it fits."""

    recorded: RecordedReceipt
    receipt: Receipt
    match: Match


@dataclass(frozen=True, kw_only=True, slots=True)
class _Arrival:
    """How an adopted receipt came: to the static URL, with its key."""

    received_at: datetime
    channel: str = Channel.ACCOUNT
    message_id: UUID | None = None
    is_unauthenticated: bool = False
    assigned_to: UUID | None = None


def find(session: Session, read: Sequence[tuple[RecordedReceipt, Receipt]]) -> list[Misadopted]:
    """Those of these receipts that are about a message of ours. What a person matched stays."""
    external = transitions.find_external(session, {recorded.message_id for recorded, _ in read})
    adopted = [
        (recorded, receipt)
        for recorded, receipt in read
        if recorded.message_id in external and recorded.rule != correlation.BY_HAND
    ]
    if not adopted:
        return []
    context = _load_ours(session, [receipt for _, receipt in adopted])
    found: list[Misadopted] = []
    for recorded, receipt in adopted:
        match = correlation.correlate(_Arrival(received_at=recorded.report.received_at), receipt, context)
        if isinstance(match, Match):
            context.learn(receipt, match)
            found.append(Misadopted(recorded, receipt, match))
    return found


def move(session: Session, found: Sequence[Misadopted], reader: CallbackReader, now: datetime) -> None:
    """Record receipts about our messages, and no longer about those of other systems."""
    current_ids = superseding.lock_current(session, [each.recorded for each in found])
    moved = [each for each in found if each.recorded.transition_id in current_ids]
    if not moved:
        return
    left_ids = {each.recorded.message_id for each in moved}
    locked = transitions.lock_messages(session, left_ids | {each.match.message_id for each in moved})
    superseding.supersede(session, [each.recorded for each in moved], now)
    transitions.refold(session, {message_id: locked[message_id] for message_id in left_ids})
    steps = adoptions.make_steps(session, left_ids, now)
    named = [(each, each.receipt.transaction_id) for each in moved if each.receipt.transaction_id]
    transitions.unlink_transactions(session, [(locked[each.recorded.message_id], name) for each, name in named])
    links = [(locked[each.match.message_id], name) for each, name in named]
    transitions.link_transactions(session, links, "receipt", now)
    entries = [(each.match.message_id, _transition_of(each, reader)) for each in moved]
    effects = transitions.record(session, locked, [*entries, *steps], now)[: len(moved)]
    outcomes = [(each.recorded, effect) for each, effect in zip(moved, effects, strict=True)]
    superseding.move_outcomes(session, outcomes, now)
    receipt_references.forget(
        session, {recorded.receipt_id for recorded, effect in outcomes if effect is not Effect.UNMAPPED}
    )


def _load_ours(session: Session, receipts: Collection[Receipt]) -> MatchContext[LockedMessage]:
    """What decides which of our messages receipts are about; nothing is locked."""
    links = transitions.find_transaction_links(
        session, {receipt.transaction_id for receipt in receipts if receipt.transaction_id}
    )
    pairs = {
        (receipt.client_ref, numbers.ending(receipt.recipient))
        for receipt in receipts
        if receipt.client_ref and receipt.recipient
    }
    candidates = transitions.find_candidates(session, pairs)
    known = {link.message_id for link in links}.union(*candidates.values())
    messages = transitions.lock_messages(session, known, takes_lock=False)
    ours = {message_id: message for message_id, message in messages.items() if message.origin != Origin.EXTERNAL}
    by_transaction: defaultdict[str, TransactionLinks] = defaultdict(TransactionLinks)
    for link in links:
        if link.message_id in ours:
            by_transaction[link.transaction_id].add(link)
    by_client_ref = {pair: [each for each in found if each in ours] for pair, found in candidates.items()}
    return MatchContext(messages=ours, by_transaction=dict(by_transaction), by_client_ref=by_client_ref)


def _transition_of(found: Misadopted, reader: CallbackReader) -> NewTransition:
    return NewTransition(
        report=report_of(found.receipt, found.recorded.report.received_at, reader),
        rule=found.match.rule,
        reason=_WAS_ADOPTED,
        receipt_id=found.recorded.receipt_id,
        map_version=reader.version,
    )
