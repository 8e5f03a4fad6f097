"""The receipt pipeline: claim pending callbacks, read them, find their messages, record transitions and replies.

A batch is one commit. A batch that fails is redone row by row: a failing row is retried alone with growing gaps, holds
up no other row, and ends `dead` with its error. Before a row is processed alone, its try is counted in a commit of its
own, so that a row that kills the process is found out too.

What bytes mean belongs in `dynmark.inbound`, which message they belong to in `domain.correlation`, what a status
becomes in `domain.statuses`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from time import monotonic
from typing import TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from receiptsvc import logs
from receiptsvc.domain import correlation
from receiptsvc.domain.backoff import Backoff
from receiptsvc.domain.correlation import Match, NoMatch
from receiptsvc.domain.errors import StorageUnavailable, Unreadable
from receiptsvc.domain.inbox import Channel, ReceiptOutcome
from receiptsvc.domain.messages import Receipt, Reply
from receiptsvc.domain.statuses import Report, Source
from receiptsvc.dynmark.inbound import parser
from receiptsvc.dynmark.status_map import StatusMap
from receiptsvc.store.core.db import Database
from receiptsvc.store.inbound import replies
from receiptsvc.store.inbox import parking, pending
from receiptsvc.store.inbox.parking import UnmatchedReceipt
from receiptsvc.store.inbox.pending import ClaimedReceipt
from receiptsvc.store.messages import transitions
from receiptsvc.store.messages.transitions import LockedMessage
from receiptsvc.worker import external_messages, match_context

_MAX_TRIES = 8
_MAX_OUTAGES = 3  # in a row, before the batch itself is suspected
_RETRIES = Backoff.doubling(timedelta(seconds=5), timedelta(seconds=640))
_COMMIT_LAG = timedelta(seconds=2)  # how much later than its place in the queue a row may be committed
_FULL_SCAN_SECONDS = 8.0
_ACTOR = "worker"
_PROCESS_ENDED = "the process that worked on it ended"

ParsedReceipt: TypeAlias = tuple[ClaimedReceipt, Receipt]
MatchedReceipt: TypeAlias = tuple[ClaimedReceipt, Receipt, Match]
Verdict: TypeAlias = tuple[ClaimedReceipt, ReceiptOutcome, str | None]  # with a reason, where there is one


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceiptRules:
    """The settings that decide what receipts and replies mean.

    `adopt_after`: how long a receipt of another system's message waits before a message is made for it; None: for ever.
    `reply_window`: how long after a message a reply still belongs to it.
    """

    status_map: StatusMap
    zone: ZoneInfo  # of the gateway's zoneless times
    adopt_after: timedelta | None = None
    reply_window: timedelta = replies.WINDOW
    opt_out_words: frozenset[str] = frozenset()  # as `opt_outs.normalise` gives them
    suppresses_opt_outs: bool = False  # whether an opt-out suppresses further messages to its sender


class PendingQueue:
    """One worker's cursor in the queue of pending rows, so that finished rows are not walked over again.

    The cursor is only a hint: a slow commit or a drained spool can add rows before it. So the first claim, and one
    every few seconds after it, scans the whole queue.
    """

    def __init__(self, *, rows_to_isolate: int = 0) -> None:
        """`rows_to_isolate`: how many rows to process one by one, because a worker died while it held as many."""
        self.rows_to_isolate = rows_to_isolate
        self.outages = 0  # in a row, each after a successful claim
        self._lock = Lock()
        self._position: pending.QueuePosition | None = None
        self._full_scan_at = 0.0

    def isolate(self, rows: int) -> None:
        """Process this many more rows one by one; fewer, if negative. Thread-safe."""
        with self._lock:
            self.rows_to_isolate = max(0, self.rows_to_isolate + rows)

    def rewind(self) -> None:
        """Start again at the head of the queue: claimed rows were not processed and are still there."""
        self._position = None

    def claim(self, session: Session, now: datetime, limit: int) -> list[ClaimedReceipt]:
        """The next rows that are due, locked until the caller's commit."""
        if monotonic() >= self._full_scan_at:
            self._position, self._full_scan_at = None, monotonic() + _FULL_SCAN_SECONDS
        rows = pending.claim(session, now, limit, after=self._position)
        if rows:
            last = rows[-1]
            self._position = (last.next_at, last.id) if last.next_at < now - _COMMIT_LAG else None
        return rows


def process(
    database: Database, rules: ReceiptRules, now: datetime, limit: int, queue: PendingQueue | None = None
) -> int:
    """Process up to `limit` pending callbacks that are due; how many. Raises StorageUnavailable."""
    queue = queue or PendingQueue()
    claimed: list[ClaimedReceipt] = []
    isolated: list[UUID] = []
    try:
        with database.transaction() as session:
            claimed = queue.claim(session, now, limit)
            # A row that failed before, in a batch or alone, must not make other rows fail with it again.
            is_isolating = queue.rows_to_isolate > 0
            isolated = [row.id for row in claimed if row.tries or is_isolating]
            batch = [row for row in claimed if not (row.tries or is_isolating)]
            if batch:
                _process_batch(session, batch, rules, now)
    except Exception as error:
        # A database that grants the claim and then fails again and again is not away: the batch is at fault.
        queue.outages += isinstance(error, StorageUnavailable) and bool(claimed)
        queue.rewind()
        if not claimed or (isinstance(error, StorageUnavailable) and queue.outages < _MAX_OUTAGES):
            raise
        logs.warning("process.batch_failed", rows=len(claimed), error=logs.describe(error))
        isolated = [row.id for row in claimed]
    for row_id in isolated:
        _process_alone(database, row_id, rules, now, blames_row=queue.outages >= _MAX_OUTAGES)
    queue.outages = 0
    queue.isolate(-len(claimed))
    return len(claimed)


def _process_alone(database: Database, row_id: UUID, rules: ReceiptRules, now: datetime, *, blames_row: bool) -> None:
    """Process one row. First it is postponed and its try counted, in case it kills this process.

    `blames_row`: whether an outage counts as the row's own failure.
    """
    with database.transaction() as session:
        claimed = pending.claim(session, now, 1, only=row_id)
        if not claimed:
            return
        row = claimed[0]
        if row.tries >= _MAX_TRIES:
            _settle(session, [(row, ReceiptOutcome.DEAD, _PROCESS_ENDED)], now)
            return
        pending.postpone(session, row, now + _RETRIES.gap(row.tries), _PROCESS_ENDED)
    try:
        with database.transaction() as session:
            _process_batch(session, pending.claim(session, now, 1, only=row_id), rules, now)
    except Exception as error:
        if isinstance(error, StorageUnavailable) and not blames_row:
            raise
        logs.error("process.row_failed", error, receipt=str(row_id))
        with database.transaction() as session:
            for row in pending.claim(session, now, 1, only=row_id):
                if row.tries >= _MAX_TRIES:
                    _settle(session, [(row, ReceiptOutcome.DEAD, logs.describe(error))], now)
                else:
                    pending.set_reason(session, row, logs.describe(error))


def _process_batch(session: Session, rows: Sequence[ClaimedReceipt], rules: ReceiptRules, now: datetime) -> None:
    """Read, match, record and settle claimed rows, in the caller's transaction."""
    verdicts: list[Verdict] = []
    receipts: list[ParsedReceipt] = []
    inbound: list[tuple[ClaimedReceipt, Reply]] = []
    multi_receipts: dict[UUID, Sequence[Receipt | Unreadable]] = {}
    new_parts = 0
    for row in rows:
        if row.is_unauthenticated and row.assigned_to is None:
            verdicts.append((row, ReceiptOutcome.QUARANTINED, "its key was wrong"))
        elif row.channel == Channel.INBOUND:
            try:
                inbound.append((row, parser.read_reply(pending.callback_of(session, row), rules.zone)))
            except Unreadable as error:
                verdicts.append((row, ReceiptOutcome.QUARANTINED, str(error)))
        else:
            receipt, added = _read_and_split(session, row, rules.zone, multi_receipts, now)
            new_parts += added
            if isinstance(receipt, Unreadable):
                verdicts.append((row, ReceiptOutcome.QUARANTINED, str(receipt)))
            else:
                receipts.append((row, receipt))
    verdicts += _record_receipts(session, receipts, rules, now)
    verdicts += _record_replies(session, inbound, rules, now)
    _settle(session, verdicts, now, new_parts)


def _read_and_split(
    session: Session,
    row: ClaimedReceipt,
    zone: ZoneInfo,
    multi_receipts: dict[UUID, Sequence[Receipt | Unreadable]],
    now: datetime,
) -> tuple[Receipt | Unreadable, int]:
    """Read the receipt of a row; how many rows were added for further receipts of the same callback.

    The added rows are for the next batches: there can be thousands. `multi_receipts`: callbacks with several receipts
    that were read before, by callback id, so that each is read once however many of its rows are in the batch.
    """
    callback_id = row.callback_id or row.id
    receipts = multi_receipts.get(callback_id)
    if receipts is None:
        receipts = parser.read_receipts(pending.callback_of(session, row), zone)
    if len(receipts) == 1:
        return receipts[0], 0
    multi_receipts[callback_id] = receipts
    if row.callback_id is not None or pending.has_parts(session, row):
        return receipts[min(row.part, len(receipts) - 1)], 0
    return receipts[0], pending.add_parts(session, row, len(receipts), now)


def _record_receipts(
    session: Session, receipts: Sequence[ParsedReceipt], rules: ReceiptRules, now: datetime
) -> list[Verdict]:
    """Correlate receipts with messages; record those that match, adopt or park those that match none."""
    if not receipts:
        return []
    context = match_context.load(session, receipts)
    matched: list[MatchedReceipt] = []
    unmatched: list[ParsedReceipt] = []
    verdicts: list[Verdict] = []
    for row, receipt in receipts:
        match = correlation.correlate(row, receipt, context)
        if isinstance(match, Match):
            context.learn(receipt, match)
            matched.append((row, receipt, match))
        elif match.outcome is ReceiptOutcome.UNMATCHED:
            unmatched.append((row, receipt))
        else:
            verdicts.append((row, match.outcome, match.reason))
    if unmatched:  # before any count is added to
        parking.lock(
            session,
            {receipt.transaction_id for _, receipt in unmatched if receipt.transaction_id},
            {receipt.client_ref for _, receipt in unmatched if receipt.client_ref},
        )
    verdicts += _record_matches(session, matched, context.messages, rules.status_map, now)
    return verdicts + _adopt_or_park(session, unmatched, rules, now)


def _record_matches(
    session: Session,
    matched: Sequence[MatchedReceipt],
    locked: Mapping[UUID, LockedMessage],
    status_map: StatusMap,
    now: datetime,
) -> list[Verdict]:
    """Record receipts as transitions of their messages."""
    messages = {match.message_id: locked[match.message_id] for _, _, match in matched}
    links = [
        (messages[match.message_id], receipt.transaction_id) for _, receipt, match in matched if receipt.transaction_id
    ]
    transitions.link_transactions(session, links, "receipt", now)
    entries = [(match.message_id, _transition_of(row, receipt, match, status_map)) for row, receipt, match in matched]
    effects = transitions.record(session, messages, entries, now)
    return [
        (row, ReceiptOutcome(effect.value), "; ".join(receipt.notes) or None)
        for (row, receipt, _), effect in zip(matched, effects, strict=True)
    ]


def _transition_of(
    row: ClaimedReceipt, receipt: Receipt, match: Match, status_map: StatusMap
) -> transitions.NewTransition:
    return transitions.NewTransition(
        report=Report(
            source=Source.GATEWAY,
            status=status_map.status_for(receipt.status_id, receipt.description),
            received_at=row.received_at,
            occurred_at=receipt.occurred_at,
            provider_status_id=receipt.status_id,
            provider_description=receipt.description,
        ),
        rule=match.rule,
        reason="; ".join(receipt.notes) or None,
        receipt_id=row.id,
        map_version=status_map.version,
    )


def _adopt_or_park(
    session: Session, unmatched: Sequence[ParsedReceipt], rules: ReceiptRules, now: datetime
) -> list[Verdict]:
    """Adopt or park receipts that match no message; postpone those whose message has appeared meanwhile.

    The caller holds the parking locks of their transactionIDs and clientRefs.
    """
    if not unmatched:
        return []
    context = match_context.load(session, unmatched, locks_messages=False)
    adoptable: list[ParsedReceipt] = []
    parked: list[tuple[ClaimedReceipt, Receipt, NoMatch, datetime | None]] = []
    retried: list[ClaimedReceipt] = []
    for row, receipt in unmatched:
        match = correlation.correlate(row, receipt, context)
        if isinstance(match, Match) or match.outcome is not ReceiptOutcome.UNMATCHED:
            retried.append(row)
            continue
        adopt_at = None if match.candidates else correlation.adopt_at(row, receipt, rules.adopt_after)
        if adopt_at is not None and adopt_at <= now:
            adoptable.append((row, receipt))
        else:
            parked.append((row, receipt, match, adopt_at))
    parking.park(
        session,
        [
            UnmatchedReceipt(
                receipt_id=row.id,
                transaction_id=receipt.transaction_id,
                client_ref=receipt.client_ref,
                candidates=no_match.candidates,
                not_before=adopt_at,
            )
            for row, receipt, no_match, adopt_at in parked
        ],
        now,
    )
    adopted, ambiguous = external_messages.adopt(session, adoptable, now)
    parking.release(
        session,
        transaction_ids={receipt.transaction_id for _, receipt, _ in adopted if receipt.transaction_id},
        client_refs={receipt.client_ref for _, receipt, _ in adopted if receipt.client_ref},
        now=now,
    )
    for row in [*retried, *ambiguous]:
        # Not a failure: the try is not counted.
        pending.postpone(session, row._replace(tries=row.tries - 1), now, "its message has come meanwhile")
    locked = transitions.lock_messages(session, {match.message_id for _, _, match in adopted})
    verdicts: list[Verdict] = [(row, ReceiptOutcome.UNMATCHED, no_match.reason) for row, _, no_match, _ in parked]
    return verdicts + _record_matches(session, adopted, locked, rules.status_map, now)


def _record_replies(
    session: Session, inbound: Sequence[tuple[ClaimedReceipt, Reply]], rules: ReceiptRules, now: datetime
) -> list[Verdict]:
    if not inbound:
        return []
    replies.lock_msgids(session, [reply.msgid for _, reply in inbound if reply.msgid])
    verdicts: list[Verdict] = [
        (row, *replies.record(session, row, reply, now, rules.opt_out_words, window=rules.reply_window))
        for row, reply in inbound
    ]
    if rules.suppresses_opt_outs:
        replies.suppress_opt_outs(session, [row.id for row, _ in inbound], _ACTOR, now)
    return verdicts


def _settle(session: Session, verdicts: Sequence[Verdict], now: datetime, new_parts: int = 0) -> None:
    """Give rows their outcomes. Rows that had one before, and are now matched, leave the parking lot."""
    pending.settle(session, verdicts, now, new_parts)
    unparked = [
        (row.id, outcome, reason)
        for row, outcome, reason in verdicts
        if row.processed_at is not None and outcome is not ReceiptOutcome.UNMATCHED
    ]
    parking.remove(session, unparked, now, _ACTOR)
